//! Where parts are, which versions of them, and when they are installed again.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::shell::say;
use crate::tree;

/// `target/parts/<path>`.
pub(crate) fn place(path: &str) -> PathBuf {
    tree::target("parts").join(path)
}

/// A file of the tests that says which versions to install.
pub(super) fn recipe(name: &str) -> Result<(PathBuf, String)> {
    let path = tree::root().join("tests/parts").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((path, text))
}

/// Runs `install` unless it made `target/parts/<product>` before, with the same `recipe`.
pub(super) fn once(
    product: &str,
    recipe: &str,
    what: &str,
    install: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let stamp = place(&format!("{product}.stamp"));
    if place(product).exists() && fs::read_to_string(&stamp).is_ok_and(|before| before == recipe) {
        return Ok(());
    }
    say(format_args!("installing {what}"));
    fs::create_dir_all(place(""))?;
    install().with_context(|| format!("cannot install {what}"))?;
    fs::write(&stamp, recipe).with_context(|| format!("cannot write {}", stamp.display()))
}
