//! The processes of a measurement: a server, a load on it, and what is attached to the load.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokentap::kernel::{self, LoadOptions, Scope};
use tokentap_tests::{
    agent::{Agent, Ended},
    parts,
    process::{PATIENCE, Process},
    programs,
};
use tokentap_tls::{Finder, executable_files};

use crate::figure::Compared;

/// The mock LLM server as a process of its own, so that its work is not the application's.
pub(crate) struct Server {
    _process: Process,
    plain: SocketAddr,
    tls: SocketAddr,
    ca: PathBuf,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Listening {
            plain: u16,
            tls: u16,
        }
        let folder = tempfile::tempdir()?;
        let ca = folder.path().join("ca.pem");
        let mut command = Command::new(beside("mock-llm")?);
        command.arg("--ca").arg(&ca);
        let process = Process::spawn(command);
        let Listening { plain, tls } =
            process.wait_for_line("line that says where it listens", |line| serde_json::from_str(line).ok());
        let [plain, tls] = [plain, tls].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Ok(Self { _process: process, plain, tls, ca, _folder: folder })
    }

    pub(crate) const fn address(&self, tls: bool) -> SocketAddr {
        if tls { self.tls } else { self.plain }
    }
}

/// What a load is to do.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) model: &'static str,
    pub(crate) plain: bool,
    /// Files of this size instead of calls.
    pub(crate) download: Option<usize>,
    pub(crate) connections: usize,
    pub(crate) tls: bool,
}

/// An application that makes LLM calls over the system's OpenSSL, with its connections open, waiting.
pub(crate) struct Load {
    process: Process,
}

