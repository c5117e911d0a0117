//! The whole data path on one page.
//!
//! ```text
//! ring -> decode -> admission -> shard by stream -> worker: reassembly, protocol, exchange (wire)
//!                   |      ^                                -> call, span (genai) -> record -> exporters
//!          Request  v      |  Outcome
//!                targets thread
//! ```
//!
//! One thread takes frames off the ring and hands them to workers in batches. A worker owns its streams, so
//! nothing on the way is locked. A worker that does not keep up loses data frames, which are counted and show
//! as gaps; it never blocks the ring, and what opens or closes a stream is lost last.

mod admission;
mod batch;
pub mod capture;
pub mod clock;
mod frame;
mod links;
mod processes;
pub mod replay;
mod sweep;
#[cfg(test)]
mod tests;
pub mod worker;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokentap_abi::{Frame, Kind};
use tokentap_tape::{ControlEvent, Recorder};

pub use batch::{Batch, WorkerMessage};

use crate::{
    pipeline::worker::Worker,
    privileges::Thread,
    telemetry::{Event, Telemetry},
    threads::join_until,
};

/// Bytes of frames handed over at once.
const BATCH_BYTES: usize = 256 << 10;
/// Batches in a worker's queue. Those that do not fit wait with the reader of the ring, where small ones grow together:
/// batches are handed over every few milliseconds, and few bytes of data are not to fill the queue.
const QUEUED: usize = 8;
/// Full batches that wait with the reader of the ring. Together with the queue and the ring, this is how far a worker
/// may fall behind.
const BACKLOG: usize = 56;
/// Emptied batches that are kept to be filled again.
const RECYCLED: usize = 8;
/// How long events wait for frames, which spares a worker that has nothing to do a wake-up for each.
const EVENTS_WAIT: Duration = Duration::from_millis(100);
/// What is left of a batch without its data, while a worker does not keep up: bytes of frames…
const MAX_KEPT_BYTES: usize = 4 * BATCH_BYTES;
/// …and events.
const MAX_KEPT_EVENTS: usize = 65_536;

/// Where frames and control events go, in the order in which they happened.
pub trait FrameSink {
    /// Takes a frame; `bytes` is what it was decoded from.
    fn frame(&mut self, frame: &Frame<'_>, bytes: &[u8]);
    /// Takes what happened beside frames.
    fn event(&mut self, event: ControlEvent);
    /// Hands on what was taken.
    fn flush(&mut self);
}

impl FrameSink for Recorder {
    fn frame(&mut self, frame: &Frame<'_>, _bytes: &[u8]) {
        Self::frame(self, frame);
    }

    fn event(&mut self, event: ControlEvent) {
        Self::event(self, &event);
    }

    fn flush(&mut self) {
        Self::flush(self);
    }
}

/// What is done when a worker's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowPolicy {
    /// Data is given up and counted: the ring must not wait.
    Drop,
    /// The source waits: a tape has time.
    Wait,
}

/// Takes frames and feeds the workers.
pub struct Pipeline {
    shards: Vec<Shard>,
    policy: OverflowPolicy,
    telemetry: Arc<Telemetry>,
}

struct Shard {
    batch: Batch,
    /// Full batches before that one.
    backlog: VecDeque<Batch>,
    /// When the first event came of a batch that has no frames.
    events_since: Option<Instant>,
    queue: SyncSender<WorkerMessage>,
    /// Emptied batches come back to be filled again.
    empty: Receiver<Batch>,
    thread: JoinHandle<()>,
}

