//! The loaded programs: what the kernel says of their runs.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Ebpf, programs::ProgramFd};

use super::KernelError;

/// A loaded program's descriptor.
pub(super) fn fd(ebpf: &Ebpf, name: &str) -> Result<ProgramFd, KernelError> {
    let program = ebpf.program(name).and_then(|program| program.fd().ok());
    let program = program.ok_or_else(|| KernelError::Missing(format!("program {name}")))?;
    program.try_clone().map_err(KernelError::Descriptors)
}

/// Descriptors of the loaded programs.
pub(super) struct Programs(Vec<ProgramFd>);

impl Programs {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, KernelError> {
        // Those that this kernel does not need are not loaded.
        let loaded = ebpf.programs().filter_map(|(_, program)| program.fd().ok());
        loaded.map(|fd| fd.try_clone().map_err(KernelError::Descriptors)).collect::<Result<_, _>>().map(Self)
    }

    /// `recursion_misses` of all programs, as `/proc/self/fdinfo` shows it (kernel/bpf/syscall.c).
    pub(super) fn skipped_runs(&self) -> u64 {
        let of = |fd: &ProgramFd| -> Option<u64> {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
            info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
        };
        self.0.iter().filter_map(of).sum()
    }
}
