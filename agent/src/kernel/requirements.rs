//! What the kernel and our privileges must offer, checked before anything is loaded, so that a missing piece
//! is named instead of showing as an error number. Also which capability is for what, and which thread keeps it;
//! SECURITY.md has the same as a table.

use std::{fs, io, path::Path, sync::OnceLock};

use rustix::{
    mount::{MountFlags, MountPropagationFlags},
    thread::{CapabilitySet, UnshareFlags, capabilities},
};

use super::{
    features::has_multi_uprobes,
    layout,
    version::{kernel_version, release, version},
};

/// Something that is missing, and its mend.
#[derive(Debug, thiserror::Error)]
pub enum Requirement {
    /// Not enough privilege.
    #[error(
        "this process lacks {0}: run tokentap with sudo, or give its service or container these capabilities \
         (SECURITY.md lists all of them)"
    )]
    Privilege(String),
    /// The kernel did not say what this process may do.
    #[error("cannot read this process's capabilities: {0}")]
    Capabilities(io::Error),
    /// Kernel too old.
    #[error("kernel {0} is too old: tokentap needs 5.15 or later (ring buffer, uprobe links)")]
    Kernel(String),
    /// No uprobes.
    #[error("this kernel has no uprobes ({0} is missing): it was built without CONFIG_UPROBE_EVENTS")]
    Uprobes(&'static str),
    /// No tracepoints.
    #[error("cannot use tracepoints: {0}; mount tracefs with `mount -t tracefs tracefs /sys/kernel/tracing`")]
    Tracefs(String),
    /// Not in the host's user namespace.
    #[error(
        "tokentap runs in a user namespace of its own, whose capabilities do not reach the kernel: run it with \
         hostUsers: true (Kubernetes) or --userns=host (Docker), and not as the root of a rootless container"
    )]
    UserNamespace,
    /// Not in the host's pid namespace.
    #[error(
        "tokentap runs in a pid namespace of its own and would mistake one process for another: \
         run it with hostPID (Kubernetes) or --pid=host (Docker)"
    )]
    PidNamespace,
}

/// Inodes of the first namespaces (include/linux/proc_ns.h, `PROC_PID_INIT_INO` and `PROC_USER_INIT_INO`).
const INIT_PID_NS: u64 = 0xEFFF_FFFC;
const INIT_USER_NS: u64 = 0xEFFF_FFFD;
const UPROBE_PMU: &str = "/sys/bus/event_source/devices/uprobe/type";
const TRACEFS: &str = "/sys/kernel/tracing";

/// By which means the kernel side is attached here.
#[derive(Clone, Copy, Debug)]
struct Means {
    /// Links with many uprobes each (kernel 6.6): whoever has the program may attach it. Else there is a perf event
    /// for each uprobe, which takes `CAP_SYS_ADMIN` since CVE-2025-38466 (kernel/events/core.c,
    /// `perf_uprobe_event_init`), whose mend is in the stable kernels, too.
    multi_uprobes: bool,
    /// Tracepoints are attached by the numbers that tracefs has of them, and it has to be mounted first.
    tracefs: bool,
}

/// A capability, and what cannot be done without it.
struct Capability {
    set: CapabilitySet,
    name: &'static str,
    purpose: &'static str,
    needed: fn(Means) -> bool,
}

/// In the order of SECURITY.md's table.
const CAPABILITIES: [Capability; 7] = [
    Capability {
        set: CapabilitySet::BPF,
        name: "CAP_BPF",
        purpose: "load eBPF programs and create maps",
        needed: |_| true,
    },
    Capability {
        set: CapabilitySet::PERFMON,
        name: "CAP_PERFMON",
        purpose: "load eBPF programs that trace",
        needed: |_| true,
    },
    Capability {
        set: CapabilitySet::SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        purpose: "read what other processes have mapped and open",
        needed: |_| true,
    },
    Capability {
        set: CapabilitySet::DAC_READ_SEARCH,
        name: "CAP_DAC_READ_SEARCH",
        purpose: "read other users' files in /proc, and libraries in folders that are not public",
        needed: |_| true,
    },
    Capability {
        set: CapabilitySet::CHECKPOINT_RESTORE,
        name: "CAP_CHECKPOINT_RESTORE",
        purpose: "open the files that other processes have mapped",
        needed: |_| true,
    },
    Capability {
        set: CapabilitySet::SYS_ADMIN,
        name: "CAP_SYS_ADMIN",
        purpose: "attach to uprobes or to tracepoints of this kernel",
        needed: |means| !means.multi_uprobes || means.tracefs,
    },
    Capability {
        set: CapabilitySet::LEASE,
        name: "CAP_LEASE",
        purpose: "hold a lease on other users' files while they are probed",
        // Without it those files are watched for changes.
        needed: |_| false,
    },
];

/// `CAP_SYS_ADMIN` includes these (include/linux/capability.h: `bpf_capable`, `perfmon_capable`,
/// `checkpoint_restore_ns_capable`).
const IN_SYS_ADMIN: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::PERFMON).union(CapabilitySet::CHECKPOINT_RESTORE);

