//! Places probes: keeps them in step with what observed processes have mapped, so that the thread that reads the ring
//! does not have to.
//!
//! ```text
//! targets thread ── Command ──> coordinator ── SearchSubject ──> search (threads that may get stuck: /proc, files)
//!                               │  <── SearchResult ─────────────┘
//!                               ├── placement: which files, for whom, how long ──> backend: the kernel
//!                               └── detach (a thread that may wait)
//! file-changes (leases, inotify) ── Command ──> coordinator
//! ```
//!
//! A probe is for one process as long as that is enough: it patches only that process's memory, and others pay
//! nothing. But placing takes the kernel some 20 ms (it waits for every fork and exit in progress), in which a
//! process that has just started can have made its first call. So where processes are selected that do not exist yet, by a
//! rule or because an observed process has children, probes are host-wide (`placement` says in which files); the kernel
//! side passes over processes that are not observed.

mod backend;
mod changes;
mod command;
mod coordinator;
mod detach;
mod host_files;
mod leases;
mod placement;
mod search;

use std::{
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use crate::{
    kernel::{Attacher, attaching},
    privileges::Thread,
    targets::Selector,
    telemetry::Telemetry,
};
use command::Command;
use coordinator::Coordinator;

/// Sends commands to the thread that places probes.
#[derive(Clone, Debug)]
pub struct Prober {
    commands: Sender<Command>,
}

impl Prober {
    /// Starts the thread. `host_wide`: processes are selected that do not exist yet; what they are likely to use is
    /// probed before this returns.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        attacher: Attacher,
        selector: &Selector,
        host_wide: bool,
        telemetry: Arc<Telemetry>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (commands, inbox) = channel();
        let mut coordinator = Coordinator::new(attacher, selector, commands.clone(), telemetry)?;
        let thread = Thread::named("probes").keeping(attaching()).spawn(move || {
            coordinator.run(&inbox);
            coordinator.detach_all();
        })?;
        let prober = Self { commands };
        if host_wide {
            prober.probe_host_wide_now();
        }
        Ok((prober, thread))
    }

    /// Searches a process that just mapped something for TLS code.
    pub fn scan(&self, pid: u32) {
        self.send(Command::Scan(pid, Some(Instant::now()), None));
    }

    /// Finds out which sockets carry the TLS streams of a process.
    pub fn bind(&self, pid: u32) {
        self.send(Command::Bind(pid));
    }

    /// Searches a process; waits until its probes are there, and gives the TLS code that it has.
    #[must_use]
    pub fn scan_now(&self, pid: u32) -> Vec<String> {
        let (answer, answered) = channel();
        self.send(Command::Scan(pid, None, Some(answer)));
        answered.recv().unwrap_or_default()
    }

    /// The process is gone: its probes are, too.
    pub fn forget(&self, pid: u32) {
        self.send(Command::Forget(pid));
    }

    /// Probes for all processes of the host from now on: processes are selected that do not exist yet.
    pub fn probe_host_wide(&self) {
        self.send(Command::ProbeHostWide(None));
    }

    /// As [`Self::probe_host_wide`], and waits until the probes are there.
    pub fn probe_host_wide_now(&self) {
        let (answer, answered) = channel();
        self.send(Command::ProbeHostWide(Some(answer)));
        // Nothing is ever sent: it ends when the other end is dropped.
        for () in answered {}
    }

    /// Takes every probe away and ends the thread.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("the prober has ended, a command is not carried out");
        }
    }
}
