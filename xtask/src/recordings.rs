//! `cargo xtask recordings`: recorded calls, made again under the agent.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::build;
use crate::setup::{self, Part, apt};
use crate::shell::run;
use crate::tree;

/// Serves each recorded interaction over TLS as recorded, makes the call, and compares the span with the recording.
pub(crate) fn check(folder: &Path, json: bool) -> Result<()> {
    ensure!(apt::is_root(), "attaching to processes needs root: run it as `sudo -E cargo xtask recordings`");
    let folder = folder.canonicalize().with_context(|| format!("no folder {}", folder.display()))?;
    setup::install(&[Part::Packages, Part::Python])?;
    let agent = build::agent()?;
    let mut script = Command::new(tree::target("parts/venv/bin/python"));
    script.arg(tree::root().join("tests/recordings/check.py")).arg(folder).env("TOKENTAP_BIN", agent);
    if json {
        script.arg("--json");
    }
    run(&mut script)
}
