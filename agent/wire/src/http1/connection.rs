//! One connection: its directions cut into messages, in the order in which they can be understood.

use super::{
    exchange::{Part, Queue},
    framer::Step,
    head::{Fields, Start},
    lane::Lane,
    upgrade::To,
};
use crate::{Direction, Ending, Limits, Nanos, Reason, Sink, held::Held};

/// Follows a connection that speaks HTTP/1, or may turn out to.
#[derive(Debug)]
pub(crate) struct Http1 {
    pub(super) limits: Limits,
    pub(super) lanes: [Lane; 2],
    /// The direction of the requests, once known.
    pub(super) requests: Option<Direction>,
    pub(super) queue: Queue,
    pub(super) next_id: u64,
    pub(super) state: State,
    /// How often the connection has turned, where that is known.
    pub(super) turns: Option<u32>,
    /// Kept for its memory; always empty.
    pub(super) fields: Fields<'static>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No message was seen yet, in so many bytes. `fresh`: its first bytes have to begin one.
    Undecided { fresh: bool, searched: u64 },
    /// At least one message was seen.
    Decided,
    /// The connection goes on in another protocol that is read, which answers the last request.
    Upgraded(To),
    /// Given up, or switched to a protocol that is not read.
    Over,
}

impl Http1 {
    /// `fresh`: the first bytes that come are the first ones of the connection.
    pub(crate) fn new(limits: Limits, fresh: bool) -> Self {
        Self {
            limits,
            lanes: [Lane::new(&limits), Lane::new(&limits)],
            requests: None,
            queue: Queue::default(),
            next_id: 0,
            state: State::Undecided { fresh, searched: 0 },
            turns: None,
            fields: Vec::new(),
        }
    }

    pub(crate) fn turned(&mut self, turns: Option<u32>) {
        self.turns = turns;
    }

    pub(crate) const fn requests(&self) -> Option<Direction> {
        self.requests
    }

    pub(crate) const fn state(&self) -> State {
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
        let lane = &mut self.lanes[dir.index()];
        if lane.framer.seeks_chunk() && lane.turns != self.turns {
            self.lose_body(sink);
        }
        self.lanes[dir.index()].turns = self.turns;
        self.run(dir, bytes, starts_call, at, sink);
        while !matches!(self.state, State::Upgraded(_))
            && let Some(dir) = self.releasable(sink)
        {
            let held = std::mem::replace(&mut self.lanes[dir.index()].held, Held::new());
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
        if let State::Undecided { fresh, searched } = &mut self.state {
            *searched += len as u64;
            if *fresh || *searched > self.limits.search {
                self.state = State::Over;
            }
        }
    }

    /// The connection speaks something else.
    pub(crate) fn give_up(&mut self) {
        self.state = State::Over;
    }

    pub(crate) const fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Nothing more comes from the side that fills this direction.
    pub(crate) fn half_close<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        if self.requests != Some(dir) {
            self.lose_body(sink);
        }
        let lane = &mut self.lanes[dir.index()];
        if !lane.held.is_empty() {
            lane.held.closed = Some(at);
            return;
        }
        if self.requests == Some(dir) {
            if let Some(owner) = self.queue.requesting() {
                owner.request = Part::Lost;
            }
            self.queue.settle(sink);
        } else if self.requests.is_some() {
            if lane.framer.is_until_close() {
                self.message_end(dir, at, sink);
            }
            self.queue.end_all(Ending::Cut, at, sink);
        }
        self.lanes[dir.index()].framer.lose_step();
    }

