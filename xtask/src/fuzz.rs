//! `cargo xtask fuzz`: every fuzz target of `tests/fuzz` for a while, with libFuzzer.
//!
//! What `cargo fuzz` with `--sanitizer none` does, without another tool: the coverage that libFuzzer goes by comes
//! from code generation flags that the stable compiler has. Inputs that reached something new stay in
//! `target/fuzz/corpus` for the next time.

use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::build::cargo;
use crate::setup::Part;
use crate::shell::{run, run_logged, say};
use crate::tree;

/// Edges, counted in place, and what is compared; overflow and debug assertions are findings, too.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing";

/// Targets that run at the same time.
const JOBS: usize = 2;

/// A run that takes longer or more than this is a finding.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];

/// What to run.
#[derive(Args)]
#[command(after_help = "\
Targets are the files of tests/fuzz/fuzz_targets. They begin with inputs that are made of the golden tapes, and
with what earlier runs found worth keeping (target/fuzz/corpus).

    cargo xtask fuzz                            every target, a minute in all
    cargo xtask fuzz --seconds 600 sse json     two targets, ten minutes each as two run at a time
    cargo xtask fuzz sse --input FILE           one input again, with the panic and its backtrace
    cargo xtask fuzz --minimise                 the corpus in the repository, anew

An input that makes a target fail is written to target/fuzz/findings, and the exit status is 1. Mend what it shows,
and make a test of it in the crate that was wrong.")]
pub(crate) struct Options {
    /// How long it takes in all, without the build; two targets run at a time, all equally long
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Run the one target that is named on this input only
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Do not fuzz: keep the fewest inputs that reach everything that is known, in tests/fuzz/corpus
    #[arg(long, conflicts_with = "input")]
    minimise: bool,
    /// Only these; all of them when none is given
    targets: Vec<String>,
}

/// Runs the chosen targets, shows how they did, and fails when one of them found something.
pub(crate) fn fuzz(options: &Options) -> Result<()> {
    let all = targets()?;
    for target in &options.targets {
        ensure!(all.contains(target), "no target {target}; there are {}", all.join(", "));
    }
    if let Some(input) = &options.input {
        let [target] = &options.targets[..] else { bail!("--input wants one target") };
        let input = input.canonicalize().with_context(|| format!("cannot read {}", input.display()))?;
        let program = build(std::slice::from_ref(target))?.join(target);
        return run(Command::new(program).args(LIMITS).arg(input));
    }
    let chosen = if options.targets.is_empty() { all } else { options.targets.clone() };
    if options.minimise {
        return minimise(&chosen);
    }
    let findings = smoke(chosen, options.seconds)?.iter().filter(|outcome| outcome.finding.is_some()).count();
    ensure!(findings == 0, "{findings} targets failed");
    Ok(())
}

/// Inputs of the corpus in the repository are no longer than this: longer ones are among the seeds.
const MAX_KEPT: usize = 2048;

/// Where the corpus of a target lies in the repository: an archive, as there are hundreds of tiny files.
fn archive(target: &str) -> PathBuf {
    tree::root().join(format!("tests/fuzz/corpus/{target}.tar.gz"))
}

/// Writes the corpus in the repository anew, of what all runs here have found.
fn minimise(targets: &[String]) -> Result<()> {
    let programs = build(targets)?;
    for target in targets {
        let folder = |name: &str| tree::target(format!("fuzz/{name}/{target}"));
        let kept = folder("minimised");
        if kept.exists() {
            fs::remove_dir_all(&kept)?;
        }
        for folder in [&kept, &folder("corpus"), &folder("seeds")] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let old = unpack(target)?;
        let mut merge = Command::new(programs.join(target));
        merge.args(["-set_cover_merge=1", &format!("-max_len={MAX_KEPT}")]);
        merge.arg(&kept).args(old).args([folder("corpus"), folder("seeds")]);
        run_logged(&mut merge, &tree::target(format!("fuzz/{target}.log")))?;
        let archive = archive(target);
        fs::create_dir_all(tree::root().join("tests/fuzz/corpus"))?;
        // The same inputs give the same archive.
        run(Command::new("tar")
            .arg("--directory")
            .arg(&kept)
            .args([
                "--create",
                "--gzip",
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
            ])
            .arg("--file")
            .arg(&archive)
            .arg("."))?;
        println!(
            "{target}: {} inputs, {} bytes",
            fs::read_dir(&kept)?.count(),
            fs::metadata(&archive)?.len()
        );
    }
    Ok(())
}

