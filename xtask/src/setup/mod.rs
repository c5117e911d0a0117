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
mod recipe;
mod servers;

use anyhow::Result;
use clap::ValueEnum;

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
