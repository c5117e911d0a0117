//! The kernel side, loaded. Nothing outside this module knows aya.

mod attach;
mod log;
mod maps;
mod requirements;
mod ring;

pub use attach::{AttachError, Attacher, FileId, Scope, TlsPoint, TlsProbes};
pub use maps::{Kernel, KernelMaps};
pub use requirements::{Requirement, check, private_tracefs};
pub use ring::Ring;

use aya::{
    Ebpf, EbpfLoader,
    maps::MapError,
    programs::{ProgramError, ProgramType},
    sys::{BpfHelper, UProbeMultiFeature},
};

/// The compiled kernel side (`cargo xtask build-ebpf`).
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TOKENTAP_EBPF_OBJECT"));

/// Why the kernel side could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The object was refused.
    #[error("the kernel refused the eBPF object: {0}")]
    Load(#[from] aya::EbpfError),
    /// The verifier refused a program; the last lines of its log say why.
    #[error("the kernel's verifier refused program {program}: {reason}")]
    Verifier {
        /// Program name.
        program: String,
        /// The end of the verifier's log.
        reason: String,
    },
    /// A program could not be attached.
    #[error("cannot attach {program} to {point}: {source}")]
    Attach {
        /// Program name.
        program: String,
        /// Tracepoint.
        point: String,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// The object lacks something: it was built from other sources.
    #[error("the eBPF object has no {0}: it does not belong to this build, run `cargo xtask build-ebpf`")]
    Missing(String),
    /// The ring could not be mapped.
    #[error("cannot map the ring: {0}; a smaller --ring-size may fit")]
    Ring(std::io::Error),
    /// A map could not be used.
    #[error("cannot use eBPF map {name}: {source}")]
    Map {
        /// Map name.
        name: &'static str,
        /// What the kernel said.
        source: Box<MapError>,
    },
}

/// How to load.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Ring size in bytes, a power of two of at least a page.
    pub ring_bytes: u32,
    /// Track every process that executes, from its first instruction, until told otherwise.
    pub adopt: bool,
}

/// Loads every program and map. Nothing is attached yet.
///
/// # Errors
/// When the kernel refuses the object, with the reason.
pub fn load(options: LoadOptions) -> Result<Kernel, KernelError> {
    let adopt = u8::from(options.adopt);
    let has_loop = u8::from(helper("bpf_loop", BpfHelper::BPF_FUNC_loop));
    let mut loader = EbpfLoader::new();
    loader
        .override_global("ADOPT", &adopt, true)
        .override_global("HAS_LOOP", &has_loop, true)
        .map_max_entries("EVENTS", options.ring_bytes);
    let mut ebpf = loader.load(OBJECT)?;
    let multi = has_multi_uprobes();
    for (name, program) in ebpf.programs_mut().filter(|(name, _)| attach::is_loaded(name, multi)) {
        load_program(name, program)?;
    }
    Kernel::new(ebpf, options.ring_bytes)
}

/// Whether the kernel has a helper; programs do without when it cannot be told.
fn helper(name: &str, id: BpfHelper) -> bool {
    aya::sys::is_helper_supported(ProgramType::KProbe, id).unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot tell whether the kernel has {name}");
        false
    })
}

/// Whether multi-uprobe links can be scoped to one process: else there is one perf event per probe.
fn has_multi_uprobes() -> bool {
    aya::sys::is_uprobe_multi_supported(UProbeMultiFeature::ProcessScopedPidFilter).unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot tell whether the kernel has multi-uprobe links");
        false
    })
}

fn load_program(name: &str, program: &mut aya::programs::Program) -> Result<(), KernelError> {
    use aya::programs::Program;
    let result = match program {
        Program::UProbe(p) => p.load(),
        Program::TracePoint(p) => p.load(),
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

/// Takes a program out for attaching.
fn tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::programs::TracePoint, KernelError> {
    ebpf.program_mut(name)
        .and_then(|p| p.try_into().ok())
        .ok_or_else(|| KernelError::Missing(format!("program {name}")))
}
