//! The processes of a measurement: a server, a load on it, and what is attached to the load.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokentap::{
    kernel::{self, LoadOptions, Scope},
    tls::{Finder, executable_files},
};
use tokentap_tests::{
    agent::Agent,
    process::{PATIENCE, Process},
};

/// The mock LLM server as a process of its own, so that its work is not the application's.
pub(crate) struct Server {
    _process: Process,
    tls: SocketAddr,
    ca: PathBuf,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Listening {
            tls: u16,
        }
        let folder = tempfile::tempdir()?;
        let ca = folder.path().join("ca.pem");
        let mut command = Command::new(beside("mock-llm")?);
        command.arg("--ca").arg(&ca);
        let process = Process::spawn(command);
        let Listening { tls } =
            process.wait_for_line("line that says where it listens", |line| serde_json::from_str(line).ok());
        Ok(Self { _process: process, tls: SocketAddr::from(([127, 0, 0, 1], tls)), ca, _folder: folder })
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

    /// Lets it start and waits for it to end; also its processor time, in seconds.
    pub(crate) fn run(mut self) -> anyhow::Result<(Done, f64)> {
        let before = cpu_seconds(self.id())?;
        self.process.write("go\n");
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
    command.args(["--server", &server.tls.to_string(), "--model", plan.model]);
    command.args(["--connections", &plan.connections.to_string()]).arg("--ca").arg(&server.ca);
    Ok(command)
}

/// The agent, watching a process that makes calls.
pub(crate) fn agent(pid: u32) -> Agent {
    Agent::run(&["--pid", &pid.to_string()])
}

/// Empty probes on the functions that the agent probes in this process; they go when this is dropped.
pub(crate) fn empty_probes(pid: u32) -> anyhow::Result<(kernel::Attacher, Vec<kernel::TlsProbes>)> {
    let mut attacher = kernel::load(LoadOptions { ring_bytes: 1 << 20, adopt: false })?.attacher;
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

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// A program that was built with this one.
fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(program.is_file(), "{} is missing: run `cargo xtask bench`", program.display());
    Ok(program)
}
