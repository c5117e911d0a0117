//! Reads of `/proc` (proc(5)). A process can end at any moment: absence is an answer, not an error.
//!
//! Two kinds: `stat`, `status`, `task`, `cgroup` and the links of `exe` and `fd` are answered by the kernel alone. `cmdline`,
//! `environ` and `maps` read the memory of the process, or wait for its lock, and can wait as long as it likes:
//! they are read only by threads that can be left behind (`describe`, the prober).

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Cursor},
    path::{Path, PathBuf},
};

use procfs_core::{
    FromBufRead as _, FromRead as _,
    process::{Stat, StatFlags, Status},
};

/// The ids of all processes.
#[must_use]
pub fn pids() -> Vec<u32> {
    numbers(Path::new("/proc"))
}

/// What decides whether a process is observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its executable, as its own mount namespace names it; `None` when it is on its way out.
    pub executable: Option<String>,
    /// The parent's id.
    pub parent: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
    /// It has no user code.
    pub kernel_thread: bool,
}

/// Reads what decides; `None` when there is no such process.
#[must_use]
pub fn identity(pid: u32) -> Option<Identity> {
    let stat = stat(&format!("/proc/{pid}/stat"))?;
    Some(Identity {
        executable: executable(pid).ok().map(|path| path.to_string_lossy().into_owned()),
        parent: u32::try_from(stat.ppid).ok()?,
        start_ticks: stat.starttime,
        kernel_thread: StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD),
    })
}

/// The executable's path, as its own mount namespace names it. When the first thread has ended, as another one has
/// it.
///
/// # Errors
/// `NotFound` for kernel threads and processes that are gone; `PermissionDenied` for those not ours to see.
pub fn executable(pid: u32) -> io::Result<PathBuf> {
    match fs::read_link(format!("/proc/{pid}/exe")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let others = threads(pid).into_iter().filter(|tid| *tid != pid);
            others.flat_map(|tid| fs::read_link(format!("/proc/{pid}/task/{tid}/exe"))).next().ok_or(error)
        }
        read => read,
    }
}

/// A thread that still has the memory and the descriptors of its process: the first one, unless it has ended.
#[must_use]
pub fn live_thread(pid: u32) -> Option<u32> {
    if fs::read_link(format!("/proc/{pid}/exe")).is_ok() {
        return Some(pid);
    }
    threads(pid).into_iter().find(|tid| fs::read_link(format!("/proc/{pid}/task/{tid}/exe")).is_ok())
}

fn threads(pid: u32) -> Vec<u32> {
    numbers(Path::new(&format!("/proc/{pid}/task")))
}

/// The process that a task belongs to.
#[must_use]
pub fn thread_group(pid: u32) -> Option<u32> {
    u32::try_from(status(pid)?.tgid).ok()
}

/// The parent's id.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    u32::try_from(stat(&format!("/proc/{pid}/stat"))?.ppid).ok()
}

/// The processes that descend from a process.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = pids().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = Vec::new();
    let mut next = vec![pid];
    while let Some(ancestor) = next.pop() {
        let children = parents.iter().filter(|(_, parent)| *parent == ancestor).map(|(child, _)| *child);
        for child in children.filter(|child| !found.contains(child)).collect::<Vec<u32>>() {
            found.push(child);
            next.push(child);
        }
    }
    found
}

/// Whether a process has children, or has had some that it waited for.
#[must_use]
pub fn has_forked(pid: u32) -> bool {
    // Page faults of children that were waited for: any child has some.
    stat(&format!("/proc/{pid}/stat")).is_some_and(|stat| stat.cminflt > 0) || !descendants(pid).is_empty()
}

/// A `stat` file of a process or thread. The name in it is the process's to choose, and may be no text: the kernel cuts it in
/// the middle of a character.
fn stat(path: &str) -> Option<Stat> {
    Stat::from_read(Cursor::new(lossy(path)?)).ok()
}

/// `/proc/<pid>/status`; as [`stat`].
fn status(pid: u32) -> Option<Status> {
    Status::from_buf_read(Cursor::new(lossy(&format!("/proc/{pid}/status"))?)).ok()
}

/// A file as text, with replacement characters for what is none.
fn lossy(path: &str) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether some thread of the process still runs: it is neither gone nor a zombie.
#[must_use]
pub fn has_live_threads(pid: u32) -> bool {
    threads(pid).into_iter().any(|tid| {
        // A thread that is about to end can still be running, but has given up its memory.
        stat(&format!("/proc/{pid}/task/{tid}/stat"))
            .is_some_and(|stat| matches!(stat.state, 'R' | 'S' | 'D' | 'T' | 't' | 'I'))
            && fs::read_link(format!("/proc/{pid}/task/{tid}/exe")).is_ok()
    })
}

/// Start time in clock ticks since boot.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    Some(stat(&format!("/proc/{pid}/stat"))?.starttime)
}

