//! The exchanges of an HTTP/1 connection that are not over: which response belongs to which request, and when each
//! exchange ends.

use std::collections::VecDeque;

use super::head::MethodKind;
use crate::{Ending, ExchangeId, Nanos, Reason, Role, Sink, progress::MessageProgress};

/// A request and its response.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: ExchangeId,
    pub(super) kind: MethodKind,
    /// The request asked for another protocol.
    pub(super) asks_upgrade: bool,
    /// The client waits for 100 (Continue) before it sends the body of the request.
    pub(super) expects_continue: bool,
    /// Bytes of the request's body, or of its framing, were seen.
    pub(super) body_started: bool,
    /// Time of the request's first byte.
    pub(super) started: Nanos,
    /// Time of the last byte of either message.
    pub(super) last_byte: Nanos,
    pub(super) request: MessageProgress,
    pub(super) response: MessageProgress,
    /// Status of the final response, once its head was seen.
    pub(super) status: Option<u16>,
    /// When the response ended: by protocol, or as [`Sink::is_response_complete`] said.
    pub(super) response_ended: Option<Nanos>,
    pub(super) undecodable: Option<Reason>,
    /// Its end has not been reported yet.
    pub(super) is_open: bool,
}

impl Exchange {
    /// Reports the end of the exchange, unless that was done before.
    pub(super) fn end<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        if std::mem::replace(&mut self.is_open, false) {
            sink.end(self.id, ending, at);
        }
    }

    /// Reports the end of an exchange for which no more bytes come.
    fn end_now<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        match self.response_ended {
            Some(response_ended) => self.end_complete(response_ended, sink),
            None => self.end(ending, at, sink),
        }
    }

    fn end_complete<S: Sink>(&mut self, at: Nanos, sink: &mut S) {
        self.end(self.undecodable.map_or(Ending::Complete, Ending::Undecodable), at, sink);
    }

    /// Whether the response decides how the bytes after the request are read.
    pub(super) fn may_switch(&self) -> bool {
        (self.asks_upgrade || self.kind == MethodKind::Connect)
            && self.request == MessageProgress::Done
            && self.response == MessageProgress::Awaited
    }

    /// Whether the response allows the client to omit the body of the request (RFC 9110 §10.1.1).
    pub(super) fn may_omit_body(&self) -> bool {
        self.expects_continue
            && !self.body_started
            && self.request == MessageProgress::Open
            && self.status.is_some_and(|status| status >= 300)
    }
}

/// The exchanges of a connection, oldest request first. Only the request of the last one can be Open, and only the
/// response of the first one that is neither Done nor Lost.
#[derive(Debug, Default)]
pub(super) struct ExchangeQueue {
    list: VecDeque<Exchange>,
}

impl ExchangeQueue {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn push(&mut self, exchange: Exchange) -> &mut Exchange {
        self.list.push_back(exchange);
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    pub(super) fn last(&mut self) -> Option<&mut Exchange> {
        self.list.back_mut()
    }

    /// The exchange whose message from this peer is Open.
    pub(super) fn receiving(&mut self, sender: Role) -> Option<&mut Exchange> {
        match sender {
            Role::Client => self.last().filter(|exchange| exchange.request == MessageProgress::Open),
            Role::Server => {
                self.awaiting_response().filter(|exchange| exchange.response == MessageProgress::Open)
            }
        }
    }

    /// The exchange whose response comes next.
    pub(super) fn awaiting_response(&mut self) -> Option<&mut Exchange> {
        self.list
            .iter_mut()
            .find(|exchange| matches!(exchange.response, MessageProgress::Awaited | MessageProgress::Open))
    }

    /// Takes out the exchange whose response comes next.
    pub(super) fn take_awaiting_response(&mut self) -> Option<Exchange> {
        let awaits = |exchange: &Exchange| {
            matches!(exchange.response, MessageProgress::Awaited | MessageProgress::Open)
        };
        self.list.remove(self.list.iter().position(awaits)?)
    }

    /// Missing bytes hide the end of every response that is due. The next response may belong to any of these
    /// requests, or to one that is missing, so that it belongs to none.
    pub(super) fn lose_responses<S: Sink>(&mut self, sink: &mut S) {
        for exchange in &mut self.list {
            if exchange.response == MessageProgress::Open && exchange.is_open {
                sink.gap(exchange.id, Role::Server, None);
            }
            if matches!(exchange.response, MessageProgress::Awaited | MessageProgress::Open) {
                exchange.response = MessageProgress::Lost;
                exchange.end_now(Ending::Lost, exchange.last_byte, sink);
            }
        }
        self.end_finished(sink);
    }

    /// The response that is due breaks a rule of HTTP. Later ones cannot be paired with their requests.
    pub(super) fn fail_responses<S: Sink>(&mut self, reason: Reason, at: Nanos, sink: &mut S) {
        let mut ending = Ending::Malformed(reason);
        for exchange in &mut self.list {
            if matches!(exchange.response, MessageProgress::Awaited | MessageProgress::Open) {
                exchange.response = MessageProgress::Lost;
                exchange.end(ending, at, sink);
                ending = Ending::Lost;
            }
        }
        self.end_finished(sink);
    }

    /// Ends the exchanges that are complete, and removes those for which no more bytes come.
    pub(super) fn end_finished<S: Sink>(&mut self, sink: &mut S) {
        for exchange in &mut self.list {
            if let Some(response_ended) = exchange.response_ended
                && (exchange.request != MessageProgress::Open
                    || (exchange.response == MessageProgress::Done && exchange.may_omit_body()))
            {
                exchange.end_complete(response_ended, sink);
            }
        }
        while self.list.front().is_some_and(|exchange| {
            !exchange.is_open
                && exchange.request != MessageProgress::Open
                && matches!(exchange.response, MessageProgress::Done | MessageProgress::Lost)
        }) {
            self.list.pop_front();
        }
    }

    /// Ends all exchanges: no more bytes come.
    pub(super) fn end_all<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        for mut exchange in self.list.drain(..) {
            exchange.end_now(ending, at, sink);
        }
    }

    /// Ends exchanges whose last byte passed before `oldest`; they keep their place in the queue.
    pub(super) fn sweep<S: Sink>(&mut self, oldest: Nanos, sink: &mut S) {
        for exchange in self.list.iter_mut().filter(|exchange| exchange.last_byte < oldest) {
            exchange.end_now(Ending::Stale, exchange.last_byte, sink);
        }
        self.end_finished(sink);
    }
}
