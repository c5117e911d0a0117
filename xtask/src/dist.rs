//! `cargo xtask dist`: what a release consists of, in `target/dist`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::build::cargo;
use crate::setup::apt;
use crate::shell::{read, run, say};
use crate::{ebpf, pages, toolchain, tree};

/// A static binary that runs on any distribution, whatever its C library.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds the release, packs it, and writes its checksums.
pub(crate) fn make() -> Result<()> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("a release is built on x86-64");
    }
    apt::install(&["gcc", "libc6-dev", "musl-tools"])?;
    toolchain::target(TARGET)?;
    ebpf::build(false)?;
    say("building a static binary");
    run(cargo("build")
        .args(["--release", "--target", TARGET, "--package", "tokentap"])
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CC_x86_64_unknown_linux_musl", "musl-gcc"))?;
    let name = format!("tokentap-{}-linux-x86_64", env!("CARGO_PKG_VERSION"));
    let dist = tree::target("dist");
    let folder = dist.join(&name);
    if dist.exists() {
        fs::remove_dir_all(&dist).context("cannot remove the last release")?;
    }
    fs::create_dir_all(&folder)?;
    let binary = tree::target(TARGET).join("release/tokentap");
    copy(&binary, &folder.join("tokentap"))?;
    for file in ["LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "REFERENCE.md"] {
        copy(&tree::root().join(file), &folder.join(file))?;
    }
    pages::for_distribution(&folder)?;
    let archive = format!("{name}.tar.gz");
    // The same input gives the same archive.
    run(Command::new("tar").current_dir(&dist).args([
        "--create",
        "--gzip",
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--file",
        &archive,
        &name,
    ]))?;
    let sums =
        read(Command::new("sha256sum").current_dir(&dist).args([&archive, &format!("{name}/tokentap")]))?;
    fs::write(dist.join("SHA256SUMS"), format!("{sums}\n"))?;
    println!("{sums}");
    println!("the release is in {}", dist.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display())).map(drop)
}
