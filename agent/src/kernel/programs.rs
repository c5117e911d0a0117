//! The loaded programs: what the kernel says of their runs.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
};

use aya::{Ebpf, programs::ProgramFd};
use tokentap_abi::repeated;

use super::error::KernelError;

/// How the names of programs end that do what the first at a tracepoint was skipped for.
const LATER: [&str; 2] = ["_second", "_third"];

/// Whether a program stands behind another one at its tracepoint.
pub(super) fn is_later(name: &str) -> bool {
    LATER.iter().any(|suffix| name.ends_with(suffix))
}

/// The name of the first program at the tracepoint of this one.
fn first_of(name: &str) -> &str {
    LATER.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// A loaded program's descriptor.
pub(super) fn fd(ebpf: &Ebpf, name: &str) -> Result<ProgramFd, KernelError> {
    let program = ebpf.program(name).and_then(|program| program.fd().ok());
    let program = program.ok_or_else(|| KernelError::Missing(format!("program {name}")))?;
    program.try_clone().map_err(KernelError::Descriptors)
}

/// The loaded programs, by descriptors that the [`super::attach::Attacher`] owns: a second descriptor of each would show every
/// program twice to those who look into `/proc`.
pub(super) struct Programs {
    groups: Vec<Group>,
    /// What was seen last, for when they are gone.
    skipped: Cell<u64>,
}

impl Programs {
    pub(super) fn of(ebpf: &Ebpf) -> Self {
        // Those that this kernel does not need are not loaded. By name: the first of a group comes first.
        let loaded: BTreeMap<&str, RawFd> = ebpf
            .programs()
            .filter_map(|(name, program)| Some((name, program.fd().ok()?.as_fd().as_raw_fd())))
            .collect();
        let mut groups: BTreeMap<&str, Vec<RawFd>> = BTreeMap::new();
        for (name, fd) in loaded {
            groups.entry(first_of(name)).or_default().push(fd);
        }
        let groups = groups.into_iter().map(|(first, programs)| Group {
            programs,
            repeated: match first {
                "process_exec" => Some(repeated::EXEC),
                "task_newtask" => Some(repeated::FORK),
                _ => None,
            },
        });
        Self { groups: groups.collect(), skipped: Cell::new(0) }
    }

    /// Runs that the kernel skipped and that no other program did: `recursion_misses`, as `/proc/self/fdinfo` shows it
    /// (kernel/bpf/syscall.c). `repeated`: by entry of the `REPEATED` map, what a second program did in place of the
    /// first. Where that is not counted it is at most what the program of a group missed that was skipped least.
    pub(super) fn skipped_runs(&self, repeated: impl Fn(u32) -> u64) -> u64 {
        let of = |fd: &RawFd| -> Option<u64> {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
        };
        let of_group = |group: &Group| -> Option<u64> {
            // A group of which one is gone already says nothing: those that are left may have been skipped more.
            let skipped: Vec<u64> = group.programs.iter().map(of).collect::<Option<_>>()?;
            let done = group.repeated.map_or(0, &repeated);
            let first = skipped.first()?.saturating_sub(done);
            skipped.iter().skip(1).copied().chain([first]).min()
        };
        let skipped = self.groups.iter().filter_map(of_group).sum();
        self.skipped.set(self.skipped.get().max(skipped));
        self.skipped.get()
    }
}

/// Programs that do the same for each other.
struct Group {
    /// The first at its tracepoint, and those behind it.
    programs: Vec<RawFd>,
    /// Entry of the `REPEATED` map.
    repeated: Option<u32>,
}
