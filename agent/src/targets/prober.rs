//! The thread that places probes: it looks through what a process has mapped, which takes milliseconds, so
//! that the thread that reads the ring does not have to.
//!
//! A probe is for one process as long as that is enough: it patches only that process's memory, and others
//! pay nothing. But to place the probes of a library takes the kernel some 20 ms (the first of them waits for
//! every fork and exit in progress), in which a young process can have made its first call. So where processes
//! that do not exist yet are wanted, by a rule or because a watched process has children, probes are for
//! everybody, in what the young are likely to use; the kernel side passes over who is not watched.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use crate::{
    kernel::{Attacher, FileId, Scope, attaching},
    privileges::Thread,
    targets::{Selector, procfs},
    telemetry::{Event, Telemetry},
    tls::{Finder, TlsCode, executable_files, system_libraries},
};

/// What the prober is asked to do.
enum Order {
    /// Look through a process; the answer, when somebody waits for it, is what TLS code it has.
    Scan(u32, Option<Sender<Vec<String>>>),
    /// The process is gone.
    Forget(u32),
    /// Processes that do not exist yet are wanted from now on; somebody may wait until it is done.
    Widen(Option<Sender<()>>),
    /// Take every probe away.
    Stop,
}

/// Orders for the thread that places probes.
#[derive(Clone, Debug)]
pub struct Prober {
    orders: Sender<Order>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scan(pid, _) => write!(f, "Scan({pid})"),
            Self::Forget(pid) => write!(f, "Forget({pid})"),
            Self::Widen(_) => f.write_str("Widen"),
            Self::Stop => f.write_str("Stop"),
        }
    }
}

impl Prober {
    /// Starts the thread. `wide`: processes are wanted that do not exist yet; what they are likely to use is
    /// probed before this returns.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        attacher: Attacher,
        selector: &Selector,
        wide: bool,
        telemetry: Arc<Telemetry>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (orders, inbox) = channel();
        let mut work = Work {
            attacher,
            finder: Finder::default(),
            selector: selector.clone(),
            wide: false,
            scanned: BTreeSet::new(),
            narrow: Vec::new(),
            refused: HashSet::new(),
            telemetry,
        };
        if wide {
            work.widen();
        }
        let thread = Thread::named("probes").keeping(attaching()).spawn(move || work.run(&inbox))?;
        Ok((Self { orders }, thread))
    }

    /// Looks through a process soon.
    pub fn scan(&self, pid: u32) {
        self.send(Order::Scan(pid, None));
    }

    /// Looks through a process and waits: what TLS code it has, for people.
    #[must_use]
    pub fn scan_now(&self, pid: u32) -> Vec<String> {
        let (answer, answered) = channel();
        self.send(Order::Scan(pid, Some(answer)));
        answered.recv().unwrap_or_default()
    }

    /// The process is gone: its probes are, too.
    pub fn forget(&self, pid: u32) {
        self.send(Order::Forget(pid));
    }

    /// Processes that do not exist yet are wanted from now on.
    pub fn widen(&self) {
        self.send(Order::Widen(None));
    }

    /// As [`Self::widen`], and waits until the probes are there.
    pub fn widen_now(&self) {
        let (answer, answered) = channel();
        self.send(Order::Widen(Some(answer)));
        // Nothing is ever sent: it ends when the other end is dropped.
        for () in answered {}
    }

    /// Takes every probe away and ends the thread.
    pub fn stop(&self) {
        self.send(Order::Stop);
    }

    fn send(&self, order: Order) {
        if let Err(unsent) = self.orders.send(order) {
            tracing::debug!("the prober has ended, not done: {:?}", unsent.0);
        }
    }
}

/// Files that a matching process is likely to use, before there is one: the system's libraries, and matching
/// executables on the search path, which may have TLS code in them.
fn known_ahead(selector: &Selector) -> Vec<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_else(|_unset| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let folders: BTreeSet<&str> = path.split(':').collect();
    let executables = folders.into_iter().flat_map(std::fs::read_dir).flatten().flatten().map(|e| e.path());
    let matching = executables.filter(|path| selector.matches(path.to_str(), None));
    // `--all` would mean every program there is: their own code is looked at when they run.
    let matching: Vec<PathBuf> = if selector.all() { Vec::new() } else { matching.collect() };
    system_libraries().into_iter().chain(matching).collect()
}

