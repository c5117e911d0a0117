//! Finds the frames of a direction that is out of sync: several frames that follow one another, the first of them where
//! a captured call begins.

use super::frame::{FrameHeader, HEADER};
use crate::{
    Nanos,
    reassembly::take,
    runs::{HeldRuns, Run},
};

/// Bytes that may be frames.
#[derive(Debug, Default)]
pub(crate) struct FrameSearch {
    held: HeldRuns,
    header: [u8; HEADER],
    have: usize,
    /// How many bytes of the current frame's payload are to come.
    remaining: usize,
    frames: u32,
}

/// What a search says of some bytes.
#[derive(Debug, Default)]
pub(crate) struct FrameSearchResult {
    /// How many bytes are no frames, held ones included.
    pub(crate) rejected: usize,
    /// Bytes that are proven to be frames.
    pub(crate) frames: Option<HeldRuns>,
}

impl FrameSearch {
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The time of the first byte.
    pub(crate) fn started(&self) -> Option<Nanos> {
        self.held.started()
    }

    /// Drops what is held; returns how many bytes that was.
    pub(crate) fn reject(&mut self) -> usize {
        std::mem::take(self).held.len()
    }

    /// Takes what is held if it has at least `proof` frames. A call that ends with a frame counts as one more.
    pub(crate) fn take(&mut self, proof: u32) -> Option<HeldRuns> {
        let aligned = u32::from(self.remaining == 0 && self.have == 0);
        (proof == 0 || (self.frames > 0 && self.frames + aligned >= proof)).then(|| std::mem::take(self).held)
    }

    /// Looks at the next bytes. They are held until `proof` frames are found, and at most `most` of them.
    pub(crate) fn look(&mut self, run: Run<'_>, proof: u32, most: usize) -> FrameSearchResult {
        let mut rejected = 0;
        if !self.is_empty() && !self.holds(run.bytes, proof, most) {
            rejected = self.reject();
        } else if !self.is_empty() {
            self.held.push(run);
            return FrameSearchResult { rejected, frames: self.take(proof) };
        }
        if !run.starts_call || !self.holds(run.bytes, proof, most) {
            *self = Self::default();
            return FrameSearchResult { rejected: rejected + run.bytes.len(), frames: None };
        }
        self.held.push(run);
        FrameSearchResult { rejected, frames: self.take(proof) }
    }

    /// Whether the next bytes continue the frames, and are enough for the proof or few enough to be held.
    fn holds(&mut self, bytes: &[u8], proof: u32, most: usize) -> bool {
        self.follow(bytes) && (self.frames >= proof || self.held.len() + bytes.len() <= most)
    }

    /// Goes from frame to frame; false where the bytes are no frame.
    fn follow(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = self.remaining.min(bytes.len());
            self.remaining -= skipped;
            take(&mut bytes, skipped);
            let len = bytes.len().min(HEADER - self.have);
            self.header[self.have..self.have + len].copy_from_slice(take(&mut bytes, len));
            self.have += len;
            if self.have == HEADER {
                let header = FrameHeader::read(&self.header);
                if !header.is_plausible(self.header[5] >= 0x80) || (self.frames == 0 && !header.may_start()) {
                    return false;
                }
                self.have = 0;
                self.remaining = header.length as usize;
                self.frames += 1;
            }
        }
        true
    }
}
