//! Cuts one direction of an HTTP/2 connection into frames (RFC 9113 §4, §6), in sync.
//!
//! Only a field block that comes in pieces is buffered.

use crate::{Nanos, Reason, reassembly::take};

/// The connection preface, which a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 9;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) length: u32,
    kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
    /// RFC 9218 §7.1
    pub(super) const PRIORITY_UPDATE: u8 = 16;
}

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The next piece of a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrameStep<'a> {
    /// The input is used up.
    More,
    /// Content of a stream. `starts`: the content of a frame begins with it.
    Data { stream: u32, bytes: &'a [u8], starts: bool },
    /// This side of a stream has ended with a DATA frame.
    End(u32),
    /// A complete field block.
    Block(FieldBlock<'a>),
    /// A stream was reset.
    Reset(u32),
    /// This side ignores streams above this number.
    GoAway(u32),
    /// A frame breaks a rule: the direction is out of sync.
    Malformed(Reason),
}

/// A field block, put together from its frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FieldBlock<'a> {
    pub(super) stream: u32,
    /// The block belongs to a PUSH_PROMISE frame.
    pub(super) is_promise: bool,
    /// This side of the stream ends with the block.
    pub(super) ends_stream: bool,
    pub(super) fields: BlockBytes<'a>,
    /// Time of its first byte.
    pub(super) started: Nanos,
}

/// The bytes of a field block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BlockBytes<'a> {
    Whole(&'a [u8]),
    /// They came in pieces. [`Framer::reuse_buffer`] takes the buffer back.
    Joined(Vec<u8>),
    /// Some are missing, or they are too many. This many bytes were there and are dropped.
    Lost(Reason, usize),
}

impl FieldBlock<'_> {
    /// The same, without the input that it was cut from.
    pub(super) fn into_owned(self) -> FieldBlock<'static> {
        let fields = match self.fields {
            BlockBytes::Whole(bytes) => BlockBytes::Joined(bytes.to_vec()),
            BlockBytes::Joined(bytes) => BlockBytes::Joined(bytes),
            BlockBytes::Lost(reason, len) => BlockBytes::Lost(reason, len),
        };
        FieldBlock { fields, ..self }
    }
}

impl BlockBytes<'_> {
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Joined(bytes) => Some(bytes),
            Self::Lost(..) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Lost(_, len) => *len,
            _ => self.bytes().map_or(0, <[u8]>::len),
        }
    }
}

