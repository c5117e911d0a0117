//! What is made of the program's own tables: the reference, manual pages, completions (`agent/examples/pages.rs`).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::build::cargo;
use crate::shell::read;
use crate::{ebpf, tree};

/// From the workspace root.
const REFERENCE: &str = "REFERENCE.md";

/// Writes the reference anew.
pub(crate) fn write_reference() -> Result<()> {
    let path = tree::root().join(REFERENCE);
    fs::write(&path, reference()?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {REFERENCE}");
    Ok(())
}

/// Fails when the reference is not what the tables give.
pub(crate) fn check_reference() -> Result<()> {
    let there = fs::read_to_string(tree::root().join(REFERENCE)).unwrap_or_default();
    if there != reference()? {
        bail!("{REFERENCE} is not what the tables in the code give: run `cargo xtask reference`");
    }
    Ok(())
}

/// Writes manual pages and completions into a folder.
pub(crate) fn for_distribution(folder: &Path) -> Result<()> {
    read(example()?.arg("dist").arg(folder)).map(drop)
}

fn reference() -> Result<String> {
    read(example()?.arg("reference"))
}

fn example() -> Result<Command> {
    ebpf::build(false)?;
    let mut command = cargo("run");
    command.args(["--quiet", "--package", "tokentap", "--example", "pages", "--"]);
    Ok(command)
}
