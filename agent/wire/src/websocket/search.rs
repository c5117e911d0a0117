//! Finds the frames of a direction that is out of sync.
//!
//! The header of a frame proves little: of random bytes, a few in a hundred look like the first two of one. So a
//! direction is in sync again only after several frames that follow one another: the first one begins where a captured
//! call begins, the last one ends where a call ends, all are valid for their sender, and at least one is a fragment of
//! a message and not empty. These frames are skipped: that costs a few messages, and nothing has to be kept.

use super::frame::{Framer, WsFrameHeader, WsFrameStep, opcode};
use crate::Role;

/// How many frames in a row prove that a direction is in sync.
const PROOF: u32 = 4;
/// Longest plausible frame, in bytes.
const LONGEST: u64 = 1 << 20;

/// Bytes that may be frames.
#[derive(Debug)]
pub(super) struct WsFrameSearch {
    from: Role,
    reserved: u8,
    framer: Framer,
    /// How many frames were found.
    frames: u32,
    /// Whether the last fragment of a message ended it; `None` before the first one.
    ended: Option<bool>,
    /// A fragment had content.
    filled: bool,
}

/// Where a direction is in sync again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyncPoint {
    /// Inside a message whose start is not known.
    pub(super) inside: bool,
}

impl WsFrameSearch {
    /// A search for frames of this sender, in which these reserved bits may be set.
    pub(super) const fn new(from: Role, reserved: u8) -> Self {
        Self { from, reserved, framer: Framer::new(), frames: 0, ended: None, filled: false }
    }

    /// Looks at the next bytes. If they complete the proof, the byte after them begins a frame.
    pub(super) fn look(&mut self, bytes: &[u8], starts_call: bool) -> Option<SyncPoint> {
        let goes_on = self.frames > 0 || !self.framer.is_between();
        if !(goes_on && self.follow(bytes)) {
            self.reset();
            if !(starts_call && self.follow(bytes)) {
                self.reset();
                return None;
            }
        }
        let proven = self.frames >= PROOF && self.filled && self.framer.is_between();
        self.ended.filter(|_| proven).map(|ended| SyncPoint { inside: !ended })
    }

    /// The next bytes do not follow the ones before.
    pub(super) const fn reset(&mut self) {
        *self = Self::new(self.from, self.reserved);
    }

    /// Goes from frame to frame; false where the bytes are no frame.
    fn follow(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            match self.framer.next(&mut bytes) {
                WsFrameStep::More => return true,
                WsFrameStep::Payload(_) => {}
                WsFrameStep::Malformed(_) => return false,
                WsFrameStep::Header(head) if !self.is_plausible(head) => return false,
                WsFrameStep::Header(head) => {
                    self.frames += 1;
                    if !head.is_control() {
                        self.ended = Some(head.is_final());
                        self.filled |= head.length > 0;
                    }
                }
            }
        }
    }

    fn is_plausible(&self, head: WsFrameHeader) -> bool {
        let continues = head.opcode() == opcode::CONTINUATION;
        let in_order = head.is_control() || self.ended.is_none_or(|ended| ended != continues);
        let sensible = head.length <= LONGEST && (head.length > 0 || head.is_final());
        let masks = head.masked == (self.from == Role::Client);
        in_order && sensible && masks && head.minimal && head.check(self.reserved).is_ok()
    }
}
