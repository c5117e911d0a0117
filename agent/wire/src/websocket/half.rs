//! The messages of one peer of a WebSocket, put together from frames (RFC 6455 §5.4).

use super::{
    deflate::{Extensions, Inflater},
    frame::{Framer, RESERVED, RSV1, WsFrameGap, WsFrameHeader, WsFrameStep, WsPayload, opcode, unmask},
    search::WsFrameSearch,
};
use crate::{ExchangeId, Limits, MessageKind, MessagePart, Nanos, Reason, Role, Sink, runs::Run};

#[derive(Debug)]
pub(super) struct WebSocketHalf {
    framer: Framer,
    sync: SyncState,
    frame: FrameKind,
    message: Option<OpenMessage>,
    inflater: Option<Inflater>,
    /// Reserved bits that may be set.
    reserved: u8,
    /// How many bytes are searched for frames, at most.
    max_search: u64,
    /// The rule that a frame has broken.
    pub(super) malformed: Option<Reason>,
    /// Why a message could not be decompressed.
    pub(super) undecodable: Option<Reason>,
    /// The Close frame has passed.
    pub(super) closed: bool,
    /// No more bytes come.
    pub(super) ended: bool,
}

#[derive(Debug)]
enum SyncState {
    InSync,
    /// Out of sync, and how many bytes were searched since.
    Searching(WsFrameSearch, u64),
    /// Out of sync for ever.
    Failed,
}

/// What the current frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameKind {
    Control,
    Close,
    /// A fragment of a message, and whether it is the last one.
    Data(bool),
}

/// The current message.
#[derive(Clone, Copy, Debug)]
struct OpenMessage {
    kind: MessageKind,
    decoding: Decoding,
    /// A part of it was reported.
    reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decoding {
    Plain,
    Deflated,
    /// The rest of the message cannot be decompressed.
    Unreadable,
}

/// Reports what a half finds to the sink, as part of its exchange and at the time of the current bytes.
pub(super) struct Output<'a, S> {
    pub(super) id: ExchangeId,
    pub(super) from: Role,
    pub(super) at: Nanos,
    pub(super) sink: &'a mut S,
}

impl<S: Sink> Output<'_, S> {
    fn part(&mut self, message: &mut OpenMessage, bytes: &[u8], last: bool) {
        let first = !std::mem::replace(&mut message.reported, true);
        let part = MessagePart { from: self.from, kind: message.kind, first, last, bytes };
        self.sink.message(self.id, &part, self.at);
    }

    fn gap(&mut self, missing: Option<u64>) {
        self.sink.gap(self.id, self.from, missing);
    }

    fn dropped(&mut self, reason: Reason, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.sink.dropped(reason, bytes.len() as u64);
        }
    }
}

/// How many bytes are unmasked at a time.
const PIECE: usize = 2 << 10;

impl WebSocketHalf {
    /// A half whose next byte begins a frame.
    pub(super) fn new(from: Role, extensions: Extensions, limits: &Limits) -> Self {
        let (reserved, inflater, undecodable) = match extensions {
            Extensions::None => (0, None, None),
            Extensions::Deflate(sides) => (RSV1, Some(Inflater::new(sides[from.index()], *limits)), None),
            Extensions::Unknown => (RESERVED, None, Some(Reason::WebSocketExtensionUnknown)),
        };
        Self {
            framer: Framer::new(),
            sync: SyncState::InSync,
            frame: FrameKind::Control,
            message: None,
            inflater,
            reserved,
            max_search: limits.search,
            malformed: None,
            undecodable,
            closed: false,
            ended: false,
        }
    }

    /// Compressed messages are not read, for this reason.
    pub(super) fn disable_decompression(&mut self, reason: Reason) {
        if let Some(inflater) = &mut self.inflater {
            inflater.fail(reason);
        }
    }

    /// Whether compressed messages are read, where they come.
    pub(super) fn inflates(&self) -> bool {
        self.inflater.as_ref().is_some_and(|inflater| inflater.begin().is_ok())
    }

    /// Whether no more messages come.
    pub(super) const fn is_done(&self) -> bool {
        self.closed || self.ended
    }

    pub(super) const fn is_in_sync(&self) -> bool {
        matches!(self.sync, SyncState::InSync)
    }

    pub(super) const fn is_failed(&self) -> bool {
        matches!(self.sync, SyncState::Failed)
    }

    /// Takes the next bytes.
    pub(super) fn data<S: Sink>(&mut self, run: Run<'_>, out: &mut Output<'_, S>) {
        let mut input = run.bytes;
        while !self.is_done() && self.is_in_sync() {
            match self.framer.next(&mut input) {
                WsFrameStep::More => return,
                WsFrameStep::Header(head) => match self.begin(head) {
                    Ok(()) => {}
                    Err(reason) => self.fail(reason, out),
                },
                WsFrameStep::Payload(payload) => self.payload(&payload, out),
                WsFrameStep::Malformed(reason) => self.fail(reason, out),
            }
        }
        if self.is_done() {
            return out.dropped(Reason::WebSocketDataAfterClose, input);
        }
        out.dropped(self.malformed.unwrap_or(Reason::OutOfSync), input);
        self.search(input, run.starts_call);
    }

