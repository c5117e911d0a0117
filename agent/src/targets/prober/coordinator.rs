//! The thread that places probes: takes commands one after the other, and keeps probes in step with what observed
//! processes have mapped.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt, io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use tokentap_tls::Found;

use super::{
    backend::{self, KernelBackend, PlacedProbes},
    command::Command,
    host_files,
    placement::{
        MAX_PROCESS_PROBES, MAX_PROCESS_PROBES_EVENTS, NotPlaced, PlacementOutcome, Placements, Retention,
    },
    search::{SearchPool, SearchResult, SearchSubject, TimedOutSearch},
};
use crate::{
    kernel::Attacher,
    targets::{Selector, procfs},
    telemetry::{Event, Telemetry},
};

/// How long commands are collected after a mapping: a starting process maps dozens of files within a millisecond.
const COALESCE: Duration = Duration::from_millis(1);
/// Interval of the search for changes of probed files that came without a notice: one process for each file.
pub(super) const RECHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Interval of the search of host files: a package may have brought another library.
const HOST_FILES_INTERVAL: Duration = Duration::from_secs(60);
/// Delay after a change of a probed file until it is searched again. Writing a file takes its time, so the delay doubles
/// with each try, up to [`RECHECK_INTERVAL`].
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// How long the functions that ciphertext passes stay probed in a process after it last reported a TLS stream whose socket
/// is not known: each call of the library pays for them.
const BINDING_TIMEOUT: Duration = Duration::from_secs(10);

/// A process that is observed.
struct SearchState {
    /// When it mapped what was not searched yet; `None` when that is not known, or nothing is new.
    mapped: Option<Instant>,
    /// Something was mapped since the search began.
    mapped_again: bool,
    /// It ended while it was searched.
    ended: bool,
    looking: bool,
    answers: Vec<Sender<Vec<String>>>,
}

/// Processes that are searched again because a file of theirs changed.
struct Retry {
    at: Instant,
    after: Duration,
    pids: HashSet<u32>,
}

pub(super) struct Coordinator {
    placements: Placements<KernelBackend>,
    searches: SearchPool,
    /// Probes are for all processes of the host.
    host_wide: bool,
    processes: HashMap<u32, SearchState>,
    /// Processes with probes of their own, which are to be searched before those may go.
    unsearched: BTreeSet<u32>,
    /// Processes whose ciphertext is followed, and until when.
    binding: HashMap<u32, Instant>,
    /// Host files are being searched.
    searching_host_files: bool,
    /// Who waits until probes are host-wide.
    host_wide_waiters: Vec<Sender<()>>,
    /// Processes whose files changed.
    retry: Option<Retry>,
    /// Processes with a file that could not be probed because it was open for writing.
    open_for_writing: HashSet<u32>,
    recheck: Instant,
    refresh: Instant,
    /// Mounts that probes may keep busy without a process that uses them.
    permanent_mounts: BTreeSet<u64>,
    /// Files of which it was said that a process ended before they were probed.
    missed: HashSet<String>,
    telemetry: Arc<Telemetry>,
}

impl Coordinator {
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn new(
        attacher: Attacher,
        selector: &Selector,
        commands: Sender<Command>,
        telemetry: Arc<Telemetry>,
    ) -> io::Result<Self> {
        let max_process_probes =
            if attacher.has_multi_uprobes() { MAX_PROCESS_PROBES } else { MAX_PROCESS_PROBES_EVENTS };
        let backend = KernelBackend::new(attacher, commands.clone(), Arc::clone(&telemetry))?;
        let report = move |result| commands.send(Command::Searched(result)).is_ok();
        Ok(Self {
            placements: Placements::new(backend, max_process_probes),
            searches: SearchPool::new(selector.clone(), Arc::clone(&telemetry), Arc::new(report)),
            host_wide: false,
            processes: HashMap::new(),
            unsearched: BTreeSet::new(),
            binding: HashMap::new(),
            searching_host_files: false,
            host_wide_waiters: Vec::new(),
            retry: None,
            open_for_writing: HashSet::new(),
            recheck: Instant::now() + RECHECK_INTERVAL,
            refresh: Instant::now() + HOST_FILES_INTERVAL,
            permanent_mounts: BTreeSet::new(),
            missed: HashSet::new(),
            telemetry,
        })
    }

    /// Takes every probe away, and waits until they are gone.
    pub(super) fn detach_all(self) {
        backend::detach_all(&self.placements.into_probes());
    }

