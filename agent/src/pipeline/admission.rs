//! Nothing of a process passes before it is accepted.
//!
//! ```text
//!              exec, or a frame of a process that nothing is known of
//!                     │
//!                     ▼        Accepted            exec, fork of an accepted process
//!               ┌───────────┐ ──────────► ┌──────────┐ ◄────┐
//!               │ undecided │             │ accepted │ ─────┘
//!               └───────────┘ ──────────► └──────────┘
//!                     │        Refused         │ Ended
//!                     ▼                        ▼
//!                 refused ── some seconds ──► unknown
//! ```
//!
//! The targets thread decides; until then frames wait. What an accepted process forks or executes is accepted at
//! once: no frame of it waits. Memory: [`MAX_WAITING`] bytes in all, [`MAX_WAITING_EACH`] for one process,
//! [`MAX_PROCESSES`] processes and [`MAX_PEERS`] addresses.

use std::{
    collections::{HashMap, hash_map::Entry as HashEntry},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokentap_abi::{Frame, Kind, STREAMS_PER_PROCESS, decode};
use tokentap_tape::{ControlEvent, ProcessKey};

use super::{FrameSink, frame};
use crate::{
    targets::{ProcessEvent, Request, Requests, peer},
    telemetry::{Event, Telemetry},
};

/// Bytes of frames that wait for a decision on one process.
const MAX_WAITING_EACH: usize = 1 << 20;
/// Bytes of frames that wait for decisions on all of them.
const MAX_WAITING: usize = 16 << 20;
/// Processes that are known at the same time.
const MAX_PROCESSES: usize = 65_536;
/// Sockets whose other end is remembered until a TLS handle is bound to them.
const MAX_PEERS: usize = 65_536;
/// An answer that does not come is asked for again after this time…
const REQUEST_RETRY: Duration = Duration::from_secs(1);
/// …and given up after this. Refused processes are forgotten after the same time: no frame of them is on its way any
/// more.
const DECISION_TIMEOUT: Duration = Duration::from_secs(10);

/// The processes whose frames come from the ring.
pub(super) struct Admission {
    processes: HashMap<u32, ProcessEntry>,
    /// Of accepted frames come many in a row: the process of the last one, whose frames pass unseen.
    passing: Option<(u32, Option<u64>)>,
    waiting: usize,
    peers: usize,
    requests: Requests,
    telemetry: Arc<Telemetry>,
}

struct ProcessEntry {
    generation: u64,
    state: AdmissionState,
    /// The other end of its sockets, until they are closed.
    peers: HashMap<u64, SocketAddr>,
    /// It used the network: what it is was asked for.
    described: bool,
}

enum AdmissionState {
    Accepted,
    Undecided(Undecided),
    Refused(Instant),
}

struct Undecided {
    /// Oldest first; a process can execute again while it is not decided.
    images: Vec<Image>,
    since: Instant,
    requested_at: Instant,
}

/// What came of one image of an undecided process.
struct Image {
    generation: u64,
    /// Its name, when it was executed.
    started_as: Option<String>,
    /// Whole frames, one behind the other.
    frames: Vec<u8>,
    /// It ended.
    ended: bool,
}

impl Admission {
    pub(super) fn new(requests: Requests, telemetry: Arc<Telemetry>) -> Self {
        let processes = HashMap::new();
        Self { processes, passing: None, waiting: 0, peers: 0, requests, telemetry }
    }

    /// Whether frames wait for a decision.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    fn is_refused(&self, pid: u32) -> bool {
        self.processes.get(&pid).is_some_and(|process| matches!(process.state, AdmissionState::Refused(_)))
    }

    /// Takes a frame off the ring; `bytes` is what it was decoded from.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, bytes: &[u8], sink: &mut impl FrameSink) {
        let pid = frame.header.tgid;
        if matches!(frame.kind, Kind::Data | Kind::Loss)
            && self.passing == Some((pid, frame::generation(frame)))
        {
            return sink.frame(frame, bytes);
        }
        match frame.kind {
            Kind::Exec => {
                let name = String::from_utf8_lossy(frame.filename().unwrap_or_default()).into_owned();
                self.executed(frame::process(frame), name, frame::is_tracked(frame), sink);
            }
            Kind::Fork => {
                if let Some(child) = frame::child(frame) {
                    self.forked(child, pid, sink);
                }
            }
            Kind::Exit => self.exited(frame::process(frame), frame::was_last_thread(frame), sink),
            // The targets thread may have accepted the process already, and its answer be on its way here.
            Kind::Map if !self.is_refused(pid) => self.requests.send(Request::Mapped(pid)),
            Kind::Unbound if !self.is_refused(pid) => self.requests.send(Request::Unbound(pid)),
            Kind::Map | Kind::Unbound => {}
            Kind::UnknownDescriptor => {
                if let Some(fd) = frame.descriptor() {
                    self.requests.send(Request::NameDescriptor(frame::process(frame), fd));
                }
            }
            Kind::OverQuota => tracing::warn!(
                pid,
                streams = STREAMS_PER_PROCESS,
                "the process has more open connections than the limit for one process: the traffic of further ones is lost, and counted"
            ),
            Kind::IoUring => tracing::warn!(
                pid,
                "the process uses io_uring: operations on registered descriptors and of a polling kernel thread are not captured; other \
                     traffic that cannot be read is counted as lost"
            ),
            Kind::Data | Kind::Loss | Kind::Open | Kind::Bind | Kind::HalfClose | Kind::Close => {
                self.stream_frame(frame, bytes, sink);
            }
        }
    }

    /// Takes what the targets thread found.
    pub(super) fn process_event(&mut self, process_event: ProcessEvent, sink: &mut impl FrameSink) {
        self.passing = None;
        match process_event {
            ProcessEvent::Accepted(key) => self.accepted(key, sink),
            ProcessEvent::Refused(key) => self.refused(key),
            ProcessEvent::Described(process) => sink.event(ControlEvent::Described(process)),
            ProcessEvent::Ended(key) => self.ended(key, sink),
        }
    }

    /// Repeats requests that were not answered, and forgets processes that have ended.
    pub(super) fn tick(&mut self, now: Instant) {
        let Self { processes, requests, telemetry, waiting, .. } = self;
        processes.retain(|pid, entry| match &mut entry.state {
            AdmissionState::Accepted => true,
            AdmissionState::Refused(since) => now.duration_since(*since) < DECISION_TIMEOUT,
            AdmissionState::Undecided(undecided) => {
                if now.duration_since(undecided.since) >= DECISION_TIMEOUT {
                    for image in undecided.images.drain(..) {
                        *waiting -= image.frames.len();
                        telemetry.add(Event::UndecidedBytes, payload_bytes(&image.frames));
                    }
                    return false;
                }
                if now.duration_since(undecided.requested_at) >= REQUEST_RETRY {
                    undecided.requested_at = now;
                    for image in &undecided.images {
                        let key = ProcessKey { pid: *pid, generation: image.generation };
                        ask(key, image.started_as.clone(), requests);
                    }
                }
                true
            }
        });
    }

    fn executed(&mut self, key: ProcessKey, name: String, tracked: bool, sink: &mut impl FrameSink) {
        self.passing = None;
        if !tracked {
            // Nothing is captured of it, so that nothing waits.
            if let Some(ProcessEntry { generation, .. }) = self.processes.get(&key.pid) {
                self.ended(ProcessKey { pid: key.pid, generation: *generation }, sink);
            }
            self.requests.send(Request::Executed { key, started_as: name, accepted: false, tracked });
            return;
        }
        match self.processes.get_mut(&key.pid) {
            Some(entry @ ProcessEntry { state: AdmissionState::Accepted, .. }) => {
                self.peers -= entry.renew(key.generation);
                sink.event(ControlEvent::Observed(key));
                self.requests.send(Request::Executed { key, started_as: name, accepted: true, tracked });
            }
            _ => self.wait_for_decision(key, Some(name)),
        }
    }

    fn forked(&mut self, child: ProcessKey, parent: u32, sink: &mut impl FrameSink) {
        self.passing = None;
        let accepted =
            matches!(self.processes.get(&parent), Some(ProcessEntry { state: AdmissionState::Accepted, .. }));
        if let Some(entry) = self.remove(child.pid)
            && matches!(entry.state, AdmissionState::Accepted)
        {
            // The end of an earlier process with this id was not seen.
            sink.event(ControlEvent::Ended(ProcessKey { pid: child.pid, generation: entry.generation }));
        }
        // The targets thread knows what became of the parent, which may not be decided here.
        self.requests.send(Request::Forked { child, parent, accepted });
        if !accepted {
            self.hold(child, None);
        } else if self.make(child, AdmissionState::Accepted) {
            sink.event(ControlEvent::Observed(child));
        }
    }

    fn exited(&mut self, key: ProcessKey, last: Option<bool>, sink: &mut impl FrameSink) {
        self.passing = None;
        if last == Some(true) {
            match self.processes.get_mut(&key.pid) {
                Some(ProcessEntry { state: AdmissionState::Undecided(undecided), .. }) => {
                    let image = undecided.images.iter_mut().find(|image| image.generation == key.generation);
                    if let Some(image) = image {
                        image.ended = true;
                    }
                }
                Some(_) => self.ended(key, sink),
                None => {}
            }
        }
        if last != Some(false) {
            self.requests.send(Request::Exited { key, last });
        }
    }

    fn ended(&mut self, key: ProcessKey, sink: &mut impl FrameSink) {
        if self.processes.get(&key.pid).is_some_and(|entry| entry.generation == key.generation)
            && let Some(ProcessEntry { state: AdmissionState::Accepted, .. }) = self.remove(key.pid)
        {
            sink.event(ControlEvent::Ended(key));
        }
    }

    fn stream_frame(&mut self, frame: &Frame<'_>, bytes: &[u8], sink: &mut impl FrameSink) {
        let pid = frame.header.tgid;
        let generation = frame::generation(frame);
        let known = self.processes.get(&pid).map(|entry| entry.generation);
        if known.is_none() || generation.is_some() && generation != known {
            // Its exec or fork was lost, and the end of what had this id before.
            if let Some(generation) = known {
                self.ended(ProcessKey { pid, generation }, sink);
            }
            self.wait_for_decision(frame::process(frame), None);
        }
        match self.processes.get_mut(&pid) {
            Some(ProcessEntry { state: AdmissionState::Accepted, .. }) => {
                self.pass(frame, bytes, sink);
                self.passing = Some((pid, generation));
            }
            Some(ProcessEntry { state: AdmissionState::Undecided(undecided), .. }) => {
                let bytes = &bytes[..frame.total_len()];
                let each: usize = undecided.images.iter().map(|image| image.frames.len()).sum();
                let fits =
                    each + bytes.len() <= MAX_WAITING_EACH && self.waiting + bytes.len() <= MAX_WAITING;
                match undecided.images.last_mut().filter(|_| fits) {
                    Some(image) => {
                        image.frames.extend_from_slice(bytes);
                        self.waiting += bytes.len();
                    }
                    None => self.telemetry.add(Event::UndecidedBytes, data_bytes(frame)),
                }
            }
            Some(ProcessEntry { state: AdmissionState::Refused(_), .. }) => {
                self.telemetry.add(Event::RefusedBytes, data_bytes(frame));
            }
            // No room: counted where room was wanted.
            None => {}
        }
    }

    /// A frame of an accepted process goes on, with what it says of the other end of its stream.
    fn pass(&mut self, frame: &Frame<'_>, bytes: &[u8], sink: &mut impl FrameSink) {
        let stream = frame.header.stream;
        let Some(entry) = self.processes.get_mut(&frame.header.tgid) else { return };
        if !std::mem::replace(&mut entry.described, true) {
            let key = ProcessKey { pid: frame.header.tgid, generation: entry.generation };
            self.requests.send(Request::Describe(key));
        }
        if frame.kind != Kind::Bind {
            sink.frame(frame, bytes);
        }
        match frame.kind {
            Kind::Open => {
                let Some(peer) = frame.open().and_then(|open| peer::of(&open)) else { return };
                sink.event(ControlEvent::Peer(stream, peer));
                if self.peers >= MAX_PEERS {
                    self.telemetry.add(Event::PeerTableFull, 1);
                } else if entry.peers.insert(stream, peer).is_none() {
                    self.peers += 1;
                }
            }
            Kind::Bind => {
                // Frames of version 1 name the socket only.
                let known = || entry.peers.get(&frame.bound()?).copied();
                if let Some(peer) = frame.open().and_then(|open| peer::of(&open)).or_else(known) {
                    sink.event(ControlEvent::Peer(stream, peer));
                }
            }
            Kind::Close => self.peers -= usize::from(entry.peers.remove(&stream).is_some()),
            _ => {}
        }
    }

    fn accepted(&mut self, key: ProcessKey, sink: &mut impl FrameSink) {
        let Some(entry) = self.processes.get_mut(&key.pid) else {
            if self.make(key, AdmissionState::Accepted) {
                sink.event(ControlEvent::Observed(key));
            }
            return;
        };
        let AdmissionState::Undecided(undecided) = &mut entry.state else {
            if matches!(entry.state, AdmissionState::Refused(_)) {
                entry.state = AdmissionState::Accepted;
                entry.generation = key.generation;
                sink.event(ControlEvent::Observed(key));
            }
            return;
        };
        let mut images = std::mem::take(&mut undecided.images);
        // Those before were decided before.
        let upto = images.iter().position(|image| image.is(key)).map_or(0, |at| at + 1);
        let later = images.split_off(upto);
        if later.is_empty() {
            entry.generation = key.generation;
        }
        // What an observed process executes is observed.
        entry.state = AdmissionState::Accepted;
        let newest = later.last().map_or(key.generation, |image| image.generation);
        for mut image in images.into_iter().chain(later) {
            let image_key =
                if image.is(key) { key } else { ProcessKey { generation: image.generation, ..key } };
            if let Some(entry) = self.processes.get_mut(&key.pid) {
                self.peers -= entry.renew(image_key.generation);
            }
            sink.event(ControlEvent::Observed(image_key));
            self.waiting -= image.frames.len();
            let frames = std::mem::take(&mut image.frames);
            let mut at = 0;
            while let Some(frame) = frames.get(at..).and_then(|rest| decode(rest).ok()) {
                let len = frame.total_len();
                self.pass(&frame, &frames[at..at + len], sink);
                at += len;
            }
            if image.ended && image_key.generation == newest {
                self.ended(image_key, sink);
            }
        }
    }

    fn refused(&mut self, key: ProcessKey) {
        let Some(entry) = self.processes.get_mut(&key.pid) else { return };
        // What is accepted stays so.
        let AdmissionState::Undecided(undecided) = &mut entry.state else { return };
        let Some(at) = undecided.images.iter().position(|image| image.is(key)) else { return };
        for image in undecided.images.drain(..=at) {
            self.waiting -= image.frames.len();
            self.telemetry.add(Event::RefusedBytes, payload_bytes(&image.frames));
        }
        if undecided.images.is_empty() {
            entry.state = AdmissionState::Refused(Instant::now());
        }
    }

    /// Asks whether this image is observed.
    fn wait_for_decision(&mut self, key: ProcessKey, started_as: Option<String>) {
        ask(key, started_as.clone(), &self.requests);
        self.hold(key, started_as);
    }

    /// What comes of this image waits until it is decided whether it is observed.
    fn hold(&mut self, key: ProcessKey, started_as: Option<String>) {
        self.passing = None;
        let now = Instant::now();
        let image = Image { generation: key.generation, started_as, frames: Vec::new(), ended: false };
        if let Some(entry) = self.processes.get_mut(&key.pid) {
            self.peers -= entry.renew(key.generation);
            match &mut entry.state {
                AdmissionState::Undecided(undecided) => undecided.images.push(image),
                state => {
                    *state = AdmissionState::Undecided(Undecided {
                        images: vec![image],
                        since: now,
                        requested_at: now,
                    })
                }
            }
        } else {
            let undecided = Undecided { images: vec![image], since: now, requested_at: now };
            self.make(key, AdmissionState::Undecided(undecided));
        }
    }

    /// Adds a process; false when there is no room, which is counted.
    fn make(&mut self, key: ProcessKey, state: AdmissionState) -> bool {
        if self.processes.len() >= MAX_PROCESSES {
            self.telemetry.add(Event::ProcessTableFull, 1);
            return false;
        }
        match self.processes.entry(key.pid) {
            HashEntry::Occupied(_) => false,
            HashEntry::Vacant(vacant) => {
                let peers = HashMap::new();
                vacant.insert(ProcessEntry { generation: key.generation, state, peers, described: false });
                true
            }
        }
    }

    fn remove(&mut self, pid: u32) -> Option<ProcessEntry> {
        let entry = self.processes.remove(&pid)?;
        self.peers -= entry.peers.len();
        if let AdmissionState::Undecided(undecided) = &entry.state {
            for image in &undecided.images {
                self.waiting -= image.frames.len();
                self.telemetry.add(Event::UndecidedBytes, payload_bytes(&image.frames));
            }
        }
        Some(entry)
    }
}

impl ProcessEntry {
    /// Another image: it has other streams. How many addresses were forgotten with the old ones.
    fn renew(&mut self, generation: u64) -> usize {
        self.generation = generation;
        self.described = false;
        std::mem::take(&mut self.peers).len()
    }
}

impl Image {
    /// Whether it is this one; one whose generation is not known is any.
    const fn is(&self, key: ProcessKey) -> bool {
        self.generation == key.generation || self.generation == 0
    }
}

fn ask(key: ProcessKey, started_as: Option<String>, requests: &Requests) {
    requests.send(match started_as {
        Some(started_as) => Request::Executed { key, started_as, accepted: false, tracked: true },
        None => Request::Unknown(key),
    });
}

/// Bytes of streams among waiting frames.
fn payload_bytes(frames: &[u8]) -> u64 {
    let mut at = 0;
    let mut bytes = 0;
    while let Some(frame) = frames.get(at..).and_then(|rest| decode(rest).ok()) {
        at += frame.total_len();
        bytes += data_bytes(&frame);
    }
    bytes
}

/// Bytes of a stream that a frame carries.
const fn data_bytes(frame: &Frame<'_>) -> u64 {
    match frame.kind {
        Kind::Data => frame.payload.len() as u64,
        _ => 0,
    }
}
