//! The targets thread: decides which processes are observed, keeps the kernel side's maps, and finds out what
//! observed processes are.
//!
//! ```text
//!               Request                        ReadJob
//! ring thread ----------->  targets thread  ---------->  process readers (can be left behind)
//!             <-----------       |          <----------
//!               ProcessEvent          v             ReaderReport
//!                              prober
//! ```
//!
//! It reads only what the kernel answers by itself; all that can wait for a process is for readers.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use tokentap_abi::Counter;
use tokentap_tape::{Process, ProcessKey};

use super::{
    Inbox, NotObserved, ProcessEvent, Request, Requests, Selector, Started,
    attributes::{Describer, Facts},
    describe::{Found, ReadJob, ReaderReport, Readers},
    procfs::{self, Identity},
    select,
    system::{KernelSide, Probes, ProcessSource},
};
use crate::telemetry::Telemetry;

/// Interval of reading the kernel side's counters.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the check for processes whose end was not reported.
const ALIVE_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// The same when events were lost; then processes that are missing are searched for, too.
const ALIVE_CHECK_AFTER_LOSS: Duration = Duration::from_secs(1);
/// When the first thread of a process has ended, the others are checked after this time, then after twice that, and so on…
const FIRST_LEADERLESS_CHECK: Duration = Duration::from_millis(10);
/// …up to this.
const MAX_LEADERLESS_CHECK: Duration = Duration::from_secs(1);
/// Descriptors named before the queue is looked at again.
const NAMED_AT_ONCE: usize = 256;

/// Everything that the targets thread owns.
pub struct Tracker<K, P> {
    /// Which processes.
    pub selector: Selector,
    /// The kernel side.
    pub kernel: K,
    /// The prober.
    pub probes: P,
    /// The processes.
    pub source: Arc<dyn ProcessSource>,
    /// Makes resources.
    pub describer: Arc<Describer>,
    /// Answers go here.
    pub process_events: Sender<ProcessEvent>,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// Set while nothing is observed and nothing can turn up.
    pub idle: Arc<AtomicBool>,
}

