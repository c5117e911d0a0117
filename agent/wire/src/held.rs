//! Captured bytes that cannot be read yet.

use crate::Nanos;

/// Captured runs that wait for the other direction: two calls can overtake each other on their way here.
#[derive(Debug, Default)]
pub(crate) struct HeldRuns {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// When the direction was closed after them.
    pub(crate) closed: Option<Nanos>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    end: usize,
    starts_call: bool,
    at: Nanos,
}

impl HeldRuns {
    /// What the place of a run takes, in bytes.
    pub(crate) const RUN: usize = size_of::<Run>();

    pub(crate) const fn new() -> Self {
        Self { bytes: Vec::new(), runs: Vec::new(), closed: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes with the places of their runs, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.len() + self.runs.len() * Self::RUN
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The time of the first byte.
    pub(crate) fn began(&self) -> Option<Nanos> {
        self.runs.first().map(|run| run.at)
    }

    pub(crate) fn push(&mut self, bytes: &[u8], starts_call: bool, at: Nanos) {
        self.bytes.extend_from_slice(bytes);
        self.runs.push(Run { end: self.bytes.len(), starts_call, at });
    }

    /// The runs as (bytes, whether they start a call, time).
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&[u8], bool, Nanos)> {
        let starts = std::iter::once(0).chain(self.runs.iter().map(|run| run.end));
        starts.zip(&self.runs).map(|(start, run)| (&self.bytes[start..run.end], run.starts_call, run.at))
    }
}
