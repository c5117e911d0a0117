//! Why the kernel side could not be put in place.

use aya::{maps::MapError, programs::ProgramError};

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
    /// A thread that loads a program failed.
    #[error("loading the eBPF programs failed")]
    LoadEnded,
    /// Too many open descriptors.
    #[error("no descriptor is left for the eBPF programs: {0}; raise the limit (ulimit -n)")]
    Descriptors(std::io::Error),
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
