//! The loaded programs: what the kernel says of their runs.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
};

use aya::{Ebpf, programs::ProgramFd};

use super::{KernelError, SECOND};

/// A loaded program's descriptor.
pub(super) fn fd(ebpf: &Ebpf, name: &str) -> Result<ProgramFd, KernelError> {
    let program = ebpf.program(name).and_then(|program| program.fd().ok());
    let program = program.ok_or_else(|| KernelError::Missing(format!("program {name}")))?;
    program.try_clone().map_err(KernelError::Descriptors)
}

/// The loaded programs, by descriptors that the [`super::Attacher`] owns: a second descriptor of each would show every
/// program twice to those who look into `/proc`.
pub(super) struct Programs {
    /// Programs that do the same for each other.
    groups: Vec<Vec<RawFd>>,
    /// What was seen last, for when they are gone.
    skipped: Cell<u64>,
}

impl Programs {
    pub(super) fn of(ebpf: &Ebpf) -> Self {
        let mut groups: BTreeMap<&str, Vec<RawFd>> = BTreeMap::new();
        for (name, program) in ebpf.programs() {
            // Those that this kernel does not need are not loaded.
            if let Ok(fd) = program.fd() {
                let first = name.trim_end_matches(SECOND);
                groups.entry(first).or_default().push(fd.as_fd().as_raw_fd());
            }
        }
        Self { groups: groups.into_values().collect(), skipped: Cell::new(0) }
    }

    /// Runs that the kernel skipped and that no other program can have done: `recursion_misses`, as `/proc/self/fdinfo`
    /// shows it (kernel/bpf/syscall.c), of the program of a group that was skipped least.
    pub(super) fn skipped_runs(&self) -> u64 {
        let of = |fd: &RawFd| -> Option<u64> {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
        };
        // A group of which one is gone already says nothing: those that are left may have been skipped more.
        let of_group = |group: &Vec<RawFd>| {
            group.iter().map(of).try_fold(u64::MAX, |least, skipped| Some(least.min(skipped?)))
        };
        let skipped = self.groups.iter().filter_map(of_group).sum();
        self.skipped.set(self.skipped.get().max(skipped));
        self.skipped.get()
    }
}
