//! A worker: owns streams, makes spans of them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use tokentap_abi::{Direction, Frame, HEAD_BYTES, Kind, Verdict, decode, flags};
use tokentap_export::{ExportHandle, Link, Record};
use tokentap_genai::{Calls, Options, Transport};
use tokentap_tape::{ControlEvent, ProcessKey};
use tokentap_wire::{Connection, Ending, Limits, Nanos, Protocol};

use crate::{
    pipeline::{
        batch::{Batch, WorkerMessage},
        clock::Clock,
        frame,
        links::Links,
        processes::{Processes, Ready},
        sweep::SweepQueue,
    },
    targets::{Request, Requests, attributes::Describer},
    telemetry::{ByReason, Event, Telemetry},
};

/// How often the clock is looked at while nothing comes and streams may become stale.
const SWEEP: Duration = Duration::from_secs(1);
/// The same while spans wait for the description of their process.
const DESCRIBE: Duration = Duration::from_millis(250);
/// Most streams that are checked for stale exchanges before frames are taken again.
const SWEPT_AT_ONCE: usize = 256;
/// Streams that one worker follows.
const MAX_STREAMS: usize = 65536;

/// What a worker needs besides its streams.
#[derive(Clone)]
pub struct Context {
    /// Which exchanges are calls.
    pub options: Arc<Options>,
    /// Exchanges without a byte for this long are given up, as incomplete.
    pub stale_after: Nanos,
    /// Where finished calls go.
    pub export: ExportHandle,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// Which calls gave which ids.
    pub links: Arc<Links>,
    /// Boot time to wall clock.
    pub clock: Clock,
    /// Makes resources of processes that are not described in time.
    pub describer: Arc<Describer>,
    /// Takes decisions about streams, for the kernel side; absent when there is none (replay).
    pub requests: Option<Requests>,
}

/// Streams of one shard and what is needed to make spans of them.
pub struct Worker {
    context: Context,
    processes: Processes,
    /// Boxed: a table that grows holds its entries twice for a moment, and a stream has more than a kilobyte.
    streams: HashMap<u64, Box<Stream>>,
    sweeps: SweepQueue,
    /// The latest time of a frame.
    latest: Nanos,
}

struct Stream {
    process: ProcessKey,
    connection: Connection,
    calls: Calls,
    /// End of what was delivered, per direction.
    seen: [u64; 2],
    verdict: Verdict,
    /// Where the responses were when the last call was seen.
    called: u64,
    /// When something moved last.
    moved: Nanos,
    /// The second in which it is swept, while it has to be.
    due: Option<u64>,
}

/// Only the heads of responses are copied where this many exchanges in a row were no calls…
const OTHERS: u64 = 8;
/// …and their responses have this many bytes on average: the copies of smaller ones cost less than what it
/// takes not to make them.
const LARGE: u64 = 4 * HEAD_BYTES;

impl Stream {
    /// What is worth copying from now on. Requests always are, and what answers one that may be a call.
    fn decide_verdict(&mut self) -> Verdict {
        if self.connection.protocol() == Protocol::NotHttp {
            return Verdict::Ignore;
        }
        // Turns of direction show where HTTP/1 heads begin; HTTP/2 has none.
        let Some(responses) = self.connection.responses() else { return Verdict::All };
        let others = self.calls.traffic().others_in_a_row;
        let passed = self.seen[responses.index()];
        if others == 0 {
            self.called = passed;
            return Verdict::All;
        }
        if others >= OTHERS && passed.saturating_sub(self.called) / others >= LARGE {
            return Verdict::heads(responses);
        }
        self.verdict
    }
}

impl Worker {
    /// A worker without streams.
    #[must_use]
    pub fn new(context: Context) -> Self {
        let processes = Processes::new(Arc::clone(&context.describer));
        let sweeps = SweepQueue::new(context.stale_after);
        Self { context, processes, streams: HashMap::new(), sweeps, latest: Nanos(0) }
    }

