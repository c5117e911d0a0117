//! What an HTTP/1 connection keeps for one direction.

use super::{
    framer::Framer,
    head::{self, Body},
};
use crate::{
    Headers, Interest, Limits, Nanos,
    coding::{Decoder, Want},
};

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) framer: Framer,
    pub(super) body: BodyUse,
    pub(super) held: Held,
}

/// What is done with the bytes of the current body.
#[derive(Debug)]
pub(super) enum BodyUse {
    Skip,
    Plain,
    Coded(Box<Decoder>),
}

impl Lane {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self { framer: Framer::new(limits.head), body: BodyUse::Skip, held: Held::new() }
    }
}

impl BodyUse {
    /// What to do with the body of a message; and why it cannot be decoded, if so.
    pub(super) fn new(
        interest: Interest,
        body: Body,
        headers: Headers<'_>,
        limits: &Limits,
    ) -> (Self, Option<&'static str>) {
        if interest == Interest::Skip || body == Body::Length(0) {
            return (Self::Skip, None);
        }
        match Decoder::new(head::codings(headers), *limits) {
            Ok(None) => (Self::Plain, None),
            Ok(Some(decoder)) => (Self::Coded(Box::new(decoder)), None),
            Err(reason) => (Self::Skip, Some(reason)),
        }
    }

    /// Takes bytes as they were sent and gives them on as they were meant.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut give: impl FnMut(&[u8]) -> Want,
    ) -> Result<(), &'static str> {
        let wanted = match self {
            Self::Skip => return Ok(()),
            Self::Plain => Ok(give(bytes)),
            Self::Coded(decoder) => decoder.feed(bytes, &mut give),
        };
        if wanted != Ok(Want::More) {
            *self = Self::Skip;
        }
        wanted.map(|_| ())
    }

    /// Bytes are missing: a coding cannot be undone any further.
    pub(super) fn gap(&mut self) {
        if matches!(self, Self::Coded(_)) {
            *self = Self::Skip;
        }
    }

    /// The body is over.
    pub(super) fn finish(&mut self) -> Result<(), &'static str> {
        match std::mem::replace(self, Self::Skip) {
            Self::Coded(decoder) => decoder.finish(),
            Self::Skip | Self::Plain => Ok(()),
        }
    }

    pub(super) const fn is_wanted(&self) -> bool {
        !matches!(self, Self::Skip)
    }
}

/// Captured runs that wait for the other direction: two calls can overtake each other on their way here.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// When the direction was closed after them.
    pub(super) closed: Option<Nanos>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    end: usize,
    starts_call: bool,
    at: Nanos,
}

impl Held {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), runs: Vec::new(), closed: None }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The time of the first byte.
    pub(super) fn began(&self) -> Option<Nanos> {
        self.runs.first().map(|run| run.at)
    }

    pub(super) fn push(&mut self, bytes: &[u8], starts_call: bool, at: Nanos) {
        self.bytes.extend_from_slice(bytes);
        self.runs.push(Run { end: self.bytes.len(), starts_call, at });
    }

    /// The runs as (bytes, whether they start a call, time).
    pub(super) fn runs(&self) -> impl Iterator<Item = (&[u8], bool, Nanos)> {
        let starts = std::iter::once(0).chain(self.runs.iter().map(|run| run.end));
        starts.zip(&self.runs).map(|(start, run)| (&self.bytes[start..run.end], run.starts_call, run.at))
    }
}
