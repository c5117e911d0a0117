//! The exchanges of an HTTP/1 connection that are not over: which response is whose, and when each ends.

use std::collections::VecDeque;

use super::head::MethodKind;
use crate::{Ending, ExchangeId, Nanos, Reason, Sink};

/// A request and its response. It stays, for the sake of the order, until both have passed, also when its end
/// has been told before.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: ExchangeId,
    pub(super) kind: MethodKind,
    /// The request asked for another protocol.
    pub(super) asks_upgrade: bool,
    /// The request waits for 100 (Continue) before its body.
    pub(super) expects_continue: bool,
    /// Bytes of the request's body, or of its framing, were seen.
    pub(super) body_started: bool,
    /// Time of the request's first byte.
    pub(super) began: Nanos,
    /// Time of the last byte of either message.
    pub(super) last: Nanos,
    pub(super) request: MessageProgress,
    pub(super) response: MessageProgress,
    /// Status of the final response, when its head was seen.
    pub(super) status: Option<u16>,
    /// When the response ended, by protocol or because the sink said so.
    pub(super) response_ended: Option<Nanos>,
    pub(super) undecodable: Option<Reason>,
    /// Its end has not been told yet.
    pub(super) is_open: bool,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageProgress {
    Awaited,
    /// Its head was seen.
    Open,
    Done,
    /// Its end will not be known.
    Lost,
}

impl Exchange {
    /// Tells the end of the exchange, once.
    pub(super) fn end<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        if std::mem::replace(&mut self.is_open, false) {
            sink.end(self.id, ending, at);
        }
    }

    /// Tells the end of an exchange that nothing more comes for.
    fn end_now<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        match self.response_ended {
            Some(response_ended) => self.end_whole(response_ended, sink),
            None => self.end(ending, at, sink),
        }
    }

    fn end_whole<S: Sink>(&mut self, at: Nanos, sink: &mut S) {
        self.end(self.undecodable.map_or(Ending::Complete, Ending::Undecodable), at, sink);
    }

    /// Whether what comes after the request depends on the response.
    pub(super) fn may_switch(&self) -> bool {
        (self.asks_upgrade || self.kind == MethodKind::Connect)
            && self.request == MessageProgress::Done
            && self.response == MessageProgress::Awaited
    }

    /// Whether the response has spared the client the request's body (RFC 9110 §10.1.1).
    pub(super) fn may_omit_body(&self) -> bool {
        self.expects_continue
            && !self.body_started
            && self.request == MessageProgress::Open
            && self.status.is_some_and(|status| status >= 300)
    }
}

/// The exchanges of a connection, oldest request first. Only the last can have an unfinished request, and only
/// the first unanswered one is being answered.
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

    /// The exchange whose request is passing.
    pub(super) fn receiving_request(&mut self) -> Option<&mut Exchange> {
        self.last().filter(|exchange| exchange.request == MessageProgress::Open)
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

    /// The exchange whose response is passing.
    pub(super) fn receiving_response(&mut self) -> Option<&mut Exchange> {
        self.awaiting_response().filter(|exchange| exchange.response == MessageProgress::Open)
    }

    /// Missing bytes hide the end of every response that is due. What comes next may answer any of these
    /// requests, and as well one that is missing, too: it is not guessed.
    pub(super) fn lose_responses<S: Sink>(&mut self, sink: &mut S) {
        for exchange in &mut self.list {
            if exchange.response == MessageProgress::Open && exchange.is_open {
                sink.gap(exchange.id, false, None);
            }
            if matches!(exchange.response, MessageProgress::Awaited | MessageProgress::Open) {
                exchange.response = MessageProgress::Lost;
                exchange.end_now(Ending::Lost, exchange.last, sink);
            }
        }
        self.end_finished(sink);
    }

    /// The response that is due is no HTTP; whose the later ones are is not known.
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

    /// Ends the exchanges that are whole and forgets those of which nothing more comes.
    pub(super) fn end_finished<S: Sink>(&mut self, sink: &mut S) {
        for exchange in &mut self.list {
            if let Some(response_ended) = exchange.response_ended
                && (exchange.request != MessageProgress::Open
                    || (exchange.response == MessageProgress::Done && exchange.may_omit_body()))
            {
                exchange.end_whole(response_ended, sink);
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

    /// Ends everything: nothing more comes.
    pub(super) fn end_all<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        for mut exchange in self.list.drain(..) {
            exchange.end_now(ending, at, sink);
        }
    }

    /// Tells the end of exchanges whose last byte passed before `oldest`; they keep their place.
    pub(super) fn sweep<S: Sink>(&mut self, oldest: Nanos, sink: &mut S) {
        for exchange in self.list.iter_mut().filter(|exchange| exchange.last < oldest) {
            exchange.end_now(Ending::Stale, exchange.last, sink);
        }
        self.end_finished(sink);
    }
}
