//! The thread that owns the ring: frames to the pipeline or to a tape, process events to discovery.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use tokentap_abi::{COUNTERS, Counter, Frame, Kind, Tracked, Verdict, decode};

use crate::{
    kernel::{KernelMaps, Ring},
    pipeline::clock::Clock,
    pipeline::{Note, Pipeline},
    tape::Recorder,
    targets::prober::Prober,
    targets::{Change, Discovery, peer},
    telemetry::{Event, Telemetry},
};

/// Frames taken before batches are handed on and events are looked at.
const TURN: usize = 1024;
/// How often counters are read and the clock is compared.
const TICK: Duration = Duration::from_secs(1);
/// How often processes are checked whose end was not told.
const CHECK: Duration = Duration::from_secs(10);
/// Sockets whose other end is remembered until a TLS handle is bound to them.
const MAX_PEERS: usize = 65536;

/// Where frames go.
pub enum Target {
    /// Into spans.
    Pipeline(Pipeline),
    /// Onto a tape.
    Tape(Recorder),
}

impl Target {
    fn frame(&mut self, frame: &Frame<'_>, bytes: &[u8]) {
        match self {
            Self::Pipeline(pipeline) => pipeline.frame(frame, bytes),
            Self::Tape(recorder) => recorder.frame(frame),
        }
    }

    /// Takes a note.
    pub fn note(&mut self, note: Note) {
        match self {
            Self::Pipeline(pipeline) => pipeline.note(note),
            Self::Tape(recorder) => recorder.note(&note),
        }
    }

    /// Hands on what was taken.
    pub fn flush(&mut self) {
        match self {
            Self::Pipeline(pipeline) => pipeline.flush(),
            Self::Tape(recorder) => recorder.flush(),
        }
    }
}

/// Everything that the thread owns.
pub struct Capture {
    /// Frames come from here.
    pub ring: Ring,
    /// The kernel side's maps.
    pub maps: KernelMaps,
    /// Which processes.
    pub discovery: Discovery,
    /// Places probes.
    pub prober: Prober,
    /// Frames go here.
    pub target: Target,
    /// Decisions of the workers about streams.
    pub verdicts: Receiver<(u64, Verdict)>,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// Kept in step with the wall clock.
    pub clock: Clock,
    /// Set when nothing is left to observe and nothing can turn up.
    pub idle: Arc<AtomicBool>,
}

impl Capture {
    /// Runs until `stop` is set, then ends the capture and reads the ring until it is empty.
    pub fn run(mut self, stop: &AtomicBool) -> Target {
        let mut events = Events { peers: HashMap::new() };
        let (mut tick, mut check) = (Instant::now(), Instant::now());
        let mut stopping = false;
        loop {
            if !stopping && stop.load(Ordering::Acquire) {
                stopping = true;
                self.maps.untrack_all();
            }
            let Self { ring, maps, discovery, prober, target, telemetry, .. } = &mut self;
            let frames = ring.drain(TURN, |record| match decode(record) {
                Ok(frame) => {
                    let mut hands =
                        Hands { maps: &mut *maps, discovery: &mut *discovery, prober, target: &mut *target };
                    events.take(&frame, record, &mut hands);
                }
                Err(error) => {
                    telemetry.add(Event::FramesMalformed, 1);
                    tracing::debug!(%error, "frame dropped");
                }
            });
            telemetry.add(Event::FramesRead, frames as u64);
            self.target.flush();
            self.decide();
            if frames == 0 && stopping {
                break;
            }
            if tick.elapsed() >= TICK {
                tick = Instant::now();
                self.count();
                self.clock.adjust();
                self.idle.store(!self.discovery.can_see_more(), Ordering::Release);
            }
            if check.elapsed() >= CHECK {
                check = Instant::now();
                for change in self.discovery.vanished(&mut self.maps) {
                    apply(change, &self.prober, &mut self.target);
                }
            }
            if frames == 0 {
                self.ring.wait();
            }
        }
        self.count();
        self.target
    }

    fn decide(&mut self) {
        for (stream, verdict) in self.verdicts.try_iter() {
            if let Err(error) = self.maps.decide(stream, verdict) {
                tracing::debug!(stream, %error, "decision not passed on");
            }
        }
    }

    fn count(&self) {
        let totals: [u64; COUNTERS as usize] =
            std::array::from_fn(|index| self.maps.counter(Counter::ALL[index].0));
        self.telemetry.set_kernel(&totals);
    }
}

/// What handling an event needs.
struct Hands<'a> {
    maps: &'a mut KernelMaps,
    discovery: &'a mut Discovery,
    prober: &'a Prober,
    target: &'a mut Target,
}

/// Remembers what later events refer to.
struct Events {
    /// The other end of sockets, until they are closed.
    peers: HashMap<u64, SocketAddr>,
}

impl Events {
    fn take(&mut self, frame: &Frame<'_>, bytes: &[u8], hands: &mut Hands<'_>) {
        let header = &frame.header;
        let pid = header.tgid;
        let tracked = Tracked { generation: header.stream, ..Tracked::default() };
        match frame.kind {
            Kind::Data | Kind::Loss | Kind::HalfClose => hands.target.frame(frame, bytes),
            Kind::Open => {
                hands.target.frame(frame, bytes);
                if let Some(peer) = frame.open().and_then(|open| peer::of(pid, &open)) {
                    hands.target.note(Note::Peer(header.stream, peer));
                    if self.peers.len() < MAX_PEERS {
                        self.peers.insert(header.stream, peer);
                    }
                }
            }
            Kind::Bind => {
                let known = frame.bound().and_then(|socket| self.peers.get(&socket).copied());
                if let Some(peer) = frame.open().and_then(|open| peer::of(pid, &open)).or(known) {
                    hands.target.note(Note::Peer(header.stream, peer));
                }
            }
            Kind::Close => {
                self.peers.remove(&header.stream);
                hands.target.frame(frame, bytes);
            }
            Kind::Exec => {
                let name = frame.filename().unwrap_or_default();
                let change = hands.discovery.executed(
                    pid,
                    tracked,
                    frame.has(tokentap_abi::flags::UNTRACKED),
                    name,
                    hands.maps,
                );
                apply(change, hands.prober, hands.target);
            }
            Kind::Fork => {
                if let Some(child) = frame.child() {
                    hands.prober.widen();
                    let change = hands.discovery.forked(child, tracked, hands.maps);
                    apply(change, hands.prober, hands.target);
                }
            }
            Kind::Exit => {
                if let Some(change) = hands.discovery.ended(pid, hands.maps) {
                    apply(change, hands.prober, hands.target);
                }
            }
            Kind::OverQuota | Kind::IoUring | Kind::UnknownDescriptor => {}
            Kind::Map => {
                // Not those of processes that are only watched until their rule is looked up.
                if hands.discovery.observes(pid) {
                    hands.prober.scan(pid);
                }
            }
        }
    }
}

fn apply(change: Change, prober: &Prober, target: &mut Target) {
    match change {
        Change::Observed(process) => {
            prober.scan(process.pid);
            target.note(Note::Observed(process));
        }
        Change::Refused(pid) => target.note(Note::Ended(pid)),
        Change::Ended(pid) => {
            prober.forget(pid);
            target.note(Note::Ended(pid));
        }
    }
}
