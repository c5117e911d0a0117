//! One connection: its directions cut into messages, in the order in which they can be understood.

use super::{
    exchange::ExchangeQueue,
    framer::MessageStep,
    half::Http1Half,
    head::{Fields, StartKind},
    upgrade::UpgradeProtocol,
};
use crate::{
    Direction, Ending, Limits, Nanos, Reason, Role, Sink,
    progress::MessageProgress,
    runs::{HeldRuns, Run},
};

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
    /// How often the connection has turned to the other direction, where that is known.
    pub(super) turns: Option<u32>,
    /// Always empty: kept for its allocation.
    pub(super) fields: Fields<'static>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// No message was seen yet, in this many bytes. `from_start`: the first bytes are those of the connection, and
    /// have to begin a message.
    Undecided { from_start: bool, searched: u64 },
    /// A message was seen.
    Decided,
    /// The connection continues in another protocol that is read. The last request has asked for it.
    Upgraded(UpgradeProtocol),
    /// No more bytes are read.
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

    pub(crate) const fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Takes the next bytes of a direction.
    pub(crate) fn data<S: Sink>(&mut self, dir: Direction, run: Run<'_>, sink: &mut S) {
        let half = &mut self.halves[dir.index()];
        if half.framer.seeks_chunk() && half.turns != self.turns {
            self.lose_chunked_body(sink);
        }
        self.halves[dir.index()].turns = self.turns;
        self.read(dir, run, sink);
        while !matches!(self.state, ConnectionState::Upgraded(_))
            && let Some(dir) = self.releasable_direction(sink)
        {
            let held = std::mem::replace(&mut self.halves[dir.index()].held, HeldRuns::new());
            for run in held.iter() {
                self.read(dir, run, sink);
            }
            if let Some(at) = held.closed {
                self.half_close(dir, at, sink);
            }
        }
    }

    /// Bytes that begin no message were skipped.
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

    /// The connection speaks a protocol that is not read.
    pub(crate) fn stop(&mut self) {
        self.state = ConnectionState::Over;
    }

    /// No more bytes come in this direction.
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
            if let Some(exchange) = self.queue.receiving(Role::Client) {
                exchange.request = MessageProgress::Lost;
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

    /// Who sends in this direction: the server, as long as no message has told.
    pub(super) fn sender(&self, dir: Direction) -> Role {
        if self.requests == Some(dir) { Role::Client } else { Role::Server }
    }

    fn read<S: Sink>(&mut self, dir: Direction, run: Run<'_>, sink: &mut S) {
        let Run { bytes, starts_call, at } = run;
        let mut input = bytes;
        while !matches!(self.state, ConnectionState::Over | ConnectionState::Upgraded(_)) {
            let starts_call = starts_call && input.len() == bytes.len();
            if !input.is_empty() && self.must_wait(dir) {
                self.hold(dir, Run { bytes: input, starts_call, at }, sink);
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
                MessageStep::Malformed(reason, discarded) => {
                    if discarded > 0 {
                        sink.dropped(reason, discarded as u64);
                    }
                    self.malformed(dir, reason, at, sink);
                }
            }
        }
        match input.len() {
            0 => {}
            _ if matches!(self.state, ConnectionState::Upgraded(_)) => {
                self.halves[dir.index()].held.push(Run { bytes: input, starts_call: true, at })
            }
            len => sink.dropped(Reason::ProtocolUnknown, len as u64),
        }
    }

    /// Whether bytes cannot be understood before the other direction says more.
    fn must_wait(&mut self, dir: Direction) -> bool {
        let half = &self.halves[dir.index()];
        !half.held.is_empty()
            || (self.requests == Some(dir)
                && half.framer.is_between()
                && self.queue.last().is_some_and(|last| last.may_switch()))
    }

    pub(super) fn hold<S: Sink>(&mut self, dir: Direction, run: Run<'_>, sink: &mut S) {
        let half = &mut self.halves[dir.index()];
        if half.held.len() + run.bytes.len() > self.limits.held {
            self.drop_held(dir, run.bytes.len(), sink);
            self.halves[dir.index()].framer.lose_sync();
        } else {
            half.held.push(run);
        }
    }

    /// Drops the held bytes, and `more` bytes that could not be held.
    pub(super) fn drop_held<S: Sink>(&mut self, dir: Direction, more: usize, sink: &mut S) {
        let held = std::mem::replace(&mut self.halves[dir.index()].held, HeldRuns::new());
        let reason = match self.sender(dir) {
            Role::Client => Reason::SwitchUnanswered,
            Role::Server => Reason::ResponseWithoutRequest,
        };
        if held.len() + more > 0 {
            sink.dropped(reason, (held.len() + more) as u64);
        }
    }

    /// The direction whose held bytes can be read now.
    fn releasable_direction<S: Sink>(&mut self, sink: &mut S) -> Option<Direction> {
        let Some(requests) = self.requests else {
            // A tunnel has begun: its protocol is detected in the held bytes.
            return Direction::ALL.into_iter().find(|dir| !self.halves[dir.index()].held.is_empty());
        };
        let responses = requests.opposite();
        if let Some(started) = self.halves[responses.index()].held.started()
            && let Some(exchange) = self.queue.awaiting_response()
        {
            if exchange.started <= started {
                return Some(responses);
            }
            // The request of this response passed before the connection was watched.
            self.drop_held(responses, 0, sink);
            self.halves[responses.index()].framer.lose_sync();
        }
        let waits = self.queue.last().is_some_and(|last| last.may_switch());
        (!waits && !self.halves[requests.index()].held.is_empty()).then_some(requests)
    }

    /// After a final response to `Expect: 100-continue` the client may omit the body of its request. Then a call
    /// that begins like a request is the next request.
    fn detect_omitted_body<S: Sink>(&mut self, dir: Direction, input: &[u8], sink: &mut S) {
        if self.requests == Some(dir)
            && let Some(exchange) = self.queue.receiving(Role::Client)
            && exchange.may_omit_body()
            && StartKind::of(input, true) == StartKind::Request
        {
            exchange.request = MessageProgress::Done;
            self.halves[dir.index()].framer.restart();
            self.queue.end_finished(sink);
        }
    }

    /// Bytes of the current exchange of this direction passed at this time.
    fn record_activity(&mut self, dir: Direction, at: Nanos) {
        let exchange = match self.sender(dir) {
            Role::Client => self.queue.receiving(Role::Client),
            Role::Server => self.queue.awaiting_response(),
        };
        if let Some(exchange) = exchange {
            exchange.last_byte = at;
        }
    }

    fn framing(&mut self, dir: Direction) {
        if self.requests == Some(dir)
            && let Some(exchange) = self.queue.receiving(Role::Client)
        {
            exchange.body_started = true;
        }
    }

    /// The current message of a direction breaks a rule.
    pub(super) fn malformed<S: Sink>(&mut self, dir: Direction, reason: Reason, at: Nanos, sink: &mut S) {
        self.halves[dir.index()].framer.lose_sync();
        if self.requests == Some(dir) {
            if let Some(exchange) = self.queue.receiving(Role::Client) {
                exchange.request = MessageProgress::Lost;
                exchange.end(Ending::Malformed(reason), at, sink);
                self.queue.end_finished(sink);
            }
        } else if self.requests.is_some() {
            self.queue.fail_responses(reason, at, sink);
        }
    }
}
