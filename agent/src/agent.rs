//! The life of the agent: start, watch, drain.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::time::Timespec;
use tokentap_wire::Nanos;

use crate::{
    config::{Action, Config, Select},
    export::{self, DrainReport},
    kernel::{self, LoadOptions},
    pipeline::capture::{Capture, Target},
    pipeline::clock::Clock,
    pipeline::worker::{Context, Worker},
    pipeline::{Note, Pipeline, Pressure},
    signals::Signals,
    tape::{Recorder, TapeReader},
    targets::prober::Prober,
    targets::{Discovery, Process, Selector},
    telemetry::{Event, Telemetry},
};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was seen was delivered.
    Complete,
    /// Something was lost; it was said how much.
    Lossy,
}

/// How long the probes are waited for at the end.
const DETACH: Duration = Duration::from_millis(500);

/// How often it is looked whether anything is left to watch; a signal ends the wait.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// Does what the configuration says, until it is done or a signal comes.
///
/// # Errors
/// When it cannot: the message says what is missing and how to mend it.
pub fn run(config: Config) -> anyhow::Result<Outcome> {
    match config.action {
        Action::Run { select, calls, stale_after, export, drain_timeout } => {
            // Before the first thread: a mount namespace belongs to a thread.
            kernel::check()?;
            let telemetry = Telemetry::new();
            let handle = export::start(&export, &telemetry)?;
            let clock = Clock::live();
            let (verdicts, decisions) = channel();
            let context = Context {
                options: Arc::new(calls),
                stale_after: nanos(stale_after),
                export: handle.clone(),
                telemetry: Arc::clone(&telemetry),
                clock: clock.clone(),
                verdicts: Some(verdicts),
            };
            let pipeline =
                Pipeline::start(workers(), Pressure::Drop, &telemetry, || Worker::new(context.clone()))?;
            let watch = Watch { select: &select, telemetry: &telemetry, clock };
            let watched = watch.until_signal(Target::Pipeline(pipeline), decisions, drain_timeout)?;
            if let Target::Pipeline(pipeline) = watched.target {
                pipeline.stop();
            }
            let report = handle.drain(watched.deadline);
            detached(watched.probes);
            Ok(conclude(&telemetry, Some(&report)))
        }
        Action::Record { select, out, with_content } => {
            kernel::check()?;
            let telemetry = Telemetry::new();
            let clock = Clock::live();
            let recorder = Recorder::create(&out, with_content, &clock, &telemetry)
                .with_context(|| format!("cannot write {}", out.display()))?;
            let (_verdicts, decisions) = channel();
            let watch = Watch { select: &select, telemetry: &telemetry, clock };
            let watched = watch.until_signal(Target::Tape(recorder), decisions, Duration::ZERO)?;
            if let Target::Tape(recorder) = watched.target {
                recorder.finish().with_context(|| format!("cannot write {}", out.display()))?;
            }
            detached(watched.probes);
            Ok(conclude(&telemetry, None))
        }
        Action::Replay { tape, calls, stale_after, export, drain_timeout } => {
            let telemetry = Telemetry::new();
            let reader =
                TapeReader::open(&tape).with_context(|| format!("cannot read {}", tape.display()))?;
            let handle = export::start(&export, &telemetry)?;
            let context = Context {
                options: Arc::new(calls),
                stale_after: nanos(stale_after),
                export: handle.clone(),
                telemetry: Arc::clone(&telemetry),
                clock: Clock::recorded(reader.boot_unix_nanos()),
                verdicts: None,
            };
            replay(reader, &context)?;
            let report = handle.drain(Instant::now() + drain_timeout);
            Ok(conclude(&telemetry, Some(&report)))
        }
    }
}

/// More workers than this would wait for each other's memory.
const MAX_WORKERS: usize = 4;

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2).min(MAX_WORKERS))
}

/// A tape through the same path as live traffic; one worker, so that equal tapes give equal output.
fn replay(mut reader: TapeReader, context: &Context) -> anyhow::Result<()> {
    let telemetry = &context.telemetry;
    let mut pipeline = Pipeline::start(1, Pressure::Wait, telemetry, || Worker::new(context.clone()))?;
    reader.play(&mut pipeline, telemetry)?;
    pipeline.stop();
    Ok(())
}

fn nanos(time: Duration) -> Nanos {
    Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

struct Watch<'a> {
    select: &'a Select,
    telemetry: &'a Arc<Telemetry>,
    clock: Clock,
}

