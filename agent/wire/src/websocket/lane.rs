//! One direction of a WebSocket: frames put together to messages (RFC 6455 §5.4).

use super::{
    deflate::{Extensions, Inflater},
    frame::{Framer, Gap, Head, Payload, RESERVED, RSV1, Step, opcode, unmask},
    search::Search,
};
use crate::{ExchangeId, Limits, MessageKind, MessagePart, Nanos, Reason, Role, Sink};

#[derive(Debug)]
pub(super) struct Lane {
    framer: Framer,
    place: Place,
    frame: Frame,
    message: Option<Message>,
    inflater: Option<Inflater>,
    /// Reserved bits that may be set.
    reserved: u8,
    limit: u64,
    /// The rule that was broken.
    pub(super) malformed: Option<Reason>,
    /// Why a message could not be read.
    pub(super) undecodable: Option<Reason>,
    /// The Close frame has passed.
    pub(super) closed: bool,
    /// Nothing more comes.
    pub(super) ended: bool,
}

#[derive(Debug)]
enum Place {
    InStep,
    /// Out of step, since so many bytes.
    Searching(Search, u64),
    /// Out of step for good.
    Over,
}

/// The frame that is passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Control,
    Close,
    /// Part of a message, and whether it is the last one.
    Data(bool),
}

/// The message that is passing.
#[derive(Clone, Copy, Debug)]
struct Message {
    kind: MessageKind,
    reading: Reading,
    /// Something of it was told.
    begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Plain,
    Deflated,
    /// What is left of it cannot be read.
    Not,
}

/// Where what is found is told.
pub(super) struct Teller<'a, S> {
    pub(super) id: ExchangeId,
    pub(super) from: Role,
    pub(super) at: Nanos,
    pub(super) sink: &'a mut S,
}

impl<S: Sink> Teller<'_, S> {
    fn part(&mut self, message: &mut Message, bytes: &[u8], last: bool) {
        let first = !std::mem::replace(&mut message.begun, true);
        let part = MessagePart { from: self.from, kind: message.kind, first, last, bytes };
        self.sink.message(self.id, &part, self.at);
    }

    fn gap(&mut self, missing: Option<u64>) {
        self.sink.gap(self.id, self.from == Role::Client, missing);
    }

    fn dropped(&mut self, reason: Reason, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.sink.dropped(reason, bytes.len() as u64);
        }
    }
}

/// Bytes whose mask is taken off before they are given on.
const PIECE: usize = 2 << 10;

impl Lane {
    /// A direction whose next byte begins a frame.
    pub(super) fn new(from: Role, extensions: Extensions, limits: &Limits) -> Self {
        let (reserved, inflater, undecodable) = match extensions {
            Extensions::None => (0, None, None),
            Extensions::Deflate(sides) => (RSV1, Some(Inflater::new(sides[from.index()], *limits)), None),
            Extensions::Unknown => (RESERVED, None, Some(Reason::WebSocketExtensionUnknown)),
        };
        Self {
            framer: Framer::new(),
            place: Place::InStep,
            frame: Frame::Control,
            message: None,
            inflater,
            reserved,
            limit: limits.search,
            malformed: None,
            undecodable,
            closed: false,
            ended: false,
        }
    }

    /// Compressed messages are not read, for this reason.
    pub(super) fn leave_compressed(&mut self, reason: Reason) {
        if let Some(inflater) = &mut self.inflater {
            inflater.give_up(reason);
        }
    }

    /// Whether compressed messages are read, if they come.
    pub(super) fn inflates(&self) -> bool {
        self.inflater.as_ref().is_some_and(|inflater| inflater.begin().is_ok())
    }

    /// Nothing more of it is of interest.
    pub(super) const fn is_done(&self) -> bool {
        self.closed || self.ended
    }

    pub(super) const fn is_in_step(&self) -> bool {
        matches!(self.place, Place::InStep)
    }

    pub(super) const fn is_given_up(&self) -> bool {
        matches!(self.place, Place::Over)
    }

    pub(super) fn data<S: Sink>(&mut self, bytes: &[u8], starts_call: bool, tell: &mut Teller<'_, S>) {
        let mut input = bytes;
        while !self.is_done() && self.is_in_step() {
            match self.framer.next(&mut input) {
                Step::More => return,
                Step::Head(head) => match self.begin(head) {
                    Ok(()) => {}
                    Err(reason) => self.give_up(reason, tell),
                },
                Step::Payload(payload) => self.payload(&payload, tell),
                Step::Malformed(reason) => self.give_up(reason, tell),
            }
        }
        if self.is_done() {
            return tell.dropped(Reason::WebSocketDataAfterClose, input);
        }
        tell.dropped(self.malformed.unwrap_or(Reason::OutOfSync), input);
        self.search(input, starts_call);
    }

