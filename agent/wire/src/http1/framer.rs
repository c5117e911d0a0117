//! Cuts one direction of an HTTP/1 connection into heads, framing and bodies.
//!
//! Only a head that comes in pieces is buffered. The length of a response's body depends on its request, so the
//! caller of a [`Framer`] has to tell it after each head how the body ends.

use memchr::memchr;

use super::{
    chunked::{ChunkStep, Chunked},
    head::{BodyLength, StartKind, StartLine, unfold},
};
use crate::{Nanos, Reason, reassembly::take};

/// The next piece of a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MessageStep<'a> {
    /// The input is used up.
    More,
    /// Bytes of an incomplete head; they come again with [`MessageStep::Head`].
    HeadPart(&'a [u8]),
    /// A complete head: [`Framer::begin`] or [`Framer::lose_sync`] has to be called before the next step.
    Head(RawHead<'a>),
    /// Bytes between heads and data: chunk sizes, ends of line.
    Framing(&'a [u8]),
    /// Bytes of the body.
    Body(&'a [u8]),
    /// Complete trailers; parts of them were [`MessageStep::Framing`] before.
    Trailers(RawHead<'a>),
    /// The last byte of the message has passed.
    End,
    /// Bytes outside of any message, and how many bytes of earlier [`MessageStep::HeadPart`]s were outside, too.
    Skipped(&'a [u8], usize),
    /// The message breaks a rule. The framer looks for the next message, and discards this many bytes of a head.
    Malformed(Reason, usize),
}

/// A complete head, from its start line to its blank line, without folded lines; or complete trailers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawHead<'a> {
    /// Its last bytes, which were just taken off the input.
    pub(super) tail: &'a [u8],
    /// All bytes, where the head is more than `tail`.
    kept: Option<Vec<u8>>,
    /// Time of its first byte.
    pub(super) started: Nanos,
}

impl RawHead<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.kept.as_deref().unwrap_or(self.tail)
    }
}

/// What missing bytes did to a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageGap {
    /// All of them belong to the current body.
    Inside(u64),
    /// The current body ended in them, after this many of them. Where there are more, the framer is out of sync.
    Ends(u64),
    /// They hide how the current message continues.
    Lost,
    /// They hide how the current message, which is in chunks, continues: [`Framer::seek_chunk`] may find the next
    /// chunk.
    Chunks,
    /// They began between two messages.
    Between,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Framer {
    state: MessageState,
    /// An incomplete head, or incomplete trailers.
    head: Vec<u8>,
    max_head: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageState {
    /// Out of sync: a message is looked for where captured calls start.
    Search,
    /// A message begins here.
    Start,
    Head(HeadScan),
    /// After a head, before the caller has told how its body ends.
    AwaitingBody,
    Length(u64),
    UntilClose,
    Chunked(Chunked),
    /// Somewhere in a body: a chunk is looked for where captured calls start.
    SeekChunk,
    /// After the last byte of a message whose end was not returned yet.
    End,
}

/// How far an incomplete head was scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeadScan {
    started: Nanos,
    /// The framer was out of sync: the bytes may turn out to be no head.
    strict: bool,
    line: LineState,
    folded: bool,
}

/// What is known of the line that is being scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// The start line.
    First,
    /// At the start of a later line.
    Empty,
    /// In a line that has nothing but a CR so far.
    Cr,
    Filled,
}

/// Largest buffer that is kept for the next head, in bytes.
const KEPT_BUFFER: usize = 4 << 10;

impl Framer {
    /// A direction that may be anywhere in a message.
    pub(super) const fn new(max_head: usize) -> Self {
        Self { state: MessageState::Search, head: Vec::new(), max_head }
    }

    /// Takes the next piece off `input`. `starts_call`: it begins where a captured call began.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8], starts_call: bool, at: Nanos) -> MessageStep<'a> {
        match self.state {
            MessageState::End => {
                self.state = MessageState::Start;
                MessageStep::End
            }
            // Its end is returned before more input is there.
            MessageState::Chunked(chunked) if chunked.is_over() => {
                self.state = MessageState::Start;
                MessageStep::End
            }
            _ if input.is_empty() => MessageStep::More,
            MessageState::Search if starts_call => {
                let blank = blank_lines(input);
                if blank == input.len() {
                    return MessageStep::Framing(take(input, blank));
                }
                if StartKind::of(&input[blank..], true) != StartKind::Neither {
                    self.state = MessageState::Head(HeadScan::new(at, true));
                    return match blank {
                        0 => self.scan_head(input, starts_call),
                        _ => MessageStep::Framing(take(input, blank)),
                    };
                }
                MessageStep::Skipped(take(input, input.len()), 0)
            }
            MessageState::Search => MessageStep::Skipped(take(input, input.len()), 0),
            MessageState::Start => {
                let blank = blank_lines(input);
                if blank > 0 {
                    return MessageStep::Framing(take(input, blank));
                }
                self.state = MessageState::Head(HeadScan::new(at, false));
                self.scan_head(input, starts_call)
            }
            MessageState::Head(_) => self.scan_head(input, starts_call),
            MessageState::AwaitingBody => {
                self.lose_sync();
                MessageStep::Skipped(take(input, input.len()), 0)
            }
            MessageState::Length(left) => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                self.set_left(left - len as u64);
                MessageStep::Body(take(input, len))
            }
            MessageState::UntilClose => MessageStep::Body(take(input, input.len())),
            MessageState::SeekChunk => match Chunked::begins(input).filter(|_| starts_call) {
                Some(before) => {
                    self.state = MessageState::Chunked(Chunked::new());
                    MessageStep::Framing(take(input, before))
                }
                None => MessageStep::Skipped(take(input, input.len()), 0),
            },
            MessageState::Chunked(ref mut chunked) => match chunked.step(input, self.max_head) {
                ChunkStep::Framing(bytes) => MessageStep::Framing(bytes),
                ChunkStep::Data(bytes) => MessageStep::Body(bytes),
                ChunkStep::Trailers(bytes) => {
                    let whole = chunked.is_over();
                    self.trailers(bytes, whole, at)
                }
                ChunkStep::Malformed(reason) => self.malformed(reason),
            },
        }
    }

    /// The body of the head that was just returned ends like this.
    pub(super) fn begin(&mut self, body: BodyLength) {
        self.state = match body {
            BodyLength::Length(0) => MessageState::End,
            BodyLength::Length(left) => MessageState::Length(left),
            BodyLength::Chunked => MessageState::Chunked(Chunked::new()),
            BodyLength::UntilClose => MessageState::UntilClose,
        };
    }

    /// Takes the buffer of a head back.
    pub(super) fn reuse_buffer(&mut self, head: RawHead<'_>) {
        if let Some(mut kept) = head.kept
            && kept.capacity() <= KEPT_BUFFER
        {
            kept.clear();
            self.head = kept;
        }
    }

    /// Looks for the next message where a captured call starts.
    pub(super) fn lose_sync(&mut self) {
        self.state = MessageState::Search;
        self.head = Vec::new();
    }

    /// Looks for the next chunk of the current body where a captured call starts.
    pub(super) fn seek_chunk(&mut self) {
        self.state = MessageState::SeekChunk;
    }

    /// Whether the next chunk is looked for.
    pub(super) fn seeks_chunk(&self) -> bool {
        self.state == MessageState::SeekChunk
    }

    /// A message begins at the next byte, whatever was expected there.
    pub(super) fn restart(&mut self) {
        self.state = MessageState::Start;
    }

    /// Whether a message begins at the next byte.
    pub(super) fn is_between(&self) -> bool {
        self.state == MessageState::Start
    }

    /// Whether the body ends when the connection closes.
    pub(super) fn is_until_close(&self) -> bool {
        self.state == MessageState::UntilClose
    }

    /// Passes over missing bytes.
    pub(super) fn gap(&mut self, missing: u64) -> MessageGap {
        match &mut self.state {
            MessageState::Length(left) if missing < *left => {
                *left -= missing;
                MessageGap::Inside(missing)
            }
            MessageState::Length(left) => {
                let ends = *left;
                self.state = if ends == missing { MessageState::Start } else { MessageState::Search };
                MessageGap::Ends(ends)
            }
            MessageState::UntilClose => MessageGap::Inside(missing),
            MessageState::Chunked(chunked) => {
                if chunked.gap(missing) {
                    return MessageGap::Inside(missing);
                }
                self.lose_sync();
                MessageGap::Chunks
            }
            MessageState::SeekChunk => MessageGap::Chunks,
            MessageState::Search | MessageState::Start | MessageState::End => {
                self.state = MessageState::Search;
                MessageGap::Between
            }
            MessageState::Head(_) | MessageState::AwaitingBody => {
                self.lose_sync();
                MessageGap::Lost
            }
        }
    }

    fn set_left(&mut self, left: u64) {
        self.state = if left == 0 { MessageState::End } else { MessageState::Length(left) };
    }

    fn malformed<'a>(&mut self, reason: Reason) -> MessageStep<'a> {
        let discarded = self.head.len();
        self.lose_sync();
        MessageStep::Malformed(reason, discarded)
    }

    /// Takes the next part of the trailers. Nothing is kept of a blank line alone, as nearly all bodies have it.
    fn trailers<'a>(&mut self, tail: &'a [u8], whole: bool, at: Nanos) -> MessageStep<'a> {
        let none = self.head.is_empty() && blank_lines(tail) == tail.len();
        if none {
            return MessageStep::Framing(tail);
        }
        if !whole {
            self.head.extend_from_slice(tail);
            return MessageStep::Framing(tail);
        }
        let kept = (!self.head.is_empty()).then(|| {
            let mut head = std::mem::take(&mut self.head);
            head.extend_from_slice(tail);
            head
        });
        MessageStep::Trailers(RawHead { tail, kept, started: at })
    }

    fn scan_head<'a>(&mut self, input: &mut &'a [u8], starts_call: bool) -> MessageStep<'a> {
        let MessageState::Head(mut scan) = self.state else { return MessageStep::More };
        if scan.strict && scan.line == LineState::First && starts_call && begins_with_start_line(input) {
            // The bytes of an earlier call were no head.
            let before = self.head.len();
            if before > 0 {
                self.lose_sync();
                return MessageStep::Skipped(&[], before);
            }
        }
        let end = match scan.run(&self.head, input) {
            Ok(end) => end,
            Err(_) if scan.strict => {
                let before = self.head.len();
                self.lose_sync();
                // The bytes of an earlier call were no message, but this call may begin one.
                let now = if starts_call && before > 0 { 0 } else { input.len() };
                return MessageStep::Skipped(take(input, now), before);
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
        let tail = take(input, len);
        self.state = MessageState::Head(scan);
        if end.is_none() {
            self.head.extend_from_slice(tail);
            return MessageStep::HeadPart(tail);
        }
        self.state = MessageState::AwaitingBody;
        let kept = (!self.head.is_empty() || scan.folded).then(|| {
            let mut head = std::mem::take(&mut self.head);
            head.extend_from_slice(tail);
            if scan.folded {
                unfold(&mut head);
            }
            head
        });
        MessageStep::Head(RawHead { tail, kept, started: scan.started })
    }
}

