//! One captured connection: both directions in, exchanges out.

use crate::{
    Direction, Ending, Limits, Nanos, Sink,
    held::Held,
    http1::{Http1, State, begins_message},
    http2::{Candidate, Http2, PREFACE, PROOF},
    reassembly::{Position, Run},
};

/// The first byte of a frame's length is less, and that of an HTTP/1 message is not: no frame that is looked
/// for is that large.
const FRAME_START: u8 = 9;

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
/// where the encoder chose such a window. For HTTP/2, in each direction, [`Limits::table`] besides, one header
/// block more, and as much while it is out of step; and [`Limits::streams`] streams of about 200 bytes.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    positions: [Position; 2],
    http1: Http1,
    http2: Option<Box<Http2>>,
    /// What may turn out to be HTTP/2, by direction.
    openings: [Opening; 2],
}

/// The first bytes of a direction, while they may begin HTTP/2.
#[derive(Debug, Default)]
struct Opening {
    /// So many bytes of the connection preface have come, the first one then.
    preface: (usize, Nanos),
    frames: Candidate,
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
        Self {
            limits,
            positions: [Position::default(); 2],
            http1: Http1::new(limits, fresh),
            http2: None,
            openings: Default::default(),
        }
    }

    /// Takes bytes of one direction. `offset` is the absolute offset of the first one, counted from 0 since the
    /// connection was first seen, `at` its time. Bytes seen before are passed over; a jump forward is a gap.
    pub fn data<S: Sink>(&mut self, dir: Direction, offset: u64, bytes: &[u8], at: Nanos, sink: &mut S) {
        let Run { missing, bytes, starts_call } = self.positions[dir.index()].take(offset, bytes);
        if missing > 0 {
            self.gap(dir, missing, sink);
        }
        match (&mut self.http2, self.http1.state()) {
            _ if bytes.is_empty() => {}
            (Some(http2), _) => http2.data(dir, bytes, starts_call, at, sink),
            (None, State::Undecided { .. }) => self.undecided(dir, bytes, starts_call, at, sink),
            (None, _) => self.http1(dir, bytes, starts_call, at, sink),
        }
    }

    /// Takes the news that `len` bytes from `offset` on will not come.
    pub fn lost<S: Sink>(&mut self, dir: Direction, offset: u64, len: u64, _at: Nanos, sink: &mut S) {
        let missing = self.positions[dir.index()].lose(offset, len);
        if missing > 0 {
            self.gap(dir, missing, sink);
        }
    }

    /// One direction ended in order: nothing more comes from that side.
    pub fn half_close<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        match &mut self.http2 {
            Some(http2) => http2.half_close(dir, at, sink),
            None => self.http1.half_close(dir, at, sink),
        }
    }

    /// The connection is over: every exchange in flight ends, with `ending` unless it was whole.
    pub fn close<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        for dir in Direction::ALL {
            self.reject(dir, sink);
        }
        match &mut self.http2 {
            Some(http2) => http2.close(ending, at, sink),
            None => self.http1.close(ending, at, sink),
        }
    }

    /// Ends the exchanges in which no byte passed for longer than `ttl`.
    pub fn sweep<S: Sink>(&mut self, now: Nanos, ttl: Nanos, sink: &mut S) {
        let oldest = Nanos(now.0.saturating_sub(ttl.0));
        match &mut self.http2 {
            Some(http2) => http2.sweep(oldest, sink),
            None => self.http1.sweep(oldest, sink),
        }
    }

    /// What the connection speaks, as far as is known.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match (&self.http2, self.http1.state()) {
            (Some(http2), _) if http2.is_over() => Protocol::NotHttp,
            (Some(_), _) => Protocol::Http2,
            (None, State::Undecided { .. }) => Protocol::Undecided,
            (None, State::Decided | State::Upgraded) => Protocol::Http1,
            (None, State::Over) => Protocol::NotHttp,
        }
    }

    /// The direction of the responses, once it is known. HTTP/1 only: what follows a turn of the direction
    /// begins a message there.
    #[must_use]
    pub fn responses(&self) -> Option<Direction> {
        match self.protocol() {
            Protocol::Http1 => self.http1.requests().map(Direction::opposite),
            _ => None,
        }
    }

    fn gap<S: Sink>(&mut self, dir: Direction, missing: u64, sink: &mut S) {
        self.reject(dir, sink);
        match &mut self.http2 {
            Some(http2) => http2.gap(dir, missing, sink),
            None => self.http1.gap(dir, missing, sink),
        }
    }

    /// Takes bytes of a connection that may speak HTTP/2 or HTTP/1.
    fn undecided<S: Sink>(
        &mut self,
        dir: Direction,
        bytes: &[u8],
        starts_call: bool,
        at: Nanos,
        sink: &mut S,
    ) {
        let Opening { preface: (have, began), frames } = &mut self.openings[dir.index()];
        if *have > 0 || (starts_call && frames.is_empty() && bytes[0] == PREFACE[0]) {
            let began = if *have == 0 { at } else { *began };
            let same = PREFACE[*have..].iter().zip(bytes).take_while(|(want, got)| want == got).count();
            let before = std::mem::take(have);
            if before + same == PREFACE.len() {
                self.preface(dir, &PREFACE[..before], began, sink);
                return self.data_http2(dir, bytes, at, sink);
            }
            if same == bytes.len() {
                self.openings[dir.index()].preface = (before + same, began);
                return;
            }
            if before > 0 {
                self.http1(dir, &PREFACE[..before], true, began, sink);
            }
        } else if !frames.is_empty() || (starts_call && bytes[0] < FRAME_START) {
            if !(starts_call && begins_message(bytes)) {
                let found = frames.look(bytes, starts_call, at, PROOF, self.limits.head);
                self.http1.skipped(found.rejected, sink);
                if let Some(held) = found.frames {
                    self.join(dir, &held, sink);
                }
                return;
            }
            self.reject(dir, sink);
        }
        self.http1(dir, bytes, starts_call, at, sink);
    }

    /// Takes bytes as HTTP/1.
    fn http1<S: Sink>(&mut self, dir: Direction, bytes: &[u8], starts_call: bool, at: Nanos, sink: &mut S) {
        self.http1.data(dir, bytes, starts_call, at, sink);
        if let Some(upgrade) = self.http1.upgraded() {
            let mut http2 = Http2::upgraded(self.limits, &upgrade, self.http1.next_id());
            for dir in [upgrade.requests, upgrade.requests.opposite()] {
                let held = &upgrade.held[dir.index()];
                for (bytes, starts_call, at) in held.runs() {
                    http2.data(dir, bytes, starts_call, at, sink);
                }
                if let Some(at) = held.closed {
                    http2.half_close(dir, at, sink);
                }
            }
            self.http2 = Some(Box::new(http2));
        }
        if !matches!(self.http1.state(), State::Undecided { .. }) {
            for dir in Direction::ALL {
                self.reject(dir, sink);
            }
        }
    }

    fn data_http2<S: Sink>(&mut self, dir: Direction, bytes: &[u8], at: Nanos, sink: &mut S) {
        if let Some(http2) = &mut self.http2 {
            http2.data(dir, bytes, false, at, sink);
        }
    }

    /// The preface has come: the connection is seen from its start.
    fn preface<S: Sink>(&mut self, dir: Direction, before: &[u8], began: Nanos, sink: &mut S) {
        let other = dir.opposite().index();
        let frames = std::mem::take(&mut self.openings[other].frames);
        let answers = !frames.is_empty() || self.positions[other] == Position::default();
        let mut http2 = Http2::opened(self.limits, dir, answers, self.http1.next_id());
        http2.adopt(dir.opposite(), frames, sink);
        http2.data(dir, before, false, began, sink);
        self.http2 = Some(Box::new(http2));
    }

    /// Frames were found in a connection that was open before.
    fn join<S: Sink>(&mut self, dir: Direction, held: &Held, sink: &mut S) {
        let mut http2 = Http2::joined(self.limits, self.http1.next_id());
        let other = std::mem::take(&mut self.openings[dir.opposite().index()].frames);
        let first = other.began() < held.began();
        let mut other = Some(other);
        if first && let Some(other) = other.take() {
            http2.adopt(dir.opposite(), other, sink);
        }
        http2.resume(dir, held, sink);
        if let Some(other) = other {
            http2.adopt(dir.opposite(), other, sink);
        }
        self.http2 = Some(Box::new(http2));
    }

    /// What may have begun HTTP/2 in this direction did not.
    fn reject<S: Sink>(&mut self, dir: Direction, sink: &mut S) {
        let Opening { preface, frames } = &mut self.openings[dir.index()];
        let (have, began) = std::mem::take(preface);
        self.http1.skipped(frames.reject(), sink);
        if have > 0 {
            self.http1.data(dir, &PREFACE[..have], true, began, sink);
        }
    }
}
