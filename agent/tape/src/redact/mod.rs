//! What may leave the process in a tape: enough to rebuild every call, and nothing that was said in one.
//!
//! A [`Masker`] follows one stream and replaces bytes by others of the same number, so that offsets, lengths
//! and framing stay true:
//!
//! - headers: values become `x` but for those that `head.rs` lists; so do query values, trailers, chunk
//!   extensions and the authority of an absolute-form target;
//! - JSON and server-sent events: what is inside strings becomes `x`, but for identifiers under the keys that
//!   `json.rs` lists; numbers stay unless they can be content (token ids, embeddings, tool arguments);
//! - everything else is withheld: bodies with a content coding, of another type, and bytes of which nobody
//!   knows what they are.
//!
//! Spans themselves need no masking: what the tape keeps is a subset of what they are made of.

mod head;
mod json;
mod mask;
mod sse;

use std::ops::Range;

use tokentap_wire::{
    Direction, Limits,
    http1::{Segment, Splitter},
};

use head::{Fields, Framing, MediaType};
use json::Json;
use mask::MASK;
use sse::Sse;

/// Masks one stream, in both directions. Memory: the splitter's, and about a kilobyte.
#[derive(Debug)]
pub struct Masker {
    splitter: Splitter,
    lanes: [Lane; 2],
}

impl Default for Masker {
    fn default() -> Self {
        Self { splitter: Splitter::new(Limits::default()), lanes: Default::default() }
    }
}

impl Masker {
    /// Takes bytes of one direction, in order, and puts as many into `out`, which is cleared first. Returns
    /// the ranges of `out` that must be withheld altogether.
    pub fn data(
        &mut self,
        dir: Direction,
        offset: u64,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Vec<Range<usize>> {
        out.clear();
        let lane = &mut self.lanes[dir.index()];
        if lane.next != Some(offset) {
            lane.gap();
        }
        lane.next = Some(offset.saturating_add(bytes.len() as u64));
        let mut withheld: Vec<Range<usize>> = Vec::new();
        self.splitter.data(dir, offset, bytes, |segment, part| {
            let from = out.len();
            out.extend_from_slice(part);
            if lane.mask(segment, &mut out[from..]) == Verdict::Masked {
                return;
            }
            out[from..].fill(MASK);
            match withheld.last_mut() {
                Some(last) if last.end == from => last.end = out.len(),
                _ => withheld.push(from..out.len()),
            }
        });
        withheld
    }

    /// Takes the news that `len` bytes from `offset` on will not come.
    pub fn lost(&mut self, dir: Direction, offset: u64, len: u64) {
        self.splitter.lost(dir, offset, len);
        let lane = &mut self.lanes[dir.index()];
        lane.gap();
        lane.next = Some(offset.saturating_add(len));
    }
}

/// Whether bytes were made harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Masked,
    Unmaskable,
}

#[derive(Debug, Default)]
struct Lane {
    next: Option<u64>,
    fields: Fields,
    framing: Framing,
    body: Body,
}

/// How the current body is masked.
#[derive(Debug, Default)]
enum Body {
    /// Its first bytes are still to come.
    #[default]
    Awaited,
    Json(Json),
    Events(Sse),
    Withheld,
}

impl Lane {
    fn mask(&mut self, segment: Segment, bytes: &mut [u8]) -> Verdict {
        match segment {
            Segment::Head => {
                self.body = Body::Awaited;
                self.framing = Framing::default();
                self.fields.mask(bytes);
                Verdict::Masked
            }
            Segment::Framing => {
                self.framing.mask(bytes);
                Verdict::Masked
            }
            Segment::Body { encoded: true, .. } => Verdict::Unmaskable,
            Segment::Body { encoded: false, .. } => self.body(bytes),
            Segment::Other => {
                self.fields = Fields::default();
                Verdict::Unmaskable
            }
        }
    }

    fn body(&mut self, bytes: &mut [u8]) -> Verdict {
        if matches!(self.body, Body::Awaited) {
            self.body = match self.fields.media_type() {
                MediaType::Json => Body::Json(Json::default()),
                MediaType::Events => Body::Events(Sse::default()),
                MediaType::Unnamed => match bytes.trim_ascii_start().first() {
                    None | Some(b'{' | b'[') => Body::Json(Json::default()),
                    // `data:`, `event:`, or a comment.
                    Some(b'd' | b'e' | b':') => Body::Events(Sse::default()),
                    Some(_) => Body::Withheld,
                },
                MediaType::Other => Body::Withheld,
            };
        }
        match &mut self.body {
            Body::Json(json) => json.mask(bytes),
            Body::Events(events) => events.mask(bytes),
            Body::Awaited | Body::Withheld => return Verdict::Unmaskable,
        }
        Verdict::Masked
    }

    /// Bytes are missing: nobody knows what the next ones are inside of.
    fn gap(&mut self) {
        self.fields.gap();
        self.framing.gap();
        match &mut self.body {
            Body::Json(json) => json.gap(),
            Body::Events(events) => events.gap(),
            Body::Awaited | Body::Withheld => {}
        }
    }
}

#[cfg(test)]
mod tests;