/// The command line of a thread's process, one string an argument. Waits for the process's memory.
#[must_use]
pub fn arguments(tid: u32) -> Vec<String> {
    nul_separated(&format!("/proc/{tid}/cmdline"))
}

/// The environment that a thread's process was started with. Waits for the process's memory.
#[must_use]
pub fn environment(tid: u32) -> Vec<(String, String)> {
    nul_separated(&format!("/proc/{tid}/environ"))
        .into_iter()
        .filter_map(|entry| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

/// Whether the command line and the environment lie in memory without a file behind it. Reads of a page that a
/// file system must bring can be impossible to interrupt, even by a kill. Waits for the process's memory lock.
#[must_use]
pub fn strings_in_memory(tid: u32) -> bool {
    let Some(stat) = stat(&format!("/proc/{tid}/stat")) else { return false };
    let ends = [stat.arg_start, stat.arg_end, stat.env_start, stat.env_end];
    let Some(ends) = ends.into_iter().collect::<Option<Vec<u64>>>() else { return false };
    let (Some(from), Some(to)) = (ends.iter().min(), ends.iter().max()) else { return false };
    let Ok(maps) = fs::File::open(format!("/proc/{tid}/maps")) else { return false };
    let mappings = BufReader::new(maps).split(b'\n').map_while(Result::ok);
    mappings
        .filter_map(|line| mapping(&line))
        .all(|(start, end, inode)| inode == 0 || end <= *from || start >= *to)
}

/// Start, end and inode of a line of `maps`.
fn mapping(line: &[u8]) -> Option<(u64, u64, u64)> {
    let line = String::from_utf8_lossy(line);
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some((hex(start)?, hex(end)?, fields.nth(3)?.parse().ok()?))
}

fn nul_separated(path: &str) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|b| *b == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The cgroup paths, one a hierarchy.
#[must_use]
pub fn cgroups(pid: u32) -> Vec<String> {
    let text = lossy(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::to_owned).collect()
}

/// The descriptors of a thread's process that are sockets.
#[must_use]
pub fn sockets(tid: u32) -> Vec<u32> {
    let folder = format!("/proc/{tid}/fd");
    numbers(Path::new(&folder)).into_iter().filter(|fd| is_socket(tid, *fd)).collect()
}

/// Whether a descriptor of a thread's process is a socket.
#[must_use]
pub fn is_socket(tid: u32, fd: u32) -> bool {
    fs::read_link(format!("/proc/{tid}/fd/{fd}"))
        .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
}

fn numbers(folder: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there() {
        let me = std::process::id();
        assert!(pids().contains(&me));
        assert_eq!(thread_group(me), Some(me));
        assert!(has_live_threads(me));
        assert!(start_ticks(me).unwrap() > 0);
        assert!(!arguments(me).is_empty());
        assert!(executable(me).unwrap().is_absolute());
        assert_eq!(live_thread(me), Some(me));
        assert!(strings_in_memory(me));
        let identity = identity(me).unwrap();
        assert!(!identity.kernel_thread);
        assert_eq!(Some(identity.parent), parent(me));
        assert_eq!(Some(identity.start_ticks), start_ticks(me));
        assert_eq!(identity.executable.as_deref().map(Path::new), executable(me).ok().as_deref());
    }

    /// The kernel keeps 15 bytes of a name.
    #[test]
    fn a_name_that_is_cut_in_mid_character_hides_no_process() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("serveur-modele\u{e9}");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let pid = child.id();
        let is_cut =
            || fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| std::str::from_utf8(&name).is_err());
        while !is_cut() {
            assert!(child.try_wait().unwrap().is_none(), "the program ended");
            std::thread::yield_now();
        }
        let seen = (thread_group(pid), has_live_threads(pid), identity(pid).and_then(|it| it.executable));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, (Some(pid), true, Some(program.display().to_string())));
    }

    #[test]
    fn lines_of_maps() {
        let line = b"7f1c00000000-7f1c00001000 r-xp 0002f000 fd:01 1835    /usr/lib/lib ssl.so.3 (deleted)";
        assert_eq!(mapping(line), Some((0x7f1c_0000_0000, 0x7f1c_0000_1000, 1835)));
        assert_eq!(
            mapping(b"7ffd0000-7ffd1000 rw-p 00000000 00:00 0 [stack]"),
            Some((0x7ffd_0000, 0x7ffd_1000, 0))
        );
        assert_eq!(mapping(b"nonsense"), None);
    }

    #[test]
    fn a_process_that_ended_has_no_live_threads() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(!has_live_threads(pid));
        assert_eq!(thread_group(pid), None);
        assert!(arguments(pid).is_empty());
    }

    #[test]
    fn sockets_are_told_from_files() {
        use std::os::fd::AsRawFd as _;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let file = fs::File::open("/proc/self/exe").unwrap();
        let found = sockets(std::process::id());
        assert!(found.contains(&socket.as_raw_fd().cast_unsigned()));
        assert!(!found.contains(&file.as_raw_fd().cast_unsigned()));
    }
}
