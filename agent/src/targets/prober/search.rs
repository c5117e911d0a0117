//! Threads that search processes and files for TLS code. What is behind a file may not answer (a dead NFS server), so that
//! a search can take for ever: then its thread is abandoned, files of that device are not opened for a while, and another
//! thread takes its place. Nothing waits for such a thread, not even the agent's end.

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

use super::host_files;
use crate::{
    kernel::opening_mapped_files,
    privileges::Thread,
    targets::{Selector, procfs},
    telemetry::{Event, Telemetry},
};

/// Time limit for one file.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long files of a device are not opened after one of them took longer.
const BLOCKED: Duration = Duration::from_secs(60);
/// The same for devices whose files cannot be opened safely. Their number may be another file system's one day.
const UNSAFE: Duration = Duration::from_secs(3600);
/// Threads that search at the same time.
const THREADS: usize = 4;
/// Abandoned threads that may still be there; beyond, no more are started.
const MAX_STUCK: usize = 256;

/// What is searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SearchSubject {
    /// A process.
    Process(u32),
    /// A process, for the functions that ciphertext passes.
    Ciphertext(u32),
    /// Libraries and executables of the host, which no process may have mapped yet.
    HostFiles,
}

/// What was found.
pub(super) struct SearchResult {
    worker: u64,
    pub(super) subject: SearchSubject,
    /// `Err` when a process cannot be read.
    pub(super) found: io::Result<Vec<Found>>,
}

/// A search that took too long.
pub(super) struct TimedOutSearch {
    pub(super) subject: SearchSubject,
    /// A file did not answer; it is not opened again for a while.
    pub(super) file: bool,
}

/// Takes a result; `false` when nobody wants any more of them.
pub(super) type Report = Arc<dyn Fn(SearchResult) -> bool + Send + Sync>;

/// The threads.
pub(super) struct SearchPool {
    shared: Arc<Shared>,
    report: Report,
    workers: Vec<Worker>,
    waiting: VecDeque<SearchSubject>,
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
    jobs: Sender<SearchSubject>,
    busy: Option<SearchSubject>,
    at: Arc<Mutex<Progress>>,
}

/// What a thread is working on, since when.
struct Progress {
    since: Instant,
    file: Option<(FileId, String)>,
}

impl SearchPool {
    pub(super) fn new(selector: Selector, telemetry: Arc<Telemetry>, report: Report) -> Self {
        let blocked = Mutex::new(HashMap::new());
        let (finder, ciphertext) = (Finder::of(Sought::Calls), Finder::of(Sought::Ciphertext));
        let shared = Arc::new(Shared { finder, ciphertext, selector, telemetry, blocked });
        Self { shared, report, workers: Vec::new(), waiting: VecDeque::new(), next: 0, stuck: 0 }
    }

    /// Queues a search; the result is reported, unless the search takes too long.
    pub(super) fn submit(&mut self, subject: SearchSubject) {
        self.waiting.push_back(subject);
        self.dispatch();
    }

