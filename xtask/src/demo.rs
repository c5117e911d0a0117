//! `cargo xtask demo`: real clients, a TLS LLM server, and what the agent sees of them.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::build;
use crate::setup::{self, Part, apt};
use crate::shell::{run, say};

/// Installs and builds what is missing, then runs the demonstration.
pub(crate) fn show() -> Result<()> {
    ensure!(apt::is_root(), "attaching to processes needs root: run it as `sudo -E cargo xtask demo`");
    setup::install(&[Part::Packages, Part::Python, Part::Node])?;
    let agent = build::agent()?;
    let programs = build::test_programs(&["demo"])?;
    say("ready");
    run(Command::new(programs.join("demo")).env("TOKENTAP_BIN", agent))
}
