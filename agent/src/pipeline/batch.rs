//! What goes from the reader of the ring to a worker.

use tokentap_tape::ControlEvent;

/// Frames in ring order, with what else happened at its place among them.
#[derive(Debug, Default)]
pub struct Batch {
    /// Whole frames, one behind the other.
    pub frames: Vec<u8>,
    /// What happened before the frame that begins at this offset.
    pub events: Vec<(usize, ControlEvent)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.events.is_empty()
    }

    /// Makes it ready to be filled again.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.events.clear();
    }
}

/// What goes to a worker.
#[derive(Debug)]
pub enum WorkerMessage {
    /// Frames to parse.
    Batch(Batch),
    /// No more will come: end what is in flight.
    Stop,
}
