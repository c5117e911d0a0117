//! Programs onto functions and tracepoints, and off again.
//!
//! The probes of a TLS library are two links, one for all returns and one for all entries; which function was
//! called is the cookie of each place. Where the kernel has multi-uprobe links with process scope (6.6 with the
//! fix of 6.10), a link is one object in the kernel too; elsewhere it is one perf event per function.
//!
//! What the kernel guarantees of a uprobe (kernel/events/uprobes.c), and what it does not:
//!
//! - It knows a place by inode and offset. The first registration of a place reads the instruction there
//!   (`prepare_uprobe`) and refuses what it cannot step over; every later mapping of the same inode, by any process
//!   that the scope includes, gets the breakpoint at that offset and the *remembered* instruction. The bytes are
//!   never compared again: a file that changes while it is probed gets breakpoints in mid-instruction in every new
//!   mapping. So nobody can write to a file while it is probed where leases are to be had, the bytes are compared
//!   right before placing, and elsewhere probes go as soon as a change is seen (`targets::prober`).
//! - When a probe goes, a page that it was in does not always become the file's page again: a process that mapped a
//!   file before that was overwritten in place can keep old contents, without breakpoints.
//! - While a probe exists, it holds the inode: its number is not used again.
//! - A link holds the path that it was made through, and with it the mount: `umount` fails until the link is gone.
//!   It does not hold the descriptor that the path went through (`/proc/self/fd/N`).
//! - Registration takes `dup_mmap_sem` for writing, for which every fork on the host waits. Reading the instruction
//!   of a file whose file system does not answer would stop them all: such files are never probed.

use std::{num::NonZeroU32, path::Path};

