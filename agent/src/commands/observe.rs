//! Observing processes, from the first probe to the last frame: what `run` and `record` have in common.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::time::Timespec;
use tokentap_tape::Process;

use super::outcome::{LAST_MOMENT, drain_deadline};
use crate::{
    config::Select,
    kernel::{self, KernelMaps, LoadOptions},
    pipeline::{
        FrameSink,
        capture::{Capture, StopBy},
        clock::Clock,
    },
    privileges::{self, Thread},
    signals::Signals,
    targets::{
        self, Inbox, KernelSide as _, Proc, Request, Requests, Selector, Started, Tracker,
        attributes::Describer, prober::Prober,
    },
    telemetry::{Event, Telemetry},
    threads::{NotJoined, join_until},
};

/// Interval of the check whether anything is left to observe; a signal ends the wait.
const IDLE_CHECK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// Interval of the check for a signal during the start.
const START_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// What it takes to observe processes.
pub(super) struct Observation<'a> {
    select: &'a Select,
    telemetry: &'a Arc<Telemetry>,
    pub(super) clock: Clock,
    pub(super) describer: Arc<Describer>,
    pub(super) requests: Requests,
    inbox: Inbox,
}

impl<'a> Observation<'a> {
    pub(super) fn new(select: &'a Select, telemetry: &'a Arc<Telemetry>) -> Self {
        let (requests, inbox) = targets::requests(telemetry);
        let describer = Arc::new(Describer::of_this_host(select.service_name.clone()));
        Self { select, telemetry, clock: Clock::live(), describer, requests, inbox }
    }

    /// Attaches, observes until a signal or until nothing is left to observe, ends the capture, and reads the ring
    /// until it is empty. All that happens after the signal is over by the deadline.
    pub(super) fn until_signal<S: FrameSink + Send + 'static>(
        self,
        sink: S,
        drain_timeout: Duration,
    ) -> anyhow::Result<Drained<S>> {
        let Self { select, telemetry, clock, describer, requests, inbox } = self;
        let Select { pids, exes, all, follow, ring_size, .. } = select;
        let selector = Selector::new(pids.clone(), exes.clone(), *all, *follow);
        let signals = Signals::install()?;
        let options = LoadOptions {
            ring_bytes: ring_size.bytes(),
            all: *all,
            globs: exes.iter().map(|glob| glob.as_str().to_owned()).collect(),
            follow: *follow,
            cgroups: false,
        };
        let mut kernel = kernel::load(&options)?;
        kernel.attacher.attach_tracepoints()?;
        let (prober, probes) = Prober::start(
            kernel.attacher,
            &selector,
            selector.selects_future_processes(),
            Arc::clone(telemetry),
        )?;
        let idle = Arc::new(AtomicBool::new(false));
        let has_rules = selector.has_rules();
        let (event_sender, process_events) = channel();
        let tracker = Tracker {
            selector,
            kernel: kernel.maps,
            probes: prober.clone(),
            source: Arc::new(Proc),
            describer,
            process_events: event_sender,
            telemetry: Arc::clone(telemetry),
            idle: Arc::clone(&idle),
        };
        let asked = requests.clone();
        let targets = Thread::named("targets")
            .keeping(kernel::inspecting())
            .spawn(move || tracker.run(&inbox, &asked))?;
        let capture = Capture {
            ring: kernel.ring,
            sink,
            process_events,
            requests: requests.clone(),
            telemetry: Arc::clone(telemetry),
        };
        let stop_by = StopBy::default();
        let stopping = Arc::clone(&stop_by);
        let reader = Thread::named("ring").spawn(move || capture.run(&stopping))?;
        let threads = Threads { targets, reader, stop_by, requests, prober };
        let started = threads.start(&signals)?;
        for why in &started.refused {
            tracing::warn!("{why}");
        }
        if started.keys.is_empty() && !has_rules && !signals.received() {
            threads.prober.stop();
            bail!(
                "none of the processes named with --pid can be observed; name others, or select processes with --exe or --all"
            );
        }
        threads.place_first_probes(&started, *follow, &signals);
        privileges::give_up().context("cannot give up capabilities")?;
        telemetry.health().set_observing(true);
        tracing::info!(processes = started.keys.len(), "ready");
        while !signals.received() && !idle.load(Ordering::Acquire) && !threads.reader.is_finished() {
            clock.adjust();
            // Unlike the standard library's, this one does not go on after a signal.
            let _rest = rustix::thread::nanosleep(&IDLE_CHECK_INTERVAL);
        }
        let deadline = drain_deadline(drain_timeout);
        if idle.load(Ordering::Acquire) {
            tracing::info!("all observed processes have ended");
        }
        telemetry.health().set_observing(false);
        tracing::info!("detaching and draining");
        let sink = threads.stop(deadline, telemetry)?;
        Ok(Drained { sink, deadline, probes })
    }
}

