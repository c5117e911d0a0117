//! Cuts one direction of an HTTP/1 connection into heads, framing and bodies.
//!
//! Only a head that is cut is buffered. What a head says about its body depends on the other direction, so
//! whoever drives a [`Framer`] tells it after each head how the body ends.

use memchr::memchr;

use super::{
    chunked::{self, Chunked},
    head::{Body, Start, StartLine, unfold},
};
use crate::{Nanos, Reason, reassembly::take};

/// The next piece of a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// The input is used up.
    More,
    /// Bytes of a head that is not whole yet; they come again with [`Step::Head`].
    HeadPart(&'a [u8]),
    /// A head is whole: [`Framer::begin`] or [`Framer::lose_step`] has to be called before the next step.
    Head(Head<'a>),
    /// Bytes between heads and data.
    Framing(&'a [u8]),
    /// Bytes of the body.
    Body(&'a [u8]),
    /// Fields that come after a body are whole; parts of them were [`Step::Framing`] before.
    Trailers(Head<'a>),
    /// The message's last byte has passed.
    End,
    /// Bytes outside of any message, and how many head parts given before were outside, too.
    Skipped(&'a [u8], usize),
    /// A rule was broken; the framer looks for the next message. So many bytes of a head are given up.
    Malformed(Reason, usize),
}

/// A whole head, from its start line to its blank line, lines not folded; or trailers to theirs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    /// Its last bytes, as they were just taken off the input.
    pub(super) fresh: &'a [u8],
    /// All of it, if that is not `fresh`.
    kept: Option<Vec<u8>>,
    /// Time of its first byte.
    pub(super) began: Nanos,
}

impl Head<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.kept.as_deref().unwrap_or(self.fresh)
    }
}

/// What missing bytes did to a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// All of them belong to the current body.
    Inside(u64),
    /// The current body ended in them, after so many of them. In step again only if that was all.
    Ends(u64),
    /// They hide how the current message goes on.
    Lost,
    /// The same of chunks: [`Framer::seek_chunk`] may find the next.
    Chunks,
    /// They are between messages, as far as is known.
    Between,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Framer {
    state: State,
    /// A head, or trailers, that are not whole.
    head: Vec<u8>,
    max_head: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Out of step: a message is looked for where captured calls start.
    Search,
    /// A message begins here.
    Start,
    Head(HeadScan),
    /// A head was given, and its body is not known yet.
    Given,
    Length(u64),
    UntilClose,
    Chunked(Chunked),
    /// Somewhere in a body: a chunk is looked for where captured calls start.
    SeekChunk,
    /// The end of the message has to be told.
    End,
}

/// A head on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeadScan {
    began: Nanos,
    /// It began out of step, so it may turn out to be none.
    strict: bool,
    line: Line,
    folded: bool,
}

/// What is known of the line that is being scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// The start line.
    First,
    /// At the start of a later one.
    Empty,
    /// In one that has nothing but a CR so far.
    Cr,
    Filled,
}

/// A buffer this large is kept for the next head that is cut.
const KEPT_BUFFER: usize = 4 << 10;

impl Framer {
    /// A direction that may be anywhere in a message.
    pub(super) const fn new(max_head: usize) -> Self {
        Self { state: State::Search, head: Vec::new(), max_head }
    }

