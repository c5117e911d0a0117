//! Files of OTLP JSON lines.

use std::{fmt, path::PathBuf, time::Duration};

/// A file of OTLP JSON lines, as the Collector's file receiver reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// The file that is written. One that is full is renamed: a number is added, 1 is the newest.
    pub path: PathBuf,
    /// Bytes at which it is full.
    pub max_bytes: u64,
    /// Age at which it is full.
    pub max_age: Duration,
    /// Full files that are kept; the oldest goes first.
    pub max_files: usize,
}

impl FileConfig {
    /// This file, with default limits: 100 MiB, a day, 10 files.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, max_bytes: 100 << 20, max_age: Duration::from_secs(24 * 60 * 60), max_files: 10 }
    }
}

/// Kind and destination.
impl fmt::Display for FileConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", self.path.display())
    }
}
