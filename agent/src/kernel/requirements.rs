//! What the kernel and our privileges must offer, checked before anything is loaded, so that a missing piece
//! is named instead of showing as an error number.

use std::{fs, io, path::Path};

use rustix::{
    mount::{MountFlags, MountPropagationFlags},
    process::geteuid,
    thread::UnshareFlags,
};

/// Something that is missing, and its mend.
#[derive(Debug, thiserror::Error)]
pub enum Requirement {
    /// Not enough privilege.
    #[error(
        "tokentap needs root, or the capabilities BPF, PERFMON, SYS_PTRACE, SYS_ADMIN and DAC_READ_SEARCH \
         (this process lacks {0}): run it with sudo, or as a privileged container"
    )]
    Privilege(String),
    /// Kernel too old.
    #[error("kernel {0} is too old: tokentap needs 5.15 or later (ring buffer, uprobe links)")]
    Kernel(String),
    /// No uprobes.
    #[error("this kernel has no uprobes ({0} is missing): it was built without CONFIG_UPROBE_EVENTS")]
    Uprobes(&'static str),
    /// No tracepoints.
    #[error("cannot use tracepoints: {0}; mount tracefs with `mount -t tracefs tracefs /sys/kernel/tracing`")]
    Tracefs(String),
    /// Not in the host's pid namespace.
    #[error(
        "tokentap runs in a pid namespace of its own and would mistake one process for another: \
         run it with hostPID (Kubernetes) or --pid=host (Docker)"
    )]
    PidNamespace,
}

/// The inode of the first pid namespace (include/linux/proc_ns.h, `PROC_PID_INIT_INO`).
const INIT_PID_NS: u64 = 0xEFFF_FFFC;
const UPROBE_PMU: &str = "/sys/bus/event_source/devices/uprobe/type";
const TRACEFS: &str = "/sys/kernel/tracing";

/// Checks everything that can be checked without loading.
///
/// # Errors
/// The first thing that is missing.
pub fn check() -> Result<(), Requirement> {
    let missing = missing_capabilities();
    if !missing.is_empty() {
        return Err(Requirement::Privilege(missing.join(", ")));
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if version(&release) < (5, 15) {
        return Err(Requirement::Kernel(release));
    }
    if !Path::new(UPROBE_PMU).exists() {
        return Err(Requirement::Uprobes(UPROBE_PMU));
    }
    if !in_host_pid_namespace() {
        return Err(Requirement::PidNamespace);
    }
    private_tracefs().map_err(|error| Requirement::Tracefs(error.to_string()))
}

fn in_host_pid_namespace() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // A kernel that does not say is taken at its best.
    fs::metadata("/proc/self/ns/pid").map_or(true, |meta| meta.ino() == INIT_PID_NS)
}

fn missing_capabilities() -> Vec<String> {
    // include/uapi/linux/capability.h
    const NEEDED: &[(u32, &str)] =
        &[(39, "BPF"), (38, "PERFMON"), (19, "SYS_PTRACE"), (21, "SYS_ADMIN"), (2, "DAC_READ_SEARCH")];
    let effective = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or_else(|| if geteuid().is_root() { u64::MAX } else { 0 });
    NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| (*name).to_owned()).collect()
}

/// Major and minor version of the running kernel.
pub(super) fn kernel_version() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy())
}

fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Mounts tracefs where only this process sees it, when it is not mounted: the host's mounts stay as they
/// are, and nothing is left behind. Must run before the first thread is started.
///
/// # Errors
/// When the kernel refuses.
pub fn private_tracefs() -> io::Result<()> {
    if Path::new(TRACEFS).join("events").is_dir() || Path::new("/sys/kernel/debug/tracing/events").is_dir() {
        return Ok(());
    }
    // SAFETY: only the mount namespace changes, for this one thread, before there are others.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    // The host's later mounts still arrive here; ours do not leave.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    rustix::mount::mount("tracefs", TRACEFS, "tracefs", MountFlags::empty(), None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn kernel_releases_compare() {
        assert_eq!(version("6.1.0-44-cloud-amd64"), (6, 1));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), (5, 15));
        assert!(version("5.4.0") < (5, 15));
        assert!(version("6.18.44-fc-v669") > (5, 15));
        assert_eq!(version("strange"), (0, 0));
    }
}