    /// Takes the next piece off `input`. `starts_call`: it begins where a captured call began.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8], starts_call: bool, at: Nanos) -> Step<'a> {
        match self.state {
            State::End => {
                self.state = State::Start;
                Step::End
            }
            // Its end is told before more input is there.
            State::Chunked(chunked) if chunked.is_over() => {
                self.state = State::Start;
                Step::End
            }
            _ if input.is_empty() => Step::More,
            State::Search if starts_call => {
                let blank = blank(input);
                if blank == input.len() {
                    return Step::Framing(take(input, blank));
                }
                if Start::of(&input[blank..], true) != Start::Neither {
                    self.state = State::Head(HeadScan::new(at, true));
                    return match blank {
                        0 => self.scan_head(input, starts_call),
                        _ => Step::Framing(take(input, blank)),
                    };
                }
                Step::Skipped(take(input, input.len()), 0)
            }
            State::Search => Step::Skipped(take(input, input.len()), 0),
            State::Start => {
                let blank = blank(input);
                if blank > 0 {
                    return Step::Framing(take(input, blank));
                }
                self.state = State::Head(HeadScan::new(at, false));
                self.scan_head(input, starts_call)
            }
            State::Head(_) => self.scan_head(input, starts_call),
            State::Given => {
                self.lose_step();
                Step::Skipped(take(input, input.len()), 0)
            }
            State::Length(left) => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                self.set_left(left - len as u64);
                Step::Body(take(input, len))
            }
            State::UntilClose => Step::Body(take(input, input.len())),
            State::SeekChunk => match Chunked::begins(input).filter(|_| starts_call) {
                Some(before) => {
                    self.state = State::Chunked(Chunked::new());
                    Step::Framing(take(input, before))
                }
                None => Step::Skipped(take(input, input.len()), 0),
            },
            State::Chunked(ref mut chunked) => match chunked.step(input, self.max_head) {
                chunked::Step::Framing(bytes) => Step::Framing(bytes),
                chunked::Step::Data(bytes) => Step::Body(bytes),
                chunked::Step::Trailers(bytes) => {
                    let whole = chunked.is_over();
                    self.trailers(bytes, whole, at)
                }
                chunked::Step::Malformed(reason) => self.malformed(reason),
            },
        }
    }

    /// The head that was just given has this body.
    pub(super) fn begin(&mut self, body: Body) {
        self.state = match body {
            Body::Length(0) => State::End,
            Body::Length(left) => State::Length(left),
            Body::Chunked => State::Chunked(Chunked::new()),
            Body::UntilClose => State::UntilClose,
        };
    }

    /// Takes back the buffer of a head.
    pub(super) fn recycle(&mut self, head: Head<'_>) {
        if let Some(mut kept) = head.kept
            && kept.capacity() <= KEPT_BUFFER
        {
            kept.clear();
            self.head = kept;
        }
    }

    /// Looks for the next message where a captured call starts.
    pub(super) fn lose_step(&mut self) {
        self.state = State::Search;
        self.head = Vec::new();
    }

    /// Looks for the next chunk of the current body where a captured call starts.
    pub(super) fn seek_chunk(&mut self) {
        self.state = State::SeekChunk;
    }

    /// Whether the next chunk is looked for.
    pub(super) fn seeks_chunk(&self) -> bool {
        self.state == State::SeekChunk
    }

    /// A message begins at the next byte, whatever was expected.
    pub(super) fn restart(&mut self) {
        self.state = State::Start;
    }

    /// Whether a message begins at the next byte.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Start
    }

    /// Whether the body is one that ends when the connection closes.
    pub(super) fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Passes over missing bytes.
    pub(super) fn gap(&mut self, missing: u64) -> Gap {
        match &mut self.state {
            State::Length(left) if missing < *left => {
                *left -= missing;
                Gap::Inside(missing)
            }
            State::Length(left) => {
                let ends = *left;
                self.state = if ends == missing { State::Start } else { State::Search };
                Gap::Ends(ends)
            }
            State::UntilClose => Gap::Inside(missing),
            State::Chunked(chunked) => {
                if chunked.gap(missing) {
                    return Gap::Inside(missing);
                }
                self.lose_step();
                Gap::Chunks
            }
            State::SeekChunk => Gap::Chunks,
            State::Search | State::Start | State::End => {
                self.state = State::Search;
                Gap::Between
            }
            State::Head(_) | State::Given => {
                self.lose_step();
                Gap::Lost
            }
        }
    }

    fn set_left(&mut self, left: u64) {
        self.state = if left == 0 { State::End } else { State::Length(left) };
    }

    fn malformed<'a>(&mut self, reason: Reason) -> Step<'a> {
        let given_up = self.head.len();
        self.lose_step();
        Step::Malformed(reason, given_up)
    }

    /// Takes the next part of trailers. Without any, as almost always, nothing is kept of the blank line.
    fn trailers<'a>(&mut self, fresh: &'a [u8], whole: bool, at: Nanos) -> Step<'a> {
        let none = self.head.is_empty() && blank(fresh) == fresh.len();
        if none {
            return Step::Framing(fresh);
        }
        if !whole {
            self.head.extend_from_slice(fresh);
            return Step::Framing(fresh);
        }
        let kept = (!self.head.is_empty()).then(|| {
            let mut head = std::mem::take(&mut self.head);
            head.extend_from_slice(fresh);
            head
        });
        Step::Trailers(Head { fresh, kept, began: at })
    }

    fn scan_head<'a>(&mut self, input: &mut &'a [u8], starts_call: bool) -> Step<'a> {
        let State::Head(mut scan) = self.state else { return Step::More };
        if scan.strict && scan.line == Line::First && starts_call && begins_with_start_line(input) {
            // What began in an earlier call was none.
            let before = self.head.len();
            if before > 0 {
                self.lose_step();
                return Step::Skipped(&[], before);
            }
        }
        let end = match scan.run(&self.head, input) {
            Ok(end) => end,
            Err(_) if scan.strict => {
                let before = self.head.len();
                self.lose_step();
                // What began in an earlier call was no message, but one may begin with this call.
                let now = if starts_call && before > 0 { 0 } else { input.len() };
                return Step::Skipped(take(input, now), before);
            }
            Err(reason) => {
                if self.head.is_empty() || !starts_call {
                    self.head.extend_from_slice(take(input, input.len()));
                }
                return self.malformed(reason);
            }
        };
        let len = end.unwrap_or(input.len());
        if self.head.len() + len > self.max_head {
            self.head.extend_from_slice(take(input, input.len()));
            return self.malformed(Reason::HeadTooLong);
        }
        let fresh = take(input, len);
        self.state = State::Head(scan);
        if end.is_none() {
            self.head.extend_from_slice(fresh);
            return Step::HeadPart(fresh);
        }
        self.state = State::Given;
        let kept = (!self.head.is_empty() || scan.folded).then(|| {
            let mut head = std::mem::take(&mut self.head);
            head.extend_from_slice(fresh);
            if scan.folded {
                unfold(&mut head);
            }
            head
        });
        Step::Head(Head { fresh, kept, began: scan.began })
    }
}

