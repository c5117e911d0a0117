//! Finds keys again after a gap.
//!
//! It is not known whether the byte after a gap is in a string, nor how deep it is nested. Two rules help:
//!
//! - A quote without a backslash before it begins or ends a string. Outside of strings there are no words but `true`,
//!   `false` and `null`, which have no quotes around them. So a word between two quotes is a string, and with a colon
//!   behind it a key.
//! - The bytes behind that key are read as if its object were the outermost one, which its end proves: nothing may
//!   follow. Until then no value is reported, as content may hold objects of its own.

use super::{Container, Extractor, JsonState, NextOffset, NodeId, scan};
use crate::json::schema::MAX_KEY;

impl<F: Copy> Extractor<F> {
    /// Bytes are missing here, inside the document or at its end. [`Extractor::finish`] reports the values that follow.
    pub fn gap(&mut self) {
        let over = match self.position.state {
            JsonState::Malformed | JsonState::TooDeep => true,
            JsonState::Done => !self.gapped,
            _ => false,
        };
        if !over {
            self.position.state = JsonState::Lost;
            self.gapped = true;
            self.deferred.drop_all();
            self.drop_token();
            self.unwind();
            // The byte before the next one is unknown.
            self.escaped = true;
        }
    }

    #[cold]
    pub(super) fn push_after_gap(&mut self, piece: &[u8]) {
        let mut deferred = std::mem::take(&mut self.deferred);
        let mut at = 0;
        while let Some(next) =
            self.step(piece, at, &mut |field, indices, value| deferred.take(field, indices, value))
        {
            at = next;
            if self.position.state == JsonState::Lost {
                deferred.drop_all();
            }
        }
        self.deferred = deferred;
    }

    pub(super) fn lost(&mut self, piece: &[u8], at: usize) -> NextOffset {
        let quote = memchr::memchr(b'"', piece.get(at..)?);
        let Some(quote) = quote.map(|n| at + n) else {
            self.escaped = piece.last().map_or(self.escaped, |&b| b == b'\\');
            return None;
        };
        // An escaped quote does not begin a key.
        let escaped = if quote == 0 { self.escaped } else { piece[quote - 1] == b'\\' };
        self.escaped = false;
        self.position.state = if escaped { JsonState::Lost } else { JsonState::LostKey };
        Some(quote + 1)
    }

    pub(super) fn lost_key(&mut self, piece: &[u8], at: usize) -> NextOffset {
        let Some(end) = scan::quote_or_backslash(piece, at) else {
            self.keep(&piece[at..], MAX_KEY);
            return None;
        };
        self.keep(&piece[at..end], MAX_KEY);
        let node = self.schema.child(NodeId::ROOT, &self.token, 0, self.token.len()).filter(|_| !self.cut);
        self.drop_token();
        if piece[end] == b'\\' {
            self.position.state = JsonState::Lost;
        } else if node.is_some() {
            self.position.child = node;
            self.position.stack[0] = Container { node: NodeId::ROOT, array: false };
            self.position.depth = 1;
            self.position.state = JsonState::Colon;
        }
        // Any other quote that ended something may as well begin the next.
        Some(end + 1)
    }
}
