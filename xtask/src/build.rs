//! Building the programs of the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell::{run, say};
use crate::{ebpf, tree};

/// The agent as released; returns its path.
pub(crate) fn agent() -> Result<PathBuf> {
    ebpf::build(false)?;
    say("building the agent");
    release(["--package", "tokentap"])?;
    Ok(folder().join("tokentap"))
}

/// Programs of the tests package; returns their folder.
pub(crate) fn test_programs(names: &[&str]) -> Result<PathBuf> {
    say(format_args!("building {}", names.join(", ")));
    release(
        ["--package", "tokentap-tests"].into_iter().chain(names.iter().flat_map(|name| ["--bin", *name])),
    )?;
    Ok(folder())
}

fn release<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<()> {
    run(cargo("build").arg("--release").args(arguments))
}

/// A `cargo` command on the workspace.
pub(crate) fn cargo(verb: &str) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(tree::root()).arg(verb);
    command
}

/// Where cargo puts release builds.
fn folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| tree::target(""), |folder| tree::root().join(Path::new(&folder)))
        .join("release")
}
