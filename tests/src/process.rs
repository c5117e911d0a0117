//! A child process that tests can read line by line, with a deadline on every wait. It does not outlive its
//! owner.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde::{Deserialize, de::DeserializeOwned};

/// How long anything may take that should take no time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long what a process printed last may be on its way.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Waits for something that no line tells.
///
/// # Panics
/// When it does not come in time.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come to this: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

impl Process {
    /// Starts it with all three standard streams connected.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let stdin = child.stdin.take();
        let stdout = Lines::collect(child.stdout.take());
        let stderr = Lines::collect(child.stderr.take());
        Self { name, child, stdin, stdout, stderr }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it prints.
    #[must_use]
    pub fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// What it complains of.
    #[must_use]
    pub fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// When it does not read any more.
    pub fn write(&mut self, text: &str) {
        let written = self.stdin.as_mut().map(|stdin| stdin.write_all(text.as_bytes()));
        assert!(matches!(written, Some(Ok(()))), "{} does not read: {}", self.name, self.stderr.text());
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for a line that `find` wants, on standard output.
    ///
    /// # Panics
    /// When none comes in time, or the process ends first.
    pub fn wait_for_line<T>(&self, what: &str, find: impl FnMut(&str) -> Option<T>) -> T {
        self.wait_in(&self.stdout, what, find)
    }

    /// Waits for a line that `find` wants, on standard error.
    ///
    /// # Panics
    /// When none comes in time, or the process ends first.
    pub fn wait_for_complaint<T>(&self, what: &str, find: impl FnMut(&str) -> Option<T>) -> T {
        self.wait_in(&self.stderr, what, find)
    }

    /// Waits for the line in which a server that was told no port says which it has, as `{"port": 8080}`.
    ///
    /// # Panics
    /// When none comes in time, or the process ends first.
    #[must_use]
    pub fn port(&self) -> u16 {
        #[derive(Deserialize)]
        struct Port {
            port: u16,
        }
        self.wait_for_line("port", |line| serde_json::from_str(line).ok().map(|Port { port }| port))
    }

    /// Waits for its end; gives each line of JSON that it has printed, but for its port.
    ///
    /// # Panics
    /// When it does not end in time, or not well, or a line is something else.
    pub fn told<T: DeserializeOwned>(&mut self) -> Vec<T> {
        let status = self.wait(PATIENCE);
        assert!(status.success(), "{status}\n{}", self.transcript());
        let lines = self.stdout.all();
        let told = lines.iter().filter(|line| !line.contains("\"port\""));
        told.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    fn wait_in<T>(&self, lines: &Lines, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        lines
            .wait(PATIENCE, |lines| lines.iter().find_map(|line| find(line)))
            .unwrap_or_else(|| panic!("{} printed no {what}\n{}", self.name, self.transcript()))
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|e| panic!("cannot signal {}: {e}\n{}", self.name, self.transcript()));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `patience`.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    // What it printed last is still on its way here.
                    self.stdout.wait_for_end(LAST_LINES);
                    self.stderr.wait_for_end(LAST_LINES);
                    return status;
                }
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                Ok(None) => panic!("{} did not end within {patience:?}\n{}", self.name, self.transcript()),
                Err(e) => panic!("cannot wait for {}: {e}", self.name),
            }
        }
    }

    /// Everything that it printed so far, for the message of a failed test.
    #[must_use]
    pub fn transcript(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}\n---", self.stdout.text(), self.stderr.text())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it has ended.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// The lines of an output, as they come.
#[derive(Debug, Default)]
pub struct Lines {
    seen: Mutex<Seen>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn collect(output: Option<impl Read + Send + 'static>) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        if let Some(output) = output {
            let lines = Arc::clone(&lines);
            thread::spawn(move || {
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    lines.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                    lines.grown.notify_all();
                }
                lines.lock().ended = true;
                lines.grown.notify_all();
            });
        }
        lines
    }

    /// Waits until `find` finds something in all the lines so far; `None` when it is too late or no more come.
    pub fn wait<T>(&self, patience: Duration, mut find: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut seen = self.lock();
        loop {
            if let Some(found) = find(&seen.lines) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|_| !seen.ended)?;
            seen = self.grown.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The lines so far.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// The lines so far, as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.lock().lines.join("\n")
    }

    /// Waits until no more lines come, but not for longer than `patience`: a grandchild may keep an output open
    /// for ever.
    pub fn wait_for_end(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut seen = self.lock();
        while !seen.ended {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            seen = self.grown.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