/// What missing bytes did to a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameGap {
    /// This many bytes of the content of a stream are missing, and nothing else.
    Data(u32, u64),
    /// Nothing that matters is missing, or it will be reported with its field block.
    Hidden,
    /// The direction is out of sync. If the frame that was cut carries content: its stream, how many bytes of the
    /// content are missing, and whether this side of the stream ends with it.
    Lost(Option<(u32, u64, bool)>),
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Framer {
    state: FrameState,
    /// The field block whose last frame has not come.
    open: Option<OpenBlock>,
    block: Vec<u8>,
    max_block: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameState {
    /// In the connection preface, of which this many bytes have come.
    Preface(usize),
    /// In a frame's header, or in the fields of fixed size after it.
    Fixed {
        bytes: [u8; HEADER + MAX_PREFIX],
        have: usize,
        started: Nanos,
    },
    Payload(FramePayload),
}

/// The most bytes of fixed fields: pad length and priority.
const MAX_PREFIX: usize = 6;
const START: FrameState = FrameState::Fixed { bytes: [0; HEADER + MAX_PREFIX], have: 0, started: Nanos(0) };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FramePayload {
    header: FrameHeader,
    /// How many bytes of content are to come, and of padding behind it.
    content: u32,
    padding: u32,
    /// The end of the content was reported.
    reported: bool,
    /// The last stream of a GOAWAY frame.
    last: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenBlock {
    stream: u32,
    is_promise: bool,
    ends_stream: bool,
    lost: Option<(Reason, usize)>,
    started: Nanos,
}

impl FramePayload {
    /// Whether no byte of the content has come.
    fn is_untouched(&self) -> bool {
        self.content + self.padding + self.header.prefix() as u32 == self.header.length
    }
}

/// Largest buffer that is kept for the next field block, in bytes.
const KEPT_BUFFER: usize = 4 << 10;

impl Framer {
    /// A direction whose next byte begins a frame.
    pub(super) const fn new(max_block: usize) -> Self {
        Self { state: START, open: None, block: Vec::new(), max_block }
    }

    /// The next byte begins the connection preface.
    pub(super) fn expect_preface(&mut self) {
        self.state = FrameState::Preface(0);
    }

    /// The next byte begins a frame, whatever was expected there.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.max_block);
    }

    /// Takes the next piece off `input`.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8], at: Nanos) -> FrameStep<'a> {
        loop {
            match self.state {
                FrameState::Payload(payload) if payload.content == 0 && !payload.reported => {
                    self.state = FrameState::Payload(FramePayload { reported: true, ..payload });
                    if let Some(step) = self.frame_content_end(payload, &[]) {
                        return step;
                    }
                }
                FrameState::Payload(FramePayload { content: 0, padding: 0, .. }) => self.state = START,
                _ if input.is_empty() => return FrameStep::More,
                FrameState::Preface(have) => {
                    let len = input.len().min(PREFACE.len() - have);
                    if take(input, len) != &PREFACE[have..have + len] {
                        return FrameStep::Malformed(Reason::PrefaceInvalid);
                    }
                    self.state =
                        if have + len == PREFACE.len() { START } else { FrameState::Preface(have + len) };
                }
                FrameState::Fixed { .. } => {
                    if let Err(reason) = self.fixed(input, at) {
                        return FrameStep::Malformed(reason);
                    }
                }
                FrameState::Payload(mut payload) => {
                    if payload.content == 0 {
                        let len = input.len().min(payload.padding as usize);
                        take(input, len);
                        payload.padding -= len as u32;
                        self.state = FrameState::Payload(payload);
                        continue;
                    }
                    let len = input.len().min(payload.content as usize);
                    let bytes = take(input, len);
                    let starts = payload.is_untouched();
                    payload.content -= len as u32;
                    payload.reported = payload.content == 0 && payload.header.carries_fields();
                    self.state = FrameState::Payload(payload);
                    if payload.header.kind == kind::DATA {
                        return FrameStep::Data { stream: payload.header.stream, bytes, starts };
                    }
                    if payload.header.carries_fields() {
                        if payload.reported {
                            if let Some(step) = self.frame_content_end(payload, bytes) {
                                return step;
                            }
                        } else {
                            self.keep(bytes);
                        }
                    }
                }
            }
        }
    }

    /// Takes the buffer of a field block back.
    pub(super) fn reuse_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BUFFER {
            buffer.clear();
            self.block = buffer;
        }
    }

    /// Passes over missing bytes.
    pub(super) fn gap(&mut self, missing: u64) -> FrameGap {
        let FrameState::Payload(payload) = &mut self.state else { return FrameGap::Lost(None) };
        let data = payload.header.kind == kind::DATA && !payload.reported;
        if missing > u64::from(payload.content) + u64::from(payload.padding) {
            let end = payload.header.has(END_STREAM);
            return FrameGap::Lost(data.then_some((payload.header.stream, u64::from(payload.content), end)));
        }
        // Not more than what is to come.
        let content = (missing as u32).min(payload.content);
        payload.content -= content;
        payload.padding -= missing as u32 - content;
        if data && content > 0 {
            return FrameGap::Data(payload.header.stream, u64::from(content));
        }
        if content > 0 && payload.header.carries_fields() {
            self.lose_block(Reason::OutOfSync, 0);
        }
        FrameGap::Hidden
    }

    /// Takes bytes of the fixed fields. When they are complete, the payload begins.
    fn fixed(&mut self, input: &mut &[u8], at: Nanos) -> Result<(), Reason> {
        let FrameState::Fixed { mut bytes, mut have, mut started } = self.state else { return Ok(()) };
        if have == 0 {
            started = at;
        }
        for part in 0..2 {
            let whole = match part {
                0 => HEADER,
                _ => HEADER + FrameHeader::read(&bytes).prefix(),
            };
            let len = input.len().min(whole.saturating_sub(have));
            bytes[have..have + len].copy_from_slice(take(input, len));
            have += len;
            if have < whole {
                self.state = FrameState::Fixed { bytes, have, started };
                return Ok(());
            }
            if part == 0 && have == HEADER {
                let header = FrameHeader::read(&bytes);
                header.check()?;
                self.check_order(header)?;
            }
        }
        self.begin(&bytes, started)
    }

    /// RFC 9113 §4.3: nothing comes between the frames of a field block.
    fn check_order(&self, header: FrameHeader) -> Result<(), Reason> {
        let continues = header.kind == kind::CONTINUATION;
        match self.open {
            Some(open) if !continues || open.stream != header.stream => Err(Reason::ContinuationInvalid),
            None if continues => Err(Reason::ContinuationInvalid),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, bytes: &[u8], started: Nanos) -> Result<(), Reason> {
        let header = FrameHeader::read(bytes);
        let prefix = header.prefix();
        let padding = if header.is_padded() { u32::from(bytes[HEADER]) } else { 0 };
        let content = header.length.checked_sub(prefix as u32 + padding).ok_or(Reason::PaddingInvalid)?;
        let last = if header.kind == kind::GOAWAY { number(&bytes[HEADER..]) } else { 0 };
        if matches!(header.kind, kind::HEADERS | kind::PUSH_PROMISE) {
            let is_promise = header.kind == kind::PUSH_PROMISE;
            let ends_stream = !is_promise && header.has(END_STREAM);
            self.open =
                Some(OpenBlock { stream: header.stream, is_promise, ends_stream, lost: None, started });
        }
        self.state = FrameState::Payload(FramePayload { header, content, padding, reported: false, last });
        Ok(())
    }

    /// The content of a frame is complete; `bytes` are the last of it.
    fn frame_content_end<'a>(&mut self, payload: FramePayload, bytes: &'a [u8]) -> Option<FrameStep<'a>> {
        let FramePayload { header, last, .. } = payload;
        match header.kind {
            kind::DATA if header.has(END_STREAM) => Some(FrameStep::End(header.stream)),
            kind::RST_STREAM => Some(FrameStep::Reset(header.stream)),
            kind::GOAWAY => Some(FrameStep::GoAway(last)),
            _ if !header.carries_fields() => None,
            _ if !header.has(END_HEADERS) => {
                self.keep(bytes);
                None
            }
            _ => {
                let whole = self.block.is_empty();
                if !whole || bytes.len() > self.max_block {
                    self.keep(bytes);
                }
                let OpenBlock { stream, is_promise, ends_stream, lost, started } = self.open.take()?;
                let fields = match lost {
                    Some((reason, len)) => BlockBytes::Lost(reason, len),
                    None if whole => BlockBytes::Whole(bytes),
                    None => BlockBytes::Joined(std::mem::take(&mut self.block)),
                };
                Some(FrameStep::Block(FieldBlock { stream, is_promise, ends_stream, fields, started }))
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.block.len() + bytes.len() > self.max_block {
            self.lose_block(Reason::HeadTooLong, bytes.len());
        } else if let Some(OpenBlock { lost: Some((_, len)), .. }) = &mut self.open {
            *len += bytes.len();
        } else {
            self.block.extend_from_slice(bytes);
        }
    }

    /// The open field block cannot be read: what was kept of it and `more` bytes are dropped.
    fn lose_block(&mut self, reason: Reason, more: usize) {
        let given_up = std::mem::take(&mut self.block).len() + more;
        if let Some(open) = &mut self.open {
            let (_, len) = open.lost.get_or_insert((reason, 0));
            *len += given_up;
        }
    }
}

