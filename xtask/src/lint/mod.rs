//! `cargo xtask lint`: every check that needs no privilege, one line each.

mod imports;
mod invariants;
mod verdict;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use verdict::Verdict;

use crate::setup::{Part, python};
use crate::shell::run_logged;
use crate::toolchain::{self, Compiler};
use crate::{conventions, ebpf, pages, tree};

/// Everything that compiles for this machine.
const HOST: [&str; 3] = ["--workspace", "--exclude", "tokentap-ebpf"];

/// Runs every check whose name contains one of `only`, or all, to its end, and fails when one did.
pub(crate) fn run(only: Vec<String>) -> Result<()> {
    Part::Packages.install()?;
    toolchain::component("rustfmt", "cargo-fmt")?;
    toolchain::component("clippy", "cargo-clippy")?;
    let tools = python::programs("lint-venv", &tree::root().join("xtask/requirements-lint.txt"))?;
    ebpf::build(false)?;
    let compiler = Compiler::locate()?;

    let mut checks = Checks { only, ..Checks::default() };
    checks.run("format", || {
        check("format", Command::new("cargo").args(["fmt", "--all", "--check", "--", "--color=never"]))
    });
    checks.run("invariants", invariants::check);
    checks.run("imports", imports::check);
    checks.run("conventions", || match conventions::source() {
        Some(source) => conventions::compare(&source).map(|()| Verdict::Passed),
        None => Ok(Verdict::Skipped("the conventions do not lie beside the checkout")),
    });
    checks.run("reference", || pages::check_reference().map(|()| Verdict::Passed));
    checks.run("typos", || check("typos", Command::new(tools.join("typos")).arg("--color=never")));
    let deny = tools.join("cargo-deny");
    checks.run("dependencies", || {
        check(
            "dependencies",
            Command::new(&deny).args(["--all-features", "check", "bans", "licenses", "sources"]),
        )
    });
    checks.run("advisories", || advisories(&deny));
    checks.run("clippy, eBPF", || {
        if !compiler.build_std {
            return Ok(Verdict::Skipped("Debian's compiler comes without clippy"));
        }
        check("clippy-ebpf", ebpf::cargo(&compiler, "clippy").args(["--", "-Dwarnings"]))
    });
    checks.run("clippy", || {
        check(
            "clippy",
            Command::new("cargo").arg("clippy").args(HOST).args(["--all-targets", "--", "-Dwarnings"]),
        )
    });
    checks.run("documentation", || {
        let mut doc = Command::new("cargo");
        doc.arg("doc").args(HOST).arg("--no-deps").env("RUSTDOCFLAGS", "-Dwarnings");
        check("documentation", &mut doc)
    });
    checks.finish()
}

#[derive(Default)]
struct Checks {
    only: Vec<String>,
    passed: usize,
    skipped: usize,
    failed: Vec<&'static str>,
}

impl Checks {
    fn run(&mut self, name: &'static str, check: impl FnOnce() -> Result<Verdict>) {
        if !self.only.is_empty() && !self.only.iter().any(|part| name.contains(part.as_str())) {
            return;
        }
        let started = Instant::now();
        let result = check();
        let verdict = match &result {
            Ok(Verdict::Passed) => {
                self.passed += 1;
                "ok".to_owned()
            }
            Ok(Verdict::Skipped(why)) => {
                self.skipped += 1;
                format!("skipped: {why}")
            }
            Err(error) => {
                self.failed.push(name);
                format!("FAILED\n{error:#}\n")
            }
        };
        println!("{name:<14} {:>6.1}s  {verdict}", started.elapsed().as_secs_f64());
    }

    fn finish(self) -> Result<()> {
        println!("lint: {} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped);
        if self.failed.is_empty() {
            return Ok(());
        }
        bail!("lint failed: {}", self.failed.join(", "))
    }
}

/// A check that is a command; what it says is shown when it fails.
fn check(name: &str, command: &mut Command) -> Result<Verdict> {
    run_logged(command.current_dir(tree::root()), &log(name))?;
    Ok(Verdict::Passed)
}

/// Known vulnerabilities, where the database of them can be reached.
fn advisories(deny: &PathBuf) -> Result<Verdict> {
    match check("advisories", Command::new(deny).args(["check", "advisories"])) {
        Err(error) if error.to_string().contains("failed to fetch advisory database") => {
            Ok(Verdict::Skipped("the advisory database is out of reach"))
        }
        result => result,
    }
}

fn log(name: &str) -> PathBuf {
    tree::target("lint").join(format!("{name}.log"))
}
