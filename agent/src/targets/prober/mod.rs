//! Places probes: keeps them in step with what observed processes have mapped, so that the thread that reads the ring
//! does not have to.
//!
//! ```text
//! ring thread ── orders ──> prober ── subjects ──> look (threads that may get stuck: /proc, files)
//!                             │  <──── found ────────┘
//!                             ├── placement: which files, for whom, how long ──> place: the kernel
//!                             └── detach (a thread that may wait)
//!                file-changes (leases, inotify) ── orders ──> prober
//! ```
//!
//! A probe is for one process as long as that is enough: it patches only that process's memory, and others pay
//! nothing. But placing takes the kernel some 20 ms (it waits for every fork and exit in progress), in which a young
//! process can have made its first call. So where processes are wanted that do not exist yet, by a rule or because a
//! watched process has children, probes are for everybody (`placement` says in which files); the kernel side passes
//! over who is not watched.

mod ahead;
mod changes;
mod leases;
mod look;
mod place;
mod placement;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokentap_tls::Found;

use crate::{
    kernel::{Attacher, attaching},
    privileges::Thread,
    targets::{Selector, procfs},
    telemetry::{Event, Telemetry},
};
use look::{Late, Looked, Lookers, Subject};
use place::{Kernel, Placed};
use placement::{MAX_NARROW, MAX_NARROW_EVENTS, Outcome, Placements, Stay, Unplaced};

/// How long orders gather after one of the ring's.
const ROUND: Duration = Duration::from_millis(1);
/// How often one process for each probed file is looked at, for changes that came without a notice.
const RECHECK: Duration = Duration::from_secs(10);
/// How often the files that are probed ahead are looked up again: a package may have come with another.
const REFRESH: Duration = Duration::from_secs(60);
/// How long after a change of a probed file it is looked at again: writing it takes its time, so that this is done
/// again after twice as long, and so on until [`RECHECK`].
const RETRY: Duration = Duration::from_millis(200);

/// How long what ciphertext passes is probed in a process after a TLS stream of unknown socket was last reported: each
/// call of the library pays for it.
const BINDING: Duration = Duration::from_secs(10);

/// What the prober is asked to do.
enum Order {
    /// Look through a process that mapped something at this time; the answer, when somebody waits for it, is what TLS
    /// code it has.
    Scan(u32, Option<Instant>, Option<Sender<Vec<String>>>),
    /// A process has a TLS stream whose socket is not known.
    Bind(u32),
    /// The process is gone.
    Forget(u32),
    /// Processes that do not exist yet are wanted from now on; somebody may wait until it is done.
    Widen(Option<Sender<()>>),
    /// A look is over.
    Looked(Looked),
    /// A watched file was written to.
    Modified(i32),
    /// Somebody wanted to write to these files, and can do it now: their probes are gone.
    Broken(BTreeSet<String>),
    /// Notices of changes were lost.
    Recheck,
    /// Take every probe away.
    Stop,
}

/// Orders for the thread that places probes.
#[derive(Clone, Debug)]
pub struct Prober {
    orders: Sender<Order>,
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
        let max_narrow = if attacher.has_multi_uprobes() { MAX_NARROW } else { MAX_NARROW_EVENTS };
        let mut work = Work {
            placements: Placements::new(
                Kernel::new(attacher, orders.clone(), Arc::clone(&telemetry))?,
                max_narrow,
            ),
            lookers: Lookers::new(selector.clone(), Arc::clone(&telemetry), orders.clone()),
            wide: false,
            processes: HashMap::new(),
            narrow: BTreeSet::new(),
            binding: HashMap::new(),
            ahead: false,
            widening: Vec::new(),
            retry: None,
            busy: HashSet::new(),
            recheck: Instant::now() + RECHECK,
            refresh: Instant::now() + REFRESH,
            lasting: BTreeSet::new(),
            missed: HashSet::new(),
            telemetry,
        };
        let thread = Thread::named("probes").keeping(attaching()).spawn(move || {
            work.run(&inbox);
            place::detach_all(&work.placements.into_probes());
        })?;
        let prober = Self { orders };
        if wide {
            prober.widen_now();
        }
        Ok((prober, thread))
    }

    /// Looks through a process that just mapped something.
    pub fn scan(&self, pid: u32) {
        self.send(Order::Scan(pid, Some(Instant::now()), None));
    }

    /// Finds out which sockets carry the TLS streams of a process.
    pub fn bind(&self, pid: u32) {
        self.send(Order::Bind(pid));
    }

    /// Looks through a process; waits until its probes are there, and gives the TLS code that it has.
    #[must_use]
    pub fn scan_now(&self, pid: u32) -> Vec<String> {
        let (answer, answered) = channel();
        self.send(Order::Scan(pid, None, Some(answer)));
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
        if self.orders.send(order).is_err() {
            tracing::debug!("the prober has ended, an order is not carried out");
        }
    }
}

