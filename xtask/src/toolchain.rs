//! What compiles and links eBPF: a rustc that has `core` for BPF, and the bpf-linker for its LLVM.
//!
//! Both are looked for first and installed only when missing; bpf-linker goes to `target/tools`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::setup::apt;
use crate::shell::{read, run, run_logged, say, which};
use crate::tree;

/// The release that is built; its default features want a newer LLVM than ours.
const LINKER_VERSION: &str = "0.13.0";

/// Debian's compiler with a ready-made `core` for BPF, for where rustup cannot fetch sources.
const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// A Rust toolchain that can compile for `bpfel-unknown-none`.
pub(crate) struct Compiler {
    /// Starts `cargo` with this toolchain.
    cargo: PathBuf,
    rustc: PathBuf,
    /// LLVM's major version; bpf-linker must have the same.
    llvm: u32,
    /// `core` comes as source (rust-src) and is built with the crate.
    pub(crate) build_std: bool,
}

impl Compiler {
    /// The toolchain to use; installs the `rust-src` component, or else Debian's compiler, when neither is there.
    pub(crate) fn locate() -> Result<Self> {
        let own = Self::of("cargo".into(), "rustc".into(), true)?;
        if own.has_sources()? {
            return Ok(own);
        }
        if which("rustup").is_some() {
            say("installing the rust-src component (rustup component add rust-src)");
            match run(Command::new("rustup").args(["component", "add", "rust-src"])) {
                Ok(()) if own.has_sources()? => return Ok(own),
                Ok(()) => say("rustup added rust-src to another toolchain than the one in use"),
                Err(error) => say(format_args!("rustup cannot fetch it: {error}")),
            }
        }
        if !Path::new("/usr/lib/rustlib/bpfel-unknown-none").is_dir() {
            apt::install(&DEBIAN_COMPILER).context(
                "no compiler for eBPF: run `rustup component add rust-src`, or install Debian's rustc-web, \
                 cargo-web and libstd-rust-web-dev-bpf",
            )?;
        }
        let debian = Self::of("/usr/bin/cargo".into(), "/usr/bin/rustc".into(), false)?;
        ensure!(
            debian.llvm == own.llvm,
            "Debian's rustc has LLVM {}, not {} as the toolchain in use",
            debian.llvm,
            own.llvm
        );
        Ok(debian)
    }

    /// A `cargo` command of this toolchain that may use unstable features, on its own for this one crate.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        command.env("RUSTC_BOOTSTRAP", "1");
        if !self.build_std {
            command.env("RUSTC", &self.rustc);
        }
        command
    }

    fn of(cargo: PathBuf, rustc: PathBuf, build_std: bool) -> Result<Self> {
        let version = read(Command::new(&rustc).arg("-vV"))?;
        let llvm = llvm_major(&version)
            .with_context(|| format!("`{} -vV` names no LLVM version:\n{version}", rustc.display()))?;
        Ok(Self { cargo, rustc, llvm, build_std })
    }

    fn has_sources(&self) -> Result<bool> {
        Ok(sysroot()?.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file())
    }
}

/// Adds a component of the toolchain unless its program is there.
pub(crate) fn component(name: &str, program: &str) -> Result<()> {
    if read(Command::new(program).arg("--version")).is_ok() {
        return Ok(());
    }
    say(format_args!("installing the {name} component (rustup component add {name})"));
    run(Command::new("rustup").args(["component", "add", name]))
}

/// Adds the standard library for another architecture unless it is there.
pub(crate) fn target(name: &str) -> Result<()> {
    let folder = read(Command::new("rustc").args(["--print", "target-libdir", "--target", name]))?;
    if Path::new(&folder).is_dir() {
        return Ok(());
    }
    say(format_args!("installing Rust's standard library for {name} (rustup target add {name})"));
    run(Command::new("rustup").args(["target", "add", name]))
}

/// A bpf-linker that works, and what its process needs to find libLLVM.
pub(crate) struct Linker {
    pub(crate) program: PathBuf,
    pub(crate) library_path: OsString,
}

