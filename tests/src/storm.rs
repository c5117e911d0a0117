//! The storm: everything that is hard on an observer, all at once, beside a client whose calls must come out exact.
//!
//! Actors (`storm-actor`) are observed, too: what they get is compared with what they get without the agent.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    agent::{Ended, Turn},
    bodies::{call, stream, tools, with},
    client::{self, Running, Via},
    expect::{INCOMPLETE, compare, differences},
    kernel::{self, Objects},
    ledger::{Answer, Api},
    mock::Mock,
    parts,
    process::{PATIENCE, Process},
    span::Span,
};

/// The model of a call that is in a file, and on no connection.
pub const FILE_MODEL: &str = "from-a-file";

/// Numbers of the storm follow from it.
const SEED: u64 = 8;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Actor {
    /// Forks with connections open.
    Fork,
    /// Executes programs, also with connections open.
    Exec,
    /// Loses threads in the middle of calls.
    Threads,
    /// Kills processes at any moment.
    Kill,
    /// Opens and closes connections.
    Connect,
    /// Gives connections other numbers, and files the connections' numbers.
    Dup,
    /// Passes connections to other processes.
    Pass,
    /// Writes over libraries and replaces them.
    Library,
    /// Makes overlay file systems with processes in them, and takes them away.
    Container,
}

/// What came of a storm, part by part.
#[derive(Debug, Default)]
pub struct Report {
    parts: Vec<(String, Result<String, String>)>,
}

impl Report {
    /// Whether every part is as it must be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.parts.iter().all(|(_, result)| result.is_ok())
    }

    fn add(&mut self, part: impl Into<String>, result: Result<String, String>) {
        self.parts.push((part.into(), result));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|(part, result)| match result {
            Ok(figures) => writeln!(f, "ok     {part}: {figures}"),
            Err(wrong) => writeln!(f, "FAILED {part}: {wrong}"),
        })
    }
}

/// A storm of about so many seconds, and then the same rounds of it without the agent.
///
/// # Panics
/// Without root, or when something fails that has nothing to do with the agent.
#[must_use]
pub fn run(seconds: usize) -> Report {
    let turn = Turn::take();
    let stage = Stage::set();

    let mut steady = Via::BOTH.map(|via| client::CURL.start(&steady_job(via, &stage.steady, seconds)));
    let pids = steady.each_ref().map(|client| client.process().id().to_string());
    let (early, late) = Actor::value_variants().split_at(Actor::value_variants().len() / 2);
    let mut actors: Vec<Playing> = early.iter().map(|actor| stage.start(*actor, None)).collect();
    let agent = turn.run(&["--pid", &pids[0], "--pid", &pids[1], "--exe", "storm-actor"]);
    let id = agent.process().id();
    let (objects, open) = (Objects::of(id), descriptors(id).len());
    actors.extend(late.iter().map(|actor| stage.start(*actor, None)));

    steady.iter_mut().for_each(Running::go);
    let calls = steady.into_iter().map(|client| finish(client, seconds)).sum();
    let answers = stage.steady.ledger().wait_for_answers(calls);
    let mut report = Report::default();
    let played: Vec<Result<Played, String>> = actors.into_iter().map(Playing::end).collect();
    report.add("the agent lets go of files", wait_for_none(|| descriptors_in(id, stage.folder.path())));
    report.add("the agent lets go of descriptors", wait_for_none(|| more_descriptors(id, open)));
    let objects = objects.either(Objects::of(id));
    let ended = agent.stop();

    report.add("end", end(&ended));
    report.add("ledger", ledger(&ended));
    let ports = [json!(stage.steady.tls().port()), json!(stage.steady.plain().port())];
    let (steady, actors): (Vec<Span>, Vec<Span>) =
        ended.spans.iter().cloned().partition(|span| ports.contains(span.get("server.port")));
    report.add("steady client", compare(&steady, &answers, "CLIENT").map(|()| format!("{calls} calls")));
    report.add("spans of actors", spans_of_actors(&actors, &stage.storm.ledger().wait_for_answers(0)));
    let from_files = ended.spans.iter().filter(|span| *span.get("gen_ai.request.model") == json!(FILE_MODEL));
    report.add("files are no traffic", none("spans of a file", from_files.count()));
    report.add("programs, maps and links are gone", wait_for_none(|| left(&objects)));
    report.add("probes are gone", wait_for_none(probed));
    report.add("mounts are gone", wait_for_none(|| mounts_of(stage.folder.path())));

    let again: Vec<Option<Playing>> = Actor::value_variants()
        .iter()
        .zip(&played)
        .map(|(actor, played)| Some(stage.start(*actor, Some(played.as_ref().ok()?.rounds))))
        .collect();
    for ((actor, played), again) in Actor::value_variants().iter().zip(played).zip(again) {
        let result = played.and_then(|played| {
            let alone = again.map_or_else(|| Err("not played again".to_owned()), Playing::end)?;
            match played == alone {
                true => Ok(format!("{} rounds, {}", played.rounds, &played.hash[..16])),
                false => Err(format!("{played:?} with the agent, {alone:?} without")),
            }
        });
        report.add(format!("actor {actor:?}"), result);
    }
    report
}

