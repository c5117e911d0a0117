//! How the documents of a stream begin: all alike, up to what changes from one to the next.
//!
//! A chunk of a streamed chat completion says mostly what the one before said. Parsing is a function of the
//! bytes, so a document that begins with the same bytes as an earlier one needs no parsing up to there: the
//! reports are made again, and the parser goes on from where it was. Nothing differs but the time it takes.

use super::value::{Number, Str, Value};

/// Longest beginning that is remembered, in bytes.
const LONGEST: usize = 512;

/// Shortest beginning that is worth it, in bytes.
const SHORTEST: usize = 16;

/// Documents in a row that begin differently before another beginning is learned: an event of another kind in
/// between is no reason.
const PATIENCE: u8 = 2;

/// What is remembered of the documents so far. `P` is where the parser is.
#[derive(Debug)]
pub(super) struct Opening<F, P> {
    /// The first bytes of a document, of which so many are understood.
    bytes: Vec<u8>,
    known: usize,
    misses: u8,
    place: P,
    reports: Vec<Report<F>>,
    indices: Vec<u32>,
}

#[derive(Debug)]
struct Report<F> {
    field: F,
    /// Where its indices end in `Opening::indices`; they begin where those of the one before end.
    indices_end: usize,
    value: Kept,
}

/// A value by its place in the document.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Null,
    Bool(bool),
    Object,
    Array,
    End,
    Number { from: usize, to: usize },
    Str { from: usize, to: usize, cap: u16 },
}

impl<F, P: Default> Default for Opening<F, P> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            known: 0,
            misses: 0,
            place: P::default(),
            reports: Vec::new(),
            indices: Vec::new(),
        }
    }
}

impl<F: Copy, P: Copy> Opening<F, P> {
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
        let mut from = 0;
        for report in &self.reports {
            visit(report.field, &self.indices[from..report.indices_end], report.value.of(piece));
            from = report.indices_end;
        }
        Some((self.known, self.place))
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
        self.reports.clear();
        self.indices.clear();
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
        self.indices.extend_from_slice(indices);
        self.reports.push(Report { field, indices_end: self.indices.len(), value: Kept::from(value, piece) });
    }

    /// What was recorded so far is what the first `known` bytes say.
    pub(super) fn commit(&mut self, known: usize, place: P) {
        self.known = known;
        self.place = place;
    }

    /// How many reports were recorded.
    pub(super) fn recorded(&self) -> usize {
        self.reports.len()
    }

    /// Forgets the reports after the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.reports.truncate(count);
        self.indices.truncate(self.reports.last().map_or(0, |report| report.indices_end));
    }
}

impl Kept {
    fn from(value: &Value<'_>, piece: &[u8]) -> Self {
        // Whole tokens of a first piece are borrowed from it.
        let range = |raw: &[u8]| {
            let from = raw.as_ptr().addr() - piece.as_ptr().addr();
            (from, from + raw.len())
        };
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Object => Self::Object,
            Value::Array => Self::Array,
            Value::End => Self::End,
            Value::Number(Number { raw }) => {
                let (from, to) = range(raw);
                Self::Number { from, to }
            }
            Value::Str(Str { raw, cap, .. }) => {
                let (from, to) = range(raw);
                Self::Str { from, to, cap: *cap }
            }
        }
    }

    #[inline]
    fn of(self, piece: &[u8]) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Object => Value::Object,
            Self::Array => Value::Array,
            Self::End => Value::End,
            Self::Number { from, to } => Value::Number(Number { raw: &piece[from..to] }),
            Self::Str { from, to, cap } => Value::Str(Str { raw: &piece[from..to], cap, cut: false }),
        }
    }
}
