//! A stream: one request and its response (RFC 9113 §5.1, §8.1), or the tunnel that they open.
//!
//! ```text
//!  request   Open ────────── END_STREAM ──────────► Done
//!                                                     (at once where it asks for a WebSocket: what follows is
//!                                                     content of the tunnel)
//!
//!  response  Awaited ── final head ──► Open ── END_STREAM ──► Done
//!               └─ content or trailers: the head was lost ─┘
//! ```
//!
//! Interim heads (1xx) change nothing. Where frames were lost in which a message may have ended, its end is uncertain.
//! The stream is over, and its exchange ends as Complete, when the response has ended (by END_STREAM, or as the sink
//! knows) and the request is Done or its end uncertain. A reset, a GOAWAY, the end of the connection or a sweep ends it
//! before that.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::tunnel::{FinalResponse, Tunnel};
use crate::{
    Ending, ExchangeId, Headers, Interest, Nanos, Reason, ResponseHead, Role, Sink, Version,
    body::{BodyUse, content_length},
    progress::MessageProgress,
    runs::Run,
};

/// The streams whose exchanges are not over, by number.
pub(super) type Streams = BTreeMap<u32, Stream>;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: ExchangeId,
    /// Time of the last byte of either message.
    pub(super) last_byte: Nanos,
    pub(super) request: StreamMessage,
    pub(super) response: StreamMessage,
    /// When the response ended: by protocol, or as [`Sink::is_response_complete`] said.
    pub(super) response_ended: Option<Nanos>,
    /// How many bytes of the response's content are to come, where its length is known.
    pub(super) remaining: Option<u64>,
    pub(super) undecodable: Option<Reason>,
    /// The tunnel that the request asks for, or that is open.
    pub(super) tunnel: Option<Box<Tunnel>>,
}

/// A message of a stream.
#[derive(Debug)]
pub(super) struct StreamMessage {
    pub(super) progress: MessageProgress,
    pub(super) body: BodyUse,
    /// Frames were lost in which the message may have ended.
    pub(super) end_uncertain: bool,
}

impl StreamMessage {
    pub(super) const fn new(progress: MessageProgress) -> Self {
        Self { progress, body: BodyUse::Skip, end_uncertain: false }
    }
}

impl Stream {
    fn message(&mut self, from: Role) -> &mut StreamMessage {
        match from {
            Role::Client => &mut self.request,
            Role::Server => &mut self.response,
        }
    }

    /// The head of the final response has come.
    pub(super) fn final_response<S: Sink>(&mut self, response: &FinalResponse<'_>, sink: &mut S) {
        self.response.progress = MessageProgress::Open;
        self.tunnel = self.tunnel.take().and_then(|tunnel| tunnel.final_response(self.id, response, sink));
        if self.tunnel.is_none() {
            let undecodable;
            (self.response.body, undecodable) =
                BodyUse::new(response.interest, response.headers, response.limits);
            self.undecodable = self.undecodable.or(undecodable);
            // Conflicting lengths (RFC 9113 §8.1.1) are ignored.
            self.remaining = content_length(response.headers).unwrap_or(None);
        }
    }

    /// The response continues although its head was lost.
    pub(super) fn start_without_head<S: Sink>(&mut self, at: Nanos, sink: &mut S) {
        let head = ResponseHead { version: Version::Http2, status: 0, headers: Headers::new(&[], false) };
        let interest = sink.response(self.id, &head, at);
        self.response.progress = MessageProgress::Open;
        match &mut self.tunnel {
            Some(tunnel) => tunnel.lose_response(sink),
            None if interest == Interest::Body => self.response.body = BodyUse::Plain,
            None => {}
        }
        self.gap(Role::Server, None, sink);
    }

