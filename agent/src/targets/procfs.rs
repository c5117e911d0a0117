//! Reads of `/proc` (proc(5)). A process can end at any moment: absence is an answer, not an error.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The ids of all processes.
#[must_use]
pub fn pids() -> Vec<u32> {
    numbers(Path::new("/proc"))
}

/// The executable's path, as its own mount namespace names it.
///
/// # Errors
/// `NotFound` for kernel threads and processes that are gone; `PermissionDenied` for those not ours to see.
pub fn executable(pid: u32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe"))
}

/// The process that a task belongs to.
#[must_use]
pub fn thread_group(pid: u32) -> Option<u32> {
    status_field(pid, "Tgid:")?.parse().ok()
}

/// The parent's id.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    status_field(pid, "PPid:")?.parse().ok()
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
    // Page faults of children that were waited for (field 11): any child has some.
    stat_field(pid, 11).is_some_and(|faults| faults > 0) || !descendants(pid).is_empty()
}

/// A numeric field of `/proc/<pid>/stat`, counted from 1 as proc(5) does; 4 or later.
fn stat_field(pid: u32, number: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, field 2, is the process's to choose; behind its last parenthesis comes field 3.
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)?.parse().ok()
}

/// A field of `/proc/<pid>/status`, by its label.
fn status_field(pid: u32, label: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(label)).map(|value| value.trim().to_owned())
}

/// Whether some thread of the process still runs: it is neither gone nor a zombie.
#[must_use]
pub fn has_live_threads(pid: u32) -> bool {
    numbers(Path::new(&format!("/proc/{pid}/task"))).into_iter().any(|tid| {
        // The state follows the last parenthesis: the name before it is the process's to choose. A leader
        // that told of its exit is 'X' or 'Z', also while it still cleans up.
        fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat"))
            .ok()
            .and_then(|stat| {
                Some(stat.rsplit_once(')')?.1.trim_start().starts_with(['R', 'S', 'D', 'T', 't', 'I']))
            })
            .unwrap_or(false)
            && (tid != pid || !exiting(pid))
    })
}

/// Whether the first thread is on its way out: it has given up its memory.
fn exiting(pid: u32) -> bool {
    executable(pid).is_err()
}

/// Start time in clock ticks since boot.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    stat_field(pid, 22)
}

/// The command line, one string an argument.
#[must_use]
pub fn arguments(pid: u32) -> Vec<String> {
    nul_separated(&format!("/proc/{pid}/cmdline"))
}

/// The environment that the process was started with.
#[must_use]
pub fn environment(pid: u32) -> Vec<(String, String)> {
    nul_separated(&format!("/proc/{pid}/environ"))
        .into_iter()
        .filter_map(|entry| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
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
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::to_owned).collect()
}

/// The descriptors that are sockets.
#[must_use]
pub fn sockets(pid: u32) -> Vec<u32> {
    let folder = format!("/proc/{pid}/fd");
    numbers(Path::new(&folder))
        .into_iter()
        .filter(|fd| {
            fs::read_link(format!("{folder}/{fd}"))
                .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
        })
        .collect()
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
