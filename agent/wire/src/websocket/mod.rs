//! WebSocket (RFC 6455) with compressed messages (RFC 7692), watched from outside: on a connection of its own, or on
//! a stream of HTTP/2 (RFC 8441).
//!
//! The bytes of each peer are a `WebSocketHalf`: a `Framer` cuts frames, and the half reports the messages in them as
//! their bytes come. `WebSocket` knows when both have ended.
//!
//! ```text
//!            missing bytes hide the head of a frame
//!         ┌───────────────────────────────────────────┐
//!         │                                           ▼
//!      in sync ◄── several plausible frames ── searching ── too many bytes searched ──► failed
//!         │                                                                               ▲
//!         └───────────────────── a frame breaks a rule ───────────────────────────────────┘
//! ```
//!
//! Missing bytes inside a frame leave a gap in its message; the other peer's half is not concerned. The exchange ends
//! when each half has had a Close frame or the end of its direction, when both have failed, or with the connection.

mod deflate;
mod frame;
mod half;
mod search;
#[cfg(test)]
mod tests;

use crate::{Ending, ExchangeId, Limits, Nanos, Reason, Role, Sink, runs::Run};
pub(crate) use deflate::Extensions;
use half::{Output, WebSocketHalf};

/// Follows a WebSocket from its opening to the end of its exchange.
///
/// Memory: for each peer 64 KiB once a compressed message was read.
#[derive(Debug)]
pub(crate) struct WebSocket {
    id: ExchangeId,
    /// By [`Role::index`] of the sender.
    halves: [WebSocketHalf; 2],
    last_byte: Nanos,
    over: bool,
}

impl WebSocket {
    /// A WebSocket that this exchange has opened.
    pub(crate) fn new(id: ExchangeId, extensions: Extensions, limits: &Limits, at: Nanos) -> Self {
        let halves = [Role::Client, Role::Server].map(|from| WebSocketHalf::new(from, extensions, limits));
        Self { id, halves, last_byte: at, over: false }
    }

    /// Compressed messages are not read, for this reason; others are.
    pub(crate) fn disable_decompression(&mut self, reason: Reason) {
        self.halves.iter_mut().for_each(|half| half.disable_decompression(reason));
    }

    /// Whether compressed messages are read, where they come.
    pub(crate) fn inflates(&self) -> bool {
        self.halves.iter().any(WebSocketHalf::inflates)
    }

    /// Whether the end of the exchange has been reported.
    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }

    /// Takes the next bytes of a peer.
    pub(crate) fn data<S: Sink>(&mut self, from: Role, run: Run<'_>, sink: &mut S) {
        self.last_byte = self.last_byte.max(run.at);
        let mut out = Output { id: self.id, from, at: run.at, sink };
        self.halves[from.index()].data(run, &mut out);
        self.end_if_done(run.at, sink);
    }

    /// Bytes of a peer are missing here. `None`: it is not known how many, or whether any are.
    pub(crate) fn gap<S: Sink>(&mut self, from: Role, missing: Option<u64>, sink: &mut S) {
        if self.over {
            return;
        }
        let at = self.last_byte;
        self.halves[from.index()].gap(missing, &mut Output { id: self.id, from, at, sink });
        self.end_if_done(at, sink);
    }

    /// A peer sends nothing more.
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

    /// Ends the exchange if its last byte passed before `oldest`.
    pub(crate) fn sweep<S: Sink>(&mut self, oldest: Nanos, sink: &mut S) {
        if self.last_byte < oldest {
            self.close(Ending::Stale, self.last_byte, sink);
        }
    }

    /// Ends the exchange when no more messages can come.
    fn end_if_done<S: Sink>(&mut self, at: Nanos, sink: &mut S) {
        if self.halves.iter().all(WebSocketHalf::is_done) || self.halves.iter().all(WebSocketHalf::is_failed)
        {
            self.close(Ending::Cut, at, sink);
        }
    }

    /// How the exchange ended, where the connection ended like this. It is complete after a Close frame of either peer.
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