    /// Works until [`WorkerMessage::Stop`].
    pub fn run(mut self, inbox: &Receiver<WorkerMessage>, recycle: &SyncSender<Batch>) {
        let mut more_due = false;
        loop {
            let received = match self.patience(more_due) {
                Some(patience) => inbox.recv_timeout(patience),
                None => inbox.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
            };
            let now = match received {
                Ok(WorkerMessage::Batch(mut batch)) => {
                    self.batch(&batch);
                    batch.clear();
                    // The pool is full: this one is not needed.
                    drop(recycle.try_send(batch));
                    // More may be waiting: the clock would be ahead of what was seen.
                    self.latest
                }
                Err(RecvTimeoutError::Timeout) => self.now(),
                Ok(WorkerMessage::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            };
            more_due = self.time_passed(now);
        }
        let at = self.now();
        for (_, stream) in std::mem::take(&mut self.streams) {
            self.end(*stream, Ending::AgentStop, at);
        }
        while let Some(ready) = self.processes.oldest() {
            export(&self.context, ready);
        }
    }

    /// How long a batch is waited for; for ever when only a batch can bring something to do.
    fn patience(&self, more_due: bool) -> Option<Duration> {
        if more_due {
            Some(Duration::ZERO)
        } else if self.processes.has_waiting() {
            Some(DESCRIBE)
        } else {
            (!self.sweeps.is_empty()).then_some(SWEEP)
        }
    }

    /// Looks for what is over because nothing more came, some streams at a time; whether there are more.
    fn time_passed(&mut self, now: Nanos) -> bool {
        while let Some(ready) = self.processes.overdue(now) {
            export(&self.context, ready);
        }
        for _ in 0..SWEPT_AT_ONCE {
            let Some(id) = self.sweeps.take_due(now) else { return false };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.connection.sweep(now, self.context.stale_after, &mut stream.calls);
            take_spans(&self.context, &mut self.processes, stream, now);
            let quiet = self.sweeps.is_quiet(stream.moved, now);
            stream.due = (!quiet).then(|| self.sweeps.add(id, now));
        }
        true
    }

    fn batch(&mut self, batch: &Batch) {
        let mut events = batch.events.iter().peekable();
        let mut at = 0;
        loop {
            while let Some((_, event)) = events.next_if(|(before, _)| *before <= at) {
                self.event(event);
            }
            let Some(frame) = batch.frames.get(at..).and_then(|rest| decode(rest).ok()) else { break };
            at += frame.total_len();
            self.frame(&frame);
        }
        for (_, event) in events {
            self.event(event);
        }
    }

    fn event(&mut self, event: &ControlEvent) {
        match event {
            ControlEvent::Observed(key) => {
                if let Some(before) = self.processes.observe(*key) {
                    self.end_streams(before, Ending::Cut);
                    if before != *key {
                        self.processes.end(before);
                    }
                }
            }
            ControlEvent::Described(process) => {
                for ready in self.processes.describe(process) {
                    export(&self.context, ready);
                }
            }
            ControlEvent::Ended(key) => {
                self.end_streams(*key, Ending::ProcessExit);
                self.processes.end(*key);
            }
            ControlEvent::Peer(id, peer) => {
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.calls.set_peer(*peer);
                }
            }
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let header = &frame.header;
        let at = Nanos(header.time);
        self.latest = self.latest.max(at);
        match frame.kind {
            Kind::Open => {
                self.stream(frame);
            }
            Kind::Data | Kind::Loss => self.bytes(frame, at),
            Kind::HalfClose => {
                if let Some(stream) = self.streams.get_mut(&header.stream) {
                    stream.connection.half_close(frame.dir, at, &mut stream.calls);
                    take_spans(&self.context, &mut self.processes, stream, at);
                }
            }
            Kind::Close => {
                if let Some(mut stream) = self.remove(header.stream) {
                    // What was lost at the very end shows only here.
                    let ends = frame.close().map_or(stream.seen, |close| close.offsets);
                    for dir in Direction::ALL {
                        let (seen, end) = (stream.seen[dir.index()], ends[dir.index()]);
                        if end > seen {
                            stream.connection.lost(dir, seen, end - seen, at, &mut stream.calls);
                        }
                    }
                    let ending = if frame.has(flags::LEFT) { Ending::ClosedLocally } else { Ending::Cut };
                    self.end(stream, ending, at);
                }
            }
            Kind::Bind
            | Kind::Exec
            | Kind::Fork
            | Kind::Exit
            | Kind::Map
            | Kind::UnknownDescriptor
            | Kind::OverQuota
            | Kind::IoUring
            | Kind::Unbound => {}
        }
    }

    fn bytes(&mut self, frame: &Frame<'_>, at: Nanos) {
        let header = &frame.header;
        let Some(stream) = self.stream(frame) else {
            if frame.kind == Kind::Data {
                self.context.telemetry.add(Event::UnknownProcessBytes, u64::from(header.len));
            }
            return;
        };
        stream.moved = stream.moved.max(at);
        let end = header.offset.saturating_add(u64::from(header.orig.max(header.len)));
        stream.seen[frame.dir.index()] = end;
        if stream.verdict == Verdict::Ignore {
            return;
        }
        stream.connection.set_turns(frame.turns());
        if frame.kind == Kind::Data {
            stream.connection.data(frame.dir, header.offset, frame.payload, at, &mut stream.calls);
        } else {
            let len = u64::from(header.orig);
            stream.connection.lost(frame.dir, header.offset, len, at, &mut stream.calls);
        }
        let verdict = stream.decide_verdict();
        let changed = std::mem::replace(&mut stream.verdict, verdict) != verdict;
        let id = header.stream;
        if let Some(stream) = self.streams.get_mut(&id) {
            if stream.due.is_none() {
                stream.due = Some(self.sweeps.add(id, at));
            }
            take_spans(&self.context, &mut self.processes, stream, at);
        }
        if changed && let Some(requests) = &self.context.requests {
            requests.send(Request::Copy(id, verdict));
        }
    }

    /// The stream of a frame, made when it is new. `None` when its process is not observed.
    fn stream(&mut self, frame: &Frame<'_>) -> Option<&mut Stream> {
        let id = frame.header.stream;
        if !self.streams.contains_key(&id) {
            let process = self.processes.of_frame(frame.header.tgid, frame::generation(frame))?;
            if self.streams.len() >= MAX_STREAMS {
                self.context.telemetry.add(Event::StreamTableFull, 1);
                return None;
            }
            self.context.telemetry.add(Event::Streams, 1);
            let transport = Transport { tls: frame.has(flags::TLS), peer: None };
            let connection = Connection::new(Limits::default());
            let calls = Calls::new(Arc::clone(&self.context.options), transport);
            let moved = Nanos(frame.header.time);
            let (seen, verdict, called, due) = ([0; 2], Verdict::All, 0, None);
            let stream = Stream { process, connection, calls, seen, verdict, called, moved, due };
            self.streams.insert(id, Box::new(stream));
            self.processes.add_stream(process, id);
        }
        self.streams.get_mut(&id).map(|stream| &mut **stream)
    }

    fn remove(&mut self, id: u64) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        self.processes.remove_stream(stream.process, id);
        if let Some(second) = stream.due {
            self.sweeps.remove(id, second);
        }
        Some(*stream)
    }

