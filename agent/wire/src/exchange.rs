//! What a [`Sink`] is told: exchanges, their messages and how they end.

use std::time::Duration;

use crate::{Direction, Reason};

/// Nanoseconds since boot: the clock of captured bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl From<Duration> for Nanos {
    /// A longer time than fits becomes the longest one.
    fn from(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The number of an exchange within its connection, from 0, in the order of the requests.
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

/// The protocol version of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

/// Header fields in wire order. Names are compared without regard to case. Borrowed from the buffer of the parser.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    fields: &'a [(&'a [u8], &'a [u8])],
    /// False when some fields could not be resolved (joined in mid-connection) or were over a limit.
    pub complete: bool,
}

impl<'a> Headers<'a> {
    /// Fields as (name, value) pairs.
    #[must_use]
    pub const fn new(fields: &'a [(&'a [u8], &'a [u8])], complete: bool) -> Self {
        Self { fields, complete }
    }

    /// The first value of a field, by name in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Every value of a field, by name in lower case, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_bytes();
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
    }

    /// The members of a field whose value is a comma-separated list (RFC 9110 §5.6.1).
    pub(crate) fn members(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .flat_map(|(_, value)| value.split(|&b| b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    /// Whether a field whose value is a list has this member.
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
    /// The role of the observed process.
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

/// A part of a WebSocket message. Where a message is cut into parts has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePart<'a> {
    /// Who sent it.
    pub from: Role,
    /// What the message is.
    pub kind: MessageKind,
    /// The message begins with this part.
    pub first: bool,
    /// The message ends with this part.
    pub last: bool,
    /// Unmasked and decompressed; may be empty.
    pub bytes: &'a [u8],
}

/// The kind of a WebSocket message (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Text in UTF-8, which is not checked.
    Text,
    /// Bytes.
    Binary,
}

/// What a sink wants of a message, after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The body, with its content coding removed; of a response that opens a WebSocket, the messages.
    Body,
    /// Only the end: the body is skipped and not decoded.
    Skip,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The response ended by protocol, or as [`Sink::is_response_complete`] said. Bytes may be missing inside, which
    /// was reported by [`Sink::gap`].
    Complete,
    /// The connection was closed, reset or shut down before the response was complete.
    Cut,
    /// As [`Self::Cut`], and it is known that the observed process closed the connection, and not its peer.
    ClosedLocally,
    /// Lost bytes may have held the end of the response.
    Lost,
    /// The observed process ended.
    ProcessExit,
    /// The agent stopped during the exchange.
    AgentStop,
    /// No byte passed for longer than the configured time.
    Stale,
    /// A rule of the protocol was broken.
    Malformed(Reason),
    /// The content coding of a body could not be undone. The exchange itself is complete.
    Undecodable(Reason),
}

/// Receives what a [`crate::Connection`] finds, in the order of the bytes. Bodies come in the pieces in which they were
/// captured: where they are cut has no meaning.
pub trait Sink {
    /// The head of a request is complete. `at` is the time of its first byte.
    fn request(&mut self, id: ExchangeId, head: &RequestHead<'_>, at: Nanos) -> Interest;
    /// Bytes of the request body, content coding removed.
    fn request_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos);
    /// The last byte of the request was seen.
    fn request_end(&mut self, id: ExchangeId, at: Nanos);
    /// The head of the final response is complete. `at` is the time of its first byte.
    fn response(&mut self, id: ExchangeId, head: &ResponseHead<'_>, at: Nanos) -> Interest;
    /// Bytes of the response body, content coding removed.
    fn response_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos);
    /// A part of a message of a WebSocket, which the response has opened (status 101, RFC 6455 §4.2.2; over HTTP/2
    /// 2xx to a CONNECT, RFC 8441 §5). Messages of both peers come until the exchange ends, without those that cannot
    /// be decompressed: the ending says why.
    fn message(&mut self, _id: ExchangeId, _part: &MessagePart<'_>, _at: Nanos) {}
    /// The trailer fields of the response, after its body (RFC 9110 §6.5).
    fn trailers(&mut self, _id: ExchangeId, _fields: Headers<'_>, _at: Nanos) {}
    /// Bytes of the body that `from` sends are missing here: of the request where that is the client, else of the
    /// response. `None`: it is not known how many. Nothing more of a body with a content coding follows.
    ///
    /// In a WebSocket, bytes of the messages from that peer are missing. The current message continues after the gap,
    /// or an empty part ends it, or the next part is the first of another message.
    fn gap(&mut self, id: ExchangeId, from: Role, missing: Option<u64>);
    /// The exchange is over; `id` is not used again. Called exactly once for every `request`.
    fn end(&mut self, id: ExchangeId, ending: Ending, at: Nanos);
    /// Whether the sink knows that the response is complete, before the protocol says so: the terminal event of a
    /// stream was in it, as `data: [DONE]`. Called after each `response_body`.
    fn is_response_complete(&self, _id: ExchangeId) -> bool {
        false
    }
    /// Captured bytes that belong to no exchange were skipped.
    fn dropped(&mut self, _reason: Reason, _bytes: u64) {}
}
