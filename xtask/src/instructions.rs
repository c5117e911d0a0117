//! `cargo xtask bench instructions`: how many instructions each row of the parsers' benchmarks takes for one round.
//!
//! Times of a shared machine differ from run to run, and instructions do not: what gets slower is seen in every change. They
//! are counted by valgrind, as the difference of two runs, so that the start is not in them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::build::cargo;
use crate::setup::apt;
use crate::shell::{read, say};
use crate::tree;

/// The counts, from the workspace root.
const TABLE: &str = "xtask/instructions.tsv";
/// What a row may differ by: the compiler, and what it inlines, stay the same.
const TOLERANCE: f64 = 0.03;
/// The benchmarks: package and name.
const BENCHMARKS: [(&str, &str); 2] = [("tokentap-genai", "chat_stream"), ("tokentap-wire", "protocols")];

/// Counts every row; writes the table, or with `check` fails where a row differs from it.
pub(crate) fn measure(check: bool) -> Result<()> {
    apt::install(&["valgrind"])?;
    let mut counted = BTreeMap::new();
    for (package, name) in BENCHMARKS {
        say(format_args!("counting the instructions of {name}"));
        let program = build(package, name)?;
        let rows = read(Command::new(&program).arg("--list"))?;
        // What a search of the same bytes takes is a matter of the library that searches.
        for row in rows.lines().filter(|row| !row.ends_with(", search")) {
            let instructions = (count(&program, row, 3)? - count(&program, row, 1)?) / 2;
            counted.insert(format!("{name}\t{row}"), instructions);
        }
    }
    let path = tree::root().join(TABLE);
    if !check {
        let mut table = String::from(
            "# Instructions of one round, by benchmark and row: `cargo xtask bench instructions`.\n",
        );
        for (row, instructions) in &counted {
            writeln!(table, "{row}\t{instructions}")?;
        }
        fs::write(&path, table).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {TABLE}");
        return Ok(());
    }
    let table = fs::read_to_string(&path).with_context(|| format!("cannot read {TABLE}"))?;
    let differences = differences(&table, &counted);
    println!("instructions: {} rows, {} differ", counted.len(), differences.len());
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nif that is meant, `cargo xtask bench instructions` writes the table anew",
        differences.join("\n")
    )
}

/// Rows that differ from the table by more than the tolerance, or that one of the two lacks.
fn differences(table: &str, counted: &BTreeMap<String, i64>) -> Vec<String> {
    let known: BTreeMap<&str, i64> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once('\t').and_then(|(row, count)| Some((row, count.parse().ok()?))))
        .collect();
    let mut differences: Vec<String> = known
        .keys()
        .filter(|row| !counted.contains_key(**row))
        .map(|row| format!("{row}: is in {TABLE} and not in the benchmark"))
        .collect();
    for (row, &now) in counted {
        let Some(&before) = known.get(row.as_str()) else {
            differences.push(format!("{row}: is not in {TABLE}"));
            continue;
        };
        let change = (now - before) as f64 / before.max(1) as f64;
        if change.abs() > TOLERANCE {
            differences
                .push(format!("{row}: {before} instructions before, {now} now ({:+.1} %)", 100.0 * change));
        }
    }
    differences
}

/// The benchmark's program.
fn build(package: &str, name: &str) -> Result<PathBuf> {
    let lines = read(cargo("bench").args([
        "--quiet",
        "--no-run",
        "--message-format=json",
        "--package",
        package,
        "--bench",
        name,
    ]))?;
    let program = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.with_context(|| format!("cargo built no benchmark {name}"))
}

/// The instructions of a run with so many rounds of a row.
fn count(program: &Path, row: &str, rounds: u32) -> Result<i64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([format!("--rounds={rounds}"), format!("={row}")])
        .output()
        .context("cannot start valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim());
    match collected.and_then(|count| count.parse().ok()) {
        Some(count) if output.status.success() => Ok(count),
        _ => bail!("valgrind did not count {row}:\n{text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::differences;

    #[test]
    fn rows_that_differ_are_named() {
        let table = "# comment\nwire\ta\t1000\nwire\tb\t1000\nwire\tgone\t5\n";
        let counted = [("wire\ta", 1029), ("wire\tb", 1031), ("wire\tnew", 1)];
        let counted: BTreeMap<String, i64> = counted.map(|(row, count)| (row.to_owned(), count)).into();
        let found = differences(table, &counted);
        assert_eq!(found.len(), 3, "{found:?}");
        for (finding, part) in found.iter().zip([
            "gone: is in",
            "b: 1000 instructions before, 1031 now (+3.1 %)",
            "new: is not in",
        ]) {
            assert!(finding.contains(part), "{finding}");
        }
    }
}
