//! Cuts a `multipart/form-data` body into parts, incrementally (RFC 7578, with the boundaries of RFC 2046 §5.1.1).
//!
//! The values of form fields are given. The contents of files are skipped and counted.

mod field;

use memchr::{memmem::Finder, memrchr};

pub use field::{Part, boundary};

use crate::{Reason, reassembly::take};

/// Cuts one body into parts.
///
/// Memory: the boundary, and the head of a part that comes in pieces, up to the bound of [`Parser::new`].
#[derive(Debug)]
pub struct Parser {
    /// A line end, two hyphens and the boundary. Its first byte is its only CR, so that a failed match cannot overlap
    /// with the next one.
    delimiter: Finder<'static>,
    state: MultipartState,
    part: PartKind,
    /// How many bytes of the part's content have come.
    bytes: u64,
    /// The head that comes in pieces.
    kept: Vec<u8>,
    most: usize,
}

/// The pieces of a body, in order: for each part one `Part`, any number of `Value` if it is a field, one `End`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A part begins.
    Part(Part<'a>),
    /// Bytes of a field. Where it is cut into pieces has no meaning.
    Value(&'a [u8]),
    /// The part is over.
    End {
        /// How many bytes of its content were seen.
        bytes: u64,
        /// The content is complete.
        whole: bool,
    },
    /// The line of a boundary is invalid, or the head of a part too long: [`Reason::MultipartBoundaryInvalid`] or
    /// [`Reason::HeadTooLong`]. The next part is searched for.
    Lost(Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MultipartState {
    /// In content, where `matched` bytes of a delimiter have come. `shared`: the line end of the delimiter is that of
    /// the head before it, or the start of the body, so that it is no content.
    Content { matched: usize, shared: bool },
    /// After a delimiter.
    Delimited(DelimiterTail),
    /// In the head of a part, where `ends` bytes of two line ends have come.
    Head { ends: u8 },
    /// After the last delimiter.
    Over,
}

/// What has come behind a delimiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DelimiterTail {
    Nothing,
    Hyphen,
    /// Spaces and tabs, which a transport may add.
    Padding,
    Cr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartKind {
    /// No part: before the first one, or after an invalid one.
    None,
    Field,
    File,
}

const START: MultipartState = MultipartState::Content { matched: LINE_END.len(), shared: true };
const SEARCH: MultipartState = MultipartState::Content { matched: 0, shared: false };
const LINE_END: &[u8] = b"\r\n";
/// Largest buffer that is kept for the next head, in bytes.
const KEPT_BUFFER: usize = 4 << 10;

impl Parser {
    /// A parser for a body with this boundary. It keeps at most `most` bytes of the head of a part.
    #[must_use]
    pub fn new(boundary: &[u8], most: usize) -> Self {
        let delimiter = [LINE_END, b"--", boundary].concat();
        Self {
            delimiter: Finder::new(&delimiter).into_owned(),
            state: START,
            part: PartKind::None,
            bytes: 0,
            kept: Vec::new(),
            most,
        }
    }

    /// Takes bytes of the body and gives the pieces in them to `on`.
    pub fn feed(&mut self, bytes: &[u8], mut on: impl FnMut(Piece<'_>)) {
        let mut input = bytes;
        while !input.is_empty() {
            match self.state {
                MultipartState::Content { matched, shared } => {
                    self.content(&mut input, matched, shared, &mut on)
                }
                MultipartState::Delimited(after) => self.delimited(&mut input, after, &mut on),
                MultipartState::Head { ends } => self.head(&mut input, ends, &mut on),
                MultipartState::Over => return,
            }
        }
    }

    /// Bytes of the body are missing here. They may hide the end of the current part: it ends, and the next one is
    /// searched for.
    pub fn gap(&mut self, on: impl FnMut(Piece<'_>)) {
        if self.state != MultipartState::Over {
            self.end(false, on);
            self.kept.clear();
            self.state = SEARCH;
        }
    }

    /// The body is over.
    ///
    /// # Errors
    /// [`Reason::MultipartTruncated`] when its last boundary has not come.
    pub fn finish(&self) -> Result<(), Reason> {
        match self.state {
            MultipartState::Over => Ok(()),
            START if self.part == PartKind::None => Ok(()),
            _ => Err(Reason::MultipartTruncated),
        }
    }

    fn content(
        &mut self,
        input: &mut &[u8],
        mut matched: usize,
        shared: bool,
        on: &mut impl FnMut(Piece<'_>),
    ) {
        let delimiter = self.delimiter.needle();
        if matched > 0 {
            let same = delimiter[matched..].iter().zip(*input).take_while(|(want, got)| want == got).count();
            take(input, same);
            matched += same;
            if matched == delimiter.len() {
                self.state = MultipartState::Delimited(DelimiterTail::Nothing);
                return;
            }
            if input.is_empty() {
                self.state = MultipartState::Content { matched, shared };
                return;
            }
            // The bytes that matched the start of a delimiter are content.
            let held = &delimiter[if shared { LINE_END.len() } else { 0 }..matched];
            self.bytes += give(self.part, held, on);
        }
        if let Some(at) = self.delimiter.find(input) {
            self.bytes += give(self.part, take(input, at), on);
            take(input, delimiter.len());
            self.state = MultipartState::Delimited(DelimiterTail::Nothing);
            return;
        }
        let tail = input.len().saturating_sub(delimiter.len() - 1);
        let begins = memrchr(b'\r', &input[tail..]).map(|at| tail + at);
        let begins = begins.filter(|at| delimiter.starts_with(&input[*at..])).unwrap_or(input.len());
        self.bytes += give(self.part, take(input, begins), on);
        let matched = take(input, input.len()).len();
        self.state = MultipartState::Content { matched, shared: false };
    }

    /// Takes the rest of a delimiter's line.
    fn delimited(&mut self, input: &mut &[u8], mut after: DelimiterTail, on: &mut impl FnMut(Piece<'_>)) {
        while let [byte, rest @ ..] = *input {
            after = match (after, byte) {
                (DelimiterTail::Nothing, b'-') => DelimiterTail::Hyphen,
                (DelimiterTail::Hyphen, b'-') => {
                    self.end(true, on);
                    self.state = MultipartState::Over;
                    return;
                }
                (DelimiterTail::Nothing | DelimiterTail::Padding, b' ' | b'\t') => DelimiterTail::Padding,
                (DelimiterTail::Nothing | DelimiterTail::Padding, b'\r') => DelimiterTail::Cr,
                (DelimiterTail::Cr, b'\n') => {
                    *input = rest;
                    self.end(true, on);
                    self.state = MultipartState::Head { ends: 2 };
                    return;
                }
                _ => {
                    self.end(false, &mut *on);
                    self.state = SEARCH;
                    on(Piece::Lost(Reason::MultipartBoundaryInvalid));
                    return;
                }
            };
            *input = rest;
        }
        self.state = MultipartState::Delimited(after);
    }

    /// Takes bytes of a head, up to its blank line.
    fn head(&mut self, input: &mut &[u8], mut ends: u8, on: &mut impl FnMut(Piece<'_>)) {
        let room = self.most - self.kept.len();
        let end = input.iter().take(room).position(|&byte| {
            ends = match (ends, byte) {
                (0 | 2, b'\r') | (1 | 3, b'\n') => ends + 1,
                (_, b'\r') => 1,
                _ => 0,
            };
            ends == 4
        });
        if end.is_none() && input.len() > room {
            take(input, room);
            self.kept.clear();
            self.state = SEARCH;
            on(Piece::Lost(Reason::HeadTooLong));
            return;
        }
        let part = take(input, end.map_or(input.len(), |at| at + 1));
        if end.is_none() || !self.kept.is_empty() {
            self.kept.extend_from_slice(part);
        }
        if end.is_none() {
            self.state = MultipartState::Head { ends };
            return;
        }
        let head = Part::parse(if self.kept.is_empty() { part } else { &self.kept });
        self.part = if head.file { PartKind::File } else { PartKind::Field };
        self.bytes = 0;
        self.state = START;
        on(Piece::Part(head));
        self.kept.clear();
        self.kept.shrink_to(KEPT_BUFFER);
    }

    fn end(&mut self, whole: bool, mut on: impl FnMut(Piece<'_>)) {
        if std::mem::replace(&mut self.part, PartKind::None) != PartKind::None {
            on(Piece::End { bytes: self.bytes, whole });
        }
    }
}

/// Gives content of a part; returns its length.
fn give(part: PartKind, bytes: &[u8], on: &mut impl FnMut(Piece<'_>)) -> u64 {
    if part == PartKind::Field && !bytes.is_empty() {
        on(Piece::Value(bytes));
    }
    bytes.len() as u64
}

#[cfg(test)]
mod tests;
