//! What an HTTP/1 connection hands over when it goes on in another protocol.

use crate::{Direction, ExchangeId, Nanos, held::HeldRuns, websocket::Extensions};

/// A protocol that is read after a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpgradeProtocol {
    Http2,
    WebSocket(Extensions),
}

/// An exchange that goes on in another protocol, and what has been captured after the switch.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) to: UpgradeProtocol,
    /// The direction of the requests.
    pub(crate) requests: Direction,
    pub(crate) exchange: ExchangeId,
    pub(crate) last: Nanos,
    /// What the client sends begins with the new protocol: nothing is missing before it.
    pub(crate) in_sync: bool,
    pub(crate) held: [HeldRuns; 2],
}
