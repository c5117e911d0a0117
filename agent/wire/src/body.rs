//! What is done with the bytes of a body.

use std::ops::ControlFlow;

use crate::{Headers, Interest, Limits, Reason, coding::Decoder};

/// What is done with the bytes of the current body.
#[derive(Debug)]
pub(crate) enum BodyUse {
    Skip,
    Plain,
    Coded(Box<Decoder>),
}

impl BodyUse {
    /// What is done with a body of a message with these headers, and why it cannot be decoded, if it cannot.
    pub(crate) fn new(interest: Interest, headers: Headers<'_>, limits: &Limits) -> (Self, Option<Reason>) {
        if interest == Interest::Skip {
            return (Self::Skip, None);
        }
        match Decoder::new(codings(headers), *limits) {
            Ok(None) => (Self::Plain, None),
            Ok(Some(decoder)) => (Self::Coded(Box::new(decoder)), None),
            Err(reason) => (Self::Skip, Some(reason)),
        }
    }

    /// Takes bytes as they were sent, and gives the decoded ones to `give` until that wants no more.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut give: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Reason> {
        let wanted = match self {
            Self::Skip => return Ok(()),
            Self::Plain => Ok(give(bytes)),
            Self::Coded(decoder) => decoder.feed(bytes, &mut give),
        };
        if wanted != Ok(ControlFlow::Continue(())) {
            *self = Self::Skip;
        }
        wanted.map(|_| ())
    }

    /// Bytes are missing: the rest of a body with a content coding cannot be decoded.
    pub(crate) fn gap(&mut self) {
        if matches!(self, Self::Coded(_)) {
            *self = Self::Skip;
        }
    }

    /// The body is over.
    pub(crate) fn finish(&mut self) -> Result<(), Reason> {
        match std::mem::replace(self, Self::Skip) {
            Self::Coded(decoder) => decoder.finish(),
            Self::Skip | Self::Plain => Ok(()),
        }
    }

    pub(crate) const fn is_wanted(&self) -> bool {
        !matches!(self, Self::Skip)
    }
}

/// The codings of a body in the order in which they were applied, without chunked.
pub(crate) fn codings(headers: Headers<'_>) -> impl Iterator<Item = &[u8]> {
    let transfer = headers.members("transfer-encoding");
    let transfer = transfer.filter(|coding| !coding.eq_ignore_ascii_case(b"chunked"));
    headers.members("content-encoding").chain(transfer)
}

/// The only value of Content-Length, which may be repeated (RFC 9110 §8.6).
pub(crate) fn content_length(headers: Headers<'_>) -> Result<Option<u64>, Reason> {
    let mut length = None;
    for value in headers.all("content-length").flat_map(|value| value.split(|&b| b == b',')) {
        let value = value.trim_ascii();
        let number = (!value.is_empty() && value.iter().all(u8::is_ascii_digit))
            .then(|| value.iter().try_fold(0_u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0'))))
            .flatten()
            .ok_or(Reason::ContentLengthInvalid)?;
        if length.is_some_and(|length| length != number) {
            return Err(Reason::ContentLengthInvalid);
        }
        length = Some(number);
    }
    Ok(length)
}
