//! The agent as its users run it: a process with flags, two outputs and an exit status.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    path::Path,
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use tokentap::telemetry::{Event, Metric, Row};
use tokentap_abi::Counter;

use crate::{
    identity::Identity,
    parts,
    process::{PATIENCE, Process, Signal},
    span::Span,
};

/// A running agent. There is only one at a time on a machine: another one's targets are not this one's.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    _turn: Turn,
}

/// The right to run an agent, taken by itself where calls are made before the agent is there.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

/// How an agent ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Every span that it printed.
    pub spans: Vec<Span>,
    /// What it said about itself.
    pub log: String,
    /// Nobody else runs an agent while this is looked at.
    _turn: Turn,
}

impl Ended {
    /// A counter of its last words, with its labels as `tokentap.files{outcome=refused}`; those that are zero it leaves out.
    ///
    /// # Panics
    /// When there is no such counter.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let known = Counter::ALL.into_iter().map(Metric::of_kernel).chain(Event::ALL.map(Event::metric));
        let mut names = known.map(|metric| Row { metric, labels: Vec::new(), value: 0 }.to_string());
        assert!(names.any(|known| known == name), "no counter is called {name}");
        self.counters().get(name).copied().unwrap_or_default()
    }

    /// Every counter of its last words that is not zero.
    ///
    /// # Panics
    /// When it said none.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let counters = self.log.rsplit_once("counters=").map(|(_, rest)| rest).unwrap_or_default();
        let counters = serde_json::Deserializer::from_str(counters).into_iter().next();
        counters.and_then(Result::ok).unwrap_or_else(|| panic!("no counters\n{}", self.log))
    }

    /// Every byte that a probe saw was delivered, lost for a reason that has a name, or left out on purpose.
    ///
    /// # Panics
    /// When there are more bytes, or fewer.
    pub fn check_ledger(&self) {
        let counters = self.counters();
        let sum = |prefix: &str| -> u64 {
            counters.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, bytes)| bytes).sum()
        };
        let seen = self.counter("tokentap.bytes.seen");
        let known = self.counter("tokentap.bytes.delivered")
            + sum("tokentap.bytes.lost{stage=kernel")
            + sum("tokentap.bytes.skipped");
        assert!(seen == known, "{seen} bytes were seen, what became of {known} is known\n{counters:#?}");
    }
}

impl Agent {
    /// `tokentap run --console=json` with these arguments, once it is ready.
    ///
    /// # Panics
    /// Without root, or when it does not get ready.
    #[must_use]
    pub fn run(arguments: &[&str]) -> Self {
        Turn::take().run(arguments)
    }

    /// The same, with more of the environment.
    ///
    /// # Panics
    /// Without root, or when it does not get ready.
    #[must_use]
    pub fn run_in(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Turn::take().run_in(arguments, environment)
    }

    /// [`Agent::run`] with another build of the agent, for comparison.
    ///
    /// # Panics
    /// Without root, or when it does not get ready.
    #[must_use]
    pub fn run_program(program: &Path, arguments: &[&str]) -> Self {
        let arguments = [&["run", "--console=json"], arguments].concat();
        let agent = Self::spawn(program, &arguments, &[], Turn::take());
        agent.wait_until_ready();
        agent
    }

    /// `tokentap record --out TAPE` with these arguments, once it is ready.
    ///
    /// # Panics
    /// Without root, or when it does not get ready.
    #[must_use]
    pub fn record(tape: &Path, arguments: &[&str]) -> Self {
        let tape = tape.to_str().expect("a path in UTF-8");
        let agent = Self::start(&[&["record", "--out", tape], arguments].concat());
        agent.wait_until_ready();
        agent
    }

