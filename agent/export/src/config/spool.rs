//! The spool: what is kept on disk until a receiver has it.

use std::path::PathBuf;

/// Where OTLP exporters keep what is not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// A directory of the agent's own; each exporter has a directory in it.
    pub directory: PathBuf,
    /// Most bytes of all files of one exporter; the newest that does not fit is dropped and counted.
    pub max_bytes: u64,
}

impl SpoolConfig {
    /// This directory, with the default limit.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory, max_bytes: 1 << 30 }
    }
}
