//! A stream: one request and its response (RFC 9113 §5.1, §8.1), and what follows if that opens a tunnel.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::tunnel::{FinalResponse, Tunnel};
use crate::{
    Ending, ExchangeId, Headers, Interest, Nanos, Reason, ResponseHead, Role, Sink, Version,
    body::{BodyUse, content_length},
};

/// The streams that carry exchanges which are not over, by number.
pub(super) type Streams = BTreeMap<u32, Stream>;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: ExchangeId,
    /// Time of the last byte of either message.
    pub(super) last: Nanos,
    pub(super) request: StreamMessage,
    pub(super) response: StreamMessage,
    /// When the response ended, by protocol or because the sink said so.
    pub(super) response_ended: Option<Nanos>,
    /// Bytes of the response's content to come, where its length is known.
    pub(super) remaining: Option<u64>,
    pub(super) undecodable: Option<Reason>,
    /// It carries another protocol, or is to.
    pub(super) tunnel: Option<Box<Tunnel>>,
}

#[derive(Debug)]
pub(super) struct StreamMessage {
    pub(super) part: MessageProgress,
    pub(super) body: BodyUse,
    /// Frames were lost in which it may have ended.
    pub(super) end_uncertain: bool,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageProgress {
    Awaited,
    /// Its head was seen.
    Open,
    Done,
}

impl StreamMessage {
    pub(super) const fn new(part: MessageProgress) -> Self {
        Self { part, body: BodyUse::Skip, end_uncertain: false }
    }
}

impl Stream {
    pub(super) fn message(&mut self, request: bool) -> &mut StreamMessage {
        if request { &mut self.request } else { &mut self.response }
    }

    /// The head of the final response has come.
    pub(super) fn final_response<S: Sink>(&mut self, answer: &FinalResponse<'_>, sink: &mut S) {
        self.response.part = MessageProgress::Open;
        self.tunnel = self.tunnel.take().and_then(|tunnel| tunnel.final_response(self.id, answer, sink));
        if self.tunnel.is_none() {
            let undecodable;
            (self.response.body, undecodable) = BodyUse::new(answer.interest, answer.headers, answer.limits);
            self.undecodable = self.undecodable.or(undecodable);
            // Conflicting lengths (RFC 9113 §8.1.1) tell nothing.
            self.remaining = content_length(answer.headers).unwrap_or(None);
        }
    }

    /// The response goes on although its head was lost.
    pub(super) fn start_without_head<S: Sink>(&mut self, at: Nanos, sink: &mut S) {
        let head = ResponseHead { version: Version::Http2, status: 0, headers: Headers::new(&[], false) };
        let interest = sink.response(self.id, &head, at);
        self.response.part = MessageProgress::Open;
        match &mut self.tunnel {
            Some(tunnel) => tunnel.lose_response(sink),
            None if interest == Interest::Body => self.response.body = BodyUse::Plain,
            None => {}
        }
        self.gap(false, None, sink);
    }

