//! Heads, bodies and ends of messages, and what they mean for their exchange.

use std::ops::ControlFlow;

use super::{
    connection::{ConnectionState, Http1},
    exchange::Exchange,
    framer::RawHead,
    head::{self, Fields, MethodKind, StartLine},
    upgrade::UpgradeProtocol,
};
use crate::{
    Direction, Ending, ExchangeId, Headers, Interest, Nanos, Reason, RequestHead, ResponseHead, Role, Sink,
    body::BodyUse, progress::MessageProgress, runs::Run, websocket::Extensions,
};

/// When a head passed.
#[derive(Clone, Copy)]
struct HeadTimes {
    first_byte: Nanos,
    last_byte: Nanos,
}

impl Http1 {
    /// The head of a message is complete.
    pub(super) fn head<S: Sink>(&mut self, dir: Direction, head: RawHead<'_>, at: Nanos, sink: &mut S) {
        let mut fields: Fields<'_> = std::mem::take(&mut self.fields);
        let parsed = head::parse(head.bytes(), &mut fields).and_then(|(start, complete)| {
            let requests = match start {
                StartLine::Request { .. } => dir,
                StartLine::Response { .. } => dir.opposite(),
            };
            match self.requests {
                Some(known) if known != requests => Err(Reason::MessageFromWrongSide),
                _ => Ok((start, complete)),
            }
        });
        match parsed {
            Err(reason) => {
                sink.dropped(reason, head.bytes().len() as u64);
                self.malformed(dir, reason, at, sink);
            }
            Ok((StartLine::Request { method, target, version }, complete)) => {
                self.requests = Some(dir);
                let headers = Headers::new(&fields, complete);
                let authority = headers.get("host").or_else(|| match MethodKind::of(method) {
                    MethodKind::Connect => Some(target),
                    _ => head::authority(target),
                });
                let role = Role::of_requests(dir);
                let request = RequestHead { role, version, method, target, authority, headers };
                self.request(dir, &request, HeadTimes { first_byte: head.started, last_byte: at }, sink);
            }
            Ok((StartLine::Response { version, status }, complete)) => {
                self.requests = Some(dir.opposite());
                let response = ResponseHead { version, status, headers: Headers::new(&fields, complete) };
                self.response(dir, &response, &head, at, sink);
            }
        }
        self.fields = emptied(fields);
        self.halves[dir.index()].framer.reuse_buffer(head);
    }

    /// The trailers of a message are complete. Broken ones are counted; the message is valid without them.
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
                let exchange = self.queue.receiving(Role::Server);
                if self.requests == Some(dir.opposite())
                    && let Some(exchange) =
                        exchange.filter(|exchange| exchange.is_open && exchange.response_ended.is_none())
                {
                    sink.trailers(exchange.id, Headers::new(&fields, complete), at);
                }
            }
        }
        self.fields = emptied(fields);
        self.halves[dir.index()].framer.reuse_buffer(trailers);
    }

    fn request<S: Sink>(&mut self, dir: Direction, head: &RequestHead<'_>, times: HeadTimes, sink: &mut S) {
        let at = times.last_byte;
        self.state = ConnectionState::Decided;
        if self.queue.len() == self.limits.in_flight {
            self.queue.end_all(Ending::Malformed(Reason::TooManyInFlight), at, sink);
            self.state = ConnectionState::Over;
            return;
        }
        self.lose_chunked_body(sink);
        let id = ExchangeId(self.next_id);
        self.next_id += 1;
        let interest = sink.request(id, head, times.first_byte);
        let exchange = self.queue.push(Exchange {
            id,
            kind: MethodKind::of(head.method),
            asks_upgrade: head.headers.has_member("connection", "upgrade"),
            expects_continue: head.headers.has_member("expect", "100-continue"),
            body_started: false,
            started: times.first_byte,
            last_byte: at,
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
            Err(reason) => self.malformed(dir, reason, at, sink),
        }
    }

    fn response<S: Sink>(
        &mut self,
        dir: Direction,
        response: &ResponseHead<'_>,
        raw: &RawHead<'_>,
        at: Nanos,
        sink: &mut S,
    ) {
        let ResponseHead { status, headers, .. } = *response;
        self.state = ConnectionState::Decided;
        let half = &mut self.halves[dir.index()];
        let Some(exchange) = self.queue.awaiting_response() else {
            half.framer.restart();
            self.hold(dir, Run { bytes: raw.bytes(), starts_call: true, at: raw.started }, sink);
            return;
        };
        if raw.started < exchange.started {
            sink.dropped(Reason::ResponseWithoutRequest, raw.bytes().len() as u64);
            half.framer.lose_sync();
            return;
        }
        exchange.last_byte = at;
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
        let interest = exchange.is_open.then(|| sink.response(exchange.id, response, raw.started));
        if status == 101 && interest == Some(Interest::Body) && headers.has_member("upgrade", "websocket") {
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
                let undecodable;
                let interest = interest.unwrap_or(Interest::Skip);
                (half.body, undecodable) = BodyUse::new(interest, headers, &self.limits);
                exchange.undecodable = exchange.undecodable.or(undecodable);
                half.framer.begin(body);
            }
            Err(reason) => self.malformed(dir, reason, at, sink),
        }
    }

    /// Takes bytes of the body of the current message.
    pub(super) fn body<S: Sink>(&mut self, dir: Direction, bytes: &[u8], at: Nanos, sink: &mut S) {
        let sender = self.sender(dir);
        let body = &mut self.halves[dir.index()].body;
        let Some(exchange) = self.queue.receiving(sender) else { return };
        match sender {
            Role::Client => {
                exchange.body_started = true;
                if exchange.is_open {
                    let fed = body.feed(bytes, |bytes| {
                        sink.request_body(exchange.id, bytes, at);
                        ControlFlow::Continue(())
                    });
                    exchange.undecodable = exchange.undecodable.or_else(|| fed.err());
                }
            }
            Role::Server if exchange.is_open && exchange.response_ended.is_none() => {
                let mut complete = false;
                let fed = body.feed(bytes, |bytes| {
                    sink.response_body(exchange.id, bytes, at);
                    complete = sink.is_response_complete(exchange.id);
                    if complete { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                exchange.undecodable = exchange.undecodable.or_else(|| fed.err());
                if complete {
                    exchange.response_ended = Some(at);
                    self.queue.end_finished(sink);
                }
            }
            Role::Server => {}
        }
    }

    /// The last byte of the current message has passed.
    pub(super) fn message_end<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        let decoded = self.halves[dir.index()].body.finish();
        let sender = self.sender(dir);
        let Some(exchange) = self.queue.receiving(sender) else { return };
        exchange.last_byte = at;
        exchange.undecodable = exchange.undecodable.or_else(|| decoded.err());
        match sender {
            Role::Client => {
                exchange.request = MessageProgress::Done;
                if exchange.is_open {
                    sink.request_end(exchange.id, at);
                }
            }
            Role::Server => {
                exchange.response = MessageProgress::Done;
                exchange.response_ended = exchange.response_ended.or(Some(at));
            }
        }
        self.queue.end_finished(sink);
    }
}

/// The same allocation for other fields: there is nothing left to convert.
fn emptied(mut fields: Fields<'_>) -> Fields<'static> {
    fields.clear();
    fields.into_iter().map(|_| (&b""[..], &b""[..])).collect()
}
