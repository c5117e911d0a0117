//! A stream that carries another protocol (RFC 9113 §8.5): WebSocket is read (RFC 8441 §5), others are not.

use super::head::PseudoHeaders;
use crate::{
    ExchangeId, Headers, Interest, Limits, Nanos, Reason, Role, Sink,
    held::HeldRuns,
    websocket::{Extensions, WebSocket},
};

/// What the DATA frames of a stream carry instead of bodies.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is in a box, and sooner or later most are open")]
pub(super) enum Tunnel {
    /// A WebSocket, once the server agrees: what the client has sent, and whether some of that is missing.
    Requested {
        held: HeldRuns,
        missing: bool,
    },
    Open(WebSocket),
    /// Nothing that is read, or nobody knows what: it is dropped for this reason.
    Unread(Reason),
}

/// The head of a final response.
pub(super) struct FinalResponse<'a> {
    /// 0 when it could not be resolved.
    pub(super) status: u16,
    pub(super) headers: Headers<'a>,
    pub(super) interest: Interest,
    pub(super) limits: &'a Limits,
    /// There is room for another WebSocket whose messages are compressed.
    pub(super) inflates: bool,
    pub(super) at: Nanos,
}

impl Tunnel {
    /// What a request asks for, if not for a response alone; `complete`: all its fields are known.
    pub(super) fn asked(pseudo: &PseudoHeaders<'_>, complete: bool) -> Option<Self> {
        match (pseudo.method, pseudo.protocol) {
            (Some(method), _) if method != b"CONNECT" => None,
            (_, Some(protocol)) if protocol.eq_ignore_ascii_case(b"websocket") => {
                Some(Self::Requested { held: HeldRuns::new(), missing: false })
            }
            (_, Some(_)) => Some(Self::Unread(Reason::ProtocolUnknown)),
            // The protocol may be among the fields that are not known.
            (Some(_), None) if !complete => Some(Self::Unread(Reason::OutOfSync)),
            _ => None,
        }
    }

    /// What is left of it once the server has answered: nothing if that refuses it (RFC 8441 §5).
    pub(super) fn final_response<S: Sink>(
        mut self: Box<Self>,
        id: ExchangeId,
        answer: &FinalResponse<'_>,
        sink: &mut S,
    ) -> Option<Box<Self>> {
        match (answer.status, &mut *self) {
            (0, tunnel) => tunnel.lose_response(sink),
            (300.., tunnel) => {
                tunnel.drop_held(sink);
                return None;
            }
            (_, Self::Requested { .. }) if answer.interest == Interest::Skip => return None,
            (_, Self::Requested { held, missing }) => {
                *self = Self::Open(open(id, held, *missing, answer, sink))
            }
            _ => {}
        }
        Some(self)
    }

    /// What the server has answered is not known.
    pub(super) fn lose_response<S: Sink>(&mut self, sink: &mut S) {
        if matches!(self, Self::Requested { .. }) {
            self.drop_held(sink);
            *self = Self::Unread(Reason::SwitchUnanswered);
        }
    }

    /// Takes content; `starts`: its frame begins with it.
    pub(super) fn data<S: Sink>(&mut self, from: Role, bytes: &[u8], starts: bool, at: Nanos, sink: &mut S) {
        match self {
            Self::Requested { held, missing: false } => held.push(bytes, starts, at),
            Self::Requested { .. } => sink.dropped(Reason::SwitchUnanswered, bytes.len() as u64),
            Self::Open(websocket) => websocket.data(from, bytes, starts, at, sink),
            Self::Unread(reason) => sink.dropped(*reason, bytes.len() as u64),
        }
    }

    /// Content is missing; `None`: nobody knows how much, or whether any is.
    pub(super) fn gap<S: Sink>(&mut self, from: Role, missing: Option<u64>, sink: &mut S) {
        match self {
            Self::Requested { held, missing } if from == Role::Client => {
                let given_up = std::mem::take(held);
                held.closed = given_up.closed;
                *missing = true;
                drop_early(&given_up, sink);
            }
            Self::Open(websocket) => websocket.gap(from, missing, sink),
            Self::Requested { .. } | Self::Unread(_) => {}
        }
    }

    /// Nothing more comes from a side.
    pub(super) fn half_close<S: Sink>(&mut self, from: Role, at: Nanos, sink: &mut S) {
        match self {
            Self::Requested { held, .. } => held.closed = Some(at),
            Self::Open(websocket) => websocket.half_close(from, at, sink),
            Self::Unread(_) => {}
        }
    }

    /// Gives up what was sent before an answer.
    pub(super) fn drop_held<S: Sink>(&self, sink: &mut S) {
        if let Self::Requested { held, .. } = self {
            drop_early(held, sink);
        }
    }

    /// Whether its end has been told.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Open(websocket) if websocket.is_over())
    }

    /// Whether compressed messages are read, if they come.
    pub(super) fn inflates(&self) -> bool {
        matches!(self, Self::Open(websocket) if websocket.inflates())
    }

    /// Bytes that it keeps for want of an answer.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Requested { held, .. } => held.cost(),
            _ => 0,
        }
    }
}

fn drop_early<S: Sink>(held: &HeldRuns, sink: &mut S) {
    if !held.is_empty() {
        sink.dropped(Reason::SwitchUnanswered, held.len() as u64);
    }
}

/// The WebSocket that a client has asked for, after what it has sent since.
fn open<S: Sink>(
    id: ExchangeId,
    held: &HeldRuns,
    missing: bool,
    answer: &FinalResponse<'_>,
    sink: &mut S,
) -> WebSocket {
    let mut websocket = WebSocket::new(id, Extensions::of(answer.headers), answer.limits, answer.at);
    if !answer.inflates {
        websocket.disable_decompression(Reason::TooManyCompressedWebSockets);
    }
    if missing {
        websocket.gap(Role::Client, None, sink);
    }
    for (bytes, starts, at) in held.runs() {
        websocket.data(Role::Client, bytes, starts, at, sink);
    }
    if let Some(at) = held.closed {
        websocket.half_close(Role::Client, at, sink);
    }
    websocket
}
