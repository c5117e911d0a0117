//! Where things are in the checkout. Everything that is built or fetched lies under `target/`.

use std::path::{Path, PathBuf};

/// The workspace root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// Where material lies, beside the checkout, that is no part of the repository: recorded traffic, the conventions' data.
/// It may be absent.
pub(crate) fn shared() -> PathBuf {
    root().join("../shared")
}

/// `target/<path>`.
pub(crate) fn target(path: impl AsRef<Path>) -> PathBuf {
    root().join("target").join(path)
}
