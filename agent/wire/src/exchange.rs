//! What the engine tells about: requests and responses, as they pass.

use std::time::Duration;

use crate::{Direction, Reason};

/// Nanoseconds since boot, as the kernel side stamps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl From<Duration> for Nanos {
    /// The longest time that fits for what does not.
    fn from(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Numbers an exchange within its connection, from 0, in the order of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub u64);

/// A peer of an exchange. [`Direction`] says whether the observed process wrote or read bytes, a role who sent them
/// in terms of the protocol: an observed process can be either peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The peer that sends the request.
    Client,
    /// The peer that sends the response.
    Server,
}

impl Role {
    /// The role of the observed process, whose requests go in this direction.
    pub(crate) const fn of_requests(requests: Direction) -> Self {
        match requests {
            Direction::Write => Self::Client,
            Direction::Read => Self::Server,
        }
    }

    /// Who sends the bytes of a direction.
    pub(crate) fn sender(dir: Direction, requests: Direction) -> Self {
        if dir == requests { Self::Client } else { Self::Server }
    }

    /// Its place in an array of two: the client first.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }
}

/// Protocol version of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

/// Header fields in wire order; names compare without case. Borrowed from the parser's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    fields: &'a [(&'a [u8], &'a [u8])],
    /// False when some fields could not be resolved (attached in mid-connection) or were over a limit.
    pub complete: bool,
}

impl<'a> Headers<'a> {
    /// Wraps fields as (name, value) pairs.
    #[must_use]
    pub const fn new(fields: &'a [(&'a [u8], &'a [u8])], complete: bool) -> Self {
        Self { fields, complete }
    }

    /// The first value of a field, by name in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Every value of a field, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_bytes();
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
    }

    /// The members of a field that is a comma-separated list (RFC 9110 §5.6.1).
    pub(crate) fn members(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .flat_map(|(_, value)| value.split(|&b| b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    /// Whether a field that is a list has this member.
    pub(crate) fn has_member(&self, name: &'static str, member: &str) -> bool {
        self.members(name).any(|m| m.eq_ignore_ascii_case(member.as_bytes()))
    }

    /// Every field, in wire order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.fields.iter().copied()
    }
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Which end we watch.
    pub role: Role,
    /// Protocol version.
    pub version: Version,
    /// The method as sent.
    pub method: &'a [u8],
    /// The request target as sent (origin, absolute, authority or asterisk form), query included.
    /// Empty when it could not be resolved.
    pub target: &'a [u8],
    /// `Host` or `:authority`, else the authority of an absolute-form target.
    pub authority: Option<&'a [u8]>,
    /// The fields.
    pub headers: Headers<'a>,
}

/// The head of a final (not 1xx) response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// Protocol version.
    pub version: Version,
    /// Status code; 0 when it could not be resolved.
    pub status: u16,
    /// The fields.
    pub headers: Headers<'a>,
}

/// A part of a WebSocket message, as it came: where a message is cut has no meaning of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePart<'a> {
    /// Who sent it.
    pub from: Role,
    /// What the message is.
    pub kind: MessageKind,
    /// The message begins with it.
    pub first: bool,
    /// The message ends with it.
    pub last: bool,
    /// Unmasked and decompressed; may be empty.
    pub bytes: &'a [u8],
}

/// What a WebSocket message is (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Text, meant to be UTF-8: that is not checked.
    Text,
    /// Bytes.
    Binary,
}

/// What the sink wants of a message whose head it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The body, with its content coding removed. Of a response that opens a WebSocket: the messages.
    Body,
    /// Nothing but the end: the body is skipped without being decoded.
    Skip,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The response ended by protocol (or the sink said so); what is missing inside was told by [`Sink::gap`].
    Complete,
    /// The connection was closed, reset or shut down before the response was whole.
    Cut,
    /// As [`Self::Cut`], and it is known that the observed process did it, while its peer had not.
    ClosedLocally,
    /// Captured bytes that held the end of a message were lost, so nobody knows when it came.
    Lost,
    /// The observed process ended.
    ProcessExit,
    /// The agent stopped watching while it was in flight.
    AgentStop,
    /// No byte for longer than the configured time.
    Stale,
    /// The bytes stopped being this protocol; says which rule broke.
    Malformed(Reason),
    /// A body coding could not be undone within its bounds; says why. The exchange itself was whole.
    Undecodable(Reason),
}

/// Receives what a [`crate::Connection`] finds, in stream order. Body calls carry the bytes as they arrive:
/// pieces have no meaning of their own.
pub trait Sink {
    /// A request head is whole. `at` is the time of its first byte.
    fn request(&mut self, id: ExchangeId, head: &RequestHead<'_>, at: Nanos) -> Interest;
    /// Bytes of the request body, content coding removed.
    fn request_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos);
    /// The request's last byte was seen.
    fn request_end(&mut self, id: ExchangeId, at: Nanos);
    /// The head of the final response is whole. `at` is the time of its first byte.
    fn response(&mut self, id: ExchangeId, head: &ResponseHead<'_>, at: Nanos) -> Interest;
    /// Bytes of the response body, content coding removed.
    fn response_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos);
    /// A part of a message of a WebSocket, which the response has opened (status 101, RFC 6455 §4.2.2; over HTTP/2
    /// 2xx to a CONNECT, RFC 8441 §5): messages of both sides come until the exchange ends. Those that cannot be
    /// decompressed are left out; then the ending says why.
    fn message(&mut self, _id: ExchangeId, _part: &MessagePart<'_>, _at: Nanos) {}
    /// The trailer fields of the response: they come after its body (RFC 9110 §6.5).
    fn trailers(&mut self, _id: ExchangeId, _fields: Headers<'_>, _at: Nanos) {}
    /// Bytes of the body that `from` sends are missing here: of the request where that is the client, else of the
    /// response. `None`: it is not known how many. Nothing more of a body with a content coding follows.
    ///
    /// In a WebSocket, bytes of the messages from that peer are missing. The current message continues after the gap,
    /// or an empty part ends it, or the next part is the first of another message.
    fn gap(&mut self, id: ExchangeId, from: Role, missing: Option<u64>);
    /// The exchange is over; `id` is not used again. Called exactly once for every `request`.
    fn end(&mut self, id: ExchangeId, ending: Ending, at: Nanos);
    /// The sink says that the response is whole although the protocol has not (its own terminal event came,
    /// as `data: [DONE]`): asked after each `response_body`.
    fn is_response_complete(&self, _id: ExchangeId) -> bool {
        false
    }
    /// Captured bytes that belong to no exchange were passed over.
    fn dropped(&mut self, _reason: Reason, _bytes: u64) {}
}
