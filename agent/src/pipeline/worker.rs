//! A worker: owns streams, makes spans of them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    time::Duration,
};

use tokentap_abi::{Direction, Frame, HEAD_BYTES, Kind, Verdict, decode, flags};
use tokentap_genai::{Calls, Options, Transport, semconv};
use tokentap_wire::{Connection, Ending, Limits, Nanos, Protocol};

use crate::{
    export::{ExportHandle, Record},
    pipeline::clock::Clock,
    pipeline::{Batch, Note, Work},
    targets::Process,
    telemetry::{Event, Telemetry},
};

/// How often that is looked for.
const TICK: Duration = Duration::from_secs(1);
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
    /// Boot time to wall clock.
    pub clock: Clock,
    /// Decisions about streams, for the kernel side; absent when there is none (replay).
    pub verdicts: Option<Sender<(u64, Verdict)>>,
}

/// Streams of one shard and what is needed to make spans of them.
pub struct Worker {
    context: Context,
    processes: HashMap<u32, Arc<Process>>,
    streams: HashMap<u64, Stream>,
    latest: Nanos,
}

struct Stream {
    process: Arc<Process>,
    connection: Connection,
    calls: Calls,
    /// End of what was delivered, per direction.
    seen: [u64; 2],
    verdict: Verdict,
    /// Where the responses were when the last call was seen.
    called: u64,
}

/// Only the heads of responses are copied where this many exchanges in a row were no calls…
const OTHERS: u64 = 8;
/// …and their responses have this many bytes on average: the copies of smaller ones cost less than what it
/// takes not to make them.
const LARGE: u64 = 4 * HEAD_BYTES;

impl Stream {
    /// What is worth copying from now on. Requests always are, and what answers one that may be a call.
    fn judge(&mut self) -> Verdict {
        if self.connection.protocol() == Protocol::NotHttp {
            return Verdict::Ignore;
        }
        // Heads are told by the turns of HTTP/1; HTTP/2 has none.
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
        Self { context, processes: HashMap::new(), streams: HashMap::new(), latest: Nanos(0) }
    }