    /// So many bytes are missing here, or nobody knows how many.
    pub(super) fn gap<S: Sink>(&mut self, missing: Option<u64>, tell: &mut Teller<'_, S>) {
        if self.is_done() {
            return;
        }
        match (&mut self.place, missing.map(|missing| self.framer.gap(missing))) {
            (Place::Over, _) => {}
            (Place::Searching(search, _), _) => search.reset(),
            (Place::InStep, Some(Gap::Inside { end })) => {
                match self.frame {
                    Frame::Data(_) => self.missing(missing, tell),
                    Frame::Control | Frame::Close => {}
                }
                if end {
                    self.frame_end(tell);
                }
            }
            (Place::InStep, None | Some(Gap::Lost)) => {
                tell.gap(None);
                self.message = None;
                if let Some(inflater) = &mut self.inflater {
                    inflater.gap();
                }
                self.place = Place::Searching(Search::new(tell.from, self.reserved), 0);
            }
        }
    }

    /// Looks for frames in bytes that are passed over.
    fn search(&mut self, bytes: &[u8], starts_call: bool) {
        let Place::Searching(search, searched) = &mut self.place else { return };
        *searched += bytes.len() as u64;
        if let Some(found) = search.look(bytes, starts_call) {
            self.framer = Framer::new();
            // Its kind is not told.
            let (kind, reading) = (MessageKind::Binary, Reading::Not);
            self.message = found.inside.then_some(Message { kind, reading, begun: false });
            self.place = Place::InStep;
        } else if *searched > self.limit {
            self.place = Place::Over;
        }
    }

    /// A rule was broken: the receiver fails the connection (RFC 6455 §7.1.7).
    fn give_up<S: Sink>(&mut self, reason: Reason, tell: &mut Teller<'_, S>) {
        tell.gap(None);
        self.malformed = Some(reason);
        self.message = None;
        self.inflater = None;
        self.place = Place::Over;
    }

    fn begin(&mut self, head: Head) -> Result<(), Reason> {
        head.check(self.reserved)?;
        self.frame = match head.opcode() {
            opcode::CLOSE => Frame::Close,
            _ if head.is_control() => Frame::Control,
            _ => Frame::Data(head.is_final()),
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
        let reading = match &self.inflater {
            _ if self.reserved == RESERVED => Reading::Not,
            Some(inflater) if head.has(RSV1) => match inflater.begin() {
                Ok(()) => Reading::Deflated,
                Err(reason) => {
                    self.undecodable = self.undecodable.or(Some(reason));
                    Reading::Not
                }
            },
            _ => Reading::Plain,
        };
        self.message = Some(Message { kind, reading, begun: false });
        Ok(())
    }

    fn payload<S: Sink>(&mut self, payload: &Payload<'_>, tell: &mut Teller<'_, S>) {
        let Payload { bytes, key, end } = *payload;
        if let Frame::Data(last) = self.frame {
            let last = last && end;
            let reads = self.message.is_some_and(|message| message.reading != Reading::Not);
            if key == [0; 4] || bytes.is_empty() || !reads {
                self.content(bytes, last, tell);
            } else {
                let mut plain = [0; PIECE];
                let mut left = bytes.len();
                // The key fits at the start of every piece: its length divides theirs.
                for part in bytes.chunks(PIECE) {
                    left -= part.len();
                    let plain = &mut plain[..part.len()];
                    unmask(part, key, plain);
                    self.content(plain, last && left == 0, tell);
                }
            }
        }
        if end {
            self.frame_end(tell);
        }
    }

    /// Takes content of the message, unmasked.
    fn content<S: Sink>(&mut self, bytes: &[u8], last: bool, tell: &mut Teller<'_, S>) {
        let Some(message) = &mut self.message else { return };
        match (message.reading, &mut self.inflater) {
            (Reading::Plain, _) if last || !bytes.is_empty() => tell.part(message, bytes, last),
            (Reading::Deflated, Some(inflater)) => {
                let fed = inflater.feed(bytes, last, &mut |bytes, last| tell.part(message, bytes, last));
                if let Err(reason) = fed {
                    self.undecodable = self.undecodable.or(Some(reason));
                    message.reading = Reading::Not;
                    tell.gap(None);
                }
            }
            _ => {}
        }
        if last && message.reading == Reading::Not && message.begun {
            tell.part(message, b"", true);
        }
        if last {
            self.message = None;
        }
    }

    /// Content of the message is missing.
    fn missing<S: Sink>(&mut self, missing: Option<u64>, tell: &mut Teller<'_, S>) {
        let Some(message) = &mut self.message else { return };
        if message.reading == Reading::Not {
            return;
        }
        if !message.begun {
            tell.part(message, b"", false);
        }
        match (message.reading, &mut self.inflater) {
            (Reading::Deflated, Some(inflater)) => {
                inflater.gap();
                message.reading = Reading::Not;
                tell.gap(None);
            }
            _ => tell.gap(missing),
        }
    }

    fn frame_end<S: Sink>(&mut self, tell: &mut Teller<'_, S>) {
        match self.frame {
            Frame::Control | Frame::Data(false) => {}
            Frame::Close => self.closed = true,
            // Open still when its last bytes are missing.
            Frame::Data(true) => self.content(b"", true, tell),
        }
    }
}