impl Linker {
    /// The one on PATH when its LLVM is `compiler`'s, else ours, which is built when it is missing.
    pub(crate) fn locate(compiler: &Compiler) -> Result<Self> {
        if let Some(program) = which("bpf-linker") {
            let linker = Self { program, library_path: library_path(&sysroot()?.join("lib")) };
            if linker.works() && names_llvm(&fs::read(&linker.program)?, compiler.llvm) {
                return Ok(linker);
            }
        }
        let prefix = tree::target("tools/llvm");
        let home = tree::target("tools/bpf-linker");
        let linker =
            Self { program: home.join("bin/bpf-linker"), library_path: library_path(&prefix.join("lib")) };
        let library = find_libllvm(compiler.llvm)?;
        let linked = link_llvm(&library, &prefix.join("lib"))?;
        if linked == Linked::Before && linker.works() {
            return Ok(linker);
        }
        say(format_args!(
            "building bpf-linker {LINKER_VERSION} for LLVM {} into target/tools, about a minute",
            compiler.llvm
        ));
        run_logged(
            Command::new("cargo")
                .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"])
                .args(["--no-default-features", "--features", &format!("llvm-{}", compiler.llvm)])
                .arg("--root")
                .arg(&home)
                .arg("--target-dir")
                .arg(tree::target("tools/build"))
                .env("LLVM_PREFIX", &prefix)
                .env("LD_LIBRARY_PATH", &linker.library_path),
            &tree::target("tools/bpf-linker.log"),
        )?;
        ensure!(linker.works(), "{} was built but does not run", linker.program.display());
        Ok(linker)
    }

    fn works(&self) -> bool {
        let version =
            read(Command::new(&self.program).arg("--version").env("LD_LIBRARY_PATH", &self.library_path));
        version.is_ok_and(|version| version.starts_with("bpf-linker "))
    }
}

#[derive(PartialEq)]
enum Linked {
    Before,
    Now,
}

/// Makes `folder` a library directory that holds only `library`: as `libLLVM.so` for building, under its own
/// name for running.
fn link_llvm(library: &Path, folder: &Path) -> Result<Linked> {
    let own_name = library.file_name().with_context(|| format!("{} is no file", library.display()))?;
    let links = [folder.join("libLLVM.so"), folder.join(own_name)];
    if links.iter().all(|link| fs::read_link(link).is_ok_and(|target| target == library)) {
        return Ok(Linked::Before);
    }
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        fs::remove_file(entry?.path())?;
    }
    for link in &links {
        symlink(library, link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(Linked::Now)
}

/// The real shared library, not the linker script beside it: the toolchain's own, else Debian's.
fn find_libllvm(major: u32) -> Result<PathBuf> {
    let folders = [
        sysroot()?.join("lib"),
        format!("/usr/lib/llvm-{major}/lib").into(),
        "/usr/lib/x86_64-linux-gnu".into(),
    ];
    let prefix = format!("libLLVM.so.{major}.");
    for folder in &folders {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                return Ok(entry.path());
            }
        }
    }
    bail!(
        "no {prefix}* in {}: install libllvm{major}",
        folders.map(|folder| folder.display().to_string()).join(", ")
    )
}

/// LLVM's major version from the output of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let (_, llvm) = version.split_once("LLVM version: ")?;
    llvm.split('.').next()?.parse().ok()
}

/// Whether a bpf-linker executable belongs to this LLVM: by the shared library's name, or by the mark that a
/// built-in LLVM leaves in the bitcode it writes.
fn names_llvm(executable: &[u8], major: u32) -> bool {
    [format!("libLLVM.so.{major}."), format!("libLLVM-{major}"), format!("LLVM{major}.")]
        .iter()
        .any(|mark| executable.windows(mark.len()).any(|window| window == mark.as_bytes()))
}

fn sysroot() -> Result<PathBuf> {
    Ok(read(Command::new("rustc").args(["--print", "sysroot"]))?.into())
}

fn library_path(first: &Path) -> OsString {
    let mut path = first.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{llvm_major, names_llvm};

    #[test]
    fn reads_the_llvm_version_of_rustc() {
        assert_eq!(llvm_major("rustc 1.95.0\nrelease: 1.95.0\nLLVM version: 22.1.2"), Some(22));
        assert_eq!(llvm_major("rustc 1.95.0"), None);
    }

    #[test]
    fn tells_the_llvm_of_a_linker() {
        assert!(names_llvm(b"..\0libLLVM.so.22.1-rust-1.95.0-stable\0", 22));
        assert!(names_llvm(b"..LLVM22.1.2-rust..", 22));
        assert!(!names_llvm(b"..\0libLLVM.so.21.1\0", 22));
    }
}
