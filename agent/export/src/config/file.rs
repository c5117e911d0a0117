//! Files of OTLP JSON lines.

use std::{path::PathBuf, time::Duration};

/// A file of OTLP JSON lines, as the Collector's file receiver reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// The file that is written. One that is full is renamed: the time is put before its extension.
    pub path: PathBuf,
    /// Bytes at which it is full.
    pub max_bytes: u64,
    /// Age at which it is full; `None`: however old.
    pub max_age: Option<Duration>,
    /// Full files that are kept; the oldest goes first.
    pub max_files: usize,
}

impl FileConfig {
    /// This file, with default limits.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, max_bytes: 100 << 20, max_age: Some(Duration::from_secs(24 * 60 * 60)), max_files: 10 }
    }
}
