//! Debian packages.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{read, run_logged, say};
use crate::tree;

/// Installs those of `packages` that are missing; without root, the error is the command to run.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !is_root() {
        bail!(
            "Debian packages are missing; run this, then try again:\n    sudo apt-get install --no-install-recommends {names}"
        );
    }
    say(format_args!("installing Debian packages: {names}"));
    let log = tree::target("parts/apt.log");
    update(&log)?;
    run_logged(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing), &log)
}

/// Refreshes the lists of what there is, where that is allowed.
pub(crate) fn update(log: &Path) -> Result<()> {
    if is_root() {
        run_logged(apt_get().arg("update"), log).context("apt-get update failed")?;
    }
    Ok(())
}

/// Whether this process may install packages and load eBPF programs.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn installed(package: &str) -> bool {
    read(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
