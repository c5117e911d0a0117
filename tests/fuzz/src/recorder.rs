//! Everything that a sink is told, for comparing two runs.

use std::{collections::BTreeMap, fmt};

use tokentap_wire::{
    Ending, ExchangeId, Headers, Interest, Limits, MessageKind, MessagePart, Nanos, Reason, RequestHead,
    ResponseHead, Role, Sink,
};

use crate::contract::{BodyPolicy, Contract};

/// Writes down what it is told and holds it to the [`Contract`].
#[derive(Debug)]
pub struct Recorder {
    /// Exchanges by number.
    pub exchanges: BTreeMap<u64, Exchange>,
    /// Bytes by the reason for which they were dropped.
    pub dropped: BTreeMap<Reason, u64>,
    contract: Contract,
}

/// Bytes that are shown as text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A header field, name and value.
pub type Field = (Bytes, Bytes);

/// An exchange, as far as it was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Which end was watched.
    pub role: Option<Role>,
    /// Method, target and fields.
    pub request: (Bytes, Bytes, Vec<Field>),
    /// Body of the request; a gap is a [`GAP`].
    pub request_body: Bytes,
    /// Status and fields.
    pub response: Option<(u16, Vec<Field>)>,
    /// Body of the response; a gap is a [`GAP`].
    pub response_body: Bytes,
    /// Trailer fields of the response.
    pub trailers: Vec<Field>,
    /// Messages of a WebSocket, in the order of their beginnings.
    pub messages: Vec<RecordedMessage>,
    /// Bytes of a body are missing.
    pub gap: bool,
    /// How it ended.
    pub ending: Option<Ending>,
    /// First byte of the request, end of the request, first byte of the response, end.
    pub times: [Option<Nanos>; 4],
}

/// A message of a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordedMessage {
    /// Who sent it.
    pub from: Role,
    /// What it is.
    pub kind: MessageKind,
    /// As far as it was seen.
    pub bytes: Bytes,
    /// Its end was seen.
    pub whole: bool,
    /// Bytes of it are missing.
    pub gap: bool,
}

impl Exchange {
    /// The message of a side that is passing.
    fn passing(&mut self, from: Role) -> Option<&mut RecordedMessage> {
        self.messages.iter_mut().rfind(|message| message.from == from).filter(|message| !message.whole)
    }
}

/// Stands in a body where bytes are missing.
pub const GAP: &[u8] = b"\0gap\0";

impl Recorder {
    /// For a connection with these limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            exchanges: BTreeMap::new(),
            dropped: BTreeMap::new(),
            contract: Contract::new(BodyPolicy::Bodies, limits),
        }
    }

    /// After the connection was closed: every exchange has ended.
    pub fn check_over(&self) {
        self.contract.check_over();
    }

    fn exchange(&mut self, id: ExchangeId) -> &mut Exchange {
        self.exchanges.entry(id.0).or_default()
    }
}

fn fields(headers: Headers<'_>) -> Vec<Field> {
    headers.iter().map(|(name, value)| (Bytes(name.to_vec()), Bytes(value.to_vec()))).collect()
}

impl Sink for Recorder {
    fn request(&mut self, id: ExchangeId, head: &RequestHead<'_>, at: Nanos) -> Interest {
        let interest = self.contract.request(id, head, at);
        let exchange = self.exchange(id);
        exchange.role = Some(head.role);
        exchange.request = (Bytes(head.method.to_vec()), Bytes(head.target.to_vec()), fields(head.headers));
        exchange.times[0] = Some(at);
        interest
    }

    fn request_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos) {
        self.contract.request_body(id, bytes, at);
        self.exchange(id).request_body.0.extend_from_slice(bytes);
    }

    fn request_end(&mut self, id: ExchangeId, at: Nanos) {
        self.contract.request_end(id, at);
        self.exchange(id).times[1] = Some(at);
    }

    fn response(&mut self, id: ExchangeId, head: &ResponseHead<'_>, at: Nanos) -> Interest {
        let interest = self.contract.response(id, head, at);
        let exchange = self.exchange(id);
        exchange.response = Some((head.status, fields(head.headers)));
        exchange.times[2] = Some(at);
        interest
    }

    fn response_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos) {
        self.contract.response_body(id, bytes, at);
        self.exchange(id).response_body.0.extend_from_slice(bytes);
    }

    fn message(&mut self, id: ExchangeId, part: &MessagePart<'_>, at: Nanos) {
        self.contract.message(id, part, at);
        let MessagePart { from, kind, first, last, bytes } = *part;
        let exchange = self.exchange(id);
        if first {
            exchange.messages.push(RecordedMessage {
                from,
                kind,
                bytes: Bytes::default(),
                whole: false,
                gap: false,
            });
        }
        if let Some(message) = exchange.passing(from) {
            message.bytes.0.extend_from_slice(bytes);
            message.whole = last;
        }
    }

    fn trailers(&mut self, id: ExchangeId, trailers: Headers<'_>, at: Nanos) {
        self.contract.trailers(id, trailers, at);
        self.exchange(id).trailers.extend(fields(trailers));
    }

    fn gap(&mut self, id: ExchangeId, from: Role, missing: Option<u64>) {
        self.contract.gap(id, from, missing);
        let exchange = self.exchange(id);
        exchange.gap = true;
        if let Some(message) = exchange.passing(from) {
            message.gap = true;
        }
        let body = match from {
            Role::Client => &mut exchange.request_body,
            Role::Server => &mut exchange.response_body,
        };
        body.0.extend_from_slice(GAP);
    }

    fn end(&mut self, id: ExchangeId, ending: Ending, at: Nanos) {
        self.contract.end(id, ending, at);
        let exchange = self.exchange(id);
        exchange.ending = Some(ending);
        exchange.times[3] = Some(at);
    }

    fn dropped(&mut self, reason: Reason, bytes: u64) {
        *self.dropped.entry(reason).or_default() += bytes;
    }
}