/// Calls of several kinds, about half a second for all of them.
fn steady_job(via: Via, mock: &Mock, seconds: usize) -> client::Job {
    let api = Api::OpenaiChat;
    let requests = vec![
        stream(api, "mock-slow20-chunks20"),
        call(api, "mock-size3000"),
        with(call(api, "mock"), &tools(api)),
        stream(api, "mock-gzip-cached"),
        call(api, "mock-429"),
    ];
    let mut job = via.job(mock, requests);
    job.wait = true;
    job.rounds = 2 * seconds;
    job
}

fn finish(client: Running, seconds: usize) -> usize {
    // Twice the time that it would take alone.
    let patience = Duration::from_secs(2 * seconds as u64) + PATIENCE;
    client.process().stdout().wait_for_end(patience);
    client.finish().len()
}

/// Where it all happens.
struct Stage {
    folder: TempDir,
    /// Of the steady client.
    steady: Mock,
    /// Of the actors.
    storm: Mock,
}

/// An actor at work.
struct Playing {
    actor: Actor,
    process: Process,
    /// How many it is to play; until it is told to end when there is no number.
    rounds: Option<u64>,
}

/// What an actor prints at its end.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Played {
    rounds: u64,
    hash: String,
}

impl Stage {
    fn set() -> Self {
        let stage = Self {
            folder: tempfile::tempdir().expect("a folder"),
            steady: Mock::for_test(),
            storm: Mock::for_test(),
        };
        copy_with_libraries(&parts::program("storm-actor"), &stage.image());
        fs::copy(stage.storm.ca(), stage.image().join("ca.pem")).expect("a copy");
        stage
    }

    /// The root file system of containers.
    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Starts an actor: until it is told to end, or for some rounds.
    fn start(&self, actor: Actor, rounds: Option<u64>) -> Playing {
        let name = actor.to_possible_value().expect("a name").get_name().to_owned();
        let folder = self.folder.path().join(&name);
        fs::create_dir_all(&folder).expect("a folder");
        let mut command = Command::new(parts::program("storm-actor"));
        command.env("RUST_BACKTRACE", "0");
        command.args(["act", &name, "--seed", &SEED.to_string(), "--folder"]).arg(folder);
        command.arg("--image").arg(self.image()).arg("--ca").arg(self.storm.ca());
        command.args(["--tls", &self.storm.tls().to_string(), "--plain", &self.storm.plain().to_string()]);
        match rounds {
            Some(rounds) => command.args(["--rounds", &rounds.to_string()]),
            None => command.args(["--pace", "150"]),
        };
        Playing { actor, process: Process::spawn(command), rounds }
    }
}

impl Playing {
    /// Ends it, unless it has a number of rounds to play.
    fn end(self) -> Result<Played, String> {
        let Self { actor, mut process, rounds } = self;
        if rounds.is_none() {
            process.close_stdin();
        }
        let status = process.wait(10 * PATIENCE);
        if !status.success() {
            return Err(format!("{actor:?} ended with {status}: {}", process.stderr().text()));
        }
        serde_json::from_str(&process.stdout().text())
            .map_err(|error| format!("{error}: {}", process.transcript()))
    }
}

/// `bin/<program>` and its libraries, flat, as a root file system.
fn copy_with_libraries(program: &Path, folder: &Path) {
    for kind in ["bin", "lib", "lib64"] {
        fs::create_dir_all(folder.join(kind)).expect("a folder");
    }
    let copy = |file: &Path, kind: &str| {
        fs::copy(file, folder.join(kind).join(file.file_name().expect("a name"))).expect("a copy");
    };
    copy(program, "bin");
    let ldd = Command::new("ldd").arg(program).output().expect("ldd runs");
    let ldd = String::from_utf8(ldd.stdout).expect("paths in UTF-8");
    for library in ldd.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
        copy(library, "lib");
        if library.starts_with("/lib64") {
            copy(library, "lib64");
        }
    }
}

