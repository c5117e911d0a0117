//! Programs onto functions and tracepoints, and off again.
//!
//! One perf event and link per point: aya 0.14 has no multi-point uprobes. What is attached where is known
//! only here, so that the move to them stays small.

use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroU32,
    path::Path,
};

use aya::{
    Ebpf,
    programs::{
        Program, ProgramError, RawTracePoint, TracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use tokentap_abi::TlsFunction;

use super::KernelError;

/// A file, wherever it is mounted and whether or not it still has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device number as `/proc/<pid>/maps` gives it.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// A function in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsPoint {
    /// Which one: the cookie of its probes.
    pub function: TlsFunction,
    /// Where its first instruction is, from the start of the file.
    pub offset: u64,
}

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
#[error("cannot place a probe at {offset:#x}: {reason}")]
pub struct AttachError {
    offset: u64,
    reason: String,
}

/// Owns the programs and everything that is attached.
pub struct Attacher {
    ebpf: Ebpf,
    /// Multi-uprobe links are used.
    multi: bool,
    links: HashMap<(FileId, Scope), Vec<UProbeLink>>,
}

/// Raw tracepoints, with the program of each. All that is left of the programs where the kernel's layout is not known.
const RAW: &[(&str, &str)] = &[
    ("process_exec", "sched_process_exec"),
    ("task_newtask", "task_newtask"),
    ("process_exit", "sched_process_exit"),
    ("sys_exit", "sys_exit"),
];

/// Instead of the first two, where the kernel's layout is not known.
const RECORDS: &[(&str, &str, &str)] = &[
    ("process_exec_record", "sched", "sched_process_exec"),
    ("task_newtask_record", "task", "task_newtask"),
];

impl Attacher {
    pub(super) fn new(ebpf: Ebpf) -> Self {
        let multi = loaded(&ebpf, "tls_enter_multi");
        Self { ebpf, multi, links: HashMap::new() }
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

    /// Whether this file's functions are probed for this scope.
    #[must_use]
    pub fn is_attached(&self, file: FileId, scope: Scope) -> bool {
        self.links.contains_key(&(file, scope))
    }

    /// Probes functions of a file, once; `path` is any way to open it (`/proc/<pid>/map_files/…`). All or
    /// nothing: half a library would show half of a conversation.
    ///
    /// # Errors
    /// When the kernel refuses one of the points; nothing stays attached then.
    pub fn attach_tls(
        &mut self,
        path: &Path,
        file: FileId,
        points: &[TlsPoint],
        scope: Scope,
    ) -> Result<(), AttachError> {
        let Entry::Vacant(slot) = self.links.entry((file, scope)) else { return Ok(()) };
        let mut links = Vec::with_capacity(points.len() * 2);
        for point in points {
            let [enter, leave] = if self.multi {
                ["tls_enter_multi", "tls_return_multi"]
            } else {
                ["tls_enter", "tls_return"]
            };
            // Returns first: a call that is entered before its return is probed would leave a stale record.
            for program in [leave, enter].into_iter().skip(usize::from(!point.function.returns())) {
                links.push(probe(&mut self.ebpf, program, path, point, scope)?);
            }
        }
        slot.insert(links);
        Ok(())
    }

    /// Attaches programs that do nothing to the same functions: the benchmark's baseline.
    ///
    /// # Errors
    /// As [`Self::attach_tls`].
    pub fn attach_empty(
        &mut self,
        path: &Path,
        file: FileId,
        points: &[TlsPoint],
        scope: Scope,
    ) -> Result<(), AttachError> {
        let mut links = Vec::new();
        for point in points {
            let programs = if self.multi {
                ["empty_uretprobe_multi", "empty_uprobe_multi"]
            } else {
                ["empty_uretprobe", "empty_uprobe"]
            };
            for program in programs.into_iter().skip(usize::from(!point.function.returns())) {
                links.push(probe(&mut self.ebpf, program, path, point, scope)?);
            }
        }
        self.links.insert((file, scope), links);
        Ok(())
    }

    /// Takes away the probes that were for one process.
    pub fn detach_process(&mut self, pid: u32) {
        self.links.retain(|(_, scope), _| *scope != Scope::Process(pid));
    }

    /// Takes away all probes that were for one process.
    pub fn detach_processes(&mut self) {
        self.links.retain(|(_, scope), _| *scope == Scope::Host);
    }
}

fn probe(
    ebpf: &mut Ebpf,
    program: &'static str,
    path: &Path,
    point: &TlsPoint,
    scope: Scope,
) -> Result<UProbeLink, AttachError> {
    let TlsPoint { function, offset } = *point;
    let failed = |reason: String| AttachError { offset, reason };
    let uprobe: &mut UProbe = ebpf
        .program_mut(program)
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| failed(format!("the eBPF object has no program {program}")))?;
    let scope = match scope {
        Scope::Host => UProbeScope::AllProcesses,
        Scope::Process(pid) => UProbeScope::OneProcess(
            NonZeroU32::new(pid).ok_or_else(|| failed("pid 0 is the kernel's".to_owned()))?,
        ),
    };
    let link = uprobe
        .attach(
            [UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(offset),
                cookie: Some(function as u64),
            }],
            path,
            scope,
        )
        .map_err(|error| failed(reason(&error)))?;
    uprobe.take_link(link).map_err(|error| failed(reason(&error)))
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