    /// The connection is over.
    pub(crate) fn close<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        self.lose_body(sink);
        for dir in Direction::ALL {
            self.drop_held(dir, 0, sink);
            if ending == Ending::Cut && self.lanes[dir.index()].framer.is_until_close() {
                self.message_end(dir, at, sink);
            }
        }
        self.queue.end_all(ending, at, sink);
        self.state = State::Over;
    }

    /// Ends exchanges whose last byte passed before `oldest`.
    pub(crate) fn sweep<S: Sink>(&mut self, oldest: Nanos, sink: &mut S) {
        self.queue.sweep(oldest, sink);
    }

    fn run<S: Sink>(&mut self, dir: Direction, bytes: &[u8], starts_call: bool, at: Nanos, sink: &mut S) {
        let mut input = bytes;
        while !matches!(self.state, State::Over | State::Upgraded(_)) {
            let starts_call = starts_call && input.len() == bytes.len();
            if !input.is_empty() && self.must_wait(dir) {
                self.hold(dir, input, starts_call, at, sink);
                return;
            }
            if starts_call {
                self.notice_spared_body(dir, input, sink);
            }
            match self.lanes[dir.index()].framer.next(&mut input, starts_call, at) {
                Step::More => {
                    self.touch(dir, at);
                    return;
                }
                Step::HeadPart(_) => {}
                Step::Framing(_) => self.framing(dir),
                Step::Head(head) => self.head(dir, head, at, sink),
                Step::Body(bytes) => self.body(dir, bytes, at, sink),
                Step::Trailers(trailers) => self.trailers(dir, trailers, at, sink),
                Step::End => self.message_end(dir, at, sink),
                Step::Skipped(bytes, before) => self.skipped(bytes.len() + before, sink),
                Step::Malformed(reason, given_up) => self.malformed(dir, reason, given_up, at, sink),
            }
        }
        match input.len() {
            0 => {}
            _ if matches!(self.state, State::Upgraded(_)) => {
                self.lanes[dir.index()].held.push(input, true, at)
            }
            len => sink.dropped(Reason::ProtocolUnknown, len as u64),
        }
    }

    /// Whether bytes cannot be understood before the other direction says more.
    pub(super) fn must_wait(&mut self, dir: Direction) -> bool {
        let lane = &self.lanes[dir.index()];
        !lane.held.is_empty()
            || (self.requests == Some(dir)
                && lane.framer.is_between()
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
        let lane = &mut self.lanes[dir.index()];
        if lane.held.len() + bytes.len() > self.limits.held {
            self.drop_held(dir, bytes.len(), sink);
            self.lanes[dir.index()].framer.lose_step();
        } else {
            lane.held.push(bytes, starts_call, at);
        }
    }

    /// Gives up what is held, and `more` bytes.
    pub(super) fn drop_held<S: Sink>(&mut self, dir: Direction, more: usize, sink: &mut S) {
        let held = std::mem::replace(&mut self.lanes[dir.index()].held, Held::new());
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
    fn releasable<S: Sink>(&mut self, sink: &mut S) -> Option<Direction> {
        let Some(requests) = self.requests else {
            // A tunnel has begun: what was held for that is looked at anew.
            return Direction::ALL.into_iter().find(|dir| !self.lanes[dir.index()].held.is_empty());
        };
        let responses = requests.opposite();
        if let Some(began) = self.lanes[responses.index()].held.began()
            && let Some(exchange) = self.queue.awaiting()
        {
            if exchange.began <= began {
                return Some(responses);
            }
            // It answers a request from before the connection was watched.
            self.drop_held(responses, 0, sink);
            self.lanes[responses.index()].framer.lose_step();
        }
        let waits = self.queue.last().is_some_and(|last| last.may_switch());
        (!waits && !self.lanes[requests.index()].held.is_empty()).then_some(requests)
    }

    /// After a final response to `Expect: 100-continue` the client may leave out the body: what comes then in a
    /// call of its own and looks like a request is one.
    fn notice_spared_body<S: Sink>(&mut self, dir: Direction, input: &[u8], sink: &mut S) {
        if self.requests == Some(dir)
            && let Some(exchange) = self.queue.requesting()
            && exchange.is_spared()
            && Start::of(input, true) == Start::Request
        {
            exchange.request = Part::Done;
            self.lanes[dir.index()].framer.restart();
            self.queue.settle(sink);
        }
    }

    /// Bytes of the exchange that is passing were seen at this time.
    fn touch(&mut self, dir: Direction, at: Nanos) {
        let passing =
            if self.requests == Some(dir) { self.queue.requesting() } else { self.queue.awaiting() };
        if let Some(exchange) = passing {
            exchange.last = at;
        }
    }

    fn framing(&mut self, dir: Direction) {
        if self.requests == Some(dir)
            && let Some(exchange) = self.queue.requesting()
        {
            exchange.sent_body = true;
        }
    }

    pub(super) fn malformed<S: Sink>(
        &mut self,
        dir: Direction,
        reason: Reason,
        given_up: usize,
        at: Nanos,
        sink: &mut S,
    ) {
        self.lanes[dir.index()].framer.lose_step();
        if given_up > 0 {
            sink.dropped(reason, given_up as u64);
        }
        if self.requests == Some(dir) {
            if let Some(exchange) = self.queue.requesting() {
                exchange.request = Part::Lost;
                exchange.end(Ending::Malformed(reason), at, sink);
                self.queue.settle(sink);
            }
        } else if self.requests.is_some() {
            self.queue.spoil_answers(reason, at, sink);
        }
    }
}