/// Nothing, or what there is.
fn none(what: &str, count: usize) -> Result<String, String> {
    if count == 0 { Ok("none".to_owned()) } else { Err(format!("{count} {what}")) }
}

/// Waits until nothing is found.
fn wait_for_none(mut find: impl FnMut() -> Option<String>) -> Result<String, String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(found) = find() {
        if Instant::now() > deadline {
            return Err(found);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok("none left".to_owned())
}

fn end(ended: &Ended) -> Result<String, String> {
    // It may have lost something of the actors, and says so.
    match ended.status.code() {
        Some(code @ (0 | 3)) if !ended.log.contains("panicked") => Ok(format!("status {code}")),
        _ => Err(format!("{}\n{}", ended.status, ended.log)),
    }
}

/// Bytes that probes saw = bytes delivered + bytes lost + bytes skipped.
fn ledger(ended: &Ended) -> Result<String, String> {
    if !ended.log.contains("counters=") {
        return Err("no counters".to_owned());
    }
    let counters = ended.counters();
    let sum = |prefix: &str| -> u64 {
        counters.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
    };
    let seen = ended.counter("tokentap.bytes.seen");
    let (delivered, lost, skipped) = (
        sum("tokentap.bytes.delivered"),
        sum("tokentap.bytes.lost{stage=kernel"),
        sum("tokentap.bytes.skipped"),
    );
    let text = format!("{seen} bytes seen, {delivered} delivered, {lost} lost, {skipped} skipped");
    if seen > 0 && seen == delivered + lost + skipped { Ok(text) } else { Err(text) }
}

/// Each is right, or marked as incomplete.
fn spans_of_actors(spans: &[Span], answers: &[Answer]) -> Result<String, String> {
    let by_id: BTreeMap<&str, &Answer> =
        answers.iter().filter_map(|answer| Some((answer.id.as_deref()?, answer))).collect();
    let mut complete = 0;
    for span in spans.iter().filter(|span| *span.get(INCOMPLETE) != json!(true)) {
        let id = span.get("gen_ai.response.id").as_str().unwrap_or_default();
        let answer = by_id.get(id).ok_or_else(|| format!("no call is what this says: {span:#?}"))?;
        let wrong = differences(span, answer);
        if !wrong.is_empty() {
            return Err(format!("{answer:?}\ngot {span:#?}\nwrong: {wrong:?}"));
        }
        complete += 1;
    }
    Ok(format!("{complete} right, {} marked as incomplete", spans.len() - complete))
}

/// A function of the TLS library that has a probe; this process has the library mapped, too.
fn probed() -> Option<String> {
    let functions = ["SSL_read", "SSL_read_ex", "SSL_write", "SSL_write_ex", "SSL_free"];
    let mut probed =
        functions.into_iter().filter(|name| kernel::is_probed(std::process::id(), "libssl.so", name));
    probed.next().map(str::to_owned)
}

/// What a process has open.
fn descriptors(process: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// What a process has open below a folder, but for files that it holds a lease on: those are probed.
fn descriptors_in(process: u32, folder: &Path) -> Option<String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let is_leased = |name: &std::ffi::OsStr| {
        let info = fs::read_to_string(Path::new(&format!("/proc/{process}/fdinfo")).join(name));
        info.is_ok_and(|info| info.contains("LEASE"))
    };
    let open = entries.filter(|entry| !is_leased(&entry.file_name()));
    let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let found: Vec<PathBuf> = targets.filter(|target| target.starts_with(folder)).collect();
    (!found.is_empty()).then(|| format!("{found:?}"))
}

/// More than a process had open at first, but for the probes of a library that came later and is in use.
fn more_descriptors(process: u32, at_first: usize) -> Option<String> {
    const LATER: usize = 32;
    let now = descriptors(process).len();
    (now > at_first + LATER).then(|| format!("{now} are open, {at_first} were at first"))
}

fn left(objects: &Objects) -> Option<String> {
    let left = objects.both(&Objects::all());
    (!left.is_empty()).then(|| format!("{left:?}"))
}

/// Mounts below a folder, in any mount namespace that a process is in.
fn mounts_of(folder: &Path) -> Option<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let tables = processes.filter_map(|entry| fs::read_to_string(entry.path().join("mountinfo")).ok());
    let folder = folder.to_string_lossy();
    let mut lines = tables.flat_map(|table| table.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.find(|line| line.contains(&*folder))
}
