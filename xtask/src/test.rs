//! `cargo xtask test`: every kind of test, and one sum at the end.

use std::env;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::ops::AddAssign;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::build::{self, cargo};
use crate::setup::{self, Part};
use crate::shell::say;
use crate::vm::{self, MACHINES, Machine};
use crate::{bench, ebpf, fuzz, mutants, tree};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Tests that need no privilege
    #[arg(long)]
    unit: bool,
    /// Tests of the running agent with real clients; need root
    #[arg(long)]
    e2e: bool,
    /// Every fuzz target for a few seconds
    #[arg(long)]
    fuzz: bool,
    /// Other kernels, in QEMU
    #[arg(long)]
    vm: bool,
    /// What takes hours, for every night: mutation tests, an hour of fuzzing, a storm of five minutes
    #[arg(long)]
    long: bool,
}

/// Runs the chosen kinds, or all. The sum is the last line of the output, also when tests failed.
pub(crate) fn run(options: Options) -> ExitCode {
    let Options { filter, unit, e2e, fuzz, vm, long } = options;
    let all = !(unit || e2e || fuzz || vm || long);
    let filter = filter.as_deref();
    let mut sum = Sum::default();
    let mut kinds = Vec::new();
    let mut kind = |wanted: bool, name: &'static str, run: &mut dyn FnMut() -> Result<Sum>| {
        if !wanted {
            return;
        }
        say(format_args!("{name}"));
        let start = Instant::now();
        let part = run().unwrap_or_else(|error| {
            println!("error: {error:#}");
            Sum { failed: 1, ..Sum::default() }
        });
        kinds.push((name, part, start.elapsed()));
        sum += part;
    };
    kind(unit || all, "unit tests", &mut || unit_tests(filter));
    kind(e2e || all, "end-to-end tests", &mut || end_to_end(filter));
    kind(fuzz || all, "fuzzing", &mut || fuzzing(filter, FUZZ_SECONDS));
    kind(vm || all, "other kernels", &mut || other_kernels(filter));
    kind(long, "long fuzzing", &mut || fuzzing(filter, LONG_FUZZ_SECONDS));
    kind(long, "mutants", &mut || mutants(filter));
    kind(long && filter.is_none(), "storm", &mut || {
        bench::storm(STORM_SECONDS).map(|()| Sum { passed: 1, ..Sum::default() })
    });
    for (name, part, took) in kinds {
        println!("{name:<17} {:>6.1} s  {part}", took.as_secs_f64());
    }
    if sum.skipped > 0 && env::var_os("CI").is_some_and(|ci| ci == "true") && tree::shared().is_dir() {
        println!("error: {} tests were skipped in CI, where everything that they need is", sum.skipped);
        sum.failed += 1;
    }
    println!("{sum}");
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn unit_tests(filter: Option<&str>) -> Result<Sum> {
    Part::Packages.install()?;
    ebpf::build(false)?;
    let mut command = cargo("test");
    command.args(["--workspace", "--exclude", "tokentap-ebpf", "--exclude", "tokentap-tests"]);
    libtest(command, filter)
}

fn end_to_end(filter: Option<&str>) -> Result<Sum> {
    setup::install(&[
        Part::Packages,
        Part::Servers,
        Part::Python,
        Part::Node,
        Part::Go,
        Part::Collector,
        Part::Llama,
    ])?;
    let agent = build::agent()?;
    let mut command = cargo("test");
    command.args(["--package", "tokentap-tests"]).env("TOKENTAP_BIN", agent);
    libtest(command, filter)
}

/// Seconds of all fuzz targets together, two at a time.
const FUZZ_SECONDS: u64 = 60;
const LONG_FUZZ_SECONDS: u64 = 3600;
/// Seconds of the storm test, with the agent and once more without.
const STORM_SECONDS: usize = 300;

/// A mutant that is caught is a passed test; too many that survive are an error.
fn mutants(filter: Option<&str>) -> Result<Sum> {
    let outcome = mutants::test(filter)?;
    Ok(Sum { passed: outcome.caught as u64, ..Sum::default() })
}

/// Each target is one test.
fn fuzzing(filter: Option<&str>, seconds: u64) -> Result<Sum> {
    let mut sum = Sum::default();
    let targets = fuzz::matching(filter)?;
    if targets.is_empty() {
        return Ok(sum);
    }
    for outcome in fuzz::smoke(targets, seconds)? {
        match outcome.finding {
            None => sum.passed += 1,
            Some(_) => sum.failed += 1,
        }
    }
    Ok(sum)
}

fn other_kernels(filter: Option<&str>) -> Result<Sum> {
    let chosen: Vec<&Machine> = MACHINES
        .iter()
        .filter(|machine| filter.is_none_or(|filter| format!("kernel {}", machine.name).contains(filter)))
        .collect();
    let mut sum = Sum::default();
    if chosen.is_empty() {
        return Ok(sum);
    }
    vm::prepare(&chosen)?;
    for machine in chosen {
        match machine.passes() {
            true => sum.passed += 1,
            false => sum.failed += 1,
        }
    }
    Ok(sum)
}

/// Runs `cargo test`, shows what it prints as it comes, and adds up its results.
fn libtest(mut command: Command, filter: Option<&str>) -> Result<Sum> {
    command.args(["--no-fail-fast", "--"]).args(filter);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut sum = Sum::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(part) = Sum::of(&line) {
            sum += part;
        }
    }
    let status = child.wait()?;
    if !status.success() && sum.failed == 0 {
        // It did not compile, or a test took its whole process with it.
        bail!("cargo test failed ({status}) after {sum}");
    }
    Ok(sum)
}

/// How many tests ended how.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Sum {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Sum {
    /// Reads `test result: ok. 5 passed; 0 failed; 1 ignored; ...`.
    fn of(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            let words = counts.split("; ").find_map(|count| count.strip_suffix(what))?;
            words.trim().parse().ok()
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Sum;

    #[test]
    fn adds_up_what_cargo_test_prints() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.52s";
        let mut sum = Sum::of(line).unwrap();
        assert_eq!(sum, Sum { passed: 12, failed: 2, skipped: 1 });
        sum += Sum::of(
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        )
        .unwrap();
        assert_eq!(sum.to_string(), "17 passed, 2 failed, 1 skipped");
        assert_eq!(Sum::of("test sse::splits ... ok"), None);
    }
}
