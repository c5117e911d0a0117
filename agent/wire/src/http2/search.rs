//! Finds the frames of a direction that is out of sync: where captured calls start, by several frames that
//! follow one another.

use super::frame::{FrameHeader, HEADER};
use crate::{Nanos, held::HeldRuns, reassembly::take};

/// Bytes that may be frames.
#[derive(Debug, Default)]
pub(crate) struct FrameSearch {
    held: HeldRuns,
    header: [u8; HEADER],
    have: usize,
    /// Bytes of the current frame's payload to come.
    left: usize,
    frames: u32,
}

/// What was found in some bytes.
#[derive(Debug, Default)]
pub(crate) struct FrameSearchResult {
    /// So many bytes are no frames: those that were held before, or come now.
    pub(crate) rejected: usize,
    /// These are.
    pub(crate) frames: Option<HeldRuns>,
}

impl FrameSearch {
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The time of the first byte.
    pub(crate) fn began(&self) -> Option<Nanos> {
        self.held.began()
    }

    /// Gives up what is held; returns how much that was.
    pub(crate) fn reject(&mut self) -> usize {
        std::mem::take(self).held.len()
    }

    /// Gives what is held if it makes at least so many frames; a call that ends with a
    /// frame counts as one more.
    pub(crate) fn take(&mut self, frames: u32) -> Option<HeldRuns> {
        let aligned = u32::from(self.left == 0 && self.have == 0);
        (frames == 0 || (self.frames > 0 && self.frames + aligned >= frames))
            .then(|| std::mem::take(self).held)
    }

    /// Looks at the next bytes, which are held until so many frames are found, and at most `most` of them.
    pub(crate) fn look(
        &mut self,
        bytes: &[u8],
        starts_call: bool,
        at: Nanos,
        frames: u32,
        most: usize,
    ) -> FrameSearchResult {
        let mut rejected = 0;
        if !self.is_empty() && !self.holds(bytes, frames, most) {
            rejected = self.reject();
        } else if !self.is_empty() {
            self.held.push(bytes, starts_call, at);
            return FrameSearchResult { rejected, frames: self.take(frames) };
        }
        if !starts_call || !self.holds(bytes, frames, most) {
            *self = Self::default();
            return FrameSearchResult { rejected: rejected + bytes.len(), frames: None };
        }
        self.held.push(bytes, starts_call, at);
        FrameSearchResult { rejected, frames: self.take(frames) }
    }

    /// Whether the next bytes go on with frames, and are enough or few enough to be held.
    fn holds(&mut self, bytes: &[u8], frames: u32, most: usize) -> bool {
        self.follow(bytes) && (self.frames >= frames || self.held.len() + bytes.len() <= most)
    }

    /// Goes on from frame to frame; false where none can be.
    fn follow(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
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
                self.left = header.length as usize;
                self.frames += 1;
            }
        }
        true
    }
}