    /// Bytes are missing here. `None`: it is not known how many.
    pub(super) fn gap<S: Sink>(&mut self, missing: Option<u64>, out: &mut Output<'_, S>) {
        if self.is_done() {
            return;
        }
        match (&mut self.sync, missing.map(|missing| self.framer.gap(missing))) {
            (SyncState::Failed, _) => {}
            (SyncState::Searching(search, _), _) => search.reset(),
            (SyncState::InSync, Some(WsFrameGap::Inside { end })) => {
                match self.frame {
                    FrameKind::Data(_) => self.missing(missing, out),
                    FrameKind::Control | FrameKind::Close => {}
                }
                if end {
                    self.frame_end(out);
                }
            }
            (SyncState::InSync, None | Some(WsFrameGap::Lost)) => {
                out.gap(None);
                self.message = None;
                if let Some(inflater) = &mut self.inflater {
                    inflater.gap();
                }
                self.sync = SyncState::Searching(WsFrameSearch::new(out.from, self.reserved), 0);
            }
        }
    }

    /// Searches for frames in bytes that are skipped.
    fn search(&mut self, bytes: &[u8], starts_call: bool) {
        let SyncState::Searching(search, searched) = &mut self.sync else { return };
        *searched += bytes.len() as u64;
        if let Some(found) = search.look(bytes, starts_call) {
            self.framer = Framer::new();
            // The kind is irrelevant: nothing of the message is reported.
            let (kind, decoding) = (MessageKind::Binary, Decoding::Unreadable);
            self.message = found.inside.then_some(OpenMessage { kind, decoding, reported: false });
            self.sync = SyncState::InSync;
        } else if *searched > self.max_search {
            self.sync = SyncState::Failed;
        }
    }

    /// A frame breaks a rule: its receiver fails the connection (RFC 6455 §7.1.7).
    fn fail<S: Sink>(&mut self, reason: Reason, out: &mut Output<'_, S>) {
        out.gap(None);
        self.malformed = Some(reason);
        self.message = None;
        self.inflater = None;
        self.sync = SyncState::Failed;
    }

    fn begin(&mut self, head: WsFrameHeader) -> Result<(), Reason> {
        head.check(self.reserved)?;
        self.frame = match head.opcode() {
            opcode::CLOSE => FrameKind::Close,
            _ if head.is_control() => FrameKind::Control,
            _ => FrameKind::Data(head.is_final()),
        };
        if head.is_control() {
            return Ok(());
        }
        let kind = match (head.opcode(), &self.message) {
            (opcode::CONTINUATION, Some(_)) => return Ok(()),
            (opcode::CONTINUATION, None) | (_, Some(_)) => return Err(Reason::WebSocketFragmentInvalid),
            (opcode::TEXT, None) => MessageKind::Text,
            (_, None) => MessageKind::Binary,
        };
        let decoding = match &self.inflater {
            _ if self.reserved == RESERVED => Decoding::Unreadable,
            Some(inflater) if head.has(RSV1) => match inflater.begin() {
                Ok(()) => Decoding::Deflated,
                Err(reason) => {
                    self.undecodable = self.undecodable.or(Some(reason));
                    Decoding::Unreadable
                }
            },
            _ => Decoding::Plain,
        };
        self.message = Some(OpenMessage { kind, decoding, reported: false });
        Ok(())
    }

    fn payload<S: Sink>(&mut self, payload: &WsPayload<'_>, out: &mut Output<'_, S>) {
        let WsPayload { bytes, key, end } = *payload;
        if let FrameKind::Data(last) = self.frame {
            let last = last && end;
            let reads = self.message.is_some_and(|message| message.decoding != Decoding::Unreadable);
            if key == [0; 4] || bytes.is_empty() || !reads {
                self.content(bytes, last, out);
            } else {
                let mut plain = [0; PIECE];
                let mut left = bytes.len();
                // The length of the key divides that of a piece, so that every piece begins with the same key byte.
                for part in bytes.chunks(PIECE) {
                    left -= part.len();
                    let plain = &mut plain[..part.len()];
                    unmask(part, key, plain);
                    self.content(plain, last && left == 0, out);
                }
            }
        }
        if end {
            self.frame_end(out);
        }
    }

    /// Takes unmasked content of the current message.
    fn content<S: Sink>(&mut self, bytes: &[u8], last: bool, out: &mut Output<'_, S>) {
        let Some(message) = &mut self.message else { return };
        match (message.decoding, &mut self.inflater) {
            (Decoding::Plain, _) if last || !bytes.is_empty() => out.part(message, bytes, last),
            (Decoding::Deflated, Some(inflater)) => {
                let fed = inflater.feed(bytes, last, &mut |bytes, last| out.part(message, bytes, last));
                if let Err(reason) = fed {
                    self.undecodable = self.undecodable.or(Some(reason));
                    message.decoding = Decoding::Unreadable;
                    out.gap(None);
                }
            }
            _ => {}
        }
        if last && message.decoding == Decoding::Unreadable && message.reported {
            out.part(message, b"", true);
        }
        if last {
            self.message = None;
        }
    }

    /// Content of the current message is missing.
    fn missing<S: Sink>(&mut self, missing: Option<u64>, out: &mut Output<'_, S>) {
        let Some(message) = &mut self.message else { return };
        if message.decoding == Decoding::Unreadable {
            return;
        }
        if !message.reported {
            out.part(message, b"", false);
        }
        match (message.decoding, &mut self.inflater) {
            (Decoding::Deflated, Some(inflater)) => {
                inflater.gap();
                message.decoding = Decoding::Unreadable;
                out.gap(None);
            }
            _ => out.gap(missing),
        }
    }

    fn frame_end<S: Sink>(&mut self, out: &mut Output<'_, S>) {
        match self.frame {
            FrameKind::Control | FrameKind::Data(false) => {}
            FrameKind::Close => self.closed = true,
            // The message is still open when its last bytes are missing.
            FrameKind::Data(true) => self.content(b"", true, out),
        }
    }
}
