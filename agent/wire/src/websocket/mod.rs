//! WebSocket (RFC 6455) with compressed messages (RFC 7692), watched from outside: on a connection of its own, or on
//! a stream of HTTP/2 (RFC 8441).
//!
//! Each direction is a `WebSocketHalf` that cuts frames by its `Framer`, puts messages together and gives them on as their
//! bytes come; `WebSocket` knows when both have ended. Missing bytes inside a frame leave a gap in its message. Where
//! they hide a frame's head, the direction is out of sync: a `WsFrameSearch` looks for frames, and the other direction goes
//! on.

mod deflate;
mod frame;
mod half;
mod search;
#[cfg(test)]
mod tests;

use crate::{Ending, ExchangeId, Limits, Nanos, Reason, Role, Sink};
pub(crate) use deflate::Extensions;
use half::{Output, WebSocketHalf};

/// Follows what comes after an upgrade to WebSocket: one exchange, to its end.
///
/// Memory: in each direction 64 KiB once a compressed message was read.
#[derive(Debug)]
pub(crate) struct WebSocket {
    id: ExchangeId,
    /// The client's, the server's.
    halves: [WebSocketHalf; 2],
    /// Time of the last byte.
    last: Nanos,
    over: bool,
}

impl WebSocket {
    /// A WebSocket that was opened by this exchange.
    pub(crate) fn new(id: ExchangeId, extensions: Extensions, limits: &Limits, at: Nanos) -> Self {
        let halves = [Role::Client, Role::Server].map(|from| WebSocketHalf::new(from, extensions, limits));
        Self { id, halves, last: at, over: false }
    }

    /// Compressed messages are not read, for this reason; others are.
    pub(crate) fn disable_decompression(&mut self, reason: Reason) {
        self.halves.iter_mut().for_each(|half| half.disable_decompression(reason));
    }

    /// Whether compressed messages are read, if they come.
    pub(crate) fn inflates(&self) -> bool {
        self.halves.iter().any(WebSocketHalf::inflates)
    }

    /// The end of the exchange has been told.
    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }

    /// Takes the next bytes of a side. `starts_call`: they begin where a captured call began.
    pub(crate) fn data<S: Sink>(
        &mut self,
        from: Role,
        bytes: &[u8],
        starts_call: bool,
        at: Nanos,
        sink: &mut S,
    ) {
        self.last = self.last.max(at);
        let mut out = Output { id: self.id, from, at, sink };
        self.halves[from.index()].data(bytes, starts_call, &mut out);
        self.end_if_done(at, sink);
    }

    /// So many bytes of a side are missing here; `None`: nobody knows how many, or whether any are.
    pub(crate) fn gap<S: Sink>(&mut self, from: Role, missing: Option<u64>, sink: &mut S) {
        if self.over {
            return;
        }
        let at = self.last;
        self.halves[from.index()].gap(missing, &mut Output { id: self.id, from, at, sink });
        self.end_if_done(at, sink);
    }

    /// Nothing more comes from a side.
    pub(crate) fn half_close<S: Sink>(&mut self, from: Role, at: Nanos, sink: &mut S) {
        self.halves[from.index()].ended = true;
        self.end_if_done(at, sink);
    }

    /// The connection is over.
    pub(crate) fn close<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        sink.end(self.id, self.ending(ending), at);
    }

    /// Ends it if its last byte passed before `oldest`.
    pub(crate) fn sweep<S: Sink>(&mut self, oldest: Nanos, sink: &mut S) {
        if self.last < oldest {
            self.close(Ending::Stale, self.last, sink);
        }
    }

    /// Ends it when nothing more can come of it.
    fn end_if_done<S: Sink>(&mut self, at: Nanos, sink: &mut S) {
        if self.halves.iter().all(WebSocketHalf::is_done) || self.halves.iter().all(WebSocketHalf::is_failed)
        {
            self.close(Ending::Cut, at, sink);
        }
    }

    /// How it ended when the connection ended like this: well after a Close frame of both sides, or of one.
    fn ending(&self, ending: Ending) -> Ending {
        let halves = &self.halves;
        let disconnected = matches!(ending, Ending::Cut | Ending::ClosedLocally);
        let closed = halves.iter().any(|half| half.closed) && (disconnected || ending == Ending::ProcessExit);
        if !closed && !disconnected {
            return ending;
        }
        if let Some(reason) = halves.iter().find_map(|half| half.malformed) {
            return Ending::Malformed(reason);
        }
        if closed {
            let undecodable = halves.iter().find_map(|half| half.undecodable);
            return undecodable.map_or(Ending::Complete, Ending::Undecodable);
        }
        if halves.iter().all(WebSocketHalf::is_in_sync) { ending } else { Ending::Lost }
    }
}
