//! Runs of captured bytes, and those that are held back until the other direction has been read.

use crate::Nanos;

/// Captured bytes that follow one another in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run<'a> {
    pub(crate) bytes: &'a [u8],
    /// They begin where a captured call of the observed process began, or a frame of HTTP/2 that carries them.
    pub(crate) starts_call: bool,
    /// When they were captured.
    pub(crate) at: Nanos,
}

/// Runs that cannot be read before the other direction says more. Two calls can also overtake each other between
/// the kernel and here.
#[derive(Debug, Default)]
pub(crate) struct HeldRuns {
    bytes: Vec<u8>,
    ends: Vec<RunEnd>,
    /// When the direction was closed behind them.
    pub(crate) closed: Option<Nanos>,
}

/// A held run without its bytes.
#[derive(Clone, Copy, Debug)]
struct RunEnd {
    end: usize,
    starts_call: bool,
    at: Nanos,
}

impl HeldRuns {
    /// What a run takes besides its bytes, in bytes.
    pub(crate) const RUN_COST: usize = size_of::<RunEnd>();

    pub(crate) const fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), closed: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What all runs take, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.len() + self.ends.len() * Self::RUN_COST
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The time of the first byte.
    pub(crate) fn started(&self) -> Option<Nanos> {
        self.ends.first().map(|run| run.at)
    }

    pub(crate) fn push(&mut self, run: Run<'_>) {
        self.bytes.extend_from_slice(run.bytes);
        self.ends.push(RunEnd { end: self.bytes.len(), starts_call: run.starts_call, at: run.at });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Run<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|run| run.end));
        starts.zip(&self.ends).map(|(start, run)| Run {
            bytes: &self.bytes[start..run.end],
            starts_call: run.starts_call,
            at: run.at,
        })
    }
}
