//! Programs of our own that use connections in unusual ways: `src/bin/socket-actor`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::{
    agent::{Agent, Ended},
    ledger::Answer,
    parts,
    process::{PATIENCE, Process},
};

/// A program that waits for [`Actor::go`], and afterwards for its end.
#[derive(Debug)]
pub struct Actor(Process);

impl Actor {
    /// Starts one; it waits.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(arguments))
    }

    /// Any program that behaves like one.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn spawn(command: Command) -> Self {
        let process = Process::spawn(command);
        process.wait_for_line("ready", |line| (line == "ready").then_some(()));
        Self(process)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Its process.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.0
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it does not wait.
    pub fn go(&mut self) {
        self.0.write("go\n");
    }

    /// Waits until it has done what it does; it stays.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_until_done(&self) {
        self.0.wait_for_line("done", |line| (line == "done").then_some(()));
    }

    /// Ends it: what it printed of what it did.
    ///
    /// # Panics
    /// When it fails.
    pub fn end<T: DeserializeOwned>(mut self) -> Vec<T> {
        self.0.close_stdin();
        let status = self.0.wait(PATIENCE);
        assert!(status.success(), "{status}\n{}", self.0.transcript());
        let lines = self.0.stdout().all();
        let lines = lines.iter().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(parts::program("socket-actor"));
    command.args(arguments);
    command
}

/// What one actor did while it was observed alone, and how the agent ended.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn observe<T: DeserializeOwned>(arguments: &[&str]) -> (Vec<T>, Ended) {
    observe_by(&[], arguments)
}

/// The same, with more arguments of the agent.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn observe_by<T: DeserializeOwned>(agent: &[&str], arguments: &[&str]) -> (Vec<T>, Ended) {
    let mut actor = Actor::start(arguments);
    let agent = Agent::run(&[agent, &["--no-follow", "--pid", &actor.id()]].concat());
    actor.go();
    actor.wait_until_done();
    let did = actor.end();
    let ended = agent.stop();
    ended.check_ledger();
    (did, ended)
}

/// A running server that forwards to another one; see `socket-actor serve`.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    address: SocketAddr,
}

impl Gateway {
    /// `socket-actor serve --how HOW`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(how: &str, to: SocketAddr) -> Self {
        Self::spawn(command(&["serve", "--how", how, "--to", &to.to_string()]))
    }

    /// Any server that prints its port.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn spawn(command: Command) -> Self {
        let process = Process::spawn(command);
        let address = SocketAddr::from(([127, 0, 0, 1], process.port()));
        Self { process, address }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> String {
        self.process.id().to_string()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The answers of the server behind it, as they are seen in front of it, and behind it: the `Host` that clients sent is
    /// forwarded.
    #[must_use]
    pub fn in_front(&self, answers: &[Answer]) -> Vec<Answer> {
        answers.iter().map(|answer| Answer { port: self.address.port(), ..answer.clone() }).collect()
    }
}

/// `clients/fake_ssl.c`, compiled.
#[derive(Debug)]
pub struct FakeSsl {
    folder: TempDir,
}

impl FakeSsl {
    /// Compiles it.
    ///
    /// # Panics
    /// Without a C compiler.
    #[must_use]
    pub fn build() -> Self {
        let library = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-fno-optimize-sibling-calls", "-shared", "-fPIC", "-o"]).arg(library.path());
        let status = compiler.arg(parts::file("clients/fake_ssl.c")).status();
        assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "cc: {status:?}");
        library
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("libfake.so")
    }

    /// Arguments of a `socket-actor` that uses it.
    ///
    /// # Panics
    /// When the path is not UTF-8.
    #[must_use]
    pub fn start(&self, how: &str, count: usize) -> Actor {
        Actor::start(&["handles", "--how", how, "--count", &count.to_string(), text(&self.path())])
    }
}

/// A path as an argument.
///
/// # Panics
/// When it is not UTF-8.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