/// An observed process.
struct ObservedProcess {
    generation: u64,
    /// Tells the process from a later one with the same id; `None` when it was gone before it could be read.
    start_ticks: Option<u64>,
    /// Stands in for what cannot be read any more.
    known: Facts,
    describing: Describing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Describing {
    NotAsked,
    UnderWay,
    Done,
}

/// The state of the thread.
pub(super) struct TrackerState<K, P> {
    pub(super) owned: Tracker<K, P>,
    readers: Readers,
    targets: HashMap<u32, ObservedProcess>,
    /// Processes whose first thread has ended: when the others are checked, and the delay until the next check.
    leaderless: HashMap<u32, (Instant, Duration)>,
    /// Facts of processes that have ended while they were read: they stand in for what cannot be read any more.
    facts_of_ended: HashMap<ProcessKey, Facts>,
    /// Sockets whose names the kernel side does not have yet.
    unnamed_sockets: VecDeque<(ProcessKey, Vec<u32>)>,
    /// Who waits for the start, and for the description of which processes.
    starting: Option<(Sender<Started>, Started, HashSet<ProcessKey>)>,
    /// Events that the kernel side had no room for, and whether there are new ones.
    events_lost: (u64, bool),
    /// Process images have ended since the kernel side's maps were last swept.
    needs_sweep: bool,
    /// The capture has ended: no further process is observed.
    capture_ended: bool,
}

impl<K: KernelSide, P: Probes> Tracker<K, P> {
    /// Serves requests until [`Request::Stop`]; returns the kernel side, for the last counters.
    pub fn run(self, inbox: &Inbox, requests: &Requests) -> K {
        let mut state = TrackerState::new(self, requests);
        let (mut count, mut check) = (Instant::now(), Instant::now());
        // Events were lost: processes may be missing.
        let mut incomplete = false;
        loop {
            let now = Instant::now();
            let found = state.readers.assign(now);
            found.into_iter().for_each(|found| state.described(found));
            state.check_leaderless(now);
            if now.duration_since(count) >= COUNTERS_INTERVAL {
                count = now;
                state.count();
            }
            incomplete |= inbox.overflowed() || state.events_were_lost();
            let since_check = now.duration_since(check);
            if since_check >= ALIVE_CHECK_INTERVAL || incomplete && since_check >= ALIVE_CHECK_AFTER_LOSS {
                check = now;
                state.find_vanished();
                if std::mem::take(&mut state.needs_sweep) {
                    state.owned.kernel.sweep();
                }
                if std::mem::take(&mut incomplete) {
                    state.observe_matching().into_iter().for_each(|key| state.owned.probes.scan(key.pid));
                }
            }
            inbox.set_describing(state.readers.pending());
            let patience = if state.name_sockets() {
                Duration::ZERO
            } else {
                state.next_deadline().min(count + COUNTERS_INTERVAL).saturating_duration_since(Instant::now())
            };
            match inbox.receiver.recv_timeout(patience) {
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(request) => {
                    state.serve(request);
                    // What it began is counted before it is itself not counted any more.
                    inbox.set_describing(state.readers.pending());
                    inbox.done();
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        state.owned.kernel
    }
}

impl<K: KernelSide, P: Probes> TrackerState<K, P> {
    pub(super) fn new(owned: Tracker<K, P>, requests: &Requests) -> Self {
        let requests = requests.clone();
        let report = Arc::new(move |report| requests.send(Request::Reader(report)));
        let readers = Readers::new(Arc::clone(&owned.source), report, Arc::clone(&owned.telemetry));
        Self {
            owned,
            readers,
            targets: HashMap::new(),
            leaderless: HashMap::new(),
            facts_of_ended: HashMap::new(),
            unnamed_sockets: VecDeque::new(),
            starting: None,
            events_lost: (0, false),
            needs_sweep: false,
            capture_ended: false,
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Start(answer) => self.start(answer),
            Request::Executed { key, started_as, accepted, tracked } => {
                self.executed(key, &started_as, accepted, tracked);
            }
            Request::NameDescriptor(key, fd) => {
                if self.owned.source.is_socket(key.pid, fd) {
                    self.owned.kernel.name_socket(key, fd);
                }
            }
            Request::Forked { child, parent, accepted } => self.forked(child, parent, accepted),
            Request::Unknown(key) => self.unknown(key),
            Request::Describe(key) => self.describe(key),
            Request::Exited { key, last } => self.exited(key, last),
            Request::Mapped(pid) => {
                if self.targets.contains_key(&pid) {
                    self.owned.probes.scan(pid);
                }
            }
            Request::Unbound(pid) => {
                if self.targets.contains_key(&pid) {
                    self.owned.probes.bind(pid);
                }
            }
            Request::Copy(stream, verdict) => self.owned.kernel.copy(stream, verdict),
            Request::Reader(ReaderReport::Sockets(key, fds)) => self.unnamed_sockets.push_back((key, fds)),
            Request::Reader(ReaderReport::Done(reader)) => {
                if let Some(found) = self.readers.done(reader) {
                    self.described(found);
                }
            }
            Request::Quiesce => {
                self.capture_ended = true;
                self.owned.kernel.untrack_all();
            }
            Request::Stop => {}
        }
    }

    /// Finds the processes that the selection means now.
    fn start(&mut self, answer: Sender<Started>) {
        let mut started = Started::default();
        for pid in self.owned.selector.pids().to_vec() {
            match self.named(pid) {
                Ok(key) => {
                    started.keys.push(key);
                    if self.owned.selector.follow() {
                        let children = procfs::descendants(pid).into_iter();
                        let children = children
                            .filter(|child| !is_ours(*child, self.owned.source.identity(*child).as_ref()))
                            .collect::<Vec<u32>>();
                        started
                            .keys
                            .extend(children.into_iter().filter_map(|child| self.observe(child).ok()));
                    }
                }
                Err(why) => started.refused.push(why),
            }
        }
        started.keys.extend(self.observe_matching());
        let awaited =
            if self.owned.selector.all() { HashSet::new() } else { started.keys.iter().copied().collect() };
        self.starting = Some((answer, started, awaited));
        self.answer_start();
    }

    fn answer_start(&mut self) {
        if let Some((answer, started, _)) = self.starting.take_if(|(.., awaited)| awaited.is_empty())
            && answer.send(started).is_err()
        {
            tracing::debug!("the agent does not wait for its start any more");
        }
    }

    fn named(&mut self, pid: u32) -> Result<ProcessKey, NotObserved> {
        select::check_named(pid)?;
        self.observe(pid)
    }

    /// Observes what a rule selects and is not observed.
    fn observe_matching(&mut self) -> Vec<ProcessKey> {
        if !self.owned.selector.has_rules() || self.capture_ended {
            return Vec::new();
        }
        let mut found = Vec::new();
        for pid in self.owned.source.pids() {
            if !self.targets.contains_key(&pid)
                && let Some(identity) = self.owned.source.identity(pid)
                && self.is_selected(pid, Some(&identity), None)
                && let Ok(key) = self.observe(pid)
            {
                found.push(key);
            }
        }
        found
    }

    /// Whether a rule selects a process. Never the agent, its children, or kernel threads.
    fn is_selected(&self, pid: u32, identity: Option<&Identity>, started_as: Option<&str>) -> bool {
        let ours = is_ours(pid, identity);
        let is_kernel_thread = identity.is_some_and(|it| it.kernel_thread);
        let executable = identity.and_then(|it| it.executable.as_deref());
        !ours && !is_kernel_thread && self.owned.selector.matches(executable, started_as)
    }

    /// Observes a process that the kernel side does not track yet.
    fn observe(&mut self, pid: u32) -> Result<ProcessKey, NotObserved> {
        let generation = self
            .owned
            .kernel
            .track(pid, self.owned.selector.tracking())
            .map_err(|error| NotObserved::Kernel(pid, error))?;
        let key = ProcessKey { pid, generation };
        self.accept(key, Facts::default());
        Ok(key)
    }

    /// A process is observed from now on; `known` stands in for what will not be read of it.
    fn accept(&mut self, key: ProcessKey, known: Facts) {
        self.send(ProcessEvent::Accepted(key));
        self.owned.idle.store(false, Ordering::Release);
        let start_ticks = self.owned.source.identity(key.pid).map(|identity| identity.start_ticks);
        let describing = Describing::NotAsked;
        let target = ObservedProcess { generation: key.generation, start_ticks, known, describing };
        self.leaderless.remove(&key.pid);
        self.targets.insert(key.pid, target);
        // Of all processes of a host, most use no network.
        let facts = !self.owned.selector.all();
        let sockets = self.owned.kernel.names_descriptors();
        self.read(key, sockets, facts);
    }

    fn read(&mut self, key: ProcessKey, sockets: bool, facts: bool) {
        if facts && let Some(target) = self.targets.get_mut(&key.pid) {
            target.describing = Describing::UnderWay;
        }
        if sockets || facts {
            self.readers.read(ReadJob { key, sockets, facts });
        }
    }

    /// A process replaced its image. The kernel side tracks it already where it could check the rules.
    fn executed(&mut self, key: ProcessKey, started_as: &str, accepted: bool, tracked: bool) {
        let pid = key.pid;
        if !tracked {
            // It was observed for what it executed before.
            self.ended(pid);
        }
        let observed = accepted || self.targets.contains_key(&pid);
        if !observed && !self.is_selected(pid, self.owned.source.identity(pid).as_ref(), Some(started_as)) {
            self.refuse(key);
            return;
        }
        tracing::debug!(pid, started_as, "observed process executed");
        self.needs_sweep = true;
        if !tracked && let Err(error) = self.owned.kernel.adopt(key, self.owned.selector.tracking()) {
            tracing::warn!("{}", NotObserved::Kernel(pid, error));
            return self.refuse(key);
        }
        self.accept(key, Facts { executable: Some(started_as.to_owned()), ..Facts::default() });
        self.owned.probes.scan(pid);
    }

    /// An observed process, or one that was not decided when this was asked, has a child.
    fn forked(&mut self, child: ProcessKey, parent: u32, accepted: bool) {
        let of_parent = self.targets.get(&parent).map(|target| target.known.clone());
        if !accepted && of_parent.is_none() {
            let identity = self.owned.source.identity(child.pid);
            if !self.is_selected(child.pid, identity.as_ref(), None) {
                return self.refuse(child);
            }
        }
        let known = Facts { parent: Some(parent), start_ticks: None, ..of_parent.unwrap_or_default() };
        self.owned.probes.probe_host_wide();
        self.accept(child, known);
        self.owned.probes.scan(child.pid);
    }

    /// Frames came of a process that is not observed as far as the ring thread knows: its exec or fork was lost, or
    /// it was observed at the start and that is not known there yet.
    fn unknown(&mut self, key: ProcessKey) {
        let pid = key.pid;
        let identity = self.owned.source.identity(pid);
        if self.is_same(pid, identity.as_ref())
            && let Some(target) = self.targets.get_mut(&pid)
        {
            if key.generation != 0 {
                target.generation = key.generation;
            }
            let generation = target.generation;
            self.send(ProcessEvent::Accepted(ProcessKey { pid, generation }));
        } else if self.is_selected(pid, identity.as_ref(), None) && !self.capture_ended {
            if self.observe(pid).is_ok() {
                self.owned.probes.scan(pid);
            }
        } else {
            self.refuse(key);
        }
    }

    /// Whether a process that is there is the observed one with this id; when it is gone nothing speaks against it.
    fn is_same(&self, pid: u32, identity: Option<&Identity>) -> bool {
        let known = self.targets.get(&pid).and_then(|target| target.start_ticks);
        let there = identity.map(|identity| identity.start_ticks);
        known.is_none() || there.is_none() || known == there
    }

    fn refuse(&mut self, key: ProcessKey) {
        tracing::debug!(pid = key.pid, "no rule selects the process");
        self.owned.kernel.untrack(key.pid);
        self.send(ProcessEvent::Refused(key));
    }

    fn exited(&mut self, key: ProcessKey, last: Option<bool>) {
        let known = self.targets.get(&key.pid).is_some_and(|it| it.generation == key.generation);
        match last {
            _ if !known => {}
            Some(true) => self.ended(key.pid),
            Some(false) => {}
            // It may be on its way out still.
            None => {
                let now = Instant::now();
                self.leaderless.insert(key.pid, (now, FIRST_LEADERLESS_CHECK));
                self.check_leaderless(now);
            }
        }
    }

    fn check_leaderless(&mut self, now: Instant) {
        let due = self.leaderless.iter().filter(|(_, (at, _))| *at <= now).map(|(pid, _)| *pid);
        for pid in due.collect::<Vec<u32>>() {
            if !self.still_runs(pid) {
                self.ended(pid);
            } else if let Some((at, pause)) = self.leaderless.get_mut(&pid) {
                *at = now + *pause;
                *pause = (*pause * 2).min(MAX_LEADERLESS_CHECK);
            }
        }
    }

    /// Whether it is the same process as ever, and has threads.
    fn still_runs(&self, pid: u32) -> bool {
        let identity = self.owned.source.identity(pid);
        identity.is_some() && self.is_same(pid, identity.as_ref()) && self.owned.source.is_alive(pid)
    }

    fn ended(&mut self, pid: u32) {
        self.leaderless.remove(&pid);
        let Some(target) = self.targets.remove(&pid) else { return };
        self.needs_sweep = true;
        let key = ProcessKey { pid, generation: target.generation };
        if target.describing == Describing::UnderWay {
            self.facts_of_ended.insert(key, target.known);
        }
        self.owned.kernel.untrack(pid);
        self.owned.probes.forget(pid);
        self.unnamed_sockets.retain(|(owner, _)| *owner != key);
        self.send(ProcessEvent::Ended(key));
        let can_see_more = self.owned.selector.has_rules() || !self.targets.is_empty();
        self.owned.idle.store(!can_see_more, Ordering::Release);
    }

    /// Processes whose end was not reported.
    fn find_vanished(&mut self) {
        let pids: Vec<u32> = self.targets.keys().copied().collect();
        for pid in pids {
            if !self.still_runs(pid) {
                self.ended(pid);
            }
        }
    }

    fn describe(&mut self, key: ProcessKey) {
        let asked = self.targets.get(&key.pid).map(|target| (target.generation, target.describing));
        if asked == Some((key.generation, Describing::NotAsked)) {
            self.read(key, false, true);
        }
    }

    /// Makes a resource of what was read, and of what was known where nothing could be read.
    fn described(&mut self, found: Found) {
        let Found { key, of_facts, mut facts } = found;
        if !of_facts {
            return;
        }
        let known = match self.targets.get_mut(&key.pid).filter(|target| target.generation == key.generation)
        {
            Some(target) => {
                target.describing = Describing::Done;
                std::mem::take(&mut target.known)
            }
            None => self.facts_of_ended.remove(&key).unwrap_or_default(),
        };
        facts.complete(known);
        if let Some(target) =
            self.targets.get_mut(&key.pid).filter(|target| target.generation == key.generation)
        {
            target.known = facts.clone();
        }
        let resource = self.owned.describer.resource(key.pid, &facts);
        let process = Arc::new(Process { key, resource });
        if let Some((_, started, awaited)) = &mut self.starting
            && awaited.remove(&key)
        {
            started.described.push(Arc::clone(&process));
        }
        self.send(ProcessEvent::Described(process));
        self.answer_start();
    }

    /// Gives the kernel side some names of sockets; whether there are more.
    fn name_sockets(&mut self) -> bool {
        let Some((key, fds)) = self.unnamed_sockets.front_mut() else { return false };
        let from = fds.len().saturating_sub(NAMED_AT_ONCE);
        for fd in fds.drain(from..) {
            self.owned.kernel.name_socket(*key, fd);
        }
        if fds.is_empty() {
            self.unnamed_sockets.pop_front();
        }
        !self.unnamed_sockets.is_empty()
    }

    fn next_deadline(&self) -> Instant {
        let leaderless = self.leaderless.values().map(|(at, _)| *at).min();
        let far = Instant::now() + COUNTERS_INTERVAL;
        [leaderless, self.readers.next_deadline()].into_iter().flatten().min().unwrap_or(far)
    }

    fn count(&mut self) {
        let counters = self.owned.kernel.counters();
        self.owned.telemetry.set_kernel(&counters);
        let lost = counters[Counter::EventsLost as usize];
        self.events_lost = (lost, self.events_lost.1 || lost > self.events_lost.0);
    }

    /// Whether the kernel side had no room for events since this was asked last: processes may be missing.
    fn events_were_lost(&mut self) -> bool {
        std::mem::take(&mut self.events_lost.1)
    }

    fn send(&self, process_event: ProcessEvent) {
        if self.owned.process_events.send(process_event).is_err() {
            tracing::debug!("the ring is not read any more");
        }
    }
}

/// Whether a process is the agent or a child of it.
fn is_ours(pid: u32, identity: Option<&Identity>) -> bool {
    let agent = std::process::id();
    pid == agent || identity.is_some_and(|it| it.parent == agent)
}