/// Checks everything that can be checked without loading.
///
/// # Errors
/// The first thing that is missing.
pub fn check() -> Result<(), Requirement> {
    if !in_first_namespace("user", INIT_USER_NS) {
        return Err(Requirement::UserNamespace);
    }
    let held = capabilities(None).map_err(|error| Requirement::Capabilities(error.into()))?.effective;
    let means = means();
    let missing = missing(held, means);
    if !missing.is_empty() {
        return Err(Requirement::Privilege(missing.join(", ")));
    }
    let release = release();
    if version(&release) < (5, 15) {
        return Err(Requirement::Kernel(release));
    }
    if !Path::new(UPROBE_PMU).exists() {
        return Err(Requirement::Uprobes(UPROBE_PMU));
    }
    if !in_first_namespace("pid", INIT_PID_NS) {
        return Err(Requirement::PidNamespace);
    }
    if means.tracefs {
        private_tracefs().map_err(|error| Requirement::Tracefs(error.to_string()))?;
    }
    Ok(())
}

/// Those of the attacher on this kernel. Asking the kernel takes privileges itself: without them it is guessed.
fn means() -> Means {
    static MEANS: OnceLock<Means> = OnceLock::new();
    *MEANS.get_or_init(|| {
        let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        let may_load = lacking(held, CapabilitySet::BPF | CapabilitySet::PERFMON).is_empty();
        let multi_uprobes = if may_load { has_multi_uprobes() } else { kernel_version() >= (6, 6) };
        Means { multi_uprobes, tracefs: layout::of_this_kernel().is_none() && !has_tracefs() }
    })
}

/// What a thread keeps that changes the kernel side's maps.
#[must_use]
pub fn writing_maps() -> CapabilitySet {
    // Since 5.19 a map's descriptor is enough to use it (kernel/bpf/syscall.c, `__sys_bpf`).
    if kernel_version() < (5, 19) { held(CapabilitySet::BPF) } else { CapabilitySet::empty() }
}

/// What a thread keeps that reads what `/proc` has of observed processes, and changes maps.
#[must_use]
pub fn inspecting() -> CapabilitySet {
    CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH | writing_maps()
}

/// What a thread keeps that opens the files that observed processes have mapped.
#[must_use]
pub fn opening_mapped_files() -> CapabilitySet {
    CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH | held(CapabilitySet::CHECKPOINT_RESTORE)
}

/// What the thread keeps that finds the places of probes and attaches to them.
#[must_use]
pub fn attaching() -> CapabilitySet {
    let attach = if means().multi_uprobes { CapabilitySet::empty() } else { CapabilitySet::SYS_ADMIN };
    opening_mapped_files() | CapabilitySet::LEASE | attach | writing_maps()
}

/// A capability, or the one that includes it where this thread has only that.
fn held(wanted: CapabilitySet) -> CapabilitySet {
    let has = capabilities(None).is_ok_and(|sets| sets.permitted.contains(wanted));
    if has { wanted } else { CapabilitySet::SYS_ADMIN }
}

/// What of `wanted` is not held, nor part of what is.
fn lacking(held: CapabilitySet, wanted: CapabilitySet) -> CapabilitySet {
    let included =
        if held.contains(CapabilitySet::SYS_ADMIN) { IN_SYS_ADMIN } else { CapabilitySet::empty() };
    wanted - held - included
}

/// The capabilities that are needed and not held, each with its purpose.
fn missing(held: CapabilitySet, means: Means) -> Vec<String> {
    CAPABILITIES
        .iter()
        .filter(|capability| (capability.needed)(means) && !lacking(held, capability.set).is_empty())
        .map(|Capability { name, purpose, .. }| format!("{name} (to {purpose})"))
        .collect()
}

fn in_first_namespace(kind: &str, inode: u64) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // A kernel that does not say is taken at its best.
    fs::metadata(format!("/proc/self/ns/{kind}")).map_or(true, |meta| meta.ino() == inode)
}

fn has_tracefs() -> bool {
    [TRACEFS, "/sys/kernel/debug/tracing"].iter().any(|folder| Path::new(folder).join("events").is_dir())
}

/// Mounts tracefs where only this process sees it: the host's mounts stay as they
/// are, and nothing is left behind. Must run before the first thread is started.
fn private_tracefs() -> io::Result<()> {
    // SAFETY: only the mount namespace changes, for this one thread, before there are others.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    // The host's later mounts still arrive here; ours do not leave.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    rustix::mount::mount("tracefs", TRACEFS, "tracefs", MountFlags::empty(), None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_purpose() {
        let all = CAPABILITIES.iter().fold(CapabilitySet::empty(), |set, capability| set | capability.set);
        let perf_events = Means { multi_uprobes: false, tracefs: false };
        let multi = Means { multi_uprobes: true, tracefs: false };
        for means in [perf_events, multi] {
            assert_eq!(missing(all, means), [""; 0]);
            assert_eq!(missing(CapabilitySet::all(), means), [""; 0]);
        }
        let without_admin = all - CapabilitySet::SYS_ADMIN;
        assert_eq!(missing(without_admin, multi), [""; 0]);
        assert_eq!(
            missing(without_admin, perf_events),
            ["CAP_SYS_ADMIN (to attach to uprobes or to tracepoints of this kernel)"]
        );
        for capability in &CAPABILITIES[..5] {
            let missing = missing(without_admin - capability.set, multi);
            assert_eq!(missing, [format!("{} (to {})", capability.name, capability.purpose)]);
        }
        let stands_in = CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH;
        assert_eq!(missing(stands_in, perf_events), [""; 0]);
    }
}
