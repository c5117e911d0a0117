//! `cargo xtask build-ebpf`: the eBPF object that the agent embeds.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell::{run, say};
use crate::toolchain::{Compiler, Linker};
use crate::tree;

const TARGET: &str = "bpfel-unknown-none";
/// Apart from the host's builds: other flags, and no waiting for each other.
const BUILD: &str = "ebpf-build";

/// Where the agent's build script finds the object.
pub(crate) fn object() -> PathBuf {
    tree::target("ebpf/tokentap")
}

/// Builds the object; cargo decides whether there is anything to do, and [`object`] is touched only when its
/// bytes changed, so that the agent is not rebuilt for nothing.
pub(crate) fn build(force: bool) -> Result<()> {
    let compiler = Compiler::locate()?;
    let linker = Linker::locate(&compiler)?;
    let build = tree::target(BUILD);
    if force && build.is_dir() {
        fs::remove_dir_all(&build)?;
    }
    run(cargo(&compiler, "build")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.program)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Cdebuginfo=2\u{1f}-Clink-arg=--btf")
        .env("LD_LIBRARY_PATH", &linker.library_path))
    .context("the eBPF programs do not build")?;

    let built = build.join(TARGET).join("release/tokentap");
    match copy_if_changed(&built, &object())? {
        true => say(format_args!("wrote {}", object().display())),
        false => say(format_args!("{} is up to date", object().display())),
    }
    Ok(())
}

/// `cargo <verb>` for the eBPF package and its target.
pub(crate) fn cargo(compiler: &Compiler, verb: &str) -> Command {
    let mut command = compiler.cargo();
    command
        .current_dir(tree::root())
        // One object serves every architecture: it must not depend on the one that it is built on.
        .env("AYA_BPF_TARGET_ARCH", "x86_64")
        .args([verb, "--package", "tokentap-ebpf", "--release", "--target", TARGET])
        .arg("--target-dir")
        .arg(tree::target(BUILD));
    if compiler.build_std {
        command.args(["-Z", "build-std=core"]);
    }
    command
}

/// Whether `to` did not have the bytes of `from` before.
fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    // Beside the destination, so that a build of the agent never sees half of it.
    let mut draft = OsString::from(to);
    draft.push(".new");
    fs::write(&draft, &new)?;
    fs::rename(&draft, to)?;
    Ok(true)
}
