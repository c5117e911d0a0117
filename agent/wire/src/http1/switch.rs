//! What becomes of a connection that switches to another protocol (RFC 9110 §7.8, §9.3.6).

use super::{
    connection::{ConnectionState, Http1},
    upgrade::Upgrade,
};
use crate::{Direction, Ending, Nanos, Reason, Sink};

impl Http1 {
    /// What a switch leaves to the protocol that is read next.
    pub(crate) fn upgraded<S: Sink>(&mut self, sink: &mut S) -> Option<Upgrade> {
        let ConnectionState::Upgraded(to) = self.state else { return None };
        self.state = ConnectionState::Over;
        let exchange = self.queue.take_awaiting_response()?;
        let requests = self.requests?;
        self.queue.end_all(Ending::Malformed(Reason::ProtocolUnknown), exchange.last, sink);
        let in_sync = self.halves[requests.index()].framer.is_between();
        let held = Direction::ALL.map(|dir| std::mem::take(&mut self.halves[dir.index()].held));
        Some(Upgrade { to, requests, exchange: exchange.id, last: exchange.last, in_sync, held })
    }

    /// The connection goes on in another protocol. A tunnel is looked at anew; others are not read.
    pub(super) fn switch<S: Sink>(&mut self, status: u16, at: Nanos, sink: &mut S) {
        self.queue.end_all(Ending::Malformed(Reason::ProtocolUnknown), at, sink);
        if status == 101 {
            self.state = ConnectionState::Over;
            return;
        }
        self.state = ConnectionState::Undecided { from_start: true, searched: 0 };
        self.requests = None;
        for half in &mut self.halves {
            half.framer.lose_sync();
        }
    }
}