/// A process that is observed.
struct Observed {
    /// When it mapped what was not looked at yet; `None` when that is not known, or nothing new.
    mapped: Option<Instant>,
    /// Something was mapped since the look began.
    again: bool,
    /// It ended while it was looked at.
    ended: bool,
    looking: bool,
    answers: Vec<Sender<Vec<String>>>,
}

/// Processes that are looked at again because a file of theirs changed.
struct Retry {
    at: Instant,
    after: Duration,
    pids: HashSet<u32>,
}

struct Work {
    placements: Placements<Kernel>,
    lookers: Lookers,
    /// Probes are for everybody.
    wide: bool,
    processes: HashMap<u32, Observed>,
    /// Processes with probes of their own that are to be looked at before those may go.
    narrow: BTreeSet<u32>,
    /// Processes whose ciphertext is followed, and until when.
    binding: HashMap<u32, Instant>,
    /// The files that are probed ahead are looked up.
    ahead: bool,
    /// Who waits until probes are for everybody.
    widening: Vec<Sender<()>>,
    /// Whose files changed.
    retry: Option<Retry>,
    /// Processes with a file that could not be probed because it was open for writing.
    busy: HashSet<u32>,
    recheck: Instant,
    refresh: Instant,
    /// Mounts that probes may keep busy without a process that uses them.
    lasting: BTreeSet<u64>,
    /// Files of which it was said that a process ended before they were probed.
    missed: HashSet<String>,
    telemetry: Arc<Telemetry>,
}

