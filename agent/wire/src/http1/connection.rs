//! One connection: its directions cut into messages, in the order in which they can be understood.

use super::{
    exchange::{ExchangeQueue, MessageProgress},
    framer::MessageStep,
    half::Http1Half,
    head::{Fields, StartKind},
    upgrade::UpgradeProtocol,
};
use crate::{Direction, Ending, Limits, Nanos, Reason, Sink, held::HeldRuns};

/// Follows a connection that speaks HTTP/1, or may turn out to.
#[derive(Debug)]
pub(crate) struct Http1 {
    pub(super) limits: Limits,
    pub(super) halves: [Http1Half; 2],
    /// The direction of the requests, once known.
    pub(super) requests: Option<Direction>,
    pub(super) queue: ExchangeQueue,
    pub(super) next_id: u64,
    pub(super) state: ConnectionState,
    /// How often the connection has turned, where that is known.
    pub(super) turns: Option<u32>,
    /// Kept for its memory; always empty.
    pub(super) fields: Fields<'static>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// No message was seen yet, in so many bytes. `from_start`: its first bytes have to begin one.
    Undecided { from_start: bool, searched: u64 },
    /// At least one message was seen.
    Decided,
    /// The connection goes on in another protocol that is read, which answers the last request.
    Upgraded(UpgradeProtocol),
    /// Given up, or switched to a protocol that is not read.
    Over,
}

impl Http1 {
    /// `from_start`: the first bytes that come are the first ones of the connection.
    pub(crate) fn new(limits: Limits, from_start: bool) -> Self {
        Self {
            limits,
            halves: [Http1Half::new(&limits), Http1Half::new(&limits)],
            requests: None,
            queue: ExchangeQueue::default(),
            next_id: 0,
            state: ConnectionState::Undecided { from_start, searched: 0 },
            turns: None,
            fields: Vec::new(),
        }
    }

    pub(crate) fn set_turns(&mut self, turns: Option<u32>) {
        self.turns = turns;
    }

    pub(crate) const fn requests(&self) -> Option<Direction> {
        self.requests
    }

    pub(crate) const fn state(&self) -> ConnectionState {
        self.state
    }

    /// Takes the next bytes of a direction. `starts_call`: they begin where a captured call began.
    pub(crate) fn data<S: Sink>(
        &mut self,
        dir: Direction,
        bytes: &[u8],
        starts_call: bool,
        at: Nanos,
        sink: &mut S,
    ) {
        let half = &mut self.halves[dir.index()];
        if half.framer.seeks_chunk() && half.turns != self.turns {
            self.lose_chunked_body(sink);
        }
        self.halves[dir.index()].turns = self.turns;
        self.run(dir, bytes, starts_call, at, sink);
        while !matches!(self.state, ConnectionState::Upgraded(_))
            && let Some(dir) = self.releasable_direction(sink)
        {
            let held = std::mem::replace(&mut self.halves[dir.index()].held, HeldRuns::new());
            for (bytes, starts_call, at) in held.runs() {
                self.run(dir, bytes, starts_call, at, sink);
            }
            if let Some(at) = held.closed {
                self.half_close(dir, at, sink);
            }
        }
    }

    /// Bytes that begin no message were passed over.
    pub(crate) fn skipped<S: Sink>(&mut self, len: usize, sink: &mut S) {
        if len == 0 {
            return;
        }
        sink.dropped(Reason::OutOfSync, len as u64);
        if let ConnectionState::Undecided { from_start, searched } = &mut self.state {
            *searched += len as u64;
            if *from_start || *searched > self.limits.search {
                self.state = ConnectionState::Over;
            }
        }
    }

    /// The connection speaks something else.
    pub(crate) fn stop(&mut self) {
        self.state = ConnectionState::Over;
    }

