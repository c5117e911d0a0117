//! Cuts an `application/vnd.amazon.eventstream` body into messages, incrementally (Amazon Event Stream Encoding, as
//! in the Smithy specification).
//!
//! A message is a prelude (its length, that of its headers, and a CRC-32 of both), headers, a payload, and a
//! CRC-32 of everything before it. Payloads are not kept.

mod header;

use crc32fast::Hasher;

pub use header::{Headers, Value};

use crate::{Reason, reassembly::take};

/// Cuts one body into messages.
///
/// Memory: the header block that comes in pieces, up to the bound of [`Parser::new`].
#[derive(Debug)]
pub struct Parser {
    state: EventMessageState,
    /// The header block that comes in pieces.
    kept: Vec<u8>,
    most: usize,
    /// The checksum of the message so far.
    sum: Hasher,
    /// The error of the message, if that is known before its end.
    wrong: Option<Reason>,
}

/// The pieces of a body, in order: for each message one `Head`, any number of `Payload` and `Gap`, one `End`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A message begins.
    Head {
        /// Its headers.
        headers: Headers<'a>,
        /// The length of its payload, in bytes.
        payload: u32,
    },
    /// Bytes of the payload. Where it is cut into pieces has no meaning.
    Payload(&'a [u8]),
    /// This many bytes of the payload are missing here.
    Gap(u32),
    /// The message is over. The error is [`Reason::EventStreamChecksumInvalid`] when its bytes do not match the
    /// checksum, [`Reason::EventStreamHeadersInvalid`] when its headers could not be read, [`Reason::EventStreamGap`]
    /// when bytes are missing, so that the checksum cannot be verified.
    End(Result<(), Reason>),
    /// No message begins here: [`Reason::EventStreamPreludeInvalid`]. The next one is searched for.
    Lost(Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventMessageState {
    /// In a prelude: the low `have` bytes of `word` have come. During a search, the prelude may begin with any of
    /// them.
    Prelude {
        word: u128,
        have: u8,
        search: bool,
    },
    /// In the headers, with `left` bytes to come. `cut`: no more of them are kept.
    Headers {
        left: u32,
        payload: u32,
        cut: bool,
    },
    Payload {
        left: u32,
    },
    Checksum {
        sum: u32,
        have: u8,
    },
}

const START: EventMessageState = EventMessageState::Prelude { word: 0, have: 0, search: false };
const SEARCH: EventMessageState = EventMessageState::Prelude { word: 0, have: 0, search: true };
const PRELUDE: u8 = 12;
const CHECKSUM: u8 = 4;
/// The length of a message without headers and payload.
const FRAME: u32 = PRELUDE as u32 + CHECKSUM as u32;
/// Longest message that the SDKs write and read.
const MAX_MESSAGE: u32 = 24 << 20;
const MAX_HEADERS: u32 = 128 << 10;
/// Largest buffer that is kept for the next header block, in bytes.
const KEPT_BUFFER: usize = 4 << 10;

impl Parser {
    /// A parser that keeps at most `most` bytes of a header block that comes in pieces.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { state: START, kept: Vec::new(), most, sum: Hasher::new(), wrong: None }
    }

    /// Takes bytes of the body and gives the pieces in them to `on`.
    ///
    /// Out of sync, the next message is searched for. The checksum of a prelude is wrong for all other bytes with valid
    /// lengths but one in 2³².
    pub fn feed(&mut self, bytes: &[u8], mut on: impl FnMut(Piece<'_>)) {
        let mut input = bytes;
        while !input.is_empty() {
            match self.state {
                EventMessageState::Prelude { .. } => self.prelude(&mut input, &mut on),
                EventMessageState::Headers { left, payload, cut } => {
                    let len = input.len().min(left as usize);
                    let part = take(&mut input, len);
                    self.sum.update(part);
                    let left = left - part.len() as u32;
                    if left == 0 && self.kept.is_empty() && !cut {
                        self.head(part, true, payload, &mut on);
                        continue;
                    }
                    let room =
                        if cut { 0 } else { self.most.saturating_sub(self.kept.len()).min(part.len()) };
                    self.kept.extend_from_slice(&part[..room]);
                    self.state = EventMessageState::Headers { left, payload, cut: cut || room < part.len() };
                    self.end_headers(&mut on);
                }
                EventMessageState::Payload { left } => {
                    let len = input.len().min(left as usize);
                    let part = take(&mut input, len);
                    self.sum.update(part);
                    self.set_payload(left - part.len() as u32);
                    on(Piece::Payload(part));
                }
                EventMessageState::Checksum { sum, have } => {
                    let byte = take(&mut input, 1)[0];
                    self.state =
                        EventMessageState::Checksum { sum: sum << 8 | u32::from(byte), have: have + 1 };
                    self.end(&mut on);
                }
            }
        }
    }

    /// Bytes of the body are missing here. `None`: it is not known how many. If they are all in the current message,
    /// only that is incomplete, else the next message is searched for.
    pub fn gap(&mut self, missing: Option<u64>, mut on: impl FnMut(Piece<'_>)) {
        let mut missing = match missing {
            Some(0) => return,
            Some(missing) if missing <= self.left() => missing as u32,
            _ => {
                if matches!(
                    self.state,
                    EventMessageState::Payload { .. } | EventMessageState::Checksum { .. }
                ) {
                    on(Piece::End(Err(Reason::EventStreamGap)));
                }
                self.state = SEARCH;
                self.drop_kept();
                return;
            }
        };
        self.wrong = self.wrong.or(Some(Reason::EventStreamGap));
        if let EventMessageState::Headers { left, payload, .. } = self.state {
            let part = missing.min(left);
            missing -= part;
            self.state = EventMessageState::Headers { left: left - part, payload, cut: true };
            self.end_headers(&mut on);
        }
        if let EventMessageState::Payload { left } = self.state
            && missing > 0
        {
            let part = missing.min(left);
            missing -= part;
            self.set_payload(left - part);
            on(Piece::Gap(part));
        }
        if let EventMessageState::Checksum { sum, have } = self.state {
            // What is left of the message is at most this.
            self.state = EventMessageState::Checksum { sum, have: have + missing as u8 };
            self.end(&mut on);
        }
    }

    /// The body is over.
    ///
    /// # Errors
    /// [`Reason::EventStreamTruncated`] when a message has begun and not ended.
    pub const fn finish(&self) -> Result<(), Reason> {
        match self.state {
            EventMessageState::Prelude { search: true, .. } | EventMessageState::Prelude { have: 0, .. } => {
                Ok(())
            }
            _ => Err(Reason::EventStreamTruncated),
        }
    }

    /// How many bytes of the current message are to come, as far as is known.
    const fn left(&self) -> u64 {
        match self.state {
            EventMessageState::Prelude { .. } => 0,
            EventMessageState::Headers { left, payload, .. } => {
                left as u64 + payload as u64 + CHECKSUM as u64
            }
            EventMessageState::Payload { left } => left as u64 + CHECKSUM as u64,
            EventMessageState::Checksum { have, .. } => (CHECKSUM - have) as u64,
        }
    }

    fn prelude(&mut self, input: &mut &[u8], on: &mut impl FnMut(Piece<'_>)) {
        let EventMessageState::Prelude { mut word, mut have, mut search } = self.state else { return };
        while let [byte, rest @ ..] = *input {
            *input = rest;
            word = word << 8 | u128::from(*byte);
            have = (have + 1).min(PRELUDE);
            if have < PRELUDE {
                continue;
            }
            if let Some((headers, payload)) = self.begin(word) {
                self.state = EventMessageState::Headers { left: headers, payload, cut: false };
                self.end_headers(on);
                return;
            }
            if !search {
                search = true;
                on(Piece::Lost(Reason::EventStreamPreludeInvalid));
            }
        }
        self.state = EventMessageState::Prelude { word, have, search };
    }

    /// The lengths of headers and payload, if the low 12 bytes of `word` are a prelude.
    fn begin(&mut self, word: u128) -> Option<(u32, u32)> {
        let [_, _, _, _, prelude @ ..] = word.to_be_bytes();
        let ([a, b, c, d, e, f, g, h, sum @ ..], total, headers) =
            (prelude, (word >> 64) as u32, (word >> 32) as u32);
        let payload = total.checked_sub(FRAME)?.checked_sub(headers)?;
        if total > MAX_MESSAGE || headers > MAX_HEADERS {
            return None;
        }
        self.sum.reset();
        self.sum.update(&[a, b, c, d, e, f, g, h]);
        if self.sum.clone().finalize() != u32::from_be_bytes(sum) {
            return None;
        }
        self.sum.update(&sum);
        self.wrong = None;
        Some((headers, payload))
    }

    /// Gives the head from the kept bytes, once the headers have passed.
    fn end_headers(&mut self, on: &mut impl FnMut(Piece<'_>)) {
        if let EventMessageState::Headers { left: 0, payload, cut } = self.state {
            let kept = std::mem::take(&mut self.kept);
            self.head(&kept, !cut, payload, on);
            self.kept = kept;
            self.drop_kept();
        }
    }

    fn head(&mut self, block: &[u8], whole: bool, payload: u32, on: &mut impl FnMut(Piece<'_>)) {
        let headers = Headers::new(block, whole);
        if whole && !headers.complete {
            self.wrong = self.wrong.or(Some(Reason::EventStreamHeadersInvalid));
        }
        self.set_payload(payload);
        on(Piece::Head { headers, payload });
    }

    const fn set_payload(&mut self, left: u32) {
        self.state = if left == 0 {
            EventMessageState::Checksum { sum: 0, have: 0 }
        } else {
            EventMessageState::Payload { left }
        };
    }

    /// Ends the message once its last byte has passed.
    fn end(&mut self, on: &mut impl FnMut(Piece<'_>)) {
        if let EventMessageState::Checksum { sum, have: CHECKSUM } = self.state {
            let wrong = self.wrong.or_else(|| {
                (self.sum.clone().finalize() != sum).then_some(Reason::EventStreamChecksumInvalid)
            });
            self.state = START;
            on(Piece::End(wrong.map_or(Ok(()), Err)));
        }
    }

    fn drop_kept(&mut self) {
        self.kept.clear();
        self.kept.shrink_to(KEPT_BUFFER);
    }
}

#[cfg(test)]
mod tests;
