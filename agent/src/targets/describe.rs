//! Reads of processes that may never return, in threads that can be left behind.
//!
//! The command line and the environment lie in the memory of the process, and reading them waits for it. A
//! reader that does not return in time is left behind with what it has read so far; another thread takes its
//! place. At most [`MAX_STUCK`] are left behind at the same time, and one for each process: after that, processes
//! are described without their command line and environment.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use tokentap_tape::ProcessKey;

use super::{
    attributes::Facts,
    queue::{Request, Requests},
    system::ProcessSource,
};
use crate::{
    kernel,
    privileges::Thread,
    telemetry::{Event, Telemetry},
};

/// How long the reads of one process may take.
pub(super) const READ_DEADLINE: Duration = Duration::from_secs(1);
/// Readers that are left behind, at most.
pub(super) const MAX_STUCK: usize = 16;
/// Readers at work, at most.
const MAX_READERS: usize = 2;

/// What is to be read of a process.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: ProcessKey,
    /// Which descriptors are sockets.
    pub(super) sockets: bool,
    /// What it is.
    pub(super) facts: bool,
}

/// What a reader says.
#[derive(Debug)]
pub enum Report {
    /// The sockets of a process.
    Sockets(ProcessKey, Vec<u32>),
    /// This reader has done its job.
    Done(u64),
}

/// What the readers have found in the end; how much of it there is depends on the process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: ProcessKey,
    /// Whether `facts` were to be read.
    pub(super) of_facts: bool,
    pub(super) facts: Facts,
}

/// The readers, and the processes that wait for one.
pub(super) struct Readers {
    source: Arc<dyn ProcessSource>,
    requests: Requests,
    telemetry: Arc<Telemetry>,
    waiting: VecDeque<Job>,
    at_work: Vec<Reader>,
    /// Left behind: reader and process.
    stuck: Vec<(u64, u32)>,
    /// Processes of which a reader was left behind: it is said once.
    named: HashSet<u32>,
    next_id: u64,
}

struct Reader {
    id: u64,
    jobs: Sender<Job>,
    progress: Arc<Mutex<Progress>>,
    current: Option<(Job, Instant)>,
}

/// Where a reader is, and what it has read.
#[derive(Debug, Default)]
struct Progress {
    reading: &'static str,
    facts: Facts,
}

impl Readers {
    pub(super) fn new(source: Arc<dyn ProcessSource>, requests: Requests, telemetry: Arc<Telemetry>) -> Self {
        Self {
            source,
            requests,
            telemetry,
            waiting: VecDeque::new(),
            at_work: Vec::new(),
            stuck: Vec::new(),
            named: HashSet::new(),
            next_id: 0,
        }
    }

    /// Processes whose reads are not done.
    pub(super) fn pending(&self) -> usize {
        self.waiting.len() + self.at_work.iter().filter(|reader| reader.current.is_some()).count()
    }

    /// Reads a process soon.
    pub(super) fn read(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// When the first read is overdue.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.at_work.iter().filter_map(|reader| reader.current.as_ref()).map(|(_, deadline)| *deadline).min()
    }

    /// A reader is done: what it found.
    pub(super) fn done(&mut self, id: u64) -> Option<Found> {
        self.stuck.retain(|(stuck, _)| *stuck != id);
        let reader = self.at_work.iter_mut().find(|reader| reader.id == id)?;
        let (job, _) = reader.current.take()?;
        Some(reader.found(&job))
    }