    pub(crate) const fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Nothing more comes from the side that fills this direction.
    pub(crate) fn half_close<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        if self.requests != Some(dir) {
            self.lose_chunked_body(sink);
        }
        let half = &mut self.halves[dir.index()];
        if !half.held.is_empty() {
            half.held.closed = Some(at);
            return;
        }
        if self.requests == Some(dir) {
            if let Some(owner) = self.queue.receiving_request() {
                owner.request = MessageProgress::Lost;
            }
            self.queue.end_finished(sink);
        } else if self.requests.is_some() {
            if half.framer.is_until_close() {
                self.message_end(dir, at, sink);
            }
            self.queue.end_all(Ending::Cut, at, sink);
        }
        self.halves[dir.index()].framer.lose_sync();
    }

    /// The connection is over.
    pub(crate) fn close<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        self.lose_chunked_body(sink);
        for dir in Direction::ALL {
            self.drop_held(dir, 0, sink);
            if ending == Ending::Cut && self.halves[dir.index()].framer.is_until_close() {
                self.message_end(dir, at, sink);
            }
        }
        self.queue.end_all(ending, at, sink);
        self.state = ConnectionState::Over;
    }

    /// Ends exchanges whose last byte passed before `oldest`.
    pub(crate) fn sweep<S: Sink>(&mut self, oldest: Nanos, sink: &mut S) {
        self.queue.sweep(oldest, sink);
    }

    fn run<S: Sink>(&mut self, dir: Direction, bytes: &[u8], starts_call: bool, at: Nanos, sink: &mut S) {
        let mut input = bytes;
        while !matches!(self.state, ConnectionState::Over | ConnectionState::Upgraded(_)) {
            let starts_call = starts_call && input.len() == bytes.len();
            if !input.is_empty() && self.must_wait(dir) {
                self.hold(dir, input, starts_call, at, sink);
                return;
            }
            if starts_call {
                self.detect_omitted_body(dir, input, sink);
            }
            match self.halves[dir.index()].framer.next(&mut input, starts_call, at) {
                MessageStep::More => {
                    self.record_activity(dir, at);
                    return;
                }
                MessageStep::HeadPart(_) => {}
                MessageStep::Framing(_) => self.framing(dir),
                MessageStep::Head(head) => self.head(dir, head, at, sink),
                MessageStep::Body(bytes) => self.body(dir, bytes, at, sink),
                MessageStep::Trailers(trailers) => self.trailers(dir, trailers, at, sink),
                MessageStep::End => self.message_end(dir, at, sink),
                MessageStep::Skipped(bytes, before) => self.skipped(bytes.len() + before, sink),
                MessageStep::Malformed(reason, discarded) => self.malformed(dir, reason, discarded, at, sink),
            }
        }
        match input.len() {
            0 => {}
            _ if matches!(self.state, ConnectionState::Upgraded(_)) => {
                self.halves[dir.index()].held.push(input, true, at)
            }
            len => sink.dropped(Reason::ProtocolUnknown, len as u64),
        }
    }

    /// Whether bytes cannot be understood before the other direction says more.
    pub(super) fn must_wait(&mut self, dir: Direction) -> bool {
        let half = &self.halves[dir.index()];
        !half.held.is_empty()
            || (self.requests == Some(dir)
                && half.framer.is_between()
                && self.queue.last().is_some_and(|last| last.may_switch()))
    }

    pub(super) fn hold<S: Sink>(
        &mut self,
        dir: Direction,
        bytes: &[u8],
        starts_call: bool,
        at: Nanos,
        sink: &mut S,
    ) {
        let half = &mut self.halves[dir.index()];
        if half.held.len() + bytes.len() > self.limits.held {
            self.drop_held(dir, bytes.len(), sink);
            self.halves[dir.index()].framer.lose_sync();
        } else {
            half.held.push(bytes, starts_call, at);
        }
    }

    /// Gives up what is held, and `more` bytes.
    pub(super) fn drop_held<S: Sink>(&mut self, dir: Direction, more: usize, sink: &mut S) {
        let held = std::mem::replace(&mut self.halves[dir.index()].held, HeldRuns::new());
        let reason = if self.requests == Some(dir) {
            Reason::SwitchUnanswered
        } else {
            Reason::ResponseWithoutRequest
        };
        if held.len() + more > 0 {
            sink.dropped(reason, (held.len() + more) as u64);
        }
    }

    /// The direction whose held bytes need not wait any longer.
    fn releasable_direction<S: Sink>(&mut self, sink: &mut S) -> Option<Direction> {
        let Some(requests) = self.requests else {
            // A tunnel has begun: what was held for that is looked at anew.
            return Direction::ALL.into_iter().find(|dir| !self.halves[dir.index()].held.is_empty());
        };
        let responses = requests.opposite();
        if let Some(began) = self.halves[responses.index()].held.began()
            && let Some(exchange) = self.queue.awaiting_response()
        {
            if exchange.began <= began {
                return Some(responses);
            }
            // It answers a request from before the connection was watched.
            self.drop_held(responses, 0, sink);
            self.halves[responses.index()].framer.lose_sync();
        }
        let waits = self.queue.last().is_some_and(|last| last.may_switch());
        (!waits && !self.halves[requests.index()].held.is_empty()).then_some(requests)
    }

    /// After a final response to `Expect: 100-continue` the client may leave out the body: what comes then in a
    /// call of its own and looks like a request is one.
    fn detect_omitted_body<S: Sink>(&mut self, dir: Direction, input: &[u8], sink: &mut S) {
        if self.requests == Some(dir)
            && let Some(exchange) = self.queue.receiving_request()
            && exchange.may_omit_body()
            && StartKind::of(input, true) == StartKind::Request
        {
            exchange.request = MessageProgress::Done;
            self.halves[dir.index()].framer.restart();
            self.queue.end_finished(sink);
        }
    }

    /// Bytes of the exchange that is passing were seen at this time.
    fn record_activity(&mut self, dir: Direction, at: Nanos) {
        let passing = if self.requests == Some(dir) {
            self.queue.receiving_request()
        } else {
            self.queue.awaiting_response()
        };
        if let Some(exchange) = passing {
            exchange.last = at;
        }
    }

    fn framing(&mut self, dir: Direction) {
        if self.requests == Some(dir)
            && let Some(exchange) = self.queue.receiving_request()
        {
            exchange.body_started = true;
        }
    }

    pub(super) fn malformed<S: Sink>(
        &mut self,
        dir: Direction,
        reason: Reason,
        discarded: usize,
        at: Nanos,
        sink: &mut S,
    ) {
        self.halves[dir.index()].framer.lose_sync();
        if discarded > 0 {
            sink.dropped(reason, discarded as u64);
        }
        if self.requests == Some(dir) {
            if let Some(exchange) = self.queue.receiving_request() {
                exchange.request = MessageProgress::Lost;
                exchange.end(Ending::Malformed(reason), at, sink);
                self.queue.end_finished(sink);
            }
        } else if self.requests.is_some() {
            self.queue.fail_responses(reason, at, sink);
        }
    }
}
