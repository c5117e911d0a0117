//! Mutation tests: small changes of the code, each of which some test must notice. Part of `cargo xtask test --long`.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::build::cargo;
use crate::shell::{run, say};
use crate::tree;

/// Packages whose tests need nothing but cargo.
const PACKAGES: [&str; 6] =
    ["tokentap-abi", "tokentap-wire", "tokentap-genai", "tokentap-tls", "tokentap-tape", "tokentap-export"];
/// Of the mutants that compile and end, so many per cent must be caught.
const LEAST: f64 = 95.0;
/// Mutants that no test can notice, each with why, from the workspace root.
const EQUIVALENT: &str = "xtask/equivalent-mutants.txt";

/// How the mutants of the packages fared.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) caught: usize,
    /// Those that no test noticed, and that are not listed as equivalent.
    pub(crate) survived: Vec<String>,
}

impl Outcome {
    /// Reads what cargo-mutants wrote; mutants in `equivalent` count for nothing.
    fn read(outcomes: &serde_json::Value, equivalent: &BTreeSet<&str>) -> Self {
        let mut outcome = Self::default();
        for mutant in outcomes["outcomes"].as_array().into_iter().flatten() {
            let name = mutant["scenario"]["Mutant"]["name"].as_str().unwrap_or_default();
            match mutant["summary"].as_str() {
                Some("CaughtMutant" | "Timeout") => outcome.caught += 1,
                Some("MissedMutant") if !equivalent.contains(name) => outcome.survived.push(name.to_owned()),
                _ => {}
            }
        }
        outcome
    }

    fn caught_percent(&self) -> f64 {
        let viable = self.caught + self.survived.len();
        if viable == 0 { 100.0 } else { 100.0 * self.caught as f64 / viable as f64 }
    }
}

/// Tests every mutant of the packages whose name contains `filter`; takes hours for all of them.
pub(crate) fn test(filter: Option<&str>) -> Result<Outcome> {
    let program = install()?;
    let folder = tree::target("mutants");
    fs::create_dir_all(&folder)?;
    let mut command = Command::new(program);
    command
        .current_dir(tree::root())
        .args(["mutants", "--no-shuffle", "--jobs", "2", "--output"])
        .arg(&folder);
    let chosen = PACKAGES.iter().filter(|package| filter.is_none_or(|filter| package.contains(filter)));
    let chosen: Vec<&str> = chosen.copied().collect();
    if chosen.is_empty() {
        return Ok(Outcome::default());
    }
    say(format_args!("mutants of {}: what no test notices", chosen.join(", ")));
    command.args(chosen.iter().flat_map(|package| ["--package", package]));
    // It exits with another status when there are survivors: what it wrote says more.
    let _status = command.status().context("cannot start cargo-mutants")?;
    let path = folder.join("mutants.out/outcomes.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let list = fs::read_to_string(tree::root().join(EQUIVALENT)).unwrap_or_default();
    let outcome = Outcome::read(&serde_json::from_str(&text)?, &equivalent(&list));
    println!(
        "mutants: {} caught, {} survived ({:.1} %)",
        outcome.caught,
        outcome.survived.len(),
        outcome.caught_percent()
    );
    for name in &outcome.survived {
        println!("  survived: {name}");
    }
    if outcome.caught_percent() < LEAST {
        bail!("fewer than {LEAST} % of the mutants were caught");
    }
    Ok(outcome)
}

/// The names in a list of equivalent mutants: lines that are indented say why.
fn equivalent(list: &str) -> BTreeSet<&str> {
    list.lines().filter(|line| !line.is_empty() && !line.starts_with([' ', '#'])).collect()
}

fn install() -> Result<std::path::PathBuf> {
    let root = tree::target("tools");
    let program = root.join("bin/cargo-mutants");
    if !program.exists() {
        say("building cargo-mutants");
        run(cargo("install").args(["--quiet", "--locked", "--root"]).arg(&root).arg("cargo-mutants"))?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::{Outcome, equivalent};

    #[test]
    fn survivors_are_those_that_are_not_known_to_be_equivalent() {
        let outcomes = serde_json::json!({"outcomes": [
            {"scenario": "Baseline", "summary": "Success"},
            {"scenario": {"Mutant": {"name": "a.rs:1: replace + with -"}}, "summary": "CaughtMutant"},
            {"scenario": {"Mutant": {"name": "a.rs:2: replace < with <="}}, "summary": "MissedMutant"},
            {"scenario": {"Mutant": {"name": "a.rs:3: replace f with ()"}}, "summary": "MissedMutant"},
            {"scenario": {"Mutant": {"name": "a.rs:4: never ends"}}, "summary": "Timeout"},
            {"scenario": {"Mutant": {"name": "a.rs:5: no code"}}, "summary": "Unviable"},
        ]});
        let list = equivalent("# comment\na.rs:2: replace < with <=\n  both ends are excluded before\n");
        let outcome = Outcome::read(&outcomes, &list);
        assert_eq!(outcome, Outcome { caught: 2, survived: vec!["a.rs:3: replace f with ()".to_owned()] });
        assert!((outcome.caught_percent() - 66.7).abs() < 0.1);
    }
}