impl HeadScan {
    const fn new(started: Nanos, strict: bool) -> Self {
        Self { started, strict, line: LineState::First, folded: false }
    }

    /// Continues the scan behind `before`. Returns the length of the rest of the head if it ends in `input`.
    fn run(&mut self, before: &[u8], input: &[u8]) -> Result<Option<usize>, Reason> {
        let mut at = 0;
        if self.line == LineState::First {
            let Some(lf) = memchr(b'\n', input) else {
                return self.check_first(before, input).map(|()| None);
            };
            self.check_line(before, &input[..lf])?;
            self.line = LineState::Empty;
            at = lf + 1;
        }
        while let Some(&first) = input.get(at) {
            self.folded |= self.line == LineState::Empty && matches!(first, b' ' | b'\t');
            let lf = memchr(b'\n', &input[at..]);
            let part = &input[at..at + lf.unwrap_or(input.len() - at)];
            self.line = match (self.line, part) {
                (line, []) => line,
                (LineState::Empty, b"\r") => LineState::Cr,
                _ => LineState::Filled,
            };
            let Some(lf) = lf else { break };
            at += lf + 1;
            match self.line {
                LineState::Empty | LineState::Cr => return Ok(Some(at)),
                LineState::First | LineState::Filled => self.line = LineState::Empty,
            }
        }
        Ok(None)
    }

