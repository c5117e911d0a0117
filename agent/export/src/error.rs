//! Why exporting could not be started.

use std::{io, path::PathBuf};

/// Why exporting could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file cannot be used: a certificate, a key, one to write to.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// No thread or no runtime.
    #[error("cannot start the export thread: {0}")]
    Thread(#[from] io::Error),
}