struct Work {
    attacher: Attacher,
    finder: Finder,
    selector: Selector,
    /// Probes are for everybody.
    wide: bool,
    /// Processes that were looked through and are not gone.
    scanned: BTreeSet<u32>,
    /// What is probed for single processes: their children have the same files mapped.
    narrow: Vec<TlsCode>,
    /// What could not be probed, so that it is said once.
    refused: HashSet<(FileId, Scope)>,
    telemetry: Arc<Telemetry>,
}

impl Work {
    fn widen(&mut self) {
        if std::mem::replace(&mut self.wide, true) {
            return;
        }
        // First of all what a child that is there already uses: it is running on.
        for code in std::mem::take(&mut self.narrow) {
            self.place(&code, Scope::Host);
        }
        for path in known_ahead(&self.selector) {
            match self.finder.at_path(&path) {
                Ok(Some(code)) => self.place(&code, Scope::Host),
                Ok(None) => {}
                Err(error) => tracing::debug!(path = %path.display(), %error, "not looked at ahead"),
            }
        }
        // Both kinds of probe may be there for a moment: a call that is entered twice is left once.
        for pid in self.scanned.clone() {
            self.scan(pid);
        }
        self.attacher.detach_processes();
    }

    fn run(&mut self, inbox: &Receiver<Order>) {
        let mut scans: Vec<(u32, Option<Sender<Vec<String>>>)> = Vec::new();
        while let Ok(first) = inbox.recv() {
            // A starting process maps dozens of files: one look covers all orders that came meanwhile.
            for order in std::iter::once(first).chain(inbox.try_iter()) {
                match order {
                    Order::Scan(pid, None) if scans.iter().any(|(known, _)| *known == pid) => {}
                    Order::Scan(pid, answer) => scans.push((pid, answer)),
                    Order::Forget(pid) => {
                        scans.retain(|(known, _)| *known != pid);
                        self.scanned.remove(&pid);
                        self.attacher.detach_process(pid);
                    }
                    Order::Widen(answer) => {
                        self.widen();
                        // That it is gone is the answer.
                        drop(answer);
                    }
                    Order::Stop => return,
                }
            }
            for (pid, answer) in scans.drain(..) {
                let found = self.scan(pid);
                if let Some(answer) = answer
                    && answer.send(found).is_err()
                {
                    tracing::debug!(pid, "nobody waits for this scan");
                }
            }
        }
    }

    fn scan(&mut self, pid: u32) -> Vec<String> {
        let mapped = match executable_files(pid) {
            Ok(mapped) => mapped,
            Err(error) => {
                if procfs::has_live_threads(pid) {
                    tracing::warn!(pid, %error, "cannot look through the process, its TLS traffic is not seen");
                }
                return Vec::new();
            }
        };
        self.scanned.insert(pid);
        let scope = if self.wide { Scope::Host } else { Scope::Process(pid) };
        let mut found = Vec::new();
        // Each file is probed before the next is searched: the process is running on.
        for mapping in &mapped {
            if let Some(code) = self.finder.in_mapping(pid, mapping) {
                self.place(&code, scope);
                found.push(format!("{} in {}", code.library, code.name));
            }
        }
        found
    }

    fn place(&mut self, code: &TlsCode, scope: Scope) {
        if self.attacher.is_attached(code.file, scope) || self.refused.contains(&(code.file, scope)) {
            return;
        }
        match self.attacher.attach_tls(&code.open, code.file, &code.points, scope) {
            Ok(()) => {
                self.telemetry.add(Event::Attached, 1);
                if scope != Scope::Host {
                    self.narrow.push(code.clone());
                }
                tracing::debug!(library = code.library, file = code.name, ?scope, "probes placed");
            }
            // The process ended before it could be probed, and its way to the file with it.
            Err(error) if !code.open.exists() => {
                tracing::debug!(library = code.library, file = code.name, %error, "gone before it was probed");
            }
            Err(error) => {
                self.telemetry.add(Event::AttachFailed, 1);
                self.refused.insert((code.file, scope));
                tracing::warn!(library = code.library, file = code.name, %error, "not probed, its TLS traffic is not seen");
            }
        }
    }
}