impl Pipeline {
    /// Starts `workers` threads; `make` gives each its state.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        workers: usize,
        policy: OverflowPolicy,
        telemetry: &Arc<Telemetry>,
        make: impl Fn() -> Worker,
    ) -> std::io::Result<Self> {
        Self::start_threads(workers, policy, telemetry, || {
            let worker = make();
            move |inbox: &Receiver<WorkerMessage>, recycle: &SyncSender<Batch>| worker.run(inbox, recycle)
        })
    }

    fn start_threads<F>(
        workers: usize,
        policy: OverflowPolicy,
        telemetry: &Arc<Telemetry>,
        make: impl Fn() -> F,
    ) -> std::io::Result<Self>
    where
        F: FnOnce(&Receiver<WorkerMessage>, &SyncSender<Batch>) + Send + 'static,
    {
        let mut shards = Vec::with_capacity(workers);
        for number in 0..workers.max(1) {
            let (queue, inbox) = sync_channel(QUEUED);
            let (recycle, empty) = sync_channel(RECYCLED);
            let work = make();
            let thread = Thread::named(&format!("worker-{number}")).spawn(move || work(&inbox, &recycle))?;
            let (batch, backlog) = (Batch::default(), VecDeque::new());
            shards.push(Shard { batch, backlog, events_since: None, queue, empty, thread });
        }
        Ok(Self { shards, policy, telemetry: Arc::clone(telemetry) })
    }

    /// Lets the workers end what is in flight, and waits for them until the deadline. A worker that has not ended
    /// by then is left behind and counted.
    pub fn stop(mut self, deadline: Instant) {
        self.policy = OverflowPolicy::Drop;
        for shard in &mut self.shards {
            shard.hand_over_all(deadline, &self.telemetry);
        }
        for shard in self.shards {
            let name = shard.thread.thread().name().unwrap_or("worker").to_owned();
            let stopped = send_until(&shard.queue, WorkerMessage::Stop, deadline).is_ok();
            if let Err(why) = join_until(shard.thread, deadline) {
                self.telemetry.add(Event::AbandonedThreads, 1);
                tracing::error!(stopped, "{name} {why}: its calls are lost");
            }
        }
    }

    fn shard_of(&self, stream: u64) -> usize {
        // Fibonacci hashing: ids are times and counters, whose low bits are alike.
        let mixed = stream.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(mixed).unwrap_or(0) % self.shards.len()
    }
}

impl FrameSink for Pipeline {
    fn frame(&mut self, frame: &Frame<'_>, bytes: &[u8]) {
        // Records are rounded up to size classes: only the frame travels on.
        let bytes = &bytes[..frame.total_len()];
        let shard = self.shard_of(frame.header.stream);
        let shard = &mut self.shards[shard];
        shard.batch.frames.extend_from_slice(bytes);
        if shard.batch.frames.len() >= BATCH_BYTES {
            shard.send(self.policy, &self.telemetry);
        }
    }

    /// A stream's goes to its worker, a process's to all of them.
    fn event(&mut self, event: ControlEvent) {
        if let ControlEvent::Peer(stream, _) = event {
            let shard = self.shard_of(stream);
            self.shards[shard].event(event);
        } else {
            for shard in &mut self.shards {
                shard.event(event.clone());
            }
        }
    }

    fn flush(&mut self) {
        for shard in &mut self.shards {
            shard.send(self.policy, &self.telemetry);
        }
    }
}

impl Shard {
    fn event(&mut self, event: ControlEvent) {
        self.batch.events.push((self.batch.frames.len(), event));
    }

    fn send(&mut self, policy: OverflowPolicy, telemetry: &Telemetry) {
        while let Some(batch) = self.backlog.pop_front() {
            if let Some(batch) = self.try_send(policy, batch) {
                self.backlog.push_front(batch);
                break;
            }
        }
        if self.batch.is_empty() || self.waits_for_frames() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        if self.backlog.is_empty() {
            match self.try_send(policy, batch) {
                Some(unsent) => batch = unsent,
                None => {
                    self.batch = self.empty.try_recv().unwrap_or_default();
                    return;
                }
            }
        }
        if batch.frames.len() < BATCH_BYTES {
            self.batch = batch;
        } else if self.backlog.len() < BACKLOG {
            self.backlog.push_back(batch);
        } else {
            self.batch = reduced(batch, telemetry);
        }
    }

    /// Whether there are only events, and those are recent.
    fn waits_for_frames(&mut self) -> bool {
        if !self.batch.frames.is_empty() {
            self.events_since = None;
            return false;
        }
        let now = Instant::now();
        let since = *self.events_since.get_or_insert(now);
        let waits = now.duration_since(since) < EVENTS_WAIT;
        if !waits {
            self.events_since = None;
        }
        waits
    }

