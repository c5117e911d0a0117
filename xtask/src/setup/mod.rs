//! What the tests, the demo and the benchmarks need from outside, installed once into `target/parts`.
//!
//! Each part says what it installs before it does, and leaves a stamp with its recipe: it is installed again
//! when the recipe changed, and not touched otherwise.

pub(crate) mod apt;
mod collector;
mod go;
pub(crate) mod kernels;
mod llama;
mod node;
pub(crate) mod python;
mod servers;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::shell::say;
use crate::tree;

/// Debian packages, apart from those that one part alone needs.
const PACKAGES: [&str; 10] = [
    "gcc",
    "g++",
    "libc6-dev",
    "libssl-dev",
    "pkg-config",
    "openssl",
    "curl",
    "python3",
    "python3-venv",
    "e2fsprogs",
];

/// Something that comes from outside.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Compiler, OpenSSL headers, curl and Python from Debian
    Packages,
    /// nginx and nghttp2's proxy from Debian
    Servers,
    /// Python client libraries
    Python,
    /// Node.js and its client library
    Node,
    /// An HTTP/2 client and server in Go
    Go,
    /// OpenTelemetry Collector
    Collector,
    /// llama.cpp's server and a tiny model
    Llama,
    /// QEMU, kernels for it, and what programs for arm64 need
    Kernels,
}

impl Part {
    /// Installs the part unless it is there.
    pub(crate) fn install(self) -> Result<()> {
        match self {
            Self::Packages => apt::install(&PACKAGES),
            Self::Servers => servers::install(),
            Self::Python => python::install(),
            Self::Node => node::install(),
            Self::Go => go::install(),
            Self::Collector => collector::install(),
            Self::Llama => llama::install(),
            Self::Kernels => kernels::install(),
        }
    }
}

/// Installs `parts` in order.
pub(crate) fn install(parts: &[Part]) -> Result<()> {
    parts.iter().try_for_each(|part| part.install())
}

/// `target/parts/<path>`.
pub(crate) fn place(path: &str) -> PathBuf {
    tree::target("parts").join(path)
}

/// A file of the tests that says which versions to install.
fn recipe(name: &str) -> Result<(PathBuf, String)> {
    let path = tree::root().join("tests/parts").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((path, text))
}

/// Runs `install` unless it made `target/parts/<product>` before, with the same `recipe`.
fn once(product: &str, recipe: &str, what: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = place(&format!("{product}.stamp"));
    if place(product).exists() && fs::read_to_string(&stamp).is_ok_and(|before| before == recipe) {
        return Ok(());
    }
    say(format_args!("installing {what}"));
    fs::create_dir_all(place(""))?;
    install().with_context(|| format!("cannot install {what}"))?;
    fs::write(&stamp, recipe).with_context(|| format!("cannot write {}", stamp.display()))
}