use aya::{
    Ebpf,
    programs::{
        Program, ProgramError, RawTracePoint, TracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use tokentap_tls::TlsPoint;

use super::error::KernelError;

/// Whose calls a probe sees. A probe for one process patches only that process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everybody's: also those of processes that do not exist yet.
    Host,
    /// One process's.
    Process(u32),
}

/// Why a probe is not there.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refuses probes in this file: {0}")]
pub struct AttachError(String);

/// The probes of a library: detached when dropped, which waits for programs that are running (10 to 100 ms).
///
/// Fields are dropped in order: entries go first, so that no call is entered whose return is not seen.
#[derive(Debug)]
pub struct TlsProbes {
    _entries: UProbeLink,
    _returns: Option<UProbeLink>,
}

/// The entry and the return program, each in the form for perf events and in the form for multi-uprobe links. Of
/// these only one form is loaded.
struct Pair {
    single: [&'static str; 2],
    multi: [&'static str; 2],
}

const TLS: Pair =
    Pair { single: ["tls_enter", "tls_return"], multi: ["tls_enter_multi", "tls_return_multi"] };
const EMPTY: Pair = Pair {
    single: ["empty_uprobe", "empty_uretprobe"],
    multi: ["empty_uprobe_multi", "empty_uretprobe_multi"],
};

/// Owns the programs and the tracepoints.
pub struct Attacher {
    ebpf: Ebpf,
    /// Multi-uprobe links are used.
    multi: bool,
}

/// Raw tracepoints, with the programs of each, which run in the order in which they are attached. Those that are not loaded
/// are not attached.
const RAW: &[(&str, &str)] = &[
    ("process_exec", "sched_process_exec"),
    ("process_exec_second", "sched_process_exec"),
    ("task_newtask", "task_newtask"),
    ("task_newtask_second", "task_newtask"),
    ("process_exit", "sched_process_exit"),
    ("process_exit_second", "sched_process_exit"),
    ("sys_exit", "sys_exit"),
    ("sys_exit_second", "sys_exit"),
    ("sys_exit_third", "sys_exit"),
];

/// Instead of those at the first two, where the kernel's layout is not known.
const RECORDS: &[(&str, &str, &str)] = &[
    ("process_exec_record", "sched", "sched_process_exec"),
    ("task_newtask_record", "task", "task_newtask"),
];

impl Attacher {
    pub(super) fn new(ebpf: Ebpf) -> Self {
        let [entry, _] = TLS.multi;
        let multi = loaded(&ebpf, entry);
        Self { ebpf, multi }
    }

    /// Whether the probes of a library are few objects in the kernel. Else each place is a perf event of its own, and
    /// these are taken away one after the other, whatever threads do (140 ms each on 6.18).
    #[must_use]
    pub const fn has_multi_uprobes(&self) -> bool {
        self.multi
    }

    /// Attaches the programs that follow processes and sockets.
    ///
    /// # Errors
    /// When one of them cannot be attached; names it.
    pub fn attach_tracepoints(&mut self) -> Result<(), KernelError> {
        for (program, point) in RAW {
            if !loaded(&self.ebpf, program) {
                continue;
            }
            let raw: &mut RawTracePoint = find(&mut self.ebpf, program)?;
            raw.attach(point).map(|_link| ()).map_err(|source| failed(program, point, source))?;
        }
        for (program, category, name) in RECORDS {
            if !loaded(&self.ebpf, program) {
                continue;
            }
            let tracepoint: &mut TracePoint = find(&mut self.ebpf, program)?;
            let link = tracepoint.attach(category, name);
            link.map(|_link| ()).map_err(|source| failed(program, name, source))?;
        }
        Ok(())
    }

    /// Probes functions of a file. `path` is any way to open it (`/proc/self/fd/N`); the probes keep its mount
    /// busy. All or nothing: half a library would show half of a conversation.
    ///
    /// # Errors
    /// When the kernel refuses one of the points; nothing stays attached then.
    pub fn attach_tls(
        &mut self,
        path: &Path,
        points: &[TlsPoint],
        scope: Scope,
    ) -> Result<TlsProbes, AttachError> {
        self.attach(&TLS, path, points, scope)
    }

    /// Attaches programs that do nothing to the same functions: the benchmark's baseline.
    ///
    /// # Errors
    /// As [`Self::attach_tls`].
    pub fn attach_empty(
        &mut self,
        path: &Path,
        points: &[TlsPoint],
        scope: Scope,
    ) -> Result<TlsProbes, AttachError> {
        self.attach(&EMPTY, path, points, scope)
    }

    fn attach(
        &mut self,
        pair: &Pair,
        path: &Path,
        points: &[TlsPoint],
        scope: Scope,
    ) -> Result<TlsProbes, AttachError> {
        let [entry, leave] = if self.multi { pair.multi } else { pair.single };
        let returning: Vec<TlsPoint> =
            points.iter().copied().filter(|point| point.function.returns()).collect();
        // Returns first, for the reason given above.
        let returns =
            (!returning.is_empty()).then(|| self.link(leave, path, &returning, scope)).transpose()?;
        Ok(TlsProbes { _entries: self.link(entry, path, points, scope)?, _returns: returns })
    }

    fn link(
        &mut self,
        program: &'static str,
        path: &Path,
        points: &[TlsPoint],
        scope: Scope,
    ) -> Result<UProbeLink, AttachError> {
        let uprobe: &mut UProbe = self
            .ebpf
            .program_mut(program)
            .and_then(|p| p.try_into().ok())
            .ok_or_else(|| AttachError(format!("the eBPF object has no program {program}")))?;
        let scope = match scope {
            Scope::Host => UProbeScope::AllProcesses,
            Scope::Process(pid) => UProbeScope::OneProcess(
                NonZeroU32::new(pid).ok_or_else(|| AttachError("pid 0 is the kernel's".to_owned()))?,
            ),
        };
        let points = points.iter().map(|point| UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(point.offset),
            cookie: Some(point.cookie()),
        });
        let link = uprobe.attach(points, path, scope).map_err(|error| AttachError(reason(&error)))?;
        uprobe.take_link(link).map_err(|error| AttachError(reason(&error)))
    }
}

fn loaded(ebpf: &Ebpf, program: &str) -> bool {
    ebpf.program(program).is_some_and(|program| program.fd().is_ok())
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, KernelError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| KernelError::Missing(format!("program {name}")))
}

fn failed(program: &str, point: &str, source: ProgramError) -> KernelError {
    KernelError::Attach { program: program.to_owned(), point: point.to_owned(), source: Box::new(source) }
}

/// The innermost error is the one that says something.
fn reason(error: &ProgramError) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
