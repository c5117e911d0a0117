//! Python environments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{
    apt,
    recipe::{once, place, recipe},
};
use crate::shell::{run, run_logged};

/// The Python client libraries in `target/parts/venv`.
pub(super) fn install() -> Result<()> {
    let (file, text) = recipe("requirements.txt")?;
    once("venv", &text, "Python clients into target/parts/venv", || environment("venv", &file, &[]))
}

/// Makes `target/parts/<name>` a virtual environment with what `requirements` lists; `variables` are set for
/// packages that are compiled.
pub(super) fn environment(name: &str, requirements: &Path, variables: &[(&str, &str)]) -> Result<()> {
    apt::install(&["python3", "python3-venv"])?;
    let home = place(name);
    // Debian's own interpreter, whatever else comes first on PATH: its OpenSSL is the system's.
    run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&home))?;
    run_logged(
        Command::new(home.join("bin/pip"))
            .args(["install", "--disable-pip-version-check", "--no-input", "--requirement"])
            .arg(requirements)
            .envs(variables.iter().copied()),
        &place(&format!("{name}.log")),
    )
}

/// The folder of the programs in `requirements`, which are installed into `target/parts/lint-venv`.
pub(crate) fn programs(name: &str, requirements: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string(requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    once(name, &text, &format!("checkers into target/parts/{name}"), || {
        environment(name, requirements, &[])
    })?;
    Ok(place(name).join("bin"))
}