/// What a load did.
#[derive(Deserialize)]
pub(crate) struct Done {
    pub(crate) calls: usize,
    pub(crate) calls_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Load {
    pub(crate) fn start(server: &Server, plan: Plan, seconds: f64) -> anyhow::Result<Self> {
        let mut command = command(server, plan)?;
        command.args(["--wait", "--seconds", &seconds.to_string()]);
        if plan.plain {
            command.arg("--plain");
        }
        if let Some(bytes) = plan.download {
            command.args(["--download", &bytes.to_string()]);
        }
        let process = Process::spawn(command);
        process.wait_for_line("line that says ready", |line| line.contains("ready").then_some(()));
        Ok(Self { process })
    }

    /// Opens streams, reads the beginning of each and leaves them open.
    pub(crate) fn hold(server: &Server, plan: Plan) -> anyhow::Result<Process> {
        let mut command = command(server, plan)?;
        // The head and a few chunks.
        command.args(["--hold", "1024"]);
        if plan.plain {
            command.arg("--plain");
        }
        let process = Process::spawn(command);
        let held = process
            .stdout()
            .wait(6 * PATIENCE, |lines| lines.iter().find(|line| line.contains("holding")).map(drop));
        ensure!(held.is_some(), "the streams did not open\n{}", process.transcript());
        Ok(process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Lets it start.
    pub(crate) fn go(&mut self) {
        self.process.write("go\n");
    }

    /// Lets it start and waits for it to end; also its processor time, in seconds.
    pub(crate) fn run(mut self) -> anyhow::Result<(Done, f64)> {
        let before = cpu_seconds(self.id())?;
        self.go();
        // The result is printed before the process ends, so its times can still be read.
        let done = self
            .process
            .stdout()
            .wait(20 * PATIENCE, |lines| lines.iter().find_map(|line| serde_json::from_str(line).ok()));
        let after = cpu_seconds(self.id());
        let status = self.process.wait(PATIENCE);
        ensure!(status.success(), "the load failed\n{}", self.process.transcript());
        let done = done.context("the load printed no result")?;
        // Its threads have ended by then; what they used is counted with the process.
        Ok((done, after.unwrap_or(before) - before))
    }
}

fn command(server: &Server, plan: Plan) -> anyhow::Result<Command> {
    let mut command = Command::new(beside("bench-load")?);
    command.args(["--server", &server.address(plan.tls).to_string(), "--model", plan.model]);
    command.args(["--connections", &plan.connections.to_string()]);
    if plan.tls {
        command.arg("--ca").arg(&server.ca);
    }
    Ok(command)
}

/// The agent, and the one that it is compared with.
pub(crate) struct Agents {
    before: Option<PathBuf>,
    now: PathBuf,
}

impl Agents {
    pub(crate) fn new(before: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(before) = &before {
            ensure!(before.is_file(), "{} is no program", before.display());
        }
        Ok(Self { before, now: parts::agent() })
    }

    /// Measures both, the one from before first.
    pub(crate) fn each<T>(
        &self,
        mut measure: impl FnMut(&Candidate<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<Compared<T>> {
        let before = self.before.as_deref().map(|program| measure(&Candidate { name: "before", program }));
        let now = measure(&Candidate { name: "now", program: &self.now })?;
        Ok(Compared { before: before.transpose()?, now })
    }

    /// Measures both in turns.
    pub(crate) fn rounds<T>(
        &self,
        rounds: usize,
        mut measure: impl FnMut(&Candidate<'_>, usize) -> anyhow::Result<T>,
    ) -> anyhow::Result<Compared<Vec<T>>> {
        let mut all = Compared { before: self.before.as_ref().map(|_| Vec::new()), now: Vec::new() };
        for round in 1..=rounds {
            let Compared { before, now } = self.each(|candidate| measure(candidate, round))?;
            if let (Some(all), Some(before)) = (&mut all.before, before) {
                all.push(before);
            }
            all.now.push(now);
        }
        Ok(all)
    }
}

/// One of the agents that are compared.
pub(crate) struct Candidate<'a> {
    pub(crate) name: &'static str,
    program: &'a Path,
}

impl Candidate<'_> {
    /// Starts it and waits until it is ready.
    pub(crate) fn run(&self, arguments: &[&str]) -> Agent {
        Agent::run_program(self.program, arguments)
    }

    /// Starts it for one process and waits until it is ready.
    pub(crate) fn watch(&self, pid: u32) -> Agent {
        self.run(&["--pid", &pid.to_string()])
    }
}

/// A process that makes single calls when asked to.
pub(crate) struct Caller {
    process: Process,
    answers: usize,
}

impl Caller {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut caller = Self { process: Process::spawn(Command::new(beside("bench-calls")?)), answers: 0 };
        // What it makes its calls on is there then.
        caller.nanoseconds("getppid", 1)?;
        Ok(caller)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Nanoseconds of one call, the median of many batches of 100.
    pub(crate) fn nanoseconds(&mut self, kind: &str, batches: usize) -> anyhow::Result<f64> {
        #[derive(Deserialize)]
        struct Answer {
            nanoseconds: f64,
        }
        self.process.write(&format!("{kind} {batches}\n"));
        let line = self.process.stdout().wait(PATIENCE, |lines| lines.get(self.answers).cloned());
        let line = line.with_context(|| format!("no answer to {kind}\n{}", self.process.transcript()))?;
        self.answers += 1;
        Ok(serde_json::from_str::<Answer>(&line)?.nanoseconds)
    }
}

/// Waits until nothing traces this machine; a figure that another tracer is in would be worth nothing.
pub(crate) fn wait_for_quiet() -> anyhow::Result<()> {
    let deadline = Instant::now() + 5 * PATIENCE;
    let mut said = false;
    loop {
        let tracing: BTreeSet<String> = programs::all()?
            .into_iter()
            .filter(|program| program.traces)
            .map(|program| program.name)
            .collect();
        if tracing.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "eBPF programs trace this machine, stop them first: {tracing:?}");
        if !said {
            eprintln!("waiting: eBPF programs trace this machine: {tracing:?}");
            said = true;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Empty probes on the functions that the agent probes in this process; they go when this is dropped.
pub(crate) fn empty_probes(pid: u32) -> anyhow::Result<(kernel::Attacher, Vec<kernel::TlsProbes>)> {
    let mut attacher = kernel::load(&LoadOptions { ring_bytes: 1 << 20, ..LoadOptions::default() })?.attacher;
    let finder = Finder::default();
    let mapped = executable_files(pid)?;
    let found: Vec<_> =
        mapped.iter().filter_map(|mapping| finder.in_mapping(pid, mapping).ok().flatten()).collect();
    ensure!(!found.is_empty(), "the load uses no TLS code that is known");
    let probes = found
        .iter()
        .map(|found| attacher.attach_empty(&found.file.path(), &found.code.points, Scope::Process(pid)))
        .collect::<Result<_, _>>()?;
    Ok((attacher, probes))
}

/// Processor time that a process used so far, its ended threads included.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    // See proc_pid_stat(5): utime and stime are fields 14 and 15, counted after the name in parentheses.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2).collect();
    let ticks: f64 = fields.iter().map(|ticks| ticks.parse::<f64>()).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// The most resident memory that a process ever had, in MiB.
pub(crate) fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    memory(pid, "VmHWM:")
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, field: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.with_context(|| format!("no {field} of process {pid}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// The last words of a log, which are its counters.
pub(crate) fn last_line(log: &str) -> &str {
    log.lines().last().unwrap_or_default()
}

/// The pattern of `--exe` for a program that was built with this one, and for no other of that name.
pub(crate) fn rule(name: &str) -> anyhow::Result<String> {
    Ok(beside(name)?.display().to_string())
}

/// A program that was built with this one.
pub(crate) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(program.is_file(), "{} is missing: run `cargo xtask bench`", program.display());
    Ok(program)
}

/// A counter of an agent that has ended; `before` is what earlier builds, which this one is compared with, called it.
pub(crate) fn counter(ended: &Ended, name: &str, before: &str) -> u64 {
    let counters = ended.counters();
    counters.get(name).or_else(|| counters.get(before)).copied().unwrap_or_default()
}