    /// Gives waiting processes to readers and leaves overdue readers behind; what is known of processes that will
    /// not be read any further.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<Found> {
        let mut found = Vec::new();
        let (overdue, at_work) = std::mem::take(&mut self.at_work)
            .into_iter()
            .partition(|reader: &Reader| matches!(&reader.current, Some((_, deadline)) if *deadline <= now));
        self.at_work = at_work;
        for reader in overdue {
            found.extend(self.leave_behind(&reader));
        }
        while let Some(job) = self.waiting.pop_front() {
            let known = self.stuck.iter().any(|(_, pid)| *pid == job.key.pid);
            if known || self.stuck.len() >= MAX_STUCK {
                self.telemetry.add(Event::StuckReads, 1);
                found.push(Found { key: job.key, of_facts: job.facts, facts: Facts::default() });
                continue;
            }
            if let Err(job) = self.begin(job, now) {
                self.waiting.push_front(job);
                break;
            }
        }
        found
    }

    fn leave_behind(&mut self, reader: &Reader) -> Option<Found> {
        let (job, _) = reader.current.as_ref()?;
        let pid = job.key.pid;
        self.telemetry.add(Event::StuckReads, 1);
        self.stuck.push((reader.id, pid));
        if self.named.len() < 1024 && self.named.insert(pid) {
            let reading = reader.progress().reading;
            tracing::warn!(
                pid,
                "the process does not let its {reading} be read (it may be stopped in a page fault, or use a file \
                 system that does not answer); its spans carry only what else is known of it"
            );
        }
        if self.stuck.len() == MAX_STUCK {
            tracing::warn!(
                "{MAX_STUCK} processes do not let themselves be read: no others are, until one does"
            );
        }
        Some(reader.found(job))
    }

    /// Gives a job to a reader that is free, or to a new one.
    fn begin(&mut self, job: Job, now: Instant) -> Result<(), Job> {
        let free = match self.at_work.iter().position(|reader| reader.current.is_none()) {
            Some(free) => free,
            None if self.at_work.len() < MAX_READERS => match self.spawn() {
                Ok(reader) => {
                    self.at_work.push(reader);
                    self.at_work.len() - 1
                }
                Err(error) => {
                    tracing::debug!(%error, "no thread to read processes");
                    return Err(job);
                }
            },
            None => return Err(job),
        };
        let reader = &mut self.at_work[free];
        *reader.progress() = Progress::default();
        if reader.jobs.send(job.clone()).is_err() {
            self.at_work.swap_remove(free);
            return Err(job);
        }
        reader.current = Some((job, now + READ_DEADLINE));
        Ok(())
    }

    fn spawn(&mut self) -> io::Result<Reader> {
        let (jobs, inbox) = channel();
        let progress = Arc::<Mutex<Progress>>::default();
        self.next_id += 1;
        let (id, source) = (self.next_id, Arc::clone(&self.source));
        let (requests, shown) = (self.requests.clone(), Arc::clone(&progress));
        Thread::named("process-reader")
            .keeping(kernel::inspecting())
            .spawn(move || read_all(id, &inbox, &*source, &requests, &shown))?;
        Ok(Reader { id, jobs, progress, current: None })
    }
}

impl Reader {
    /// Never held while something is read.
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, job: &Job) -> Found {
        Found { key: job.key, of_facts: job.facts, facts: self.progress().facts.clone() }
    }
}

fn read_all(
    id: u64,
    jobs: &Receiver<Job>,
    source: &dyn ProcessSource,
    requests: &Requests,
    progress: &Mutex<Progress>,
) {
    // Each read happens outside the lock.
    let show = |change: &mut dyn FnMut(&mut Progress)| {
        change(&mut progress.lock().unwrap_or_else(PoisonError::into_inner));
    };
    for Job { key, sockets, facts } in jobs {
        let pid = key.pid;
        if sockets {
            show(&mut |progress| progress.reading = "descriptors");
            requests.send(Request::Reader(Report::Sockets(key, source.sockets(pid))));
        }
        if facts {
            show(&mut |progress| progress.reading = "state");
            let mut known = source.kernel_facts(pid);
            show(&mut |progress| {
                progress.facts = std::mem::take(&mut known);
                progress.reading = "command line and environment";
            });
            let (mut arguments, mut environment) = source.strings(pid);
            show(&mut |progress| {
                progress.facts.arguments = std::mem::take(&mut arguments);
                progress.facts.environment = std::mem::take(&mut environment);
            });
        }
        requests.send(Request::Reader(Report::Done(id)));
    }
}