impl FrameHeader {
    /// Reads a complete header.
    pub(super) fn read(bytes: &[u8]) -> Self {
        Self {
            length: u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]),
            kind: bytes[3],
            flags: bytes[4],
            stream: number(&bytes[5..]),
        }
    }

    /// Whether bytes out of sync may be this header: its type is in use, and a sender would write it like this.
    pub(super) fn is_plausible(self, reserved: bool) -> bool {
        let flags = match self.kind {
            kind::DATA => END_STREAM | PADDED,
            kind::HEADERS => END_STREAM | END_HEADERS | PADDED | PRIORITY,
            kind::PUSH_PROMISE => END_HEADERS | PADDED,
            kind::SETTINGS | kind::PING => ACK,
            kind::CONTINUATION => END_HEADERS,
            kind::PRIORITY
            | kind::RST_STREAM
            | kind::GOAWAY
            | kind::WINDOW_UPDATE
            | kind::PRIORITY_UPDATE => 0,
            _ => return false,
        };
        let most = match self.kind {
            kind::DATA => 1 << 19,
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => 1 << 16,
            _ => 1 << 10,
        };
        !reserved && self.flags & !flags == 0 && self.length <= most && self.check().is_ok()
    }

    /// Whether a search can begin with this frame.
    pub(super) fn may_start(self) -> bool {
        self.kind != kind::CONTINUATION
    }

    /// Checks length and stream by type (RFC 9113 §6). An unknown type may have any.
    fn check(self) -> Result<(), Reason> {
        let length = match self.kind {
            kind::PRIORITY => self.length == 5,
            kind::RST_STREAM | kind::WINDOW_UPDATE => self.length == 4,
            kind::SETTINGS if self.has(ACK) => self.length == 0,
            kind::SETTINGS => self.length.is_multiple_of(6),
            kind::PING => self.length == 8,
            kind::GOAWAY => self.length >= 8,
            _ => self.length as usize >= self.prefix(),
        };
        let stream = match self.kind {
            kind::SETTINGS | kind::PING | kind::GOAWAY | kind::PRIORITY_UPDATE => self.stream == 0,
            kind::DATA..=kind::RST_STREAM | kind::PUSH_PROMISE | kind::CONTINUATION => self.stream != 0,
            _ => true,
        };
        match (length, stream) {
            (true, true) => Ok(()),
            (false, _) => Err(Reason::FrameSizeInvalid),
            (true, false) => Err(Reason::FrameStreamInvalid),
        }
    }

    /// The length of the fixed fields before the content.
    fn prefix(self) -> usize {
        let padded = usize::from(self.is_padded());
        match self.kind {
            kind::HEADERS if self.has(PRIORITY) => padded + 5,
            kind::PUSH_PROMISE => padded + 4,
            kind::GOAWAY => 4,
            _ => padded,
        }
    }

    fn is_padded(self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS | kind::PUSH_PROMISE) && self.has(PADDED)
    }

    fn carries_fields(self) -> bool {
        matches!(self.kind, kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION)
    }

    const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// An integer of 31 bits; the reserved bit before them is ignored.
fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0] & 0x7f, bytes[1], bytes[2], bytes[3]])
}
