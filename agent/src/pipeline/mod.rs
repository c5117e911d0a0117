//! The whole data path on one page.
//!
//! ```text
//! ring -> decode -> shard by stream -> worker: reassembly, protocol, exchange (wire)
//!                                            -> call, span (genai) -> record -> exporters
//! ```
//!
//! One thread takes frames off the ring and hands them to workers in batches. A worker owns its streams, so
//! nothing on the way is locked. A worker that does not keep up loses data frames, which are counted and show
//! as gaps; it never blocks the ring, and never loses what opens, closes or names a stream.

pub mod capture;
pub mod clock;
pub mod worker;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use tokentap_abi::{Frame, Kind};

use crate::{
    pipeline::worker::Worker,
    privileges::Thread,
    targets::Process,
    telemetry::{Event, Telemetry},
};

/// Bytes of frames handed over at once.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that wait for a worker. Together with the ring, this is how far a worker may fall behind.
const QUEUED: usize = 32;

/// Frames in ring order, with what else happened at its place among them.
#[derive(Debug, Default)]
pub struct Batch {
    /// Whole frames, one behind the other.
    pub frames: Vec<u8>,
    /// What happened before the frame that begins at this offset.
    pub notes: Vec<(usize, Note)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.notes.is_empty()
    }

    /// Makes it ready to be filled again.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.notes.clear();
    }
}

/// What workers must know that is not in a frame.
#[derive(Clone, Debug)]
pub enum Note {
    /// A process is observed; when it was before, it replaced its image.
    Observed(Arc<Process>),
    /// A process ended, or is not observed after all.
    Ended(u32),
    /// The other end of a stream.
    Peer(u64, SocketAddr),
}

/// What goes to a worker.
#[derive(Debug)]
pub enum Work {
    /// Frames to parse.
    Batch(Batch),
    /// No more will come: end what is in flight.
    Stop,
}

/// What is done when a worker's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Data is given up and counted: the ring must not wait.
    Drop,
    /// The source waits: a tape has time.
    Wait,
}

/// Takes frames and feeds the workers.
pub struct Pipeline {
    shards: Vec<Shard>,
    pressure: Pressure,
    telemetry: Arc<Telemetry>,
}

struct Shard {
    batch: Batch,
    queue: SyncSender<Work>,
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
        pressure: Pressure,
        telemetry: &Arc<Telemetry>,
        make: impl Fn() -> Worker,
    ) -> std::io::Result<Self> {
        let mut shards = Vec::with_capacity(workers);
        for number in 0..workers.max(1) {
            let (queue, inbox) = sync_channel(QUEUED);
            let (recycle, empty) = sync_channel(QUEUED);
            let worker = make();
            let name = format!("worker-{number}");
            let thread = Thread::named(&name).spawn(move || worker.run(&inbox, &recycle))?;
            shards.push(Shard { batch: Batch::default(), queue, empty, thread });
        }
        Ok(Self { shards, pressure, telemetry: Arc::clone(telemetry) })
    }

    /// Takes a frame; `bytes` is what it was decoded from.
    pub fn frame(&mut self, frame: &Frame<'_>, bytes: &[u8]) {
        // Records are rounded up to size classes: only the frame travels on.
        let bytes = &bytes[..frame.total_len()];
        let shard = self.shard_of(frame.header.stream);
        let shard = &mut self.shards[shard];
        shard.batch.frames.extend_from_slice(bytes);
        if shard.batch.frames.len() >= BATCH_BYTES {
            shard.send(self.pressure, &self.telemetry);
        }
    }

    /// Takes a note: a stream's to its worker, a process's to all of them.
    pub fn note(&mut self, note: Note) {
        if let Note::Peer(stream, _) = note {
            let shard = self.shard_of(stream);
            self.shards[shard].note(note);
        } else {
            for shard in &mut self.shards {
                shard.note(note.clone());
            }
        }
    }

    /// Hands on what was taken.
    pub fn flush(&mut self) {
        for shard in &mut self.shards {
            shard.send(self.pressure, &self.telemetry);
        }
    }

    /// Lets the workers end what is in flight, and waits for them.
    pub fn stop(mut self) {
        self.pressure = Pressure::Wait;
        self.flush();
        for shard in self.shards {
            if shard.queue.send(Work::Stop).is_err() || shard.thread.join().is_err() {
                tracing::error!("a worker ended early: its calls are lost");
            }
        }
    }

    fn shard_of(&self, stream: u64) -> usize {
        // Fibonacci hashing: ids are times and counters, whose low bits are alike.
        let mixed = stream.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(mixed).unwrap_or(0) % self.shards.len()
    }
}

impl Shard {
    fn note(&mut self, note: Note) {
        self.batch.notes.push((self.batch.frames.len(), note));
    }

    fn send(&mut self, pressure: Pressure, telemetry: &Telemetry) {
        if self.batch.is_empty() {
            return;
        }
        let next = self.empty.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.batch, next);
        let unsent = match pressure {
            Pressure::Wait => self.queue.send(Work::Batch(full)).err().map(|e| e.0),
            Pressure::Drop => match self.queue.try_send(Work::Batch(full)) {
                Ok(()) => None,
                Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) => Some(work),
            },
        };
        if let Some(Work::Batch(batch)) = unsent {
            // A small batch waits and grows: that the queue is full of small ones is no reason to lose data.
            self.batch =
                if batch.frames.len() < BATCH_BYTES { batch } else { without_data(batch, telemetry) };
        }
    }
}

/// Gives up the data of a batch and keeps the rest for later; the missing bytes show by their offsets.
fn without_data(batch: Batch, telemetry: &Telemetry) -> Batch {
    let mut kept = Batch::default();
    let mut notes = batch.notes.into_iter().peekable();
    let mut at = 0;
    while let Some(frame) = batch.frames.get(at..).and_then(|rest| tokentap_abi::decode(rest).ok()) {
        while let Some((_, note)) = notes.next_if(|(before, _)| *before <= at) {
            kept.notes.push((kept.frames.len(), note));
        }
        let len = frame.total_len();
        if frame.kind == Kind::Data {
            telemetry.add(Event::WorkerFullBytes, frame.payload.len() as u64);
        } else {
            kept.frames.extend_from_slice(&batch.frames[at..at + len]);
        }
        at += len;
    }
    kept.notes.extend(notes.map(|(_, note)| (kept.frames.len(), note)));
    kept
}

#[cfg(test)]
mod tests {
    use tokentap_abi::{ABI_VERSION, Header, encode};

    use super::*;

    fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap();
        let header = Header { version: ABI_VERSION, kind: kind as u8, len, ..Header::default() };
        [&encode(&header)[..], payload].concat()
    }

    #[test]
    fn under_pressure_data_is_counted_and_the_rest_is_kept_in_order() {
        let telemetry = Telemetry::new();
        let (data, close) = (frame(Kind::Data, b"12345"), frame(Kind::HalfClose, b""));
        let batch = Batch {
            frames: [&data[..], &close, &data].concat(),
            notes: vec![(0, Note::Ended(1)), (data.len(), Note::Ended(2)), (data.len() * 2, Note::Ended(3))],
        };
        let kept = without_data(batch, &telemetry);
        assert_eq!(kept.frames, close);
        let order: Vec<(usize, u32)> = kept
            .notes
            .iter()
            .map(|(at, note)| match note {
                Note::Ended(pid) => (*at, *pid),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, [(0, 1), (0, 2), (close.len(), 3)]);
        assert_eq!(telemetry.count(Event::WorkerFullBytes), 10);
    }
}