/// Unpacks the corpus in the repository; `None` when the target has none.
fn unpack(target: &str) -> Result<Option<PathBuf>> {
    let archive = archive(target);
    if !archive.exists() {
        return Ok(None);
    }
    let folder = tree::target(format!("fuzz/kept/{target}"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    run(Command::new("tar")
        .arg("--directory")
        .arg(&folder)
        .args(["--extract", "--gzip", "--file"])
        .arg(&archive))?;
    Ok(Some(folder))
}

/// How a target did.
pub(crate) struct Outcome {
    target: String,
    /// As libFuzzer says them; empty when it did not come to that.
    runs: String,
    per_second: String,
    new_units: String,
    coverage: String,
    /// What is wrong, and how to see it again.
    pub(crate) finding: Option<String>,
}

/// The names of all targets that contain `filter`.
pub(crate) fn matching(filter: Option<&str>) -> Result<Vec<String>> {
    let mut targets = targets()?;
    targets.retain(|target| filter.is_none_or(|filter| format!("fuzz {target}").contains(filter)));
    Ok(targets)
}

/// Runs `targets` for `seconds` in all and prints a line for each.
pub(crate) fn smoke(targets: Vec<String>, seconds: u64) -> Result<Vec<Outcome>> {
    let programs = build(&targets)?;
    say("making inputs of the golden tapes");
    let seeds = tree::target("fuzz/seeds");
    if seeds.exists() {
        fs::remove_dir_all(&seeds)?;
    }
    let mut seeder = cargo("run");
    seeder.args(["--quiet", "--package", "tokentap-fuzz", "--example", "seeds", "--"]);
    run(seeder.arg(tree::root().join("tests/tapes")).arg(&seeds))?;

    let each = (seconds * JOBS as u64 / targets.len().max(1) as u64).max(1);
    say(format_args!("fuzzing {} targets for {each} s each, {JOBS} at a time", targets.len()));
    let mut waiting: VecDeque<_> = targets.into();
    let (mut running, mut outcomes): (Vec<Run>, Vec<Outcome>) = (Vec::new(), Vec::new());
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < JOBS
            && let Some(target) = waiting.pop_front()
        {
            running.push(Run::start(target, &programs, each)?);
        }
        thread::sleep(Duration::from_millis(50));
        let mut still = Vec::new();
        for mut run in running {
            match run.child.try_wait()? {
                Some(status) => outcomes.push(run.outcome(status.success())?),
                None => still.push(run),
            }
        }
        running = still;
    }
    outcomes.sort_by(|a, b| a.target.cmp(&b.target));
    show(&outcomes);
    Ok(outcomes)
}

/// A target at work.
struct Run {
    target: String,
    log: PathBuf,
    child: Child,
    started: Instant,
}

impl Run {
    fn start(target: String, programs: &Path, seconds: u64) -> Result<Self> {
        let folder = |name: &str| -> Result<PathBuf> {
            let folder = tree::target(format!("fuzz/{name}/{target}"));
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            Ok(folder)
        };
        let (corpus, findings, seeds) = (folder("corpus")?, folder("findings")?, folder("seeds")?);
        let log = tree::target(format!("fuzz/{target}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(programs.join(&target))
            .args(LIMITS)
            .args(["-print_final_stats=1", &format!("-max_total_time={seconds}")])
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .arg(format!("-dict={}", tree::root().join("tests/fuzz/tokens.dict").display()))
            .args([corpus, seeds])
            .args(unpack(&target)?)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start the target {target}"))?;
        Ok(Self { target, log, child, started: Instant::now() })
    }

    /// Reads what the target said until it ended.
    fn outcome(self, passed: bool) -> Result<Outcome> {
        let Self { target, log, started, .. } = self;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let finding = (!passed).then(|| finding(&target, &text, &log));
        let outcome = Outcome {
            runs: last(&text, "stat::number_of_executed_units:"),
            per_second: last(&text, "stat::average_exec_per_sec:"),
            new_units: last(&text, "stat::new_units_added:"),
            coverage: last(&text, " cov:"),
            finding,
            target,
        };
        let verdict = if passed { "ok" } else { "FAILED" };
        say(format_args!(
            "  {}: {verdict} after {} runs in {:.0} s",
            outcome.target,
            outcome.runs,
            started.elapsed().as_secs_f64()
        ));
        Ok(outcome)
    }
}

/// The word after the last `label` in what libFuzzer says.
fn last(text: &str, label: &str) -> String {
    let after = text.rsplit_once(label).map_or("", |(_, after)| after);
    after.split_whitespace().next().unwrap_or_default().to_owned()
}

fn finding(target: &str, text: &str, log: &Path) -> String {
    let what = text
        .lines()
        .skip_while(|line| !line.contains(" panicked at "))
        .take(3)
        .chain(text.lines().filter(|line| line.contains("ERROR: libFuzzer:")))
        .map(|line| line.chars().take(300).collect::<String>())
        .collect::<Vec<_>>()
        .join("\n  ");
    let again = match text.lines().find_map(|line| line.split_once("Test unit written to ")) {
        Some((_, input)) => format!("input: {input}\n  again: cargo xtask fuzz {target} --input {input}"),
        None => "no input was written".to_owned(),
    };
    format!("{what}\n  {again}\n  all it said: {}", log.display())
}

fn show(outcomes: &[Outcome]) {
    println!("{:<12} {:>10} {:>8} {:>9} {:>6}  result", "target", "runs", "runs/s", "new units", "cov");
    for outcome in outcomes {
        let Outcome { target, runs, per_second, new_units, coverage, finding } = outcome;
        let result = if finding.is_none() { "ok" } else { "FAILED" };
        println!("{target:<12} {runs:>10} {per_second:>8} {new_units:>9} {coverage:>6}  {result}");
    }
    for Outcome { target, finding, .. } in outcomes {
        if let Some(finding) = finding {
            println!("\n{target}: {finding}");
        }
    }
}

/// The names of all targets: each is one file.
fn targets() -> Result<Vec<String>> {
    let folder = tree::root().join("tests/fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for file in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = file?.path();
        targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

/// Builds targets so that libFuzzer can follow them; returns their folder.
fn build(targets: &[String]) -> Result<PathBuf> {
    Part::Packages.install()?;
    let mut command = cargo("build");
    command.args(["--release", "--package", "tokentap-fuzz"]).env("RUSTC_WORKSPACE_WRAPPER", compiler()?);
    say("building fuzz targets");
    run(command.args(targets.iter().flat_map(|target| ["--bin", target])))?;
    Ok(tree::target("release"))
}

/// A compiler that adds the flags for the crates of the workspace alone: what is fuzzed is theirs, and all others
/// are there from the release build.
fn compiler() -> Result<PathBuf> {
    let script = format!(
        "#!/bin/sh\n\
         case \" $* \" in\n\
         *' --crate-name build_script_'* | *' --crate-type proc-macro '*) exec \"$@\" ;;\n\
         *) exec \"$@\" {FLAGS} ;;\n\
         esac\n"
    );
    // Cargo builds anew when the name changes.
    let mut hasher = DefaultHasher::new();
    script.hash(&mut hasher);
    let file = tree::target(format!("fuzz/rustc-{:x}", hasher.finish()));
    if !file.exists() {
        fs::create_dir_all(tree::target("fuzz"))?;
        let new = file.with_extension("new");
        fs::write(&new, script).with_context(|| format!("cannot write {}", new.display()))?;
        fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        fs::rename(&new, &file)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "\
#2\tINITED cov: 31 ft: 40 corp: 3/90b exec/s: 0 rss: 31Mb
#9\tNEW    cov: 44 ft: 61 corp: 4/95b lim: 4 exec/s: 0 rss: 31Mb
thread '<unnamed>' (1) panicked at tests/fuzz/fuzz_targets/sse.rs:9:9:
assertion failed: events.is_empty()
==7== ERROR: libFuzzer: deadly signal
Test unit written to /t/findings/sse/crash-1
stat::number_of_executed_units: 12
stat::average_exec_per_sec:     3
";

    #[test]
    fn numbers_are_the_last_that_were_said() {
        assert_eq!(last(FAILED, " cov:"), "44");
        assert_eq!(last(FAILED, "stat::number_of_executed_units:"), "12");
        assert_eq!(last("", " cov:"), "");
    }

    #[test]
    fn a_finding_says_what_is_wrong_and_how_to_see_it_again() {
        let finding = finding("sse", FAILED, Path::new("/t/sse.log"));
        for part in
            ["events.is_empty()", "deadly signal", "cargo xtask fuzz sse --input /t/findings/sse/crash-1"]
        {
            assert!(finding.contains(part), "{finding}");
        }
    }
}
