//! A cache for the common prefix of the documents of a stream.
//!
//! Most chunks of a streamed chat completion begin with the same bytes. Parsing is a function of the bytes, so the
//! common prefix needs no parsing: its values are reported again, and the parser continues from its position behind
//! the prefix. Only the time differs.

use super::{report::Reports, value::Value};

/// Longest prefix that is cached, in bytes.
const LONGEST: usize = 512;

/// Shortest prefix that is cached, in bytes.
const SHORTEST: usize = 16;

/// How many documents in a row have to begin differently before another prefix is learned: not one event of another
/// kind.
const PATIENCE: u8 = 2;

/// The cached prefix. `P` is a position of the parser.
#[derive(Debug)]
pub(super) struct PrefixCache<F, P> {
    /// The first bytes of a document, `known` of which are the prefix.
    bytes: Vec<u8>,
    known: usize,
    misses: u8,
    position: P,
    reports: Reports<F>,
}

impl<F, P: Default> Default for PrefixCache<F, P> {
    fn default() -> Self {
        Self { bytes: Vec::new(), known: 0, misses: 0, position: P::default(), reports: Reports::default() }
    }
}

impl<F: Copy, P: Copy> PrefixCache<F, P> {
    /// Reports the values of the prefix, if the document begins with it. Returns the length of the prefix and the
    /// position of the parser behind it.
    #[inline]
    pub(super) fn replay(
        &mut self,
        piece: &[u8],
        visit: &mut impl FnMut(F, &[u32], Value<'_>),
    ) -> Option<(usize, P)> {
        if self.known == 0 || !piece.starts_with(&self.bytes[..self.known]) {
            return None;
        }
        self.misses = 0;
        self.reports.make(piece, visit);
        Some((self.known, self.position))
    }

    /// Takes a document that does not begin with the prefix. Returns how many first bytes it has in common with the
    /// cached document, which can become the prefix.
    pub(super) fn compare(&mut self, piece: &[u8]) -> usize {
        self.misses = self.misses.saturating_add(1);
        if self.known != 0 && self.misses < PATIENCE {
            return 0;
        }
        let alike = self.bytes.iter().zip(piece).take_while(|(a, b)| a == b).count();
        self.known = 0;
        self.reports.truncate(0);
        // A piece that ends before it differs does not show how much is alike.
        if alike >= SHORTEST && alike < piece.len() {
            return alike;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(&piece[..piece.len().min(LONGEST)]);
        0
    }

    /// Records a report that was made while `piece` was parsed.
    pub(super) fn record(&mut self, piece: &[u8], field: F, indices: &[u32], value: &Value<'_>) {
        // Whole tokens of a first piece are borrowed from it.
        let from = value.text().map_or(0, |text| text.as_ptr().addr() - piece.as_ptr().addr());
        self.reports.push(field, indices, value, from);
    }

    /// The recorded reports are those of the first `known` bytes.
    pub(super) fn commit(&mut self, known: usize, position: P) {
        self.known = known;
        self.position = position;
    }

    /// How many reports were recorded.
    pub(super) fn recorded(&self) -> usize {
        self.reports.len()
    }

    /// Forgets the reports after the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.reports.truncate(count);
    }
}
