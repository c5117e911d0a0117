//! Heads and bodies: requests are paired with responses.

use std::ops::ControlFlow;

use super::{
    connection::{ConnectionState, Http1},
    exchange::{Exchange, MessageProgress},
    framer::RawHead,
    head::{self, Fields, MethodKind, StartLine},
    upgrade::UpgradeProtocol,
};
use crate::{
    Direction, Ending, ExchangeId, Headers, Interest, Nanos, Reason, RequestHead, ResponseHead, Role, Sink,
    Version, body::BodyUse, websocket::Extensions,
};

impl Http1 {
    pub(super) fn head<S: Sink>(&mut self, dir: Direction, head: RawHead<'_>, at: Nanos, sink: &mut S) {
        let mut fields: Fields<'_> = std::mem::take(&mut self.fields);
        match head::parse(head.bytes(), &mut fields) {
            Err(reason) => self.malformed(dir, reason, head.bytes().len(), at, sink),
            Ok((StartLine::Request { .. }, _)) if self.requests == Some(dir.opposite()) => {
                self.malformed(dir, Reason::MessageFromWrongSide, head.bytes().len(), at, sink);
            }
            Ok((StartLine::Response { .. }, _)) if self.requests == Some(dir) => {
                self.malformed(dir, Reason::MessageFromWrongSide, head.bytes().len(), at, sink);
            }
            Ok((StartLine::Request { method, target, version }, complete)) => {
                self.requests = Some(dir);
                let headers = Headers::new(&fields, complete);
                let authority = headers.get("host").or_else(|| match MethodKind::of(method) {
                    MethodKind::Connect => Some(target),
                    _ => head::authority(target),
                });
                let role = match dir {
                    Direction::Write => Role::Client,
                    Direction::Read => Role::Server,
                };
                let request = RequestHead { role, version, method, target, authority, headers };
                self.request(dir, &request, head.began, at, sink);
            }
            Ok((StartLine::Response { version, status }, complete)) => {
                self.requests = Some(dir.opposite());
                let headers = Headers::new(&fields, complete);
                self.response(dir, version, status, headers, &head, at, sink);
            }
        }
        self.fields = emptied(fields);
        self.halves[dir.index()].framer.reuse_buffer(head);
    }

    /// The body stands without its trailers: broken ones are counted, and it goes on.
    pub(super) fn trailers<S: Sink>(
        &mut self,
        dir: Direction,
        trailers: RawHead<'_>,
        at: Nanos,
        sink: &mut S,
    ) {
        let mut fields: Fields<'_> = std::mem::take(&mut self.fields);
        match head::trailers(trailers.bytes(), &mut fields) {
            Err(reason) => sink.dropped(reason, trailers.bytes().len() as u64),
            Ok(complete) => {
                let receiving_response =
                    self.queue.receiving_response().filter(|receiving_response| receiving_response.is_open);
                if self.requests == Some(dir.opposite())
                    && let Some(exchange) =
                        receiving_response.filter(|exchange| exchange.response_ended.is_none())
                {
                    sink.trailers(exchange.id, Headers::new(&fields, complete), at);
                }
            }
        }
        self.fields = emptied(fields);
        self.halves[dir.index()].framer.reuse_buffer(trailers);
    }

