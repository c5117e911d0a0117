//! What an HTTP/1 connection hands over when it continues in another protocol.

use crate::{Direction, ExchangeId, Nanos, runs::HeldRuns, websocket::Extensions};

/// A protocol that is read after a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpgradeProtocol {
    Http2,
    WebSocket(Extensions),
}

/// An exchange that continues in another protocol, and the bytes that were captured after the switch.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) protocol: UpgradeProtocol,
    /// The direction of the requests.
    pub(crate) requests: Direction,
    pub(crate) exchange: ExchangeId,
    /// Time of the last byte of the exchange.
    pub(crate) last_byte: Nanos,
    /// The client's next byte is the first one of the new protocol: no bytes are missing before it.
    pub(crate) in_sync: bool,
    pub(crate) held: [HeldRuns; 2],
}