    /// Checks the first bytes of an incomplete start line.
    fn check_first(&self, before: &[u8], input: &[u8]) -> Result<(), Reason> {
        const ENOUGH: usize = 40;
        if before.len() >= ENOUGH {
            return Ok(());
        }
        let mut first = [0; ENOUGH];
        let len = before.iter().chain(input).zip(&mut first).map(|(from, to)| *to = *from).count();
        match StartKind::of(&first[..len], self.strict) {
            StartKind::Neither => Err(Reason::StartLineInvalid),
            _ => Ok(()),
        }
    }

    /// Checks a complete start line, whose last part is `end`.
    fn check_line(&self, before: &[u8], end: &[u8]) -> Result<(), Reason> {
        let whole;
        let line = if before.is_empty() {
            end
        } else {
            whole = [before, end].concat();
            &whole
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.strict && !matches!(StartKind::of(line, true), StartKind::Request | StartKind::Response) {
            return Err(Reason::StartLineInvalid);
        }
        StartLine::parse(line).map(|_| ())
    }
}

/// The length of the blank lines that come first: they are allowed before a message (RFC 9112 §2.2).
fn blank_lines(input: &[u8]) -> usize {
    input.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()
}

/// Whether a complete start line with a known method comes first.
fn begins_with_start_line(input: &[u8]) -> bool {
    matches!(StartKind::of(input, true), StartKind::Request | StartKind::Response)
        && memchr(b'\n', input).is_some_and(|lf| {
            StartLine::parse(input[..lf].strip_suffix(b"\r").unwrap_or(&input[..lf])).is_ok()
        })
}