    fn end_streams(&mut self, key: ProcessKey, ending: Ending) {
        let at = self.latest;
        for id in self.processes.take_streams(key) {
            if let Some(stream) = self.remove(id) {
                self.end(stream, ending, at);
            }
        }
    }

    fn end(&mut self, mut stream: Stream, ending: Ending, at: Nanos) {
        stream.connection.close(ending, at, &mut stream.calls);
        take_spans(&self.context, &mut self.processes, &mut stream, at);
    }

    /// Live, the clock goes on without frames; on a tape it does not.
    fn now(&self) -> Nanos {
        self.context.clock.now().unwrap_or(self.latest).max(self.latest)
    }
}

/// Hands the spans of calls that have ended to the exporters, and counts what was passed over.
fn take_spans(context: &Context, processes: &mut Processes, stream: &mut Stream, now: Nanos) {
    let pid = stream.process.pid;
    while let Some((reason, bytes)) = stream.calls.take_dropped() {
        context.telemetry.add_by_reason(ByReason::PassedOverBytes, reason.name(), bytes);
        tracing::debug!(pid, reason = reason.name(), bytes, "passed over");
    }
    while let Some(span) = stream.calls.take() {
        context.telemetry.add(Event::Calls, 1);
        if let Some(reason) = span.incomplete {
            context.telemetry.add_by_reason(ByReason::IncompleteCalls, reason.name(), 1);
        }
        let trace_id = span.parent.as_ref().map_or_else(random, |parent| parent.trace_id);
        let own = Link { trace_id, span_id: random() };
        let links = context.links.of(&span, stream.process, own);
        let ready = processes.finish(stream.process, now, |resource| Record {
            resource,
            trace_id,
            span_id: own.span_id,
            start_unix_nanos: context.clock.unix(span.start),
            end_unix_nanos: context.clock.unix(span.end),
            span,
            links,
            pid,
        });
        if let Some(ready) = ready {
            export(context, ready);
        }
    }
}

fn export(context: &Context, (record, described): Ready) {
    if !described {
        context.telemetry.add(Event::UndescribedSpans, 1);
    }
    if !context.export.push(record) {
        context.telemetry.add(Event::NotSampledSpans, 1);
    }
}

/// Random bytes, not all of them zero.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    while bytes == [0; N] {
        if let Err(error) = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
            // Cannot happen for so few bytes once the machine is up; then uniqueness comes from the clock.
            tracing::debug!(%error, "no randomness");
            let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos().to_le_bytes();
            bytes.iter_mut().zip(now).for_each(|(byte, tick)| *byte = tick);
        }
    }
    bytes
}
