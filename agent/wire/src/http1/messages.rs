//! Heads and bodies: requests are paired with responses.

use std::ops::ControlFlow;

use super::{
    connection::{Http1, State},
    exchange::{Exchange, Part},
    framer::Head,
    head::{self, Fields, Kind, StartLine},
    upgrade::To,
};
use crate::{
    Direction, Ending, ExchangeId, Headers, Interest, Nanos, Reason, RequestHead, ResponseHead, Role, Sink,
    Version, body::BodyUse, websocket::Extensions,
};

impl Http1 {
    pub(super) fn head<S: Sink>(&mut self, dir: Direction, head: Head<'_>, at: Nanos, sink: &mut S) {
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
                let authority = headers.get("host").or_else(|| match Kind::of(method) {
                    Kind::Connect => Some(target),
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
        self.lanes[dir.index()].framer.recycle(head);
    }

    /// The body stands without its trailers: broken ones are counted, and it goes on.
    pub(super) fn trailers<S: Sink>(&mut self, dir: Direction, trailers: Head<'_>, at: Nanos, sink: &mut S) {
        let mut fields: Fields<'_> = std::mem::take(&mut self.fields);
        match head::trailers(trailers.bytes(), &mut fields) {
            Err(reason) => sink.dropped(reason, trailers.bytes().len() as u64),
            Ok(complete) => {
                let answering = self.queue.answering().filter(|answering| answering.live);
                if self.requests == Some(dir.opposite())
                    && let Some(exchange) = answering.filter(|exchange| exchange.answered.is_none())
                {
                    sink.trailers(exchange.id, Headers::new(&fields, complete), at);
                }
            }
        }
        self.fields = emptied(fields);
        self.lanes[dir.index()].framer.recycle(trailers);
    }

    fn request<S: Sink>(
        &mut self,
        dir: Direction,
        head: &RequestHead<'_>,
        began: Nanos,
        at: Nanos,
        sink: &mut S,
    ) {
        self.state = State::Decided;
        if self.queue.len() == self.limits.in_flight {
            self.queue.end_all(Ending::Malformed(Reason::TooManyInFlight), at, sink);
            self.state = State::Over;
            return;
        }
        self.lose_body(sink);
        let id = ExchangeId(self.next_id);
        self.next_id += 1;
        let interest = sink.request(id, head, began);
        let exchange = self.queue.push(Exchange {
            id,
            kind: Kind::of(head.method),
            upgrade: head.headers.has_member("connection", "upgrade"),
            expect: head.headers.has_member("expect", "100-continue"),
            sent_body: false,
            began,
            last: at,
            request: Part::Open,
            response: Part::Awaited,
            status: None,
            answered: None,
            undecodable: None,
            live: true,
        });
        let lane = &mut self.lanes[dir.index()];
        match head::request_body(head.headers) {
            Ok(body) => {
                (lane.body, exchange.undecodable) = BodyUse::new(interest, head.headers, &self.limits);
                lane.framer.begin(body);
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
        head: &Head<'_>,
        at: Nanos,
        sink: &mut S,
    ) {
        self.state = State::Decided;
        let lane = &mut self.lanes[dir.index()];
        let Some(exchange) = self.queue.awaiting() else {
            lane.framer.restart();
            self.hold(dir, head.bytes(), true, head.began, sink);
            return;
        };
        if head.began < exchange.began {
            sink.dropped(Reason::ResponseWithoutRequest, head.bytes().len() as u64);
            lane.framer.lose_step();
            return;
        }
        exchange.last = at;
        if (100..200).contains(&status) && status != 101 {
            exchange.expect &= status != 100;
            lane.framer.restart();
            return;
        }
        if status == 101 && exchange.live && headers.has_member("upgrade", "h2c") {
            self.state = State::Upgraded(To::Http2);
            return;
        }
        exchange.response = Part::Open;
        exchange.status = Some(status);
        let shown = exchange
            .live
            .then(|| sink.response(exchange.id, &ResponseHead { version, status, headers }, head.began));
        if status == 101 && shown == Some(Interest::Body) && headers.has_member("upgrade", "websocket") {
            self.state = State::Upgraded(To::WebSocket(Extensions::of(headers)));
            return;
        }
        if head::switches(exchange.kind, status) {
            exchange.request = Part::Done;
            exchange.response = Part::Done;
            exchange.answered = Some(at);
            self.queue.settle(sink);
            self.switch(status, at, sink);
            return;
        }
        match head::response_body(exchange.kind, status, headers) {
            Ok(body) => {
                let interest = shown.unwrap_or(Interest::Skip);
                let undecodable;
                (lane.body, undecodable) = BodyUse::new(interest, headers, &self.limits);
                exchange.undecodable = exchange.undecodable.or(undecodable);
                lane.framer.begin(body);
            }
            Err(reason) => self.malformed(dir, reason, 0, at, sink),
        }
    }

    pub(super) fn body<S: Sink>(&mut self, dir: Direction, bytes: &[u8], at: Nanos, sink: &mut S) {
        let body = &mut self.lanes[dir.index()].body;
        if self.requests == Some(dir) {
            let Some(exchange) = self.queue.requesting() else { return };
            exchange.sent_body = true;
            if exchange.live {
                let fed = body.feed(bytes, |bytes| {
                    sink.request_body(exchange.id, bytes, at);
                    ControlFlow::Continue(())
                });
                exchange.undecodable = exchange.undecodable.or_else(|| fed.err());
            }
            return;
        }
        let Some(exchange) = self.queue.answering() else { return };
        if exchange.live && exchange.answered.is_none() {
            let mut finished = false;
            let fed = body.feed(bytes, |bytes| {
                sink.response_body(exchange.id, bytes, at);
                finished = sink.finished(exchange.id);
                if finished { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            exchange.undecodable = exchange.undecodable.or_else(|| fed.err());
            if finished {
                exchange.answered = Some(at);
                self.queue.settle(sink);
            }
        }
    }

    pub(super) fn message_end<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        let finished = self.lanes[dir.index()].body.finish();
        let request = self.requests == Some(dir);
        let owner = if request { self.queue.requesting() } else { self.queue.answering() };
        let Some(exchange) = owner else { return };
        exchange.last = at;
        exchange.undecodable = exchange.undecodable.or_else(|| finished.err());
        if request {
            exchange.request = Part::Done;
            if exchange.live {
                sink.request_end(exchange.id, at);
            }
        } else {
            exchange.response = Part::Done;
            exchange.answered = exchange.answered.or(Some(at));
        }
        self.queue.settle(sink);
    }
}

/// The same allocation for other fields: there is nothing left to convert.
fn emptied(mut fields: Fields<'_>) -> Fields<'static> {
    fields.clear();
    fields.into_iter().map(|_| (&b""[..], &b""[..])).collect()
}
