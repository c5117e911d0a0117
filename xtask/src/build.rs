//! Building the programs of the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::setup::kernels;
use crate::shell::{run, say};
use crate::{ebpf, toolchain, tree};

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

/// The agent and programs of the tests package for arm64; returns their folder.
pub(crate) fn for_arm64(names: &[&str]) -> Result<PathBuf> {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    ebpf::build(false)?;
    toolchain::target(TARGET)?;
    say(format_args!("building the agent and {} for arm64", names.join(", ")));
    let root = kernels::arm64_root();
    let headers = root.join("usr/include");
    let libraries = root.join("usr/lib/aarch64-linux-gnu");
    run(cargo("build")
        .args(["--release", "--target", TARGET, "--package", "tokentap", "--package", "tokentap-tests"])
        .args(["tokentap"].iter().chain(names).flat_map(|name| ["--bin", *name]))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc")
        .env("AR_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-ar")
        // Some of OpenSSL's headers differ from one architecture to the next, and lie apart.
        .env("CFLAGS_aarch64_unknown_linux_gnu", format!("-I{}", headers.join("aarch64-linux-gnu").display()))
        .env("AARCH64_UNKNOWN_LINUX_GNU_OPENSSL_INCLUDE_DIR", &headers)
        .env("AARCH64_UNKNOWN_LINUX_GNU_OPENSSL_LIB_DIR", &libraries))?;
    Ok(target_folder().join(TARGET).join("release"))
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
    target_folder().join("release")
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| tree::target(""), |folder| tree::root().join(Path::new(&folder)))
}
