//! Where things are in the checkout. Everything that is built or fetched lies under `target/`.

use std::path::{Path, PathBuf};

/// The workspace root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// `target/<path>`.
pub(crate) fn target(path: impl AsRef<Path>) -> PathBuf {
    root().join("target").join(path)
}