    /// Puts a batch into the queue; what does not fit comes back.
    fn try_send(&self, policy: OverflowPolicy, batch: Batch) -> Option<Batch> {
        let message = WorkerMessage::Batch(batch);
        let unsent = match policy {
            OverflowPolicy::Wait => self.queue.send(message).err().map(|error| error.0),
            OverflowPolicy::Drop => self.queue.try_send(message).err().map(|error| match error {
                TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
            }),
        };
        match unsent? {
            WorkerMessage::Batch(batch) => Some(batch),
            WorkerMessage::Stop => None,
        }
    }

    /// Hands over what waits here, as far as the worker takes it in time; counts what is lost of the rest.
    fn hand_over_all(&mut self, deadline: Instant, telemetry: &Telemetry) {
        let last = std::mem::take(&mut self.batch);
        for batch in std::mem::take(&mut self.backlog).into_iter().chain([last]) {
            if batch.is_empty() {
                continue;
            }
            if let Err(WorkerMessage::Batch(batch)) =
                send_until(&self.queue, WorkerMessage::Batch(batch), deadline)
            {
                without_data(batch, |_| true, telemetry);
            }
        }
    }
}

/// Sends to a worker, as soon as it takes it.
fn send_until(
    queue: &SyncSender<WorkerMessage>,
    message: WorkerMessage,
    deadline: Instant,
) -> Result<(), WorkerMessage> {
    let mut message = message;
    loop {
        message = match queue.try_send(message) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(message)) if Instant::now() < deadline => message,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => return Err(message),
        };
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A batch that its worker does not take yet, made smaller: the data of processes goes that have much in it, so that one
/// that floods loses its own; when that is not enough, all data.
fn reduced(batch: Batch, telemetry: &Telemetry) -> Batch {
    const MUCH: usize = BATCH_BYTES / 4;
    let mut of_processes: HashMap<u32, usize> = HashMap::new();
    let mut at = 0;
    while let Some(frame) = batch.frames.get(at..).and_then(|rest| tokentap_abi::decode(rest).ok()) {
        *of_processes.entry(frame.header.tgid).or_default() += frame.total_len();
        at += frame.total_len();
    }
    let has_much = |pid: u32| of_processes.get(&pid).is_some_and(|bytes| *bytes > MUCH);
    let batch = without_data(batch, has_much, telemetry);
    if batch.frames.len() < BATCH_BYTES { batch } else { without_data(batch, |_| true, telemetry) }
}

/// Gives up the data of some processes in a batch and keeps the rest for later; the missing bytes show by their offsets.
fn without_data(batch: Batch, of: impl Fn(u32) -> bool, telemetry: &Telemetry) -> Batch {
    let mut kept = Batch::default();
    let mut events = batch.events.into_iter().peekable();
    let mut at = 0;
    while let Some(frame) = batch.frames.get(at..).and_then(|rest| tokentap_abi::decode(rest).ok()) {
        while let Some((_, event)) = events.next_if(|(before, _)| *before <= at) {
            kept.events.push((kept.frames.len(), event));
        }
        let len = frame.total_len();
        if frame.kind == Kind::Data && of(frame.header.tgid) {
            telemetry.add(Event::WorkerFullBytes, frame.payload.len() as u64);
        } else if frame.kind != Kind::Data && kept.frames.len() + len > MAX_KEPT_BYTES {
            telemetry.add(Event::WorkerFullEvents, 1);
        } else {
            kept.frames.extend_from_slice(&batch.frames[at..at + len]);
        }
        at += len;
    }
    kept.events.extend(events.map(|(_, event)| (kept.frames.len(), event)));
    let lost = kept.events.len().saturating_sub(MAX_KEPT_EVENTS);
    if lost > 0 {
        telemetry.add(Event::WorkerFullEvents, lost as u64);
        kept.events.truncate(MAX_KEPT_EVENTS);
    }
    kept
}
