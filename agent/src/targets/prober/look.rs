//! Threads that look through processes and files. What is behind a file may not answer (a dead server), so that a
//! look can take for ever: then its thread is given up, the file system is left alone for a while, and others are looked at by
//! another thread. Nothing waits for such a thread, not even the agent's end.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use tokentap_tls::{FileId, Finder, Found, Mapping, Refused, Sought, executable_files};

use super::{Order, ahead};
use crate::{
    kernel::opening_mapped_files,
    privileges::Thread,
    targets::{Selector, procfs},
    telemetry::{Event, Telemetry},
};

/// How long one file may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long files of a device are left alone after one of them took longer.
const BLOCKED: Duration = Duration::from_secs(60);
/// How long files that cannot be opened safely are left alone, before their device number may be another file system's.
const UNSAFE: Duration = Duration::from_secs(3600);
/// Threads that look at the same time.
const THREADS: usize = 4;
/// Threads that were given up and may still be there; beyond, no more are started.
const MAX_STUCK: usize = 256;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A process.
    Process(u32),
    /// What the ciphertext of a process passes.
    Ciphertext(u32),
    /// Files that no process may have mapped yet.
    Ahead,
}

/// What was found.
pub(super) struct Looked {
    worker: u64,
    pub(super) subject: Subject,
    /// `Err` when a process cannot be looked at.
    pub(super) found: io::Result<Vec<Found>>,
}

/// A look that took too long.
pub(super) struct Late {
    pub(super) subject: Subject,
    /// A file did not answer, which is left alone from now on.
    pub(super) file: bool,
}

/// The threads.
pub(super) struct Lookers {
    shared: Arc<Shared>,
    results: Sender<Order>,
    workers: Vec<Worker>,
    waiting: VecDeque<Subject>,
    next: u64,
    stuck: usize,
}

struct Shared {
    finder: Finder,
    ciphertext: Finder,
    selector: Selector,
    telemetry: Arc<Telemetry>,
    /// Devices that do not answer, with the time at which they are tried again.
    blocked: Mutex<HashMap<u64, Instant>>,
}

struct Worker {
    id: u64,
    jobs: Sender<Subject>,
    busy: Option<Subject>,
    at: Arc<Mutex<At>>,
}

/// Where a thread is.
struct At {
    since: Instant,
    file: Option<(FileId, String)>,
}

impl Lookers {
    pub(super) fn new(selector: Selector, telemetry: Arc<Telemetry>, results: Sender<Order>) -> Self {
        let blocked = Mutex::new(HashMap::new());
        let (finder, ciphertext) = (Finder::of(Sought::Calls), Finder::of(Sought::Ciphertext));
        let shared = Arc::new(Shared { finder, ciphertext, selector, telemetry, blocked });
        Self { shared, results, workers: Vec::new(), waiting: VecDeque::new(), next: 0, stuck: 0 }
    }

    /// Asks for a look; the answer comes as an order, unless it takes too long.
    pub(super) fn look(&mut self, subject: Subject) {
        self.waiting.push_back(subject);
        self.dispatch();
    }

