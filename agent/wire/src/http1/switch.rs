//! An HTTP/1 connection that switches to another protocol (RFC 9110 §7.8, §9.3.6).

use super::{
    connection::{ConnectionState, Http1},
    upgrade::Upgrade,
};
use crate::{Direction, Ending, Nanos, Reason, Sink};

impl Http1 {
    /// What is handed over to the other protocol, right after the connection has switched.
    pub(crate) fn take_upgrade<S: Sink>(&mut self, sink: &mut S) -> Option<Upgrade> {
        let ConnectionState::Upgraded(protocol) = self.state else { return None };
        self.state = ConnectionState::Over;
        let exchange = self.queue.take_awaiting_response()?;
        let requests = self.requests?;
        self.queue.end_all(Ending::Malformed(Reason::ProtocolUnknown), exchange.last_byte, sink);
        let in_sync = self.halves[requests.index()].framer.is_between();
        let held = Direction::ALL.map(|dir| std::mem::take(&mut self.halves[dir.index()].held));
        Some(Upgrade {
            protocol,
            requests,
            exchange: exchange.id,
            last_byte: exchange.last_byte,
            in_sync,
            held,
        })
    }

    /// The connection switches to a protocol that is not known. In a tunnel (CONNECT) it is detected anew; after
    /// an upgrade nothing is read.
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