    /// Works until it is told to stop, or nobody is left who could.
    pub(super) fn run(&mut self, inbox: &Receiver<Command>) {
        loop {
            let timer = self.retry.as_ref().map(|retry| retry.at);
            let binding = self.binding.values().min().copied();
            let wake = [
                timer,
                binding,
                self.searches.deadline(),
                Some(self.recheck),
                self.host_wide.then_some(self.refresh),
            ];
            let wake = wake.into_iter().flatten().min().unwrap_or(self.recheck);
            let first = match inbox.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Disconnected) => return,
                first => first.ok(),
            };
            let mut mapped = false;
            for command in first.into_iter().chain(inbox.try_iter()) {
                mapped |= matches!(command, Command::Scan(_, Some(_), _));
                match command {
                    Command::Stop => return,
                    command => self.take(command),
                }
            }
            self.timers();
            if mapped {
                thread::sleep(COALESCE);
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Scan(pid, at, answer) => self.scan(pid, at, answer),
            Command::Bind(pid) => self.bind(pid),
            Command::Forget(pid) => self.forget(pid),
            Command::ProbeHostWide(answer) => self.probe_host_wide(answer),
            Command::Searched(looked) => {
                if self.searches.accept_result(&looked) {
                    self.search_done(looked);
                }
            }
            Command::Modified(watch) => {
                let users = self.placements.changed(|placed| placed.is_about(watch));
                self.changed(1, &"not under a lease", users);
            }
            Command::Broken(files) => {
                let users = self.placements.changed(PlacedProbes::is_gone);
                self.changed(files.len(), &files, users);
            }
            Command::Recheck => self.recheck = Instant::now(),
            Command::Stop => {}
        }
    }

    fn timers(&mut self) {
        let now = Instant::now();
        if self.searches.deadline().is_some_and(|at| at <= now) {
            for late in self.searches.take_timed_out() {
                self.search_timed_out(&late);
            }
        }
        if let Some(retry) = self.retry.take_if(|retry| retry.at <= now) {
            retry.pids.iter().for_each(|pid| self.rescan(*pid));
            let after = 2 * retry.after;
            self.retry =
                (after < RECHECK_INTERVAL).then(|| Retry { at: now + after, after, pids: retry.pids });
        }
        for (pid, _) in self.binding.extract_if(|_, until| *until <= now) {
            self.placements.unbind(pid);
        }
        if self.recheck <= now {
            self.recheck = now + RECHECK_INTERVAL;
            self.placements.evict();
            let samples: Vec<u32> =
                self.placements.samples().union(&self.open_for_writing).copied().collect();
            samples.into_iter().for_each(|pid| self.rescan(pid));
        }
        if self.host_wide && self.refresh <= now {
            self.refresh = now + HOST_FILES_INTERVAL;
            self.permanent_mounts = host_files::permanent_mounts();
            self.search_host_files();
        }
    }

    fn scan(&mut self, pid: u32, at: Option<Instant>, answer: Option<Sender<Vec<String>>>) {
        let observed = self.processes.entry(pid).or_insert_with(|| SearchState {
            mapped: at,
            mapped_again: false,
            ended: false,
            looking: false,
            answers: Vec::new(),
        });
        observed.answers.extend(answer);
        if observed.looking {
            // One more search covers all that was mapped meanwhile.
            observed.mapped_again = true;
            observed.mapped = observed.mapped.or(at);
        } else {
            observed.looking = true;
            observed.mapped = at;
            self.searches.submit(SearchSubject::Process(pid));
        }
    }

    fn bind(&mut self, pid: u32) {
        if self.processes.contains_key(&pid)
            && self.binding.insert(pid, Instant::now() + BINDING_TIMEOUT).is_none()
        {
            self.searches.submit(SearchSubject::Ciphertext(pid));
        }
    }

    /// What the ciphertext of a process passes was found.
    fn follow_ciphertext(&mut self, pid: u32, found: &[Found]) {
        if !self.binding.contains_key(&pid) {
            return;
        }
        for (found, outcome) in found.iter().zip(self.placements.bind(pid, found)) {
            tracing::debug!(pid, file = found.name, ?outcome, "finding the sockets of its TLS streams");
        }
    }

    /// Searches an observed process for another reason than that it mapped something.
    fn rescan(&mut self, pid: u32) {
        if self.processes.contains_key(&pid) {
            self.scan(pid, None, None);
        }
    }

    fn forget(&mut self, pid: u32) {
        match self.processes.get_mut(&pid) {
            // The search will show what it had, and perhaps that this was not probed.
            Some(observed) if observed.looking => observed.ended = true,
            Some(_) => {
                self.processes.remove(&pid);
            }
            None => {}
        }
        self.unsearched.remove(&pid);
        self.binding.remove(&pid);
        self.open_for_writing.remove(&pid);
        for other in self.placements.forget(pid) {
            self.rescan(other);
        }
        self.finish_host_wide();
    }

    fn probe_host_wide(&mut self, answer: Option<Sender<()>>) {
        self.host_wide_waiters.extend(answer);
        if !std::mem::replace(&mut self.host_wide, true) {
            self.refresh = Instant::now() + HOST_FILES_INTERVAL;
            self.permanent_mounts = host_files::permanent_mounts();
            // Children that exist already come first: they are running. For a moment both kinds of probe are there; a call
            // that two entry programs see is counted once.
            self.unsearched = self.processes.keys().copied().collect();
            for pid in self.unsearched.clone() {
                self.rescan(pid);
            }
            self.search_host_files();
        }
        self.finish_host_wide();
    }

    fn search_host_files(&mut self) {
        self.searching_host_files = true;
        self.searches.submit(SearchSubject::HostFiles);
    }

    /// Takes away the probes of single processes once every one of them has host-wide probes, and tells who waited.
    fn finish_host_wide(&mut self) {
        if !self.host_wide || !self.unsearched.is_empty() {
            return;
        }
        self.placements.drop_all_process_probes();
        if !self.searching_host_files {
            // Who waits is told by the end of the channel.
            self.host_wide_waiters.clear();
        }
    }

    fn search_done(&mut self, looked: SearchResult) {
        match (looked.subject, looked.found) {
            (SearchSubject::HostFiles, found) => {
                let found = found.unwrap_or_default();
                let outcomes = self.placements.place_in_host_files(&found);
                for (found, outcome) in found.iter().zip(outcomes) {
                    if matches!(outcome, PlacementOutcome::Failed(NotPlaced::Busy | NotPlaced::Changed)) {
                        self.refresh = self.refresh.min(Instant::now() + RECHECK_INTERVAL);
                    }
                    self.report(found, outcome, None);
                }
                self.searching_host_files = false;
            }
            (SearchSubject::Process(pid), Ok(found)) => self.process(pid, found),
            (SearchSubject::Ciphertext(pid), Ok(found)) => self.follow_ciphertext(pid, &found),
            (SearchSubject::Ciphertext(pid), Err(error)) => {
                tracing::debug!(pid, %error, "the sockets of its TLS streams are not found");
            }
            (SearchSubject::Process(pid), Err(error)) => {
                if procfs::has_live_threads(pid) {
                    tracing::warn!(pid, %error, "cannot search the process for TLS code: its TLS traffic is not seen");
                } else {
                    self.telemetry.add(Event::ProcessesUnread, 1);
                }
                self.search_ended(pid, &[]);
            }
        }
        self.finish_host_wide();
    }

    /// What a process has mapped.
    fn process(&mut self, pid: u32, found: Vec<Found>) {
        let Some(observed) = self.processes.get_mut(&pid) else { return };
        let (mapped, ended) = (observed.mapped.take(), observed.ended);
        let names: Vec<String> = found.iter().map(Found::to_string).collect();
        // Only where processes are selected that do not exist yet is something kept for them.
        let is_kept = |found: &Found| self.host_wide && self.permanent_mounts.contains(&found.file.mount);
        let retention = |found| if is_kept(found) { Retention::Kept } else { Retention::WhileUsed };
        let retentions: Vec<Retention> = found.iter().map(retention).collect();
        let outcomes = self.placements.update_process(pid, &found, &retentions, self.host_wide);
        let was_late = outcomes
            .iter()
            .any(|outcome| !matches!(outcome, PlacementOutcome::Known | PlacementOutcome::Refused));
        // It may have ended while its probes were placed.
        let missed = was_late && (ended || !procfs::has_live_threads(pid));
        if missed {
            self.telemetry.add(Event::ProcessesMissed, 1);
        }
        if !outcomes.contains(&PlacementOutcome::Failed(NotPlaced::Busy)) {
            self.open_for_writing.remove(&pid);
        }
        for (found, outcome) in found.iter().zip(outcomes) {
            match outcome {
                PlacementOutcome::Known | PlacementOutcome::Refused => {}
                PlacementOutcome::Failed(NotPlaced::Changed) => self.retry([pid]),
                PlacementOutcome::Failed(NotPlaced::Busy) if !missed => {
                    self.report_open_for_writing(pid, found)
                }
                // A process that has ended cannot be probed; nothing is wrong with its file.
                PlacementOutcome::Failed(_) if missed => self.missed(found),
                outcome => {
                    if missed {
                        self.missed(found);
                    }
                    self.report(found, outcome, mapped.filter(|_| !missed));
                }
            }
        }
        self.search_ended(pid, &names);
    }

    /// The search of a process is over.
    fn search_ended(&mut self, pid: u32, names: &[String]) {
        self.unsearched.remove(&pid);
        let Some(observed) = self.processes.get_mut(&pid) else { return };
        observed.looking = false;
        for answer in observed.answers.drain(..) {
            if answer.send(names.to_vec()).is_err() {
                tracing::debug!(pid, "the requester of this scan has gone");
            }
        }
        if observed.ended {
            self.forget(pid);
        } else if std::mem::take(&mut observed.mapped_again) {
            observed.looking = true;
            self.searches.submit(SearchSubject::Process(pid));
        }
    }

    fn search_timed_out(&mut self, late: &TimedOutSearch) {
        match late.subject {
            SearchSubject::HostFiles => self.searching_host_files = false,
            SearchSubject::Ciphertext(pid) => {
                self.binding.remove(&pid);
            }
            SearchSubject::Process(pid) => {
                // Search the rest of its files, without those that do not answer.
                if let (true, Some(observed)) = (late.file, self.processes.get_mut(&pid)) {
                    observed.mapped_again = true;
                }
                self.search_ended(pid, &[]);
            }
        }
        self.finish_host_wide();
    }

    /// Logs and counts what became of a file. `mapped`: when the process mapped it that it is probed for.
    fn report(&self, found: &Found, outcome: PlacementOutcome, mapped: Option<Instant>) {
        let (library, file) = (found.code.library, &found.name);
        match outcome {
            PlacementOutcome::Placed => {
                self.telemetry.add(Event::Attached, 1);
                let after = mapped.map(|mapped| mapped.elapsed());
                if let Some(after) = after {
                    self.telemetry.add(Event::ProbesLate, 1);
                    let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
                    self.telemetry.raise(Event::ProbeDelayMaxMicros, micros);
                }
                tracing::debug!(library, file, ?after, "probes placed");
            }
            PlacementOutcome::Failed(NotPlaced::Refused(why)) => {
                self.telemetry.add(Event::AttachFailed, 1);
                tracing::warn!(
                    library,
                    file,
                    why,
                    "the library cannot be probed: its TLS traffic is not seen"
                );
            }
            PlacementOutcome::Failed(NotPlaced::Changed | NotPlaced::Busy)
            | PlacementOutcome::Known
            | PlacementOutcome::Refused => {}
        }
    }

    /// A process ended before a file was probed that it had.
    fn missed(&mut self, found: &Found) {
        /// More names are not remembered: there would be no end to them.
        const MOST: usize = 1024;
        if self.missed.len() < MOST && self.missed.insert(found.name.clone()) {
            tracing::warn!(
                library = found.code.library,
                file = found.name,
                "a process ended before this library was probed: its TLS traffic was not seen; later processes are seen"
            );
        }
    }

    /// Files lost their probes because of a writer; `users` have them mapped.
    fn changed(&mut self, count: usize, files: &dyn fmt::Debug, users: Vec<u32>) {
        self.telemetry.add(Event::FilesChanged, count as u64);
        tracing::warn!(
            ?files,
            processes = ?users,
            "probed libraries are being written to: their probes were removed, and are placed again when the new contents \
             have been searched"
        );
        // What no process has now is perhaps a library of the system.
        self.refresh = self.refresh.min(Instant::now() + RECHECK_INTERVAL);
        self.retry(users);
    }

    /// A file of this process is open for writing. That can last: after some tries it is looked at in intervals.
    fn report_open_for_writing(&mut self, pid: u32, found: &Found) {
        if self.open_for_writing.insert(pid) {
            tracing::warn!(
                pid,
                library = found.code.library,
                file = found.name,
                "the library is open for writing and cannot be probed until it is closed: its TLS traffic is not seen"
            );
            self.retry([pid]);
        }
    }

    fn retry(&mut self, pids: impl IntoIterator<Item = u32>) {
        let at = Instant::now() + RETRY_DELAY;
        let retry = self.retry.get_or_insert_with(|| Retry { at, after: RETRY_DELAY, pids: HashSet::new() });
        (retry.at, retry.after) = (at, RETRY_DELAY);
        retry.pids.extend(pids);
    }
}