impl Watch<'_> {
    /// Attaches, watches until a signal or until nothing is left to watch, ends the capture, and reads the ring
    /// until it is empty.
    fn until_signal(
        self,
        mut target: Target,
        decisions: std::sync::mpsc::Receiver<(u64, tokentap_abi::Verdict)>,
        drain_timeout: Duration,
    ) -> anyhow::Result<Watched> {
        let Select { pids, exes, all, follow, ring_size, service_name } = self.select;
        let selector = Selector::new(pids.clone(), exes.clone(), *all, *follow);
        let signals = Signals::install()?;
        let options = LoadOptions { ring_bytes: ring_size.bytes(), adopt: selector.has_rules() };
        let mut kernel = kernel::load(options)?;
        kernel.attacher.attach_tracepoints()?;
        let (prober, probes) =
            Prober::start(kernel.attacher, &selector, selector.wants_unborn(), Arc::clone(self.telemetry))?;
        let mut maps = kernel.maps;
        let mut discovery = Discovery::new(selector, service_name.clone());
        let (started, refused) = discovery.start(&mut maps);
        for why in &refused {
            tracing::warn!("{why}");
        }
        if !discovery.can_see_more() {
            prober.stop();
            bail!("none of the processes can be observed, and no other can turn up");
        }
        let mut launchers = false;
        for process in &started {
            let found = prober.scan_now(process.pid);
            tell(process, &found);
            launchers |= found.is_empty();
            target.note(Note::Observed(Arc::clone(process)));
        }
        if launchers && *follow {
            // A process without TLS code of its own (a shell, a supervisor) makes its calls through children.
            prober.widen_now();
        }
        target.flush();
        let stop = Arc::new(AtomicBool::new(false));
        let idle = Arc::new(AtomicBool::new(false));
        let capture = Capture {
            ring: kernel.ring,
            maps,
            discovery,
            prober: prober.clone(),
            target,
            verdicts: decisions,
            telemetry: Arc::clone(self.telemetry),
            clock: self.clock,
            idle: Arc::clone(&idle),
        };
        let stopping = Arc::clone(&stop);
        let reader = std::thread::Builder::new().name("ring".into()).spawn(move || capture.run(&stopping))?;
        tracing::info!(processes = started.len(), "ready");
        while !signals.received() && !idle.load(Ordering::Acquire) && !reader.is_finished() {
            // Unlike the standard library's, this one does not go on after a signal.
            let _rest = rustix::thread::nanosleep(&LOOK);
        }
        let deadline = Instant::now() + drain_timeout;
        if idle.load(Ordering::Acquire) {
            tracing::info!("every observed process has ended");
        }
        tracing::info!("detaching and draining");
        // The capture ends at once, the probes go while what was captured is delivered: the kernel takes its
        // time for each of them.
        stop.store(true, Ordering::Release);
        prober.stop();
        let Ok(target) = reader.join() else { bail!("the thread that reads the ring failed") };
        Ok(Watched { target, deadline, probes })
    }
}

/// What is left when watching is over.
struct Watched {
    target: Target,
    /// The moment by which all must be over.
    deadline: Instant,
    probes: JoinHandle<()>,
}

/// Waits until the probes are gone, but not for a target's files that do not answer: the kernel takes away what is
/// left when the process ends.
fn detached(probes: JoinHandle<()>) {
    let deadline = Instant::now() + DETACH;
    while !probes.is_finished() {
        if Instant::now() >= deadline {
            tracing::debug!("ends before every probe is taken away");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if probes.join().is_err() {
        tracing::error!("the prober ended early");
    }
}

fn tell(process: &Process, found: &[String]) {
    let name = process.resource.service_name().unwrap_or_default();
    let pid = process.pid;
    if found.is_empty() {
        tracing::info!(
            pid,
            name,
            "observed; no TLS library that is known is loaded yet, plain HTTP is seen (TLS is when it is loaded)"
        );
    } else {
        tracing::info!(pid, name, tls = found.join(", "), "observed");
    }
}

/// Says what was delivered and what was lost.
fn conclude(telemetry: &Telemetry, report: Option<&DrainReport>) -> Outcome {
    let snapshot = telemetry.snapshot();
    let losses = snapshot.losses();
    let lost_spans = report.map_or(0, DrainReport::lost);
    tracing::info!(
        calls = telemetry.count(Event::Calls),
        incomplete = telemetry.count(Event::CallsIncomplete),
        counters = %snapshot.to_json(),
        "done"
    );
    if losses.is_empty() && lost_spans == 0 {
        return Outcome::Complete;
    }
    let list: Vec<String> = losses.iter().map(|(name, n)| format!("{name}={n}")).collect();
    tracing::warn!("not everything was delivered: {}", list.join(", "));
    Outcome::Lossy
}