impl HeadScan {
    const fn new(began: Nanos, strict: bool) -> Self {
        Self { began, strict, line: Line::First, folded: false }
    }

    /// Scans on; `before` is what was scanned. Returns the length of the rest of the head if it ends in
    /// `input`.
    fn run(&mut self, before: &[u8], input: &[u8]) -> Result<Option<usize>, Reason> {
        let mut at = 0;
        if self.line == Line::First {
            let Some(lf) = memchr(b'\n', input) else {
                return self.check_first(before, input).map(|()| None);
            };
            self.check_line(before, &input[..lf])?;
            self.line = Line::Empty;
            at = lf + 1;
        }
        while let Some(&first) = input.get(at) {
            self.folded |= self.line == Line::Empty && matches!(first, b' ' | b'\t');
            let lf = memchr(b'\n', &input[at..]);
            let part = &input[at..at + lf.unwrap_or(input.len() - at)];
            self.line = match (self.line, part) {
                (line, []) => line,
                (Line::Empty, b"\r") => Line::Cr,
                _ => Line::Filled,
            };
            let Some(lf) = lf else { break };
            at += lf + 1;
            match self.line {
                Line::Empty | Line::Cr => return Ok(Some(at)),
                Line::First | Line::Filled => self.line = Line::Empty,
            }
        }
        Ok(None)
    }

    /// Checks the first few bytes of a start line that is not whole.
    fn check_first(&self, before: &[u8], input: &[u8]) -> Result<(), Reason> {
        const ENOUGH: usize = 40;
        if before.len() >= ENOUGH {
            return Ok(());
        }
        let mut first = [0; ENOUGH];
        let len = before.iter().chain(input).zip(&mut first).map(|(from, to)| *to = *from).count();
        match Start::of(&first[..len], self.strict) {
            Start::Neither => Err(Reason::StartLineInvalid),
            _ => Ok(()),
        }
    }

    /// Checks a start line whose last part is `end`.
    fn check_line(&self, before: &[u8], end: &[u8]) -> Result<(), Reason> {
        let whole;
        let line = if before.is_empty() {
            end
        } else {
            whole = [before, end].concat();
            &whole
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.strict && !matches!(Start::of(line, true), Start::Request | Start::Response) {
            return Err(Reason::StartLineInvalid);
        }
        StartLine::parse(line).map(|_| ())
    }
}

/// How many bytes of blank lines come first: they are allowed before a message (RFC 9112 §2.2).
fn blank(input: &[u8]) -> usize {
    input.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()
}

/// Whether a whole start line with a known method comes first.
fn begins_with_start_line(input: &[u8]) -> bool {
    matches!(Start::of(input, true), Start::Request | Start::Response)
        && memchr(b'\n', input).is_some_and(|lf| {
            StartLine::parse(input[..lf].strip_suffix(b"\r").unwrap_or(&input[..lf])).is_ok()
        })
}
