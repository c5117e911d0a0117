//! Loads every program and map, as this kernel needs them.

use std::time::Instant;

use aya::{
    EbpfLoader,
    maps::{Array, Map, ProgramArray},
    programs::{Program, ProgramError, ProgramFd},
    sys::BpfHelper,
};
use tokentap_abi::{NamePattern, PATTERN_BYTES, PATTERNS, tail, tracked};

use super::{
    attach::Attacher,
    calls,
    error::KernelError,
    features::{has_multi_uprobes, helper},
    layout,
    maps::{self, KernelMaps, Plain},
    object,
    programs::{self, is_later},
    ring::Ring,
    version::{kernel_version, preempts_tracepoints},
};
use crate::privileges::in_parallel;

/// The loaded kernel side, in the parts that different threads own.
pub struct Kernel {
    /// Attaches and detaches.
    pub attacher: Attacher,
    /// Delivers frames.
    pub ring: Ring,
    /// Says who is watched, and how it goes.
    pub maps: KernelMaps,
}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Ring size in bytes, a power of two of at least a page.
    pub ring_bytes: u32,
    /// Track every process that executes, from its first instruction.
    pub all: bool,
    /// Track processes that execute a file with a matching name or, when the glob has a slash, path.
    pub globs: Vec<String>,
    /// Track the children of processes that a rule selects.
    pub follow: bool,
    /// Cgroups may be selected ([`KernelMaps::select_cgroup`]): whatever executes looks its own up.
    pub cgroups: bool,
}

/// Loads every program and map. Nothing is attached yet.
///
/// # Errors
/// When the kernel refuses the object, with the reason.
pub fn load(options: &LoadOptions) -> Result<Kernel, KernelError> {
    let layout = layout::of_this_kernel();
    let (patterns, unmatched) = patterns(&options.globs);
    if unmatched {
        tracing::warn!(
            most = PATTERNS,
            longest = PATTERN_BYTES,
            "not all patterns of executables can be compared in the kernel: the first calls of a matching process may be missed"
        );
    }
    let flag = |set: bool| u8::from(set);
    let all = flag(options.all);
    let has_cgroups = flag(options.cgroups);
    let pattern_count = patterns.len() as u32;
    let rule_flags = tracked::BY_RULE | if options.follow { tracked::FOLLOW } else { 0 };
    let agent = std::process::id();
    let has_loop = flag(helper("bpf_loop", BpfHelper::BPF_FUNC_loop));
    let preemptible = flag(layout.is_some() && preempts_tracepoints());
    let arm64 = flag(cfg!(target_arch = "aarch64"));
    let calls = calls::table();
    let known = flag(layout.is_some());
    let mut loader = EbpfLoader::new();
    loader
        .override_global("ALL", &all, true)
        .override_global("HAS_CGROUPS", &has_cgroups, true)
        .override_global("PATTERN_COUNT", &pattern_count, true)
        .override_global("RULE_FLAGS", &rule_flags, true)
        .override_global("AGENT", &agent, true)
        .override_global("HAS_LOOP", &has_loop, true)
        .override_global("PREEMPTIBLE", &preemptible, true)
        .override_global("ARM64", &arm64, true)
        .override_global("CALLS", &calls, true)
        .override_global("KNOWN", &known, true)
        .map_max_entries("EVENTS", options.ring_bytes);
    for (variable, offset) in layout.into_iter().flatten() {
        loader.override_global(variable, offset, true);
    }
    let on_demand = kernel_version() >= (6, 1);
    if !on_demand {
        for map in ["FDS", "HANDLES", "STREAMS", "THREADS"] {
            loader.map_max_entries(map, PREALLOCATED);
        }
    }
    if preemptible == 0 {
        for map in ["EXITS", "HANDLED"] {
            loader.map_max_entries(map, 1);
        }
    }
    let mut ebpf = loader.load(&object::bytes(on_demand))?;
    let needs = Needs {
        multi_uprobes: has_multi_uprobes(),
        layout: layout.is_some(),
        second_programs: preemptible != 0,
    };
    load_programs(ebpf.programs_mut().filter(|(name, _)| needs.include(name)))?;
    let mut array: Array<_, Plain<NamePattern>> = Array::try_from(
        ebpf.map_mut("PATTERNS").ok_or_else(|| KernelError::Missing("map PATTERNS".to_owned()))?,
    )
    .map_err(maps::in_map("PATTERNS"))?;
    for (index, pattern) in (0..).zip(patterns) {
        array.set(index, &Plain(pattern), 0).map_err(maps::in_map("PATTERNS"))?;
    }
    let next = [
        (tail::OTHER, "sys_exit_other"),
        (tail::URING_ENTER, "uring_enter"),
        (tail::PASSED_BY, "passed_by"),
        (tail::SYS_EXIT, "sys_exit"),
    ];
    let next: Vec<(u32, ProgramFd)> = next
        .into_iter()
        .map(|(index, name)| Ok((index, programs::fd(&ebpf, name)?)))
        .collect::<Result<_, KernelError>>()?;
    let mut tail_calls: ProgramArray<_> = ProgramArray::try_from(
        ebpf.map_mut("TAIL_CALLS").ok_or_else(|| KernelError::Missing("map TAIL_CALLS".to_owned()))?,
    )
    .map_err(maps::in_map("TAIL_CALLS"))?;
    for (index, program) in &next {
        tail_calls.set(*index, program, 0).map_err(maps::in_map("TAIL_CALLS"))?;
    }
    let Map::RingBuf(ring) = maps::take(&mut ebpf, "EVENTS")? else {
        return Err(KernelError::Missing("ring EVENTS".to_owned()));
    };
    let ring = Ring::new(ring, options.ring_bytes as usize).map_err(KernelError::Ring)?;
    let maps = KernelMaps::new(&mut ebpf, layout.is_none())?;
    Ok(Kernel { attacher: Attacher::new(ebpf), ring, maps })
}