impl Work {
    fn run(&mut self, inbox: &Receiver<Order>) {
        loop {
            let timer = self.retry.as_ref().map(|retry| retry.at);
            let binding = self.binding.values().min().copied();
            let wake = [
                timer,
                binding,
                self.lookers.deadline(),
                Some(self.recheck),
                self.wide.then_some(self.refresh),
            ];
            let wake = wake.into_iter().flatten().min().unwrap_or(self.recheck);
            let first = match inbox.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Disconnected) => return,
                first => first.ok(),
            };
            let mut mapped = false;
            for order in first.into_iter().chain(inbox.try_iter()) {
                mapped |= matches!(order, Order::Scan(_, Some(_), _));
                match order {
                    Order::Stop => return,
                    order => self.take(order),
                }
            }
            self.timers();
            if mapped {
                // A starting process maps dozens of files within a millisecond.
                thread::sleep(ROUND);
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Scan(pid, at, answer) => self.scan(pid, at, answer),
            Order::Bind(pid) => self.bind(pid),
            Order::Forget(pid) => self.forget(pid),
            Order::Widen(answer) => self.widen(answer),
            Order::Looked(looked) => {
                if self.lookers.is_back(&looked) {
                    self.looked(looked);
                }
            }
            Order::Modified(watch) => {
                let users = self.placements.changed(|placed| placed.is_about(watch));
                self.changed(1, &"not under a lease", users);
            }
            Order::Broken(files) => {
                let users = self.placements.changed(Placed::is_gone);
                self.changed(files.len(), &files, users);
            }
            Order::Recheck => self.recheck = Instant::now(),
            Order::Stop => {}
        }
    }

    fn timers(&mut self) {
        let now = Instant::now();
        if self.lookers.deadline().is_some_and(|at| at <= now) {
            for late in self.lookers.give_up() {
                self.given_up(&late);
            }
        }
        if let Some(retry) = self.retry.take_if(|retry| retry.at <= now) {
            retry.pids.iter().for_each(|pid| self.look_again(*pid));
            let after = 2 * retry.after;
            self.retry = (after < RECHECK).then(|| Retry { at: now + after, after, pids: retry.pids });
        }
        for (pid, _) in self.binding.extract_if(|_, until| *until <= now) {
            self.placements.unbind(pid);
        }
        if self.recheck <= now {
            self.recheck = now + RECHECK;
            self.placements.evict();
            let samples: Vec<u32> = self.placements.samples().union(&self.busy).copied().collect();
            samples.into_iter().for_each(|pid| self.look_again(pid));
        }
        if self.wide && self.refresh <= now {
            self.refresh = now + REFRESH;
            self.lasting = ahead::lasting_mounts();
            self.look_ahead();
        }
    }

    fn scan(&mut self, pid: u32, at: Option<Instant>, answer: Option<Sender<Vec<String>>>) {
        let observed = self.processes.entry(pid).or_insert_with(|| Observed {
            mapped: at,
            again: false,
            ended: false,
            looking: false,
            answers: Vec::new(),
        });
        observed.answers.extend(answer);
        if observed.looking {
            // A starting process maps dozens of files: one more look covers all that came meanwhile.
            observed.again = true;
            observed.mapped = observed.mapped.or(at);
        } else {
            observed.looking = true;
            observed.mapped = at;
            self.lookers.look(Subject::Process(pid));
        }
    }

    fn bind(&mut self, pid: u32) {
        if self.processes.contains_key(&pid) && self.binding.insert(pid, Instant::now() + BINDING).is_none() {
            self.lookers.look(Subject::Ciphertext(pid));
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

    /// Looks at a process that is observed for another reason than that it mapped something.
    fn look_again(&mut self, pid: u32) {
        if self.processes.contains_key(&pid) {
            self.scan(pid, None, None);
        }
    }

    fn forget(&mut self, pid: u32) {
        match self.processes.get_mut(&pid) {
            // What it had is known soon, and was perhaps not probed.
            Some(observed) if observed.looking => observed.ended = true,
            Some(_) => {
                self.processes.remove(&pid);
            }
            None => {}
        }
        self.narrow.remove(&pid);
        self.binding.remove(&pid);
        self.busy.remove(&pid);
        for other in self.placements.forget(pid) {
            self.look_again(other);
        }
        self.settle();
    }

    fn widen(&mut self, answer: Option<Sender<()>>) {
        self.widening.extend(answer);
        if !std::mem::replace(&mut self.wide, true) {
            self.refresh = Instant::now() + REFRESH;
            self.lasting = ahead::lasting_mounts();
            // First of all what a child that is there already uses: it is running on. Both kinds of probe may be
            // there for a moment: a call that is entered twice is left once.
            self.narrow = self.processes.keys().copied().collect();
            for pid in self.narrow.clone() {
                self.look_again(pid);
            }
            self.look_ahead();
        }
        self.settle();
    }

    fn look_ahead(&mut self) {
        self.ahead = true;
        self.lookers.look(Subject::Ahead);
    }

    /// Ends what waited for looks that are over now.
    fn settle(&mut self) {
        if !self.wide || !self.narrow.is_empty() {
            return;
        }
        self.placements.drop_all_narrow();
        if !self.ahead {
            // That they are gone is the answer.
            self.widening.clear();
        }
    }

    fn looked(&mut self, looked: Looked) {
        match (looked.subject, looked.found) {
            (Subject::Ahead, found) => {
                let found = found.unwrap_or_default();
                let outcomes = self.placements.ahead(&found);
                for (found, outcome) in found.iter().zip(outcomes) {
                    if matches!(outcome, Outcome::Failed(Unplaced::Busy | Unplaced::Changed)) {
                        self.refresh = self.refresh.min(Instant::now() + RECHECK);
                    }
                    self.report(found, outcome, None);
                }
                self.ahead = false;
            }
            (Subject::Process(pid), Ok(found)) => self.process(pid, found),
            (Subject::Ciphertext(pid), Ok(found)) => self.follow_ciphertext(pid, &found),
            (Subject::Ciphertext(pid), Err(error)) => {
                tracing::debug!(pid, %error, "the sockets of its TLS streams are not found");
            }
            (Subject::Process(pid), Err(error)) => {
                if procfs::has_live_threads(pid) {
                    tracing::warn!(pid, %error, "cannot look through the process, its TLS traffic is not seen");
                } else {
                    self.telemetry.add(Event::ProcessesUnread, 1);
                }
                self.over(pid, &[]);
            }
        }
        self.settle();
    }

    /// What a process has mapped.
    fn process(&mut self, pid: u32, found: Vec<Found>) {
        let Some(observed) = self.processes.get_mut(&pid) else { return };
        let (mapped, ended) = (observed.mapped.take(), observed.ended);
        let names: Vec<String> = found.iter().map(Found::to_string).collect();
        // With one process only what it uses is probed: nothing is kept for another.
        let lasts = |found: &Found| self.wide && self.lasting.contains(&found.file.mount);
        let stay = |found| if lasts(found) { Stay::Kept } else { Stay::WhileUsed };
        let stays: Vec<Stay> = found.iter().map(stay).collect();
        let outcomes = self.placements.seen(pid, &found, &stays, self.wide);
        let was_late = outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Known | Outcome::Refused));
        // It may have ended while its probes were placed.
        let missed = was_late && (ended || !procfs::has_live_threads(pid));
        if missed {
            self.telemetry.add(Event::ProcessesMissed, 1);
        }
        if !outcomes.contains(&Outcome::Failed(Unplaced::Busy)) {
            self.busy.remove(&pid);
        }
        for (found, outcome) in found.iter().zip(outcomes) {
            match outcome {
                Outcome::Known | Outcome::Refused => {}
                Outcome::Failed(Unplaced::Changed) => self.retry([pid]),
                Outcome::Failed(Unplaced::Busy) if !missed => self.busy(pid, found),
                // A process that is gone cannot be probed: no reason to complain of its file.
                Outcome::Failed(_) if missed => self.missed(found),
                outcome => {
                    if missed {
                        self.missed(found);
                    }
                    self.report(found, outcome, mapped.filter(|_| !missed));
                }
            }
        }
        self.over(pid, &names);
    }

    /// A look at a process is over.
    fn over(&mut self, pid: u32, names: &[String]) {
        self.narrow.remove(&pid);
        let Some(observed) = self.processes.get_mut(&pid) else { return };
        observed.looking = false;
        for answer in observed.answers.drain(..) {
            if answer.send(names.to_vec()).is_err() {
                tracing::debug!(pid, "the requester of this scan has gone");
            }
        }
        if observed.ended {
            self.forget(pid);
        } else if std::mem::take(&mut observed.again) {
            observed.looking = true;
            self.lookers.look(Subject::Process(pid));
        }
    }

    fn given_up(&mut self, late: &Late) {
        match late.subject {
            Subject::Ahead => self.ahead = false,
            Subject::Ciphertext(pid) => {
                self.binding.remove(&pid);
            }
            Subject::Process(pid) => {
                // The rest of its files, without those that do not answer.
                if let (true, Some(observed)) = (late.file, self.processes.get_mut(&pid)) {
                    observed.again = true;
                }
                self.over(pid, &[]);
            }
        }
        self.settle();
    }

    /// Says and counts what became of a file; `mapped` is when the process mapped it that it was probed for.
    fn report(&self, found: &Found, outcome: Outcome, mapped: Option<Instant>) {
        let (library, file) = (found.code.library, &found.name);
        match outcome {
            Outcome::Placed => {
                self.telemetry.add(Event::Attached, 1);
                let after = mapped.map(|mapped| mapped.elapsed());
                if let Some(after) = after {
                    self.telemetry.add(Event::ProbesLate, 1);
                    let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
                    self.telemetry.raise(Event::ProbeDelayMaxMicros, micros);
                }
                tracing::debug!(library, file, ?after, "probes placed");
            }
            Outcome::Failed(Unplaced::Refused(why)) => {
                self.telemetry.add(Event::AttachFailed, 1);
                tracing::warn!(library, file, why, "not probed, its TLS traffic is not seen");
            }
            Outcome::Failed(Unplaced::Changed | Unplaced::Busy) | Outcome::Known | Outcome::Refused => {}
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
                "a process ended before this library was probed: its TLS traffic was not seen"
            );
        }
    }

    /// Files lost their probes because of a writer; `users` have them mapped.
    fn changed(&mut self, count: usize, files: &dyn fmt::Debug, users: Vec<u32>) {
        self.telemetry.add(Event::FilesChanged, count as u64);
        tracing::warn!(
            ?files,
            processes = ?users,
            "probed libraries are written to: their probes are taken away, and come back when their functions are found \
             in the new contents"
        );
        // What no process has now is perhaps a library of the system.
        self.refresh = self.refresh.min(Instant::now() + RECHECK);
        self.retry(users);
    }

    /// A file of this process is open for writing. That can last: after some tries it is looked at in intervals.
    fn busy(&mut self, pid: u32, found: &Found) {
        if self.busy.insert(pid) {
            tracing::warn!(
                pid,
                library = found.code.library,
                file = found.name,
                "the library is open for writing and not probed until that is over: its TLS traffic is not seen"
            );
            self.retry([pid]);
        }
    }

    fn retry(&mut self, pids: impl IntoIterator<Item = u32>) {
        let at = Instant::now() + RETRY;
        let retry = self.retry.get_or_insert_with(|| Retry { at, after: RETRY, pids: HashSet::new() });
        (retry.at, retry.after) = (at, RETRY);
        retry.pids.extend(pids);
    }
}