    /// Works until told to stop.
    pub fn run(mut self, inbox: &Receiver<Work>, recycle: &SyncSender<Batch>) {
        loop {
            match inbox.recv_timeout(TICK) {
                Ok(Work::Batch(mut batch)) => {
                    self.batch(&batch);
                    batch.clear();
                    // The pool is full: this one is not needed.
                    drop(recycle.try_send(batch));
                }
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let at = self.now();
        for (_, stream) in std::mem::take(&mut self.streams) {
            self.end(stream, Ending::AgentStop, at);
        }
    }

    fn batch(&mut self, batch: &Batch) {
        let mut notes = batch.notes.iter().peekable();
        let mut at = 0;
        loop {
            while let Some((_, note)) = notes.next_if(|(before, _)| *before <= at) {
                self.note(note);
            }
            let Some(frame) = batch.frames.get(at..).and_then(|rest| decode(rest).ok()) else { break };
            at += frame.total_len();
            self.frame(&frame);
        }
        for (_, note) in notes {
            self.note(note);
        }
    }

    fn note(&mut self, note: &Note) {
        match note {
            Note::Observed(process) => {
                self.end_process(process.pid, Ending::Cut);
                self.processes.insert(process.pid, Arc::clone(process));
            }
            Note::Ended(pid) => {
                self.end_process(*pid, Ending::ProcessExit);
                self.processes.remove(pid);
            }
            Note::Peer(id, peer) => {
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
                    finished(&self.context, stream);
                }
            }
            Kind::Close => {
                if let Some(mut stream) = self.streams.remove(&header.stream) {
                    // What was lost at the very end shows only here.
                    let ends = frame.close().map_or(stream.seen, |close| close.offsets);
                    for dir in Direction::ALL {
                        let (seen, end) = (stream.seen[dir.index()], ends[dir.index()]);
                        if end > seen {
                            stream.connection.lost(dir, seen, end - seen, at, &mut stream.calls);
                        }
                    }
                    let ending = if frame.has(flags::LEFT) { Ending::Left } else { Ending::Cut };
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
            | Kind::IoUring => {}
        }
    }

    fn bytes(&mut self, frame: &Frame<'_>, at: Nanos) {
        let header = &frame.header;
        let Some(stream) = self.stream(frame) else { return };
        let end = header.offset.saturating_add(u64::from(header.orig.max(header.len)));
        stream.seen[frame.dir.index()] = end;
        if stream.verdict == Verdict::Ignore {
            return;
        }
        stream.connection.turned(frame.turns());
        if frame.kind == Kind::Data {
            stream.connection.data(frame.dir, header.offset, frame.payload, at, &mut stream.calls);
        } else {
            let len = u64::from(header.orig);
            stream.connection.lost(frame.dir, header.offset, len, at, &mut stream.calls);
        }
        let verdict = stream.judge();
        let news = std::mem::replace(&mut stream.verdict, verdict) != verdict;
        let id = header.stream;
        if let Some(stream) = self.streams.get_mut(&id) {
            finished(&self.context, stream);
        }
        if news
            && let Some(verdicts) = &self.context.verdicts
            && verdicts.send((id, verdict)).is_err()
        {
            tracing::debug!(stream = id, "nobody takes decisions any more");
        }
    }

    /// The stream of a frame, made when it is new. `None` when its process is not observed.
    fn stream(&mut self, frame: &Frame<'_>) -> Option<&mut Stream> {
        let id = frame.header.stream;
        if !self.streams.contains_key(&id) {
            let process = Arc::clone(self.processes.get(&frame.header.tgid)?);
            if self.streams.len() >= MAX_STREAMS {
                self.context.telemetry.add(Event::StreamTableFull, 1);
                return None;
            }
            self.context.telemetry.add(Event::Streams, 1);
            let transport = Transport { tls: frame.has(flags::TLS), peer: None };
            let connection = Connection::new(Limits::default());
            let calls = Calls::new(Arc::clone(&self.context.options), transport);
            let stream =
                Stream { process, connection, calls, seen: [0; 2], verdict: Verdict::All, called: 0 };
            self.streams.insert(id, stream);
        }
        self.streams.get_mut(&id)
    }

    fn end_process(&mut self, pid: u32, ending: Ending) {
        let at = self.latest;
        let ids: Vec<u64> =
            self.streams.iter().filter(|(_, s)| s.process.pid == pid).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(stream) = self.streams.remove(&id) {
                self.end(stream, ending, at);
            }
        }
    }

    fn end(&self, mut stream: Stream, ending: Ending, at: Nanos) {
        stream.connection.close(ending, at, &mut stream.calls);
        finished(&self.context, &mut stream);
    }

    fn tick(&mut self) {
        let now = self.now();
        for stream in self.streams.values_mut() {
            stream.connection.sweep(now, self.context.stale_after, &mut stream.calls);
            finished(&self.context, stream);
        }
    }

    /// Live, the clock goes on without frames; on a tape it does not.
    fn now(&self) -> Nanos {
        self.context.clock.now().unwrap_or(self.latest).max(self.latest)
    }
}

/// Sends on what became a span, and counts what was passed over.
fn finished(context: &Context, stream: &mut Stream) {
    while let Some((reason, bytes)) = stream.calls.take_dropped() {
        context.telemetry.add(Event::PassedOverBytes, bytes);
        tracing::debug!(pid = stream.process.pid, reason, bytes, "passed over");
    }
    while let Some(span) = stream.calls.take() {
        context.telemetry.add(Event::Calls, 1);
        if span.get(semconv::INCOMPLETE).is_some() {
            context.telemetry.add(Event::CallsIncomplete, 1);
        }
        let trace_id = span.parent.as_ref().map_or_else(random, |parent| parent.trace_id);
        context.export.push(Record {
            resource: Arc::clone(&stream.process.resource),
            trace_id,
            span_id: random(),
            start_unix_nanos: context.clock.unix(span.start),
            end_unix_nanos: context.clock.unix(span.end),
            span,
            pid: stream.process.pid,
        });
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
