//! How the documents of a stream begin: all alike, up to what changes from one to the next.
//!
//! A chunk of a streamed chat completion says mostly what the one before said. Parsing is a function of the
//! bytes, so a document that begins with the same bytes as an earlier one needs no parsing up to there: the
//! reports are made again, and the parser goes on from where it was. Nothing differs but the time it takes.

use super::{report::Reports, value::Value};

/// Longest beginning that is remembered, in bytes.
const LONGEST: usize = 512;

/// Shortest beginning that is worth it, in bytes.
const SHORTEST: usize = 16;

/// Documents in a row that begin differently before another beginning is learned: an event of another kind in
/// between is no reason.
const PATIENCE: u8 = 2;

/// What is remembered of the documents so far. `P` is where the parser is.
#[derive(Debug)]
pub(super) struct PrefixCache<F, P> {
    /// The first bytes of a document, of which so many are understood.
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
    /// Makes the reports of a document that begins as is known; returns where to go on, and from what state.
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

    /// Takes a document that is not known. Returns how many of its first bytes it shares with the remembered
    /// one: what is worth learning.
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

    /// Learns a report made while parsing `piece`.
    pub(super) fn record(&mut self, piece: &[u8], field: F, indices: &[u32], value: &Value<'_>) {
        // Whole tokens of a first piece are borrowed from it.
        let from = value.text().map_or(0, |text| text.as_ptr().addr() - piece.as_ptr().addr());
        self.reports.push(field, indices, value, from);
    }

    /// What was recorded so far is what the first `known` bytes say.
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