    /// Takes content of a message; `starts`: its frame begins with it.
    pub(super) fn data<S: Sink>(
        &mut self,
        request: bool,
        bytes: &[u8],
        starts: bool,
        at: Nanos,
        sink: &mut S,
    ) {
        if let Some(tunnel) = &mut self.tunnel {
            return tunnel.data(sender(request), bytes, starts, at, sink);
        }
        let id = self.id;
        if !request {
            self.remaining = self.remaining.and_then(|remaining| remaining.checked_sub(bytes.len() as u64));
        }
        let fed = if request {
            self.request.body.feed(bytes, |bytes| {
                sink.request_body(id, bytes, at);
                ControlFlow::Continue(())
            })
        } else if self.response_ended.is_none() {
            let response_ended = &mut self.response_ended;
            self.response.body.feed(bytes, |bytes| {
                sink.response_body(id, bytes, at);
                if sink.is_response_complete(id) {
                    *response_ended = Some(at);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })
        } else {
            Ok(())
        };
        self.undecodable = self.undecodable.or_else(|| fed.err());
    }

    /// Content of a message is missing.
    pub(super) fn gap<S: Sink>(&mut self, request: bool, missing: Option<u64>, sink: &mut S) {
        if let Some(tunnel) = self.followed() {
            return tunnel.gap(sender(request), missing, sink);
        }
        let id = self.id;
        if !request {
            self.remaining = self.remaining.and_then(|remaining| remaining.checked_sub(missing?));
        }
        if request || self.response_ended.is_none() {
            let message = self.message(request);
            if message.body.is_wanted() || missing.is_none() {
                sink.gap(id, request, missing);
            }
            message.body.gap();
        }
    }

    /// One side of the stream has ended.
    pub(super) fn message_end<S: Sink>(&mut self, request: bool, at: Nanos, sink: &mut S) {
        if let Some(tunnel) = self.followed() {
            return tunnel.half_close(sender(request), at, sink);
        }
        if self.message(request).part == MessageProgress::Done {
            return;
        }
        let finished = self.message(request).body.finish();
        self.message(request).part = MessageProgress::Done;
        self.undecodable = self.undecodable.or_else(|| finished.err());
        if request {
            sink.request_end(self.id, at);
        } else {
            self.response_ended = self.response_ended.or(Some(at));
        }
    }

    /// Frames of one side were lost.
    pub(super) fn lose<S: Sink>(&mut self, request: bool, sink: &mut S) {
        if let Some(tunnel) = self.followed().filter(|_| request) {
            return tunnel.gap(Role::Client, None, sink);
        }
        if self.message(request).part != MessageProgress::Done {
            self.message(request).end_uncertain = true;
            if self.message(request).part == MessageProgress::Open {
                self.gap(request, None, sink);
            }
        }
    }

    /// The client of the connection sends nothing more.
    pub(super) fn half_close<S: Sink>(&mut self, at: Nanos, sink: &mut S) {
        match self.followed() {
            Some(tunnel) => tunnel.half_close(Role::Client, at, sink),
            None => self.request.end_uncertain |= self.request.part != MessageProgress::Done,
        }
    }

    /// Whether nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_over())
            || (self.response_ended.is_some()
                && (self.request.part == MessageProgress::Done || self.request.end_uncertain))
    }

    /// Whether what the client sends is kept until the server answers.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.tunnel.as_deref(), Some(Tunnel::Requested { missing: false, .. }))
    }

    /// Bytes that it keeps for want of an answer.
    pub(super) fn held(&self) -> usize {
        self.tunnel.as_ref().map_or(0, |tunnel| tunnel.held())
    }

    /// Whether it carries messages that may be compressed, and are read.
    pub(super) fn inflates(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.inflates())
    }

    /// The tunnel, if it is a WebSocket or may become one.
    fn followed(&mut self) -> Option<&mut Tunnel> {
        self.tunnel.as_deref_mut().filter(|tunnel| !matches!(tunnel, Tunnel::Unread(_)))
    }

    /// Tells the end of the exchange: with `ending` unless it was whole, or may have been.
    pub(super) fn end<S: Sink>(mut self, ending: Ending, at: Nanos, sink: &mut S) {
        match self.followed() {
            Some(Tunnel::Open(websocket)) => return websocket.close(ending, at, sink),
            Some(tunnel) => tunnel.drop_held(sink),
            None => {}
        }
        // Some clients leave once they have what was announced, before the server says that it was all.
        if self.remaining == Some(0) && !matches!(ending, Ending::Malformed(_)) {
            self.message_end(false, self.last, sink);
        }
        match (self.response_ended, ending) {
            (Some(response_ended), _) => {
                let ending = self.undecodable.map_or(Ending::Complete, Ending::Undecodable);
                sink.end(self.id, ending, response_ended);
            }
            (None, Ending::Cut | Ending::ClosedLocally) if self.response.end_uncertain => {
                sink.end(self.id, Ending::Lost, at)
            }
            (None, _) => sink.end(self.id, ending, at),
        }
    }
}

/// Who sends the content of a request, or of a response.
const fn sender(request: bool) -> Role {
    if request { Role::Client } else { Role::Server }
}