/// The threads between the kernel and the sink.
struct Threads<S> {
    targets: JoinHandle<KernelMaps>,
    reader: JoinHandle<S>,
    stop_by: StopBy,
    requests: Requests,
    prober: Prober,
}

impl<S> Threads<S> {
    /// Observes the processes that are selected and exist now.
    fn start(&self, signals: &Signals) -> anyhow::Result<Started> {
        let (answer, answered) = channel();
        self.requests.send(Request::Start(answer));
        loop {
            match answered.recv_timeout(START_CHECK_INTERVAL) {
                Ok(started) => return Ok(started),
                Err(RecvTimeoutError::Timeout) if signals.received() => return Ok(Started::default()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the targets thread failed"),
            }
        }
    }

    /// Waits until the processes that exist are probed, and logs what was found in each.
    fn place_first_probes(&self, started: &Started, follow: bool, signals: &Signals) {
        let mut has_launchers = false;
        for key in &started.keys {
            if signals.received() {
                return;
            }
            let found = self.prober.scan_now(key.pid);
            let process = started.described.iter().find(|process| process.key == *key);
            report_observed(key.pid, process.map(|process| &**process), &found);
            has_launchers |= found.is_empty();
        }
        if has_launchers && follow {
            // A process without TLS code of its own (a shell, a supervisor) makes its calls through children.
            self.prober.probe_host_wide_now();
        }
    }

    /// Ends the capture, and reads the ring until it is empty; `None` when that did not end in time.
    fn stop(self, deadline: Instant, telemetry: &Telemetry) -> anyhow::Result<Option<S>> {
        let Self { targets, reader, stop_by, requests, prober } = self;
        // The capture ends at once; the probes are removed while what was captured is delivered, because the kernel needs
        // 10 to 100 ms for each of them.
        requests.send(Request::Quiesce);
        prober.stop();
        // Set once, here.
        let _first = stop_by.set(deadline);
        let sink = match join_until(reader, deadline) {
            Err(NotJoined::Failed) => bail!("the thread that reads the ring failed"),
            joined => abandoned("the thread that reads the ring", joined, telemetry),
        };
        requests.send(Request::Stop);
        let last_moment = deadline.max(Instant::now() + LAST_MOMENT);
        if let Some(maps) = abandoned("the targets thread", join_until(targets, last_moment), telemetry) {
            telemetry.set_kernel(&maps.counters());
        }
        Ok(sink)
    }
}

/// The result of a thread; when there is none, that is logged and counted.
fn abandoned<T>(name: &str, joined: Result<T, NotJoined>, telemetry: &Telemetry) -> Option<T> {
    joined
        .inspect_err(|why| {
            telemetry.add(Event::AbandonedThreads, 1);
            tracing::error!("{name} {why}");
        })
        .ok()
}

/// What is left when nothing is observed any more.
pub(super) struct Drained<S> {
    /// Absent when the ring was not read to its end in time.
    pub(super) sink: Option<S>,
    /// The moment by which all must be over.
    pub(super) deadline: Instant,
    pub(super) probes: JoinHandle<()>,
}

/// Waits until the probes are gone. What is left at the deadline the kernel takes away when the process ends.
pub(super) fn wait_for_probes(probes: JoinHandle<()>, deadline: Instant, telemetry: &Telemetry) {
    let last_moment = deadline.max(Instant::now() + LAST_MOMENT);
    abandoned("the prober", join_until(probes, last_moment), telemetry);
}

fn report_observed(pid: u32, process: Option<&Process>, found: &[String]) {
    let name = process.and_then(|process| process.resource.service_name()).unwrap_or_default();
    if found.is_empty() {
        tracing::info!(
            pid,
            name,
            "observed: plain HTTP only, as no known TLS library is loaded yet; TLS traffic is captured once one is loaded"
        );
    } else {
        tracing::info!(pid, name, tls = found.join(", "), "observed");
    }
}