    /// Takes content of a message.
    pub(super) fn data<S: Sink>(&mut self, from: Role, run: Run<'_>, sink: &mut S) {
        if let Some(tunnel) = &mut self.tunnel {
            return tunnel.data(from, run, sink);
        }
        let Run { bytes, at, .. } = run;
        let id = self.id;
        let fed = match from {
            Role::Client => self.request.body.feed(bytes, |bytes| {
                sink.request_body(id, bytes, at);
                ControlFlow::Continue(())
            }),
            Role::Server => {
                self.remaining =
                    self.remaining.and_then(|remaining| remaining.checked_sub(bytes.len() as u64));
                if self.response_ended.is_some() {
                    return;
                }
                let response_ended = &mut self.response_ended;
                self.response.body.feed(bytes, |bytes| {
                    sink.response_body(id, bytes, at);
                    if sink.is_response_complete(id) {
                        *response_ended = Some(at);
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                })
            }
        };
        self.undecodable = self.undecodable.or_else(|| fed.err());
    }

    /// Content of a message is missing. `None`: it is not known how much.
    pub(super) fn gap<S: Sink>(&mut self, from: Role, missing: Option<u64>, sink: &mut S) {
        if let Some(tunnel) = self.websocket() {
            return tunnel.gap(from, missing, sink);
        }
        let id = self.id;
        if from == Role::Server {
            self.remaining = self.remaining.and_then(|remaining| remaining.checked_sub(missing?));
            if self.response_ended.is_some() {
                return;
            }
        }
        let message = self.message(from);
        if message.body.is_wanted() || missing.is_none() {
            sink.gap(id, from, missing);
        }
        message.body.gap();
    }

    /// One side of the stream has ended.
    pub(super) fn message_end<S: Sink>(&mut self, from: Role, at: Nanos, sink: &mut S) {
        if let Some(tunnel) = self.websocket() {
            return tunnel.half_close(from, at, sink);
        }
        let message = self.message(from);
        if message.progress == MessageProgress::Done {
            return;
        }
        let decoded = message.body.finish();
        message.progress = MessageProgress::Done;
        self.undecodable = self.undecodable.or_else(|| decoded.err());
        match from {
            Role::Client => sink.request_end(self.id, at),
            Role::Server => self.response_ended = self.response_ended.or(Some(at)),
        }
    }

    /// Frames of one side were lost.
    pub(super) fn lose<S: Sink>(&mut self, from: Role, sink: &mut S) {
        if let Some(tunnel) = self.websocket().filter(|_| from == Role::Client) {
            return tunnel.gap(Role::Client, None, sink);
        }
        let message = self.message(from);
        if message.progress != MessageProgress::Done {
            message.end_uncertain = true;
            if message.progress == MessageProgress::Open {
                self.gap(from, None, sink);
            }
        }
    }

    /// The client of the connection sends nothing more.
    pub(super) fn half_close<S: Sink>(&mut self, at: Nanos, sink: &mut S) {
        match self.websocket() {
            Some(tunnel) => tunnel.half_close(Role::Client, at, sink),
            None => self.request.end_uncertain |= self.request.progress != MessageProgress::Done,
        }
    }

    /// Whether no more bytes of the exchange come.
    pub(super) fn is_over(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_over())
            || (self.response_ended.is_some()
                && (self.request.progress == MessageProgress::Done || self.request.end_uncertain))
    }

    /// Whether what the client sends is held until the server responds.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.tunnel.as_deref(), Some(Tunnel::Requested { missing: false, .. }))
    }

    /// What is held until the server responds, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.tunnel.as_ref().map_or(0, |tunnel| tunnel.held_bytes())
    }

    /// Whether compressed messages of a WebSocket are read.
    pub(super) fn inflates(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.inflates())
    }

    /// The tunnel, if it is a WebSocket or may become one.
    fn websocket(&mut self) -> Option<&mut Tunnel> {
        self.tunnel.as_deref_mut().filter(|tunnel| !matches!(tunnel, Tunnel::Unread(_)))
    }

    /// Ends the exchange: with `ending` unless it is complete, or may be.
    pub(super) fn end<S: Sink>(mut self, ending: Ending, at: Nanos, sink: &mut S) {
        match self.websocket() {
            Some(Tunnel::Open(websocket)) => return websocket.close(ending, at, sink),
            Some(tunnel) => tunnel.drop_held(sink),
            None => {}
        }
        // Some clients leave once they have the announced content, before END_STREAM.
        if self.remaining == Some(0) && !matches!(ending, Ending::Malformed(_)) {
            self.message_end(Role::Server, self.last_byte, sink);
        }
        match (self.response_ended, ending) {
            (Some(response_ended), _) => {
                let ending = self.undecodable.map_or(Ending::Complete, Ending::Undecodable);
                sink.end(self.id, ending, response_ended);
            }
            (None, Ending::Cut | Ending::ClosedLocally) if self.response.end_uncertain => {
                sink.end(self.id, Ending::Lost, at);
            }
            (None, _) => sink.end(self.id, ending, at),
        }
    }
}
