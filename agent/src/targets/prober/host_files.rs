//! Files of the host that a process selected by a rule is likely to use, before it exists.

use std::{collections::BTreeSet, path::PathBuf};

use tokentap_tls::system_libraries;

use crate::targets::Selector;

/// The system's libraries, and matching executables on the search path, which may have TLS code in them.
pub(super) fn files(selector: &Selector) -> Vec<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_else(|_unset| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let folders: BTreeSet<&str> = path.split(':').collect();
    let executables = folders.into_iter().flat_map(std::fs::read_dir).flatten().flatten().map(|e| e.path());
    let matching = executables.filter(|path| selector.matches(path.to_str(), None));
    // `--all` would mean every program there is: their own code is looked at when they run.
    let matching: Vec<PathBuf> = if selector.all() { Vec::new() } else { matching.collect() };
    system_libraries().into_iter().chain(matching).collect()
}

/// Where the mounts are that stay as long as the host runs; all others may be unmounted one day, for which nothing of
/// ours may keep them busy.
const LASTING: &[&str] = &["/", "/home", "/opt", "/srv", "/tmp", "/usr", "/usr/local", "/var", "/var/tmp"];

/// The mounts that stay: those of the host, and of the agent where it has its own.
pub(super) fn permanent_mounts() -> BTreeSet<u64> {
    let tables = ["/proc/self/mountinfo", "/proc/1/mountinfo"];
    let tables = tables.into_iter().filter_map(|table| std::fs::read_to_string(table).ok());
    tables.flat_map(|table| table.lines().filter_map(lasting).collect::<Vec<_>>()).collect()
}

/// `36 35 98:0 / /mnt rw,noatime shared:1 - ext3 /dev/root rw` (proc_pid_mountinfo(5))
fn lasting(line: &str) -> Option<u64> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    LASTING.contains(&fields.nth(3)?).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_may_go_are_told_from_those_that_stay() {
        assert_eq!(lasting("36 35 98:0 / /usr rw,noatime shared:1 - ext4 /dev/vda rw"), Some(36));
        assert_eq!(lasting("37 35 98:1 / /mnt/disk rw,noatime shared:1 - ext4 /dev/vdb rw"), None);
        assert_eq!(lasting("40 35 0:50 / /run/merged rw - overlay overlay rw,lowerdir=/a"), None);
        assert_eq!(lasting("41 1 0:51 / / rw - overlay overlay rw,lowerdir=/a"), Some(41));
        assert_eq!(lasting("nonsense"), None);
        assert!(!permanent_mounts().is_empty());
    }
}
