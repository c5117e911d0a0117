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
        ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeLink, UProbeScope},
    },
};

use super::{KernelError, tracepoint};

/// A file, wherever it is mounted and whether or not it still has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device number as `/proc/<pid>/maps` gives it.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// Which function a probe is for: its arguments and how it tells its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PointKind {
    /// `SSL_read`
    Read,
    /// `SSL_read_ex`
    ReadEx,
    /// `SSL_write`
    Write,
    /// `SSL_write_ex`
    WriteEx,
    /// `SSL_free`
    Free,
}

impl PointKind {
    /// Entry and return program.
    const fn programs(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Read => ("ssl_read", Some("ssl_read_ret")),
            Self::ReadEx => ("ssl_read_ex", Some("ssl_read_ex_ret")),
            Self::Write => ("ssl_write", Some("ssl_write_ret")),
            Self::WriteEx => ("ssl_write_ex", Some("ssl_write_ex_ret")),
            Self::Free => ("ssl_free", None),
        }
    }
}

/// A function in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsPoint {
    /// Which one.
    pub kind: PointKind,
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
    links: HashMap<(FileId, Scope), Vec<UProbeLink>>,
}

/// Tracepoints of processes: always needed.
const PROCESS: &[(&str, &str, &str)] = &[
    ("process_exec", "sched", "sched_process_exec"),
    ("task_newtask", "task", "task_newtask"),
    ("process_exit", "sched", "sched_process_exit"),
    ("exit_mmap", "syscalls", "sys_exit_mmap"),
    ("enter_mmap", "syscalls", "sys_enter_mmap"),
];

/// Socket calls by system call, with their programs' common name.
const SOCKET: &[(&str, &str)] = &[
    ("read", "read"),
    ("readv", "readv"),
    ("recvfrom", "recvfrom"),
    ("recvmsg", "recvmsg"),
    ("recvmmsg", "recvmmsg"),
    ("write", "write"),
    ("writev", "writev"),
    ("sendto", "sendto"),
    ("sendmsg", "sendmsg"),
    ("sendmmsg", "sendmmsg"),
    ("sendfile64", "sendfile64"),
    ("connect", "connect"),
    ("accept", "accept"),
    ("accept4", "accept"),
    ("dup", "dup"),
    ("dup2", "dup"),
    ("dup3", "dup"),
    ("fcntl", "fcntl"),
];

/// Calls of which only the entry matters.
const SOCKET_ENTRY: &[&str] = &["close", "shutdown"];

impl Attacher {
    pub(super) fn new(ebpf: Ebpf) -> Self {
        Self { ebpf, links: HashMap::new() }
    }

    /// Attaches the tracepoints of processes and sockets.
    ///
    /// # Errors
    /// When one of them cannot be attached; names it.
    pub fn attach_tracepoints(&mut self) -> Result<(), KernelError> {
        // Entries come last: a call that is entered before its exit is attached would leave a stale record.
        for (call, program) in SOCKET {
            let exit = match *program {
                "fcntl" => "exit_dup".to_owned(),
                other => format!("exit_{other}"),
            };
            self.tracepoint(&exit, "syscalls", &format!("sys_exit_{call}"))?;
        }
        for (call, program) in SOCKET {
            self.tracepoint(&format!("enter_{program}"), "syscalls", &format!("sys_enter_{call}"))?;
        }
        for call in SOCKET_ENTRY {
            self.tracepoint(&format!("enter_{call}"), "syscalls", &format!("sys_enter_{call}"))?;
        }
        for (program, category, name) in PROCESS {
            self.tracepoint(program, category, name)?;
        }
        Ok(())
    }

    fn tracepoint(&mut self, program: &str, category: &str, name: &str) -> Result<(), KernelError> {
        tracepoint(&mut self.ebpf, program)?.attach(category, name).map(|_link| ()).map_err(|source| {
            KernelError::Attach {
                program: program.to_owned(),
                point: format!("{category}:{name}"),
                source: Box::new(source),
            }
        })
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
            let (enter, leave) = point.kind.programs();
            // Returns first, for the reason given above.
            for program in leave.into_iter().chain([enter]) {
                links.push(probe(&mut self.ebpf, program, path, point.offset, scope)?);
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
            let (_, leave) = point.kind.programs();
            for program in leave.map(|_| "empty_uretprobe").into_iter().chain(["empty_uprobe"]) {
                links.push(probe(&mut self.ebpf, program, path, point.offset, scope)?);
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
    offset: u64,
    scope: Scope,
) -> Result<UProbeLink, AttachError> {
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
        .attach([UProbeAttachLocation::AbsoluteOffset(offset)], path, scope)
        .map_err(|error| failed(reason(&error)))?;
    uprobe.take_link(link).map_err(|error| failed(reason(&error)))
}

/// The innermost error is the one that says something.
fn reason(error: &ProgramError) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