    fn request<S: Sink>(
        &mut self,
        dir: Direction,
        head: &RequestHead<'_>,
        began: Nanos,
        at: Nanos,
        sink: &mut S,
    ) {
        self.state = ConnectionState::Decided;
        if self.queue.len() == self.limits.in_flight {
            self.queue.end_all(Ending::Malformed(Reason::TooManyInFlight), at, sink);
            self.state = ConnectionState::Over;
            return;
        }
        self.lose_chunked_body(sink);
        let id = ExchangeId(self.next_id);
        self.next_id += 1;
        let interest = sink.request(id, head, began);
        let exchange = self.queue.push(Exchange {
            id,
            kind: MethodKind::of(head.method),
            asks_upgrade: head.headers.has_member("connection", "upgrade"),
            expects_continue: head.headers.has_member("expect", "100-continue"),
            body_started: false,
            began,
            last: at,
            request: MessageProgress::Open,
            response: MessageProgress::Awaited,
            status: None,
            response_ended: None,
            undecodable: None,
            is_open: true,
        });
        let half = &mut self.halves[dir.index()];
        match head::request_body(head.headers) {
            Ok(body) => {
                (half.body, exchange.undecodable) = BodyUse::new(interest, head.headers, &self.limits);
                half.framer.begin(body);
            }
            Err(reason) => self.malformed(dir, reason, 0, at, sink),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one status line and its place in time")]
    fn response<S: Sink>(
        &mut self,
        dir: Direction,
        version: Version,
        status: u16,
        headers: Headers<'_>,
        head: &RawHead<'_>,
        at: Nanos,
        sink: &mut S,
    ) {
        self.state = ConnectionState::Decided;
        let half = &mut self.halves[dir.index()];
        let Some(exchange) = self.queue.awaiting_response() else {
            half.framer.restart();
            self.hold(dir, head.bytes(), true, head.began, sink);
            return;
        };
        if head.began < exchange.began {
            sink.dropped(Reason::ResponseWithoutRequest, head.bytes().len() as u64);
            half.framer.lose_sync();
            return;
        }
        exchange.last = at;
        if (100..200).contains(&status) && status != 101 {
            exchange.expects_continue &= status != 100;
            half.framer.restart();
            return;
        }
        if status == 101 && exchange.is_open && headers.has_member("upgrade", "h2c") {
            self.state = ConnectionState::Upgraded(UpgradeProtocol::Http2);
            return;
        }
        exchange.response = MessageProgress::Open;
        exchange.status = Some(status);
        let shown = exchange
            .is_open
            .then(|| sink.response(exchange.id, &ResponseHead { version, status, headers }, head.began));
        if status == 101 && shown == Some(Interest::Body) && headers.has_member("upgrade", "websocket") {
            self.state = ConnectionState::Upgraded(UpgradeProtocol::WebSocket(Extensions::of(headers)));
            return;
        }
        if head::switches_protocol(exchange.kind, status) {
            exchange.request = MessageProgress::Done;
            exchange.response = MessageProgress::Done;
            exchange.response_ended = Some(at);
            self.queue.end_finished(sink);
            self.switch(status, at, sink);
            return;
        }
        match head::response_body(exchange.kind, status, headers) {
            Ok(body) => {
                let interest = shown.unwrap_or(Interest::Skip);
                let undecodable;
                (half.body, undecodable) = BodyUse::new(interest, headers, &self.limits);
                exchange.undecodable = exchange.undecodable.or(undecodable);
                half.framer.begin(body);
            }
            Err(reason) => self.malformed(dir, reason, 0, at, sink),
        }
    }

    pub(super) fn body<S: Sink>(&mut self, dir: Direction, bytes: &[u8], at: Nanos, sink: &mut S) {
        let body = &mut self.halves[dir.index()].body;
        if self.requests == Some(dir) {
            let Some(exchange) = self.queue.receiving_request() else { return };
            exchange.body_started = true;
            if exchange.is_open {
                let fed = body.feed(bytes, |bytes| {
                    sink.request_body(exchange.id, bytes, at);
                    ControlFlow::Continue(())
                });
                exchange.undecodable = exchange.undecodable.or_else(|| fed.err());
            }
            return;
        }
        let Some(exchange) = self.queue.receiving_response() else { return };
        if exchange.is_open && exchange.response_ended.is_none() {
            let mut finished = false;
            let fed = body.feed(bytes, |bytes| {
                sink.response_body(exchange.id, bytes, at);
                finished = sink.is_response_complete(exchange.id);
                if finished { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            exchange.undecodable = exchange.undecodable.or_else(|| fed.err());
            if finished {
                exchange.response_ended = Some(at);
                self.queue.end_finished(sink);
            }
        }
    }

    pub(super) fn message_end<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        let finished = self.halves[dir.index()].body.finish();
        let request = self.requests == Some(dir);
        let owner = if request { self.queue.receiving_request() } else { self.queue.receiving_response() };
        let Some(exchange) = owner else { return };
        exchange.last = at;
        exchange.undecodable = exchange.undecodable.or_else(|| finished.err());
        if request {
            exchange.request = MessageProgress::Done;
            if exchange.is_open {
                sink.request_end(exchange.id, at);
            }
        } else {
            exchange.response = MessageProgress::Done;
            exchange.response_ended = exchange.response_ended.or(Some(at));
        }
        self.queue.end_finished(sink);
    }
}

/// The same allocation for other fields: there is nothing left to convert.
fn emptied(mut fields: Fields<'_>) -> Fields<'static> {
    fields.clear();
    fields.into_iter().map(|_| (&b""[..], &b""[..])).collect()
}
