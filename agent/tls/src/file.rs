//! A file that a target has mapped, opened once: everything that is learned of it and done with it goes through this
//! one descriptor, so that no other file can take its place in between.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::FileExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags, fstatfs, open, statx};

use super::maps::MappedPage;

/// What tells one state of a file's contents from another, cheaply: the kernel moves the change time forward with
/// each write, also where the inode number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device number as stat(2) gives it: on overlayfs and btrfs not the one in `maps`.
    pub device: u64,
    /// Inode number; on overlayfs often that of the file below.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Change time, seconds and nanoseconds.
    pub changed: (i64, u32),
}

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    /// Its state when it was opened.
    pub stamp: Stamp,
    /// The mount that it was opened through: probes placed through it keep that busy.
    pub mount: u64,
    /// It lies on overlayfs: the same file below can be seen through other mounts, under other identities.
    pub stacked: bool,
}

/// Why a file is not searched or probed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It could not be opened or read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A process answers for it.
    #[error(
        "it lies on FUSE: while a probe is placed, no process on this host can fork, so a file system that a process \
         answers for could stop them all"
    )]
    Fuse,
    /// What it lies on cannot be known.
    #[error("its file system is not mounted any more: it may be one that does not answer")]
    Unmounted,
    /// Its symbols were not read.
    #[error("{0}")]
    Symbols(String),
}

/// include/uapi/linux/magic.h
const OVERLAYFS: u32 = 0x794c_7630;
const FUSE: u32 = 0x6573_5546;

impl OpenFile {
    /// Opens a file to read it; `path` is not looked up again.
    ///
    /// # Errors
    /// When it cannot be opened, or a process answers for its contents (but then it may be too late).
    pub fn open(path: &Path) -> Result<Self, Refused> {
        // Never a terminal, never a pipe that waits for its other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(open(path, flags, rustix::fs::Mode::empty()).map_err(io::Error::from)?);
        // The field's width differs between architectures; the number has 32 bits.
        let kind = fstatfs(&file).map_err(io::Error::from)?.f_type as u32;
        if kind == FUSE {
            return Err(Refused::Fuse);
        }
        let found = statx(&file, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, wanted());
        let found = found.map_err(io::Error::from)?;
        Ok(Self { file, stamp: stamp(&found), mount: found.stx_mnt_id, stacked: kind == OVERLAYFS })
    }

    /// The file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// A path that opens this very file, as long as this is open.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Whether its contents are still as they were when it was opened.
    ///
    /// # Errors
    /// When it cannot be looked up.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        let found = statx(&self.file, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, wanted())?;
        Ok(stamp(&found) == self.stamp)
    }

    /// The bytes at an offset; fewer at the end of the file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn bytes_at(&self, offset: u64) -> io::Result<[u8; PLACE]> {
        let mut bytes = [0; PLACE];
        match self.file.read_at(&mut bytes, offset) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(bytes),
            Err(error) => Err(error),
        }
    }

    /// Whether everybody who maps the file finds a probe at this offset: the kernel puts it there, for whoever
    /// placed it, under whatever identity the file was named. In a new private mapping nothing else differs from
    /// the file.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn is_probed(&self, offset: u64) -> io::Result<bool> {
        let mapped = MappedPage::of(self.file.as_fd(), offset)?.bytes::<BREAKPOINT>()?;
        Ok(self.bytes_at(offset)?[..BREAKPOINT] != mapped)
    }
}

/// Bytes that the kernel writes over a probed instruction.
const BREAKPOINT: usize = if cfg!(any(target_arch = "x86_64", target_arch = "x86")) { 1 } else { 4 };

/// How many bytes at a place are compared: more than the longest instruction.
pub const PLACE: usize = 16;

/// The state of a file that need not be opened for it, and its mount. Asks no server: what is known of the file has
/// to do.
pub(super) fn stat(path: &Path) -> io::Result<(Stamp, u64)> {
    let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, wanted())?;
    Ok((stamp(&found), found.stx_mnt_id))
}

fn wanted() -> StatxFlags {
    StatxFlags::INO | StatxFlags::SIZE | StatxFlags::CTIME | StatxFlags::MNT_ID
}

fn stamp(found: &rustix::fs::Statx) -> Stamp {
    Stamp {
        device: u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor),
        inode: found.stx_ino,
        size: found.stx_size,
        changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_shows_in_the_stamp_and_in_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        fs::write(&path, [7; 100]).unwrap();
        let file = OpenFile::open(&path).unwrap();
        assert_eq!(file.stamp, stat(&path).unwrap().0);
        assert_eq!(file.bytes_at(90).unwrap(), [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0]);
        assert!(file.bytes_at(100).is_err());
        assert!(file.is_unchanged().unwrap());
        fs::write(&path, [8; 101]).unwrap();
        assert!(!file.is_unchanged().unwrap());
        assert_eq!(file.bytes_at(0).unwrap(), [8; PLACE]);
    }

    #[test]
    fn the_descriptor_stays_with_the_file_and_not_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        fs::write(&path, b"old and still mapped").unwrap();
        let file = OpenFile::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"new").unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"old and still mapped");
        assert!(!file.is_probed(0).unwrap());
    }
}