    /// Takes the worker of an answer back; `false` when it had been given up: what it found is old.
    pub(super) fn is_back(&mut self, looked: &Looked) -> bool {
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == looked.worker) else {
            self.stuck = self.stuck.saturating_sub(1);
            return false;
        };
        worker.busy = None;
        self.dispatch();
        true
    }

    /// When [`Self::give_up`] may have something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.workers.iter().filter(|w| w.busy.is_some()).map(|w| lock(&w.at).since + DEADLINE).min()
    }

    /// Gives up the threads that take too long, and gives what they were looking at.
    pub(super) fn give_up(&mut self) -> Vec<Late> {
        let now = Instant::now();
        let late = |worker: &mut Worker| worker.busy.is_some() && lock(&worker.at).since + DEADLINE <= now;
        let late: Vec<Worker> = self.workers.extract_if(.., late).collect();
        let mut given_up = Vec::new();
        for worker in late {
            self.stuck += 1;
            self.shared.telemetry.add(Event::FilesUnanswered, 1);
            let at = lock(&worker.at).file.take();
            if let Some((file, name)) = &at {
                lock(&self.shared.blocked).insert(file.device, now + BLOCKED);
                tracing::warn!(
                    file = name,
                    "the file system does not answer, its files are left alone for {} s: the TLS traffic of a library \
                     there is not seen",
                    BLOCKED.as_secs()
                );
            } else {
                tracing::warn!(subject = ?worker.busy, "not looked through, the kernel does not answer");
            }
            given_up.extend(worker.busy.map(|subject| Late { subject, file: at.is_some() }));
        }
        self.dispatch();
        given_up
    }

    fn dispatch(&mut self) {
        while !self.waiting.is_empty() {
            if !self.workers.iter().any(|worker| worker.busy.is_none()) && !self.grow() {
                return;
            }
            let Some(worker) = self.workers.iter_mut().find(|worker| worker.busy.is_none()) else { return };
            let Some(subject) = self.waiting.pop_front() else { return };
            *lock(&worker.at) = At { since: Instant::now(), file: None };
            worker.busy = Some(subject.clone());
            if worker.jobs.send(subject).is_err() {
                tracing::error!("a thread that looks through processes ended early");
                let id = worker.id;
                self.workers.retain(|worker| worker.id != id);
            }
        }
    }

    /// Starts one more thread.
    fn grow(&mut self) -> bool {
        if self.workers.len() >= THREADS || self.stuck >= MAX_STUCK {
            return false;
        }
        let (jobs, inbox) = channel();
        let at = Arc::new(Mutex::new(At { since: Instant::now(), file: None }));
        let (id, shared, results) = (self.next, Arc::clone(&self.shared), self.results.clone());
        let worker = Worker { id, jobs, busy: None, at: Arc::clone(&at) };
        let run = move || work(id, &shared, &at, &inbox, &results);
        let thread = Thread::named("look").keeping(opening_mapped_files()).stack_size(256 << 10);
        if let Err(error) = thread.spawn(run) {
            tracing::warn!(%error, "no thread to look through processes");
            return false;
        }
        self.next += 1;
        self.workers.push(worker);
        true
    }
}

fn work(id: u64, shared: &Shared, at: &Mutex<At>, inbox: &Receiver<Subject>, results: &Sender<Order>) {
    for subject in inbox {
        let found = match subject {
            Subject::Process(pid) => process(pid, &shared.finder, shared, at),
            Subject::Ciphertext(pid) => process(pid, &shared.ciphertext, shared, at),
            Subject::Ahead => Ok(ahead::files(&shared.selector)
                .iter()
                .filter_map(|path| {
                    *lock(at) = At { since: Instant::now(), file: None };
                    path_ahead(path, shared)
                })
                .collect()),
        };
        *lock(at) = At { since: Instant::now(), file: None };
        if results.send(Order::Looked(Looked { worker: id, subject, found })).is_err() {
            return;
        }
    }
}

fn path_ahead(path: &Path, shared: &Shared) -> Option<Found> {
    shared.finder.at_path(path).unwrap_or_else(|error| {
        tracing::debug!(path = %path.display(), %error, "not looked at ahead");
        None
    })
}

fn process(pid: u32, finder: &Finder, shared: &Shared, at: &Mutex<At>) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for mapping in executable_files(pid)? {
        if shared.is_blocked(mapping.file.device) {
            continue;
        }
        *lock(at) = At { since: Instant::now(), file: Some((mapping.file, mapping.name.clone())) };
        match finder.in_mapping(pid, &mapping) {
            Ok(code) => found.extend(code),
            Err(why) => shared.tell(pid, &mapping, &why),
        }
    }
    Ok(found)
}

impl Shared {
    fn is_blocked(&self, device: u64) -> bool {
        let mut blocked = lock(&self.blocked);
        // Nothing is blocked on nearly every host.
        !blocked.is_empty() && {
            let now = Instant::now();
            blocked.retain(|_, until| *until > now);
            blocked.contains_key(&device)
        }
    }

    /// Says why a file is not searched; for a file system, once in a while.
    fn tell(&self, pid: u32, mapping: &Mapping, why: &Refused) {
        match why {
            Refused::Io(error) => {
                // A process that ended meanwhile says nothing about its files.
                if procfs::has_live_threads(pid) {
                    tracing::debug!(pid, file = mapping.name, %error, "not searched for TLS code");
                }
                return;
            }
            Refused::Fuse | Refused::Unmounted => {
                lock(&self.blocked).insert(mapping.file.device, Instant::now() + UNSAFE);
            }
            Refused::Symbols(_) => {}
        }
        self.telemetry.add(Event::FilesRefused, 1);
        tracing::warn!(file = mapping.name, %why, "not searched for TLS code: if it has some, its traffic is not seen");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
