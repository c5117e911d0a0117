//! A stream that carries another protocol (RFC 9113 §8.5). WebSocket is read (RFC 8441 §5), others are not.
//!
//! ```text
//!                          2xx, messages are wanted            both peers have closed it
//!   CONNECT ──► Requested ────────────────────────► Open(WebSocket) ─────────────────────► over
//!                  ├─ 3xx to 5xx, or not wanted ──► no tunnel: an ordinary response
//!                  └─ head of the response lost ──► Unread
//! ```

use super::head::PseudoHeaders;
use crate::{
    ExchangeId, Headers, Interest, Limits, Nanos, Reason, Role, Sink,
    runs::{HeldRuns, Run},
    websocket::{Extensions, WebSocket},
};

/// What the DATA frames of a stream carry instead of bodies.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is in a box, and sooner or later most are open")]
pub(super) enum Tunnel {
    /// A WebSocket that the server has not accepted yet: what the client has sent, and whether bytes of that are
    /// missing.
    Requested {
        held: HeldRuns,
        missing: bool,
    },
    Open(WebSocket),
    /// Another protocol, or an unknown one: content is dropped for this reason.
    Unread(Reason),
}

/// The head of a final response.
pub(super) struct FinalResponse<'a> {
    /// 0 when it could not be resolved.
    pub(super) status: u16,
    pub(super) headers: Headers<'a>,
    pub(super) interest: Interest,
    pub(super) limits: &'a Limits,
    /// The limits allow another WebSocket whose messages are decompressed.
    pub(super) may_inflate: bool,
    pub(super) at: Nanos,
}

impl Tunnel {
    /// The tunnel that a request asks for, if it asks for one. `complete`: all its fields are known.
    pub(super) fn requested(pseudo: &PseudoHeaders<'_>, complete: bool) -> Option<Self> {
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

    /// The tunnel after the head of the response: none where that refuses it (RFC 8441 §5).
    pub(super) fn final_response<S: Sink>(
        mut self: Box<Self>,
        id: ExchangeId,
        response: &FinalResponse<'_>,
        sink: &mut S,
    ) -> Option<Box<Self>> {
        match (response.status, &mut *self) {
            (0, tunnel) => tunnel.lose_response(sink),
            (300.., tunnel) => {
                tunnel.drop_held(sink);
                return None;
            }
            (_, Self::Requested { .. }) if response.interest == Interest::Skip => return None,
            (_, Self::Requested { held, missing }) => {
                *self = Self::Open(open(id, held, *missing, response, sink))
            }
            _ => {}
        }
        Some(self)
    }

    /// The head of the response is lost.
    pub(super) fn lose_response<S: Sink>(&mut self, sink: &mut S) {
        if matches!(self, Self::Requested { .. }) {
            self.drop_held(sink);
            *self = Self::Unread(Reason::SwitchUnanswered);
        }
    }

    /// Takes content.
    pub(super) fn data<S: Sink>(&mut self, from: Role, run: Run<'_>, sink: &mut S) {
        match self {
            Self::Requested { held, missing: false } => held.push(run),
            Self::Requested { .. } => sink.dropped(Reason::SwitchUnanswered, run.bytes.len() as u64),
            Self::Open(websocket) => websocket.data(from, run, sink),
            Self::Unread(reason) => sink.dropped(*reason, run.bytes.len() as u64),
        }
    }

    /// Content is missing. `None`: it is not known how much, or whether any is.
    pub(super) fn gap<S: Sink>(&mut self, from: Role, missing: Option<u64>, sink: &mut S) {
        match self {
            Self::Requested { held, missing } if from == Role::Client => {
                let dropped = std::mem::take(held);
                held.closed = dropped.closed;
                *missing = true;
                drop_runs(&dropped, sink);
            }
            Self::Open(websocket) => websocket.gap(from, missing, sink),
            Self::Requested { .. } | Self::Unread(_) => {}
        }
    }

    /// No more content comes from this peer.
    pub(super) fn half_close<S: Sink>(&mut self, from: Role, at: Nanos, sink: &mut S) {
        match self {
            Self::Requested { held, .. } => held.closed = Some(at),
            Self::Open(websocket) => websocket.half_close(from, at, sink),
            Self::Unread(_) => {}
        }
    }

    /// Drops what the client has sent before a response.
    pub(super) fn drop_held<S: Sink>(&self, sink: &mut S) {
        if let Self::Requested { held, .. } = self {
            drop_runs(held, sink);
        }
    }

    /// Whether the end of its exchange has been reported.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Open(websocket) if websocket.is_over())
    }

    /// Whether compressed messages are read, where they come.
    pub(super) fn inflates(&self) -> bool {
        matches!(self, Self::Open(websocket) if websocket.inflates())
    }

    /// What it holds before a response, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Requested { held, .. } => held.cost(),
            _ => 0,
        }
    }
}

fn drop_runs<S: Sink>(held: &HeldRuns, sink: &mut S) {
    if !held.is_empty() {
        sink.dropped(Reason::SwitchUnanswered, held.len() as u64);
    }
}

/// The WebSocket that the server has accepted, with what the client has sent before.
fn open<S: Sink>(
    id: ExchangeId,
    held: &HeldRuns,
    missing: bool,
    response: &FinalResponse<'_>,
    sink: &mut S,
) -> WebSocket {
    let extensions = Extensions::of(response.headers);
    let mut websocket = WebSocket::new(id, extensions, response.limits, response.at);
    if !response.may_inflate {
        websocket.disable_decompression(Reason::TooManyCompressedWebSockets);
    }
    if missing {
        websocket.gap(Role::Client, None, sink);
    }
    for run in held.iter() {
        websocket.data(Role::Client, run, sink);
    }
    if let Some(at) = held.closed {
        websocket.half_close(Role::Client, at, sink);
    }
    websocket
}
