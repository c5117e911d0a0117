//! Reads of processes that may never return, in threads that can be abandoned.
//!
//! The command line and the environment lie in the memory of the process, and reading them waits for it. A
//! reader that does not return in time is abandoned, and what it has read so far is used; another thread takes its
//! place. At most [`MAX_STUCK`] are abandoned at the same time, and one for each process: after that, processes
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

use super::{attributes::Facts, system::ProcessSource};
use crate::{
    kernel,
    privileges::Thread,
    telemetry::{Event, Telemetry},
};

/// How long the reads of one process may take.
pub(super) const READ_DEADLINE: Duration = Duration::from_secs(1);
/// Most abandoned readers at the same time.
pub(super) const MAX_STUCK: usize = 16;
/// Most readers at the same time, beside abandoned ones.
const MAX_READERS: usize = 2;

/// What is to be read of a process.
#[derive(Clone, Debug)]
pub(super) struct ReadJob {
    pub(super) key: ProcessKey,
    /// Which descriptors are sockets.
    pub(super) sockets: bool,
    /// What it is.
    pub(super) facts: bool,
}

/// What a reader reports.
#[derive(Debug)]
pub enum ReaderReport {
    /// The sockets of a process.
    Sockets(ProcessKey, Vec<u32>),
    /// This reader has done its job.
    Done(u64),
}

/// Takes reports, from any thread.
pub(super) type ReportSink = Arc<dyn Fn(ReaderReport) + Send + Sync>;

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
    report: ReportSink,
    telemetry: Arc<Telemetry>,
    waiting: VecDeque<ReadJob>,
    readers: Vec<Reader>,
    /// Abandoned readers, each with its process.
    stuck: Vec<(u64, u32)>,
    /// Processes of which a reader was abandoned: logged once.
    named: HashSet<u32>,
    next_id: u64,
}

struct Reader {
    id: u64,
    jobs: Sender<ReadJob>,
    progress: Arc<Mutex<Progress>>,
    current: Option<(ReadJob, Instant)>,
}

/// Where a reader is, and what it has read.
#[derive(Debug, Default)]
struct Progress {
    reading: &'static str,
    facts: Facts,
}

impl Readers {
    pub(super) fn new(source: Arc<dyn ProcessSource>, report: ReportSink, telemetry: Arc<Telemetry>) -> Self {
        Self {
            source,
            report,
            telemetry,
            waiting: VecDeque::new(),
            readers: Vec::new(),
            stuck: Vec::new(),
            named: HashSet::new(),
            next_id: 0,
        }
    }

    /// Processes whose reads are not done.
    pub(super) fn pending(&self) -> usize {
        self.waiting.len() + self.readers.iter().filter(|reader| reader.current.is_some()).count()
    }

    /// Reads a process soon.
    pub(super) fn read(&mut self, job: ReadJob) {
        self.waiting.push_back(job);
    }

    /// When the first read is overdue.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.readers.iter().filter_map(|reader| reader.current.as_ref()).map(|(_, deadline)| *deadline).min()
    }

    /// A reader is done: what it found.
    pub(super) fn done(&mut self, id: u64) -> Option<Found> {
        self.stuck.retain(|(stuck, _)| *stuck != id);
        let reader = self.readers.iter_mut().find(|reader| reader.id == id)?;
        let (job, _) = reader.current.take()?;
        Some(reader.found(&job))
    }

    /// Assigns waiting jobs to readers, and abandons overdue readers; returns what is known of processes that will not be
    /// read any further.
    pub(super) fn assign(&mut self, now: Instant) -> Vec<Found> {
        let mut found = Vec::new();
        let (overdue, readers) = std::mem::take(&mut self.readers)
            .into_iter()
            .partition(|reader: &Reader| matches!(&reader.current, Some((_, deadline)) if *deadline <= now));
        self.readers = readers;
        for reader in overdue {
            found.extend(self.abandon(&reader));
        }
        while let Some(job) = self.waiting.pop_front() {
            let known = self.stuck.iter().any(|(_, pid)| *pid == job.key.pid);
            if known || self.stuck.len() >= MAX_STUCK {
                self.telemetry.add(Event::StuckReads, 1);
                found.push(Found { key: job.key, of_facts: job.facts, facts: Facts::default() });
                continue;
            }
            if let Err(job) = self.start_job(job, now) {
                self.waiting.push_front(job);
                break;
            }
        }
        found
    }

    fn abandon(&mut self, reader: &Reader) -> Option<Found> {
        let (job, _) = reader.current.as_ref()?;
        let pid = job.key.pid;
        self.telemetry.add(Event::StuckReads, 1);
        self.stuck.push((reader.id, pid));
        if self.named.len() < 1024 && self.named.insert(pid) {
            let reading = reader.progress().reading;
            tracing::warn!(
                pid,
                "reading the {reading} of the process timed out (it may be stopped in a page fault, or use a file system \
                 that does not answer); its spans have only the resource attributes that are known otherwise"
            );
        }
        if self.stuck.len() == MAX_STUCK {
            tracing::warn!(
                "{MAX_STUCK} processes cannot be read; no other is read until one of them answers"
            );
        }
        Some(reader.found(job))
    }

    /// Gives a job to a reader that is free, or to a new one.
    fn start_job(&mut self, job: ReadJob, now: Instant) -> Result<(), ReadJob> {
        let free = match self.readers.iter().position(|reader| reader.current.is_none()) {
            Some(free) => free,
            None if self.readers.len() < MAX_READERS => match self.spawn() {
                Ok(reader) => {
                    self.readers.push(reader);
                    self.readers.len() - 1
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot start a thread that reads processes");
                    return Err(job);
                }
            },
            None => return Err(job),
        };
        let reader = &mut self.readers[free];
        *reader.progress() = Progress::default();
        if reader.jobs.send(job.clone()).is_err() {
            self.readers.swap_remove(free);
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
        let (report, shown) = (Arc::clone(&self.report), Arc::clone(&progress));
        Thread::named("process-reader")
            .keeping(kernel::inspecting())
            .spawn(move || read_all(id, &inbox, &*source, &report, &shown))?;
        Ok(Reader { id, jobs, progress, current: None })
    }
}

impl Reader {
    /// Never held while something is read.
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, job: &ReadJob) -> Found {
        Found { key: job.key, of_facts: job.facts, facts: self.progress().facts.clone() }
    }
}

fn read_all(
    id: u64,
    jobs: &Receiver<ReadJob>,
    source: &dyn ProcessSource,
    report: &ReportSink,
    progress: &Mutex<Progress>,
) {
    // Each read happens outside the lock.
    let show = |change: &mut dyn FnMut(&mut Progress)| {
        change(&mut progress.lock().unwrap_or_else(PoisonError::into_inner));
    };
    for ReadJob { key, sockets, facts } in jobs {
        let pid = key.pid;
        if sockets {
            show(&mut |progress| progress.reading = "descriptors");
            report(ReaderReport::Sockets(key, source.sockets(pid)));
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
        report(ReaderReport::Done(id));
    }
}
