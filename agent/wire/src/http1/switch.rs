//! What becomes of a connection that switches to another protocol (RFC 9110 §7.8, §9.3.6).

use super::{
    connection::{Http1, State},
    upgrade::Upgrade,
};
use crate::{Direction, Ending, Nanos, Reason, Sink};

impl Http1 {
    /// What a switch leaves to the protocol that is read next.
    pub(crate) fn upgraded<S: Sink>(&mut self, sink: &mut S) -> Option<Upgrade> {
        let State::Upgraded(to) = self.state else { return None };
        self.state = State::Over;
        let exchange = self.queue.take_awaiting()?;
        let requests = self.requests?;
        self.queue.end_all(Ending::Malformed(Reason::ProtocolUnknown), exchange.last, sink);
        let in_step = self.lanes[requests.index()].framer.is_between();
        let held = Direction::ALL.map(|dir| std::mem::take(&mut self.lanes[dir.index()].held));
        Some(Upgrade { to, requests, exchange: exchange.id, last: exchange.last, in_step, held })
    }

    /// The connection goes on in another protocol. A tunnel is looked at anew; others are not read.
    pub(super) fn switch<S: Sink>(&mut self, status: u16, at: Nanos, sink: &mut S) {
        self.queue.end_all(Ending::Malformed(Reason::ProtocolUnknown), at, sink);
        if status == 101 {
            self.state = State::Over;
            return;
        }
        self.state = State::Undecided { fresh: true, searched: 0 };
        self.requests = None;
        for lane in &mut self.lanes {
            lane.framer.lose_step();
        }
    }
}