    /// With exactly these arguments, ready or not.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(&parts::agent(), arguments, &[], Turn::take())
    }

    /// A copy of the agent in `folder`, which everyone may enter, run with an identity; ready or not.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn start_as(identity: Identity, folder: &Path, arguments: &[&str]) -> Self {
        // Where the agent lies, not everyone may be allowed to go.
        let program = folder.join("tokentap");
        if !program.exists() {
            fs::copy(parts::agent(), &program).expect("the agent is copied");
        }
        let mut command = Command::new(program);
        identity.apply(&mut command);
        Self::spawn_command(command, arguments, &[], Turn::take())
    }

    fn spawn(program: &Path, arguments: &[&str], environment: &[(&str, &str)], turn: Turn) -> Self {
        Self::spawn_command(Command::new(program), arguments, environment, turn)
    }

    fn spawn_command(
        mut command: Command,
        arguments: &[&str],
        environment: &[(&str, &str)],
        turn: Turn,
    ) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "end-to-end tests load eBPF programs: run them as root (`sudo -E cargo test`), or only those that \
             need none (`cargo test --lib --test tapes`)"
        );
        command.args(arguments);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
            command.env_remove(name);
        }
        // Executables on the search path are known before they run; a user's Node is there.
        let mut path = vec![parts::root().join("target/parts/node/bin")];
        path.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
        command.env("PATH", std::env::join_paths(path).expect("a search path"));
        command.envs(environment.iter().copied());
        Self { process: Process::spawn(command), _turn: turn }
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_until_ready(&self) {
        self.process.wait_for_complaint("line that says ready", |line| line.contains(" ready").then_some(()));
    }

    /// Its process.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// How many descriptors it has open.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.id());
        fs::read_dir(folder).expect("the agent runs").count()
    }

    /// The most memory that it has had resident, in bytes.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("the agent runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has a peak");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
    }

    /// Waits for so many spans; more may come later.
    ///
    /// # Panics
    /// When fewer come in time.
    #[must_use]
    pub fn wait_for_spans(&self, count: usize) -> Vec<Span> {
        let found =
            self.process.stdout().wait(PATIENCE, |lines| (lines.len() >= count).then(|| spans(lines)));
        found.unwrap_or_else(|| panic!("fewer than {count} spans\n{}", self.process.transcript()))
    }

    /// Asks it to end, as service managers do, and waits until it has.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn stop(self) -> Ended {
        self.process.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn wait(self) -> Ended {
        let Self { mut process, _turn } = self;
        let status = process.wait(2 * PATIENCE);
        Ended { status, spans: spans(&process.stdout().all()), log: process.stderr().text(), _turn }
    }

    /// Stops it: the spans that it printed, of which nothing may have been lost.
    ///
    /// # Panics
    /// When its exit status says otherwise.
    #[must_use]
    pub fn finish(self) -> Vec<Span> {
        let Ended { status, spans, log, .. } = self.stop();
        assert!(status.code() == Some(0), "{status}\n{log}");
        spans
    }
}

fn spans(lines: &[String]) -> Vec<Span> {
    lines.iter().map(|line| Span::from_console(line)).collect()
}

impl Turn {
    /// Waits until no other test runs an agent on this machine.
    ///
    /// # Panics
    /// When others take more than ten minutes.
    #[must_use]
    pub fn take() -> Self {
        let path = std::env::temp_dir().join("tokentap-end-to-end.lock");
        let lock = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
        let lock = lock.unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()));
        for _ in 0..10 * 600 {
            if lock.try_lock().is_ok() {
                return Self { _lock: lock };
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("another end-to-end test has held {} for ten minutes", path.display());
    }

    /// [`Agent::run`], in this turn.
    ///
    /// # Panics
    /// Without root, or when it does not get ready.
    #[must_use]
    pub fn run(self, arguments: &[&str]) -> Agent {
        self.run_in(arguments, &[])
    }

    fn run_in(self, arguments: &[&str], environment: &[(&str, &str)]) -> Agent {
        let arguments = [&["run", "--console=json"], arguments].concat();
        let agent = Agent::spawn(&parts::agent(), &arguments, environment, self);
        agent.wait_until_ready();
        agent
    }
}
