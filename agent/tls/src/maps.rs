//! What a process has mapped as executable (proc(5), `/proc/<pid>/maps`).

use std::{
    ffi::c_void,
    fs::{self, File},
    io,
    os::{fd::BorrowedFd, unix::fs::FileExt as _},
    path::PathBuf,
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A file, wherever it is mounted and whether or not it still has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device number as `/proc/<pid>/maps` gives it.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// A file mapped as executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Which file.
    pub file: FileId,
    /// Its name when it was mapped, " (deleted)" removed.
    pub name: String,
    range: String,
}

impl Mapping {
    /// A path that opens the mapped file itself: it needs no name, and no mount that we can see.
    #[must_use]
    pub fn open(&self, pid: u32) -> PathBuf {
        PathBuf::from(format!("/proc/{pid}/map_files/{}", self.range))
    }
}

/// The files that a process has mapped as executable, each once.
///
/// # Errors
/// When the process is gone or not ours to see.
pub fn executable_files(pid: u32) -> io::Result<Vec<Mapping>> {
    let mut files: Vec<Mapping> = Vec::new();
    for mapping in executable_mappings(pid)? {
        if !files.iter().any(|known| known.file == mapping.file) {
            files.push(mapping);
        }
    }
    Ok(files)
}

fn executable_mappings(pid: u32) -> io::Result<Vec<Mapping>> {
    // Not UTF-8 everywhere: names are the target's.
    let maps = fs::read(format!("/proc/{pid}/maps"))?;
    if maps.is_empty() {
        // It has given up its memory.
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(maps.split(|b| *b == b'\n').filter_map(|line| parse(&String::from_utf8_lossy(line))).collect())
}

/// `7f1c…-7f1c… r-xp 0002f000 fd:01 1835 /usr/lib/libssl.so.3 (deleted)`
fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let range = fields.next()?;
    let (permissions, _offset, device, inode) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let name = fields.next()?.trim_start();
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let inode = inode.parse().ok().filter(|inode| *inode != 0)?;
    let (major, minor) = device.split_once(':')?;
    let device = u64::from_str_radix(major, 16).ok()? << 32 | u64::from_str_radix(minor, 16).ok()?;
    let name = name.strip_suffix(" (deleted)").unwrap_or(name).to_owned();
    Some(Mapping { file: FileId { device, inode }, name, range: canonical(range)? })
}

/// `map_files` names have no leading zeros, `maps` pads to eight digits.
fn canonical(range: &str) -> Option<String> {
    let (start, end) = range.split_once('-')?;
    let hex = |s| u64::from_str_radix(s, 16).ok();
    Some(format!("{:x}-{:x}", hex(start)?, hex(end)?))
}

/// A page of a file, mapped as a target would map it. It is looked at through `/proc/self/mem`, where a file that
/// shrinks is an error: touching it would be a signal.
pub(super) struct MappedPage {
    page: *mut c_void,
    /// Where in the page the wanted bytes are.
    at: u64,
}

impl MappedPage {
    /// Maps the page with this offset in it.
    pub(super) fn of(file: BorrowedFd<'_>, offset: u64) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let at = offset % page as u64;
        // SAFETY: a new private mapping at an address of the kernel's choice; nobody else knows it.
        let page = unsafe {
            mmap(
                std::ptr::null_mut(),
                page,
                ProtFlags::READ | ProtFlags::EXEC,
                MapFlags::PRIVATE,
                file,
                offset - at,
            )
        }?;
        Ok(Self { page, at })
    }

    /// The bytes at the offset; they must not reach into the next page.
    pub(super) fn bytes<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        File::open("/proc/self/mem")?.read_exact_at(&mut bytes, self.page.addr() as u64 + self.at)?;
        Ok(bytes)
    }
}

impl Drop for MappedPage {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `of` mapped; no reference into it was ever made.
        if let Err(error) = unsafe { munmap(self.page, rustix::param::page_size()) } {
            tracing::debug!(%error, "a page of a target's file stays mapped");
        }
    }
}

/// The identity that `/proc/<pid>/maps` would show for a file. Its `stat` can say otherwise (overlayfs,
/// btrfs), so it is mapped for a moment and looked up.
///
/// # Errors
/// When it cannot be mapped.
pub(super) fn identify(file: BorrowedFd<'_>) -> io::Result<FileId> {
    let mapped = MappedPage::of(file, 0)?;
    let start = format!("{:x}-", mapped.page.addr());
    let mapping = executable_mappings(std::process::id())?
        .into_iter()
        .find(|mapping| mapping.range.starts_with(&start));
    mapping
        .map(|mapping| mapping.file)
        .ok_or_else(|| io::Error::other("the file was mapped but is not in maps"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn lines_of_maps() {
        let parsed = |line: &str| parse(line).map(|m| (m.file.device, m.file.inode, m.name, m.range));
        assert_eq!(
            parsed("7f1c00000000-7f1c00001000 r-xp 0002f000 fd:01 1835    /usr/lib/lib ssl.so.3 (deleted)"),
            Some((0xfd << 32 | 1, 1835, "/usr/lib/lib ssl.so.3".into(), "7f1c00000000-7f1c00001000".into()))
        );
        assert_eq!(parsed("00400000-00401000 r-xp 00000000 08:02 7 /bin/x").unwrap().3, "400000-401000");
        for other in [
            "7f1c00000000-7f1c00001000 rw-p 00000000 fd:01 1835 /usr/lib/libssl.so.3",
            "7ffd0000-7ffd1000 r-xp 00000000 00:00 0 [vdso]",
            "7ffd0000-7ffd1000 r-xp 00000000 00:00 0",
            "nonsense",
            "",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_is_identified_as_maps_shows_it() {
        let maps = executable_files(std::process::id()).unwrap();
        let libc = maps.iter().find(|m| m.name.contains("libc.so") || m.name.contains("libc-")).unwrap();
        let file = File::open(libc.open(std::process::id())).unwrap();
        assert_eq!(identify(file.as_fd()).unwrap(), libc.file);
    }
}
