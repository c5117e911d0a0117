//! What a virtual machine boots into: programs and the shared libraries that they are linked to.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::build;
use crate::setup::kernels::{self, Architecture};
use crate::shell::{read, run};
use crate::tree;

/// Programs of the tests that run in the machine, and their paths in it.
const PROGRAMS: [(&str, &str); 2] = [("vm-init", "init"), ("bench-load", "bin/bench-load")];

/// `target/vm/<architecture>.cpio`.
pub(super) fn place(architecture: Architecture) -> PathBuf {
    home().join(format!("{}.cpio", System::of(architecture).name))
}

fn home() -> PathBuf {
    tree::target("vm")
}

/// Builds the agent and the programs of the tests, and packs them with what they need.
pub(super) fn pack(architecture: Architecture) -> Result<()> {
    let system = System::of(architecture);
    let tree = home().join(system.name);
    if tree.is_dir() {
        fs::remove_dir_all(&tree)?;
    }
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "usr/lib"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    // As on the systems that the libraries come from.
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib")] {
        symlink(target, tree.join(link))?;
    }
    let names = PROGRAMS.map(|(name, _)| name);
    let built = match architecture {
        Architecture::X86_64 => {
            build::agent()?;
            build::test_programs(&names)?
        }
        Architecture::Arm64 => build::for_arm64(&names)?,
    };
    let mut programs =
        vec![(built.join("tokentap"), "bin/tokentap"), (system.root.join("usr/bin/curl"), "bin/curl")];
    programs.extend(PROGRAMS.map(|(name, path)| (built.join(name), path)));
    for (program, path) in &programs {
        system.install(program, &tree.join(path))?;
        for library in system.libraries(program)? {
            let place = tree.join(&library);
            if let Some(folder) = place.parent() {
                fs::create_dir_all(folder)?;
            }
            let source = system.root.join(&library);
            fs::copy(&source, &place).with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    run(Command::new("sh")
        .args(["-c", "find . -print0 | cpio --quiet --null --create --format=newc"])
        .current_dir(&tree)
        .stdout(File::create(place(architecture))?))
}

/// Where programs and libraries of an architecture come from.
struct System {
    name: &'static str,
    /// The root of the file system that they are taken from.
    root: PathBuf,
    /// Debian's name of the folder of libraries.
    libraries: &'static str,
    strip: &'static str,
}

impl System {
    fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::X86_64 => {
                Self { name: "x86-64", root: "/".into(), libraries: "x86_64-linux-gnu", strip: "strip" }
            }
            Architecture::Arm64 => Self {
                name: "arm64",
                root: kernels::arm64_root(),
                libraries: "aarch64-linux-gnu",
                strip: "aarch64-linux-gnu-strip",
            },
        }
    }

    /// Copies a program without what only a debugger reads.
    fn install(&self, program: &Path, place: &Path) -> Result<()> {
        run(Command::new(self.strip).arg("--strip-debug").arg("-o").arg(place).arg(program))
    }

    /// The shared libraries that a program is linked to, directly or not, and its loader; paths below the root.
    fn libraries(&self, program: &Path) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        let mut unread = vec![program.to_owned()];
        while let Some(file) = unread.pop() {
            let output =
                read(Command::new("readelf").args(["--wide", "--dynamic", "--program-headers"]).arg(&file))?;
            for name in dependencies(&output) {
                let path = self
                    .find(name)
                    .with_context(|| format!("{} needs {name}, which is not there", file.display()))?;
                if found.insert(path.clone()) {
                    unread.push(self.root.join(path));
                }
            }
        }
        Ok(found)
    }

    /// A library by its name, or a loader by its path.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let candidates = match name.strip_prefix('/') {
            Some(path) => vec![PathBuf::from(path)],
            None => {
                ["lib", "usr/lib"].map(|folder| Path::new(folder).join(self.libraries).join(name)).to_vec()
            }
        };
        candidates.into_iter().find(|path| self.root.join(path).exists())
    }
}

/// What a file needs at run time, from the output of `readelf --dynamic --program-headers`.
fn dependencies(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter_map(|line| {
        let library = line.split_once("(NEEDED)").and_then(|(_, rest)| rest.split_once("library: ["));
        let named = library.or_else(|| line.split_once("program interpreter: "));
        named.map(|(_, name)| name.trim_end().trim_end_matches(']'))
    })
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn finds_libraries_and_loader() {
        let output = "  INTERP         0x000318 0x0000000000000318 R   0x1\n      [Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]\n \
                      0x0000000000000001 (NEEDED)             Shared library: [libcurl.so.4]\n \
                      0x000000000000001d (RUNPATH)            Library runpath: [/opt/lib]\n \
                      0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n";
        let found: Vec<&str> = dependencies(output).collect();
        assert_eq!(found, ["/lib64/ld-linux-x86-64.so.2", "libcurl.so.4", "libc.so.6"]);
    }
}
