//! One captured connection: both directions in, exchanges out.

use crate::{
    Direction, Ending, Limits, Nanos, Sink,
    http1::{Http1, State},
    reassembly::{Position, Run},
};

/// What a connection was found to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Nothing that tells was seen yet.
    Undecided,
    /// HTTP/1.0 or HTTP/1.1
    Http1,
    /// HTTP/2
    Http2,
    /// Nothing that this engine reads, or no more: its bytes are of no use.
    NotHttp,
}

/// Follows one captured connection.
///
/// Memory: next to nothing for HTTP/1 messages whose heads come whole. At most, in each direction, one header
/// block ([`Limits::head`]) and [`Limits::held`] bytes that wait for the other direction; [`Limits::in_flight`]
/// exchanges of about 150 bytes; 32 KiB for the places of header fields; and for each body with a content
/// coding what its decoder needs: 64 KiB for gzip and deflate, up to 8 MiB for zstd and up to 16 MiB for br
/// where the encoder chose such a window.
#[derive(Debug)]
pub struct Connection {
    positions: [Position; 2],
    http1: Http1,
}

impl Connection {
    /// A connection that may have been open before it was first seen: its bytes may begin anywhere.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::start(limits, false)
    }

    /// A connection that is seen from its first byte: if that begins no known protocol, nothing later does.
    #[must_use]
    pub fn opened(limits: Limits) -> Self {
        Self::start(limits, true)
    }

    fn start(limits: Limits, fresh: bool) -> Self {
        Self { positions: [Position::default(); 2], http1: Http1::new(limits, fresh) }
    }

    /// Takes bytes of one direction. `offset` is the absolute offset of the first one, counted from 0 since the
    /// connection was first seen, `at` its time. Bytes seen before are passed over; a jump forward is a gap.
    pub fn data<S: Sink>(&mut self, dir: Direction, offset: u64, bytes: &[u8], at: Nanos, sink: &mut S) {
        let Run { missing, bytes, starts_call } = self.positions[dir.index()].take(offset, bytes);
        if missing > 0 {
            self.http1.gap(dir, missing, sink);
        }
        self.http1.data(dir, bytes, starts_call, at, sink);
    }

    /// Takes the news that `len` bytes from `offset` on will not come.
    pub fn lost<S: Sink>(&mut self, dir: Direction, offset: u64, len: u64, _at: Nanos, sink: &mut S) {
        let missing = self.positions[dir.index()].lose(offset, len);
        if missing > 0 {
            self.http1.gap(dir, missing, sink);
        }
    }

    /// One direction ended in order: nothing more comes from that side.
    pub fn half_close<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        self.http1.half_close(dir, at, sink);
    }

    /// The connection is over: every exchange in flight ends, with `ending` unless it was whole.
    pub fn close<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        self.http1.close(ending, at, sink);
    }

    /// Ends the exchanges in which no byte passed for longer than `ttl`.
    pub fn sweep<S: Sink>(&mut self, now: Nanos, ttl: Nanos, sink: &mut S) {
        self.http1.sweep(Nanos(now.0.saturating_sub(ttl.0)), sink);
    }

    /// What the connection speaks, as far as is known.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self.http1.state() {
            State::Undecided { .. } => Protocol::Undecided,
            State::Decided => Protocol::Http1,
            State::Over => Protocol::NotHttp,
        }
    }
}