/// Entries of maps whose memory is taken at once.
const PREALLOCATED: u32 = 32768;

/// The globs as the kernel side compares them, and whether some are too many or too long for it.
fn patterns(globs: &[String]) -> (Vec<NamePattern>, bool) {
    let patterns: Vec<NamePattern> = globs
        .iter()
        .filter_map(|glob| {
            let mut pattern = NamePattern {
                len: glob.len() as u32,
                whole_path: u32::from(glob.contains('/')),
                bytes: [0; PATTERN_BYTES],
            };
            pattern.bytes.get_mut(..glob.len())?.copy_from_slice(glob.as_bytes());
            Some(pattern)
        })
        .take(PATTERNS as usize)
        .collect();
    let unmatched = patterns.len() < globs.len();
    (patterns, unmatched)
}

/// Of programs that exist in two forms, the one that this kernel takes, and second programs where it needs them.
struct Needs {
    multi_uprobes: bool,
    layout: bool,
    second_programs: bool,
}

impl Needs {
    fn include(&self, program: &str) -> bool {
        let of_two = |second: &str, chosen: bool| program.ends_with(second) == chosen;
        match program {
            name if is_later(name) => self.second_programs,
            name if name.starts_with("tls_") || name.starts_with("empty_") => {
                of_two("_multi", self.multi_uprobes)
            }
            name if name.starts_with("process_exec") || name.starts_with("task_newtask") => {
                of_two("_record", !self.layout)
            }
            _ => true,
        }
    }
}

/// Loads programs, all at once: the verifier takes up to some 100 ms for one, and works on several at a time. Threads have
/// what this one has, and end here.
fn load_programs<'a>(programs: impl Iterator<Item = (&'a str, &'a mut Program)>) -> Result<(), KernelError> {
    let loaded = in_parallel(programs, |(name, program)| {
        let begin = Instant::now();
        load_program(name, program)?;
        tracing::debug!(name, took = ?begin.elapsed(), "program verified and loaded");
        Ok(())
    });
    loaded.into_iter().try_for_each(|result| result.unwrap_or(Err(KernelError::LoadEnded)))
}

fn load_program(name: &str, program: &mut Program) -> Result<(), KernelError> {
    let result = match program {
        Program::UProbe(p) => p.load(),
        Program::TracePoint(p) => p.load(),
        Program::RawTracePoint(p) => p.load(),
        _ => return Err(KernelError::Missing(format!("program {name} of a known type"))),
    };
    result.map_err(|error| KernelError::Verifier { program: name.to_owned(), reason: tail(&error) })
}

/// The last lines of a verifier log say what was wrong; the rest is megabytes of what was right.
fn tail(error: &ProgramError) -> String {
    const LINES: usize = 40;
    let text = match error {
        ProgramError::LoadError { io_error, verifier_log } => format!("{io_error}\n{verifier_log}"),
        other => other.to_string(),
    };
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    let mut out =
        lines.first().filter(|_| from > 0).map_or_else(String::new, |first| format!("{first}\n…\n"));
    out.push_str(&lines[from..].join("\n"));
    out
}
