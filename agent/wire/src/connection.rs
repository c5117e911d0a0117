//! One captured connection: both directions in, exchanges out.

use crate::{
    Direction, Ending, Limits, Nanos, Sink,
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
#[derive(Debug)]
pub struct Connection {
    positions: [Position; 2],
    protocol: Protocol,
}

impl Connection {
    /// A connection that may have been open before it was first seen: its bytes may begin anywhere.
    #[must_use]
    pub fn new(_limits: Limits) -> Self {
        Self { positions: [Position::default(); 2], protocol: Protocol::Undecided }
    }

    /// A connection that is seen from its first byte.
    #[must_use]
    pub fn opened(limits: Limits) -> Self {
        Self::new(limits)
    }

    /// Takes bytes of one direction. `offset` is the absolute offset of the first one, `at` its time. Bytes
    /// seen before are passed over; a jump forward is a gap.
    pub fn data<S: Sink>(&mut self, dir: Direction, offset: u64, bytes: &[u8], _at: Nanos, _sink: &mut S) {
        let Run { missing: _, bytes: _, starts_call: _ } = self.positions[dir.index()].take(offset, bytes);
    }

    /// Takes the news that `len` bytes from `offset` on will not come.
    pub fn lost<S: Sink>(&mut self, dir: Direction, offset: u64, len: u64, _at: Nanos, _sink: &mut S) {
        self.positions[dir.index()].lose(offset, len);
    }

    /// One direction ended in order: nothing more comes from that side.
    pub fn half_close<S: Sink>(&mut self, _dir: Direction, _at: Nanos, _sink: &mut S) {}

    /// The connection is over: every exchange in flight ends.
    pub fn close<S: Sink>(&mut self, _ending: Ending, _at: Nanos, _sink: &mut S) {
        self.protocol = Protocol::NotHttp;
    }

    /// Ends the exchanges in which no byte passed for longer than `ttl`.
    pub fn sweep<S: Sink>(&mut self, _now: Nanos, _ttl: Nanos, _sink: &mut S) {}

    /// What the connection speaks, as far as is known.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }
}
