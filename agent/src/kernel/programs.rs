//! The loaded programs: what the kernel says of their runs.

use std::{
    cell::Cell,
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
    descriptors: Vec<RawFd>,
    /// What was seen last, for when they are gone.
    skipped: Cell<u64>,
}

impl Programs {
    pub(super) fn of(ebpf: &Ebpf) -> Self {
        // Those that this kernel does not need are not loaded.
        let loaded = |name: &str| ebpf.program(name).is_some_and(|program| program.fd().is_ok());
        let descriptors = ebpf
            .programs()
            // What the first at a tracepoint was skipped for, the second has done.
            .filter(|(name, _)| !loaded(&format!("{name}{SECOND}")))
            .filter_map(|(_, program)| program.fd().ok())
            .map(|fd| fd.as_fd().as_raw_fd())
            .collect();
        Self { descriptors, skipped: Cell::new(0) }
    }

    /// `recursion_misses` of the programs that nothing stands behind, as `/proc/self/fdinfo` shows it (kernel/bpf/syscall.c).
    pub(super) fn skipped_runs(&self) -> u64 {
        let of = |fd: &RawFd| -> Option<u64> {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
        };
        self.skipped.set(self.skipped.get().max(self.descriptors.iter().filter_map(of).sum()));
        self.skipped.get()
    }
}