    /// Frees the worker of a result; `false` when it had been abandoned: what it found is old.
    pub(super) fn accept_result(&mut self, looked: &SearchResult) -> bool {
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == looked.worker) else {
            self.stuck = self.stuck.saturating_sub(1);
            return false;
        };
        worker.busy = None;
        self.dispatch();
        true
    }

    /// When [`Self::take_timed_out`] may have something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.workers.iter().filter(|w| w.busy.is_some()).map(|w| lock(&w.at).since + DEADLINE).min()
    }

    /// Abandons the threads that take too long, and says what they were searching.
    pub(super) fn take_timed_out(&mut self) -> Vec<TimedOutSearch> {
        let now = Instant::now();
        let late = |worker: &mut Worker| worker.busy.is_some() && lock(&worker.at).since + DEADLINE <= now;
        let late: Vec<Worker> = self.workers.extract_if(.., late).collect();
        let mut search_timed_out = Vec::new();
        for worker in late {
            self.stuck += 1;
            self.shared.telemetry.add(Event::FilesUnanswered, 1);
            let at = lock(&worker.at).file.take();
            if let Some((file, name)) = &at {
                lock(&self.shared.blocked).insert(file.device, now + BLOCKED);
                tracing::warn!(
                    file = name,
                    "the file system does not answer; its files are not opened for {} s, and the TLS traffic of libraries in it is \
                     not seen",
                    BLOCKED.as_secs()
                );
            } else {
                tracing::warn!(subject = ?worker.busy, "the search for TLS code was abandoned: the kernel does not answer");
            }
            search_timed_out
                .extend(worker.busy.map(|subject| TimedOutSearch { subject, file: at.is_some() }));
        }
        self.dispatch();
        search_timed_out
    }

    fn dispatch(&mut self) {
        while !self.waiting.is_empty() {
            if !self.workers.iter().any(|worker| worker.busy.is_none()) && !self.grow() {
                return;
            }
            let Some(worker) = self.workers.iter_mut().find(|worker| worker.busy.is_none()) else { return };
            let Some(subject) = self.waiting.pop_front() else { return };
            *lock(&worker.at) = Progress { since: Instant::now(), file: None };
            worker.busy = Some(subject.clone());
            if worker.jobs.send(subject).is_err() {
                tracing::error!("a thread that searches for TLS code ended early");
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
        let at = Arc::new(Mutex::new(Progress { since: Instant::now(), file: None }));
        let (id, shared, report) = (self.next, Arc::clone(&self.shared), Arc::clone(&self.report));
        let worker = Worker { id, jobs, busy: None, at: Arc::clone(&at) };
        let run = move || run_worker(id, &shared, &at, &inbox, &report);
        let thread = Thread::named("tls-search").keeping(opening_mapped_files()).stack_size(256 << 10);
        if let Err(error) = thread.spawn(run) {
            tracing::warn!(%error, "cannot start a thread that searches for TLS code");
            return false;
        }
        self.next += 1;
        self.workers.push(worker);
        true
    }
}

fn run_worker(
    id: u64,
    shared: &Shared,
    at: &Mutex<Progress>,
    inbox: &Receiver<SearchSubject>,
    report: &Report,
) {
    for subject in inbox {
        let found = match subject {
            SearchSubject::Process(pid) => process(pid, &shared.finder, shared, at),
            SearchSubject::Ciphertext(pid) => process(pid, &shared.ciphertext, shared, at),
            SearchSubject::HostFiles => Ok(host_files::files(&shared.selector)
                .iter()
                .filter_map(|path| {
                    *lock(at) = Progress { since: Instant::now(), file: None };
                    search_host_file(path, shared)
                })
                .collect()),
        };
        *lock(at) = Progress { since: Instant::now(), file: None };
        if !report(SearchResult { worker: id, subject, found }) {
            return;
        }
    }
}

fn search_host_file(path: &Path, shared: &Shared) -> Option<Found> {
    shared.finder.at_path(path).unwrap_or_else(|error| {
        tracing::debug!(path = %path.display(), %error, "host file not searched for TLS code");
        None
    })
}

fn process(pid: u32, finder: &Finder, shared: &Shared, at: &Mutex<Progress>) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for mapping in executable_files(pid)? {
        if shared.is_blocked(mapping.file.device) {
            continue;
        }
        *lock(at) = Progress { since: Instant::now(), file: Some((mapping.file, mapping.name.clone())) };
        match finder.in_mapping(pid, &mapping) {
            Ok(code) => found.extend(code),
            Err(why) => shared.report_refused(pid, &mapping, &why),
        }
    }
    Ok(found)
}

impl Shared {
    fn is_blocked(&self, device: u64) -> bool {
        let mut blocked = lock(&self.blocked);
        // Empty on nearly every host.
        !blocked.is_empty() && {
            let now = Instant::now();
            blocked.retain(|_, until| *until > now);
            blocked.contains_key(&device)
        }
    }

    /// Logs and counts why a file is not searched; for a file system, once in a while.
    fn report_refused(&self, pid: u32, mapping: &Mapping, why: &Refused) {
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
        tracing::warn!(file = mapping.name, %why, "the file is not searched for TLS code: if it has some, its traffic is not seen");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
