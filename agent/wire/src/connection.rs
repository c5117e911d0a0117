//! One captured connection: both directions in, exchanges out.

use crate::{
    Direction, Ending, Limits, Nanos, Reason, Role, Sink,
    held::HeldRuns,
    http1::{ConnectionState, Http1, Upgrade, UpgradeProtocol, begins_message},
    http2::{FrameSearch, Http2, PREFACE, PROOF},
    proxy::{ProxyHeader, ProxyMatch},
    reassembly::{Position, Run},
    websocket::WebSocket,
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
    /// WebSocket, which an HTTP/1.1 exchange has opened; one on a stream of HTTP/2 is an exchange of that
    WebSocket,
    /// Nothing that this engine reads, or no more: its bytes are of no use.
    NotHttp,
}

/// Follows one captured connection.
///
/// Memory in ordinary traffic, where heads come whole, in bytes:
///
/// | | |
/// |---|--:|
/// | a connection by itself, and while nothing tells what it speaks | 864 |
/// | HTTP/1, idle or within an exchange | + 384 |
/// | HTTP/2 | + 3 KiB |
/// | … each direction whose table of fields is full, at the size that peers have unless they say otherwise | + 6 KiB |
/// | … each open stream | + 224 |
/// | … each of them that is a WebSocket | + 600 |
/// | WebSocket | + 768 |
/// | … each direction in which messages are compressed | + 64 KiB |
/// | a body in gzip or deflate | + 64 KiB |
///
/// At most, in each direction, one header block ([`Limits::head`]) and [`Limits::held`] bytes that wait for the
/// other direction; [`Limits::in_flight`] exchanges of about 150 bytes; 32 KiB for the places of header fields;
/// and for each body with a content coding what its decoder needs: 64 KiB for gzip and deflate, up to 8 MiB for
/// zstd and up to 16 MiB for br where the encoder chose such a window. For HTTP/2, in each direction,
/// [`Limits::table`] besides, one header block more, and as much while it is out of sync; and
/// [`Limits::streams`] streams; of those that are WebSockets no more than [`Limits::inflating`] are decompressed, and
/// [`Limits::held`] bytes for all of them together, with the places of the pieces, wait for their server's answer.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    positions: [Position; 2],
    http1: Http1,
    /// What it has gone on as.
    next: Option<Successor>,
    /// What may come before HTTP, or turn out to be HTTP/2, by direction.
    detections: [Detection; 2],
}

/// What is spoken instead of HTTP/1.
#[derive(Debug)]
enum Successor {
    Http2(Box<Http2>),
    /// The direction in which the client sends comes first.
    WebSocket(Direction, Box<WebSocket>),
}

/// The first bytes of a direction, while nothing is decided.
#[derive(Debug, Default)]
struct Detection {
    /// What a load balancer may have put in front.
    proxy: ProxyHeader,
    /// So many bytes of the connection preface have come, the first one then.
    preface: (usize, Nanos),
    frames: FrameSearch,
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

    fn start(limits: Limits, from_start: bool) -> Self {
        Self {
            limits,
            positions: [Position::default(); 2],
            http1: Http1::new(limits, from_start),
            next: None,
            detections: Default::default(),
        }
    }

    /// Says how often the connection had turned to the other direction before the bytes that come next, if that is
    /// known: where it has not turned in a loss, no other message was begun in it. See [`tokentap_abi::Header::turns`].
    pub fn set_turns(&mut self, turns: Option<u32>) {
        self.http1.set_turns(turns);
    }

    /// Takes bytes of one direction. `offset` is the absolute offset of the first one, counted from 0 since the
    /// connection was first seen, `at` its time. Bytes seen before are passed over; a jump forward is a gap.
    pub fn data<S: Sink>(&mut self, dir: Direction, offset: u64, bytes: &[u8], at: Nanos, sink: &mut S) {
        let Run { missing, bytes, starts_call } = self.positions[dir.index()].take(offset, bytes);
        if missing > 0 {
            self.gap(dir, missing, sink);
        }
        match (&mut self.next, self.http1.state()) {
            _ if bytes.is_empty() => {}
            (Some(next), _) => next.data(dir, bytes, starts_call, at, sink),
            (None, ConnectionState::Undecided { .. }) => self.undecided(dir, bytes, starts_call, at, sink),
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
        match &mut self.next {
            Some(next) => next.half_close(dir, at, sink),
            None => self.http1.half_close(dir, at, sink),
        }
    }

    /// The connection is over: every exchange in flight ends, with `ending` unless it was whole.
    pub fn close<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        for dir in Direction::ALL {
            self.reject_detection(dir, sink);
        }
        match &mut self.next {
            Some(next) => next.close(ending, at, sink),
            None => self.http1.close(ending, at, sink),
        }
    }

    /// Ends the exchanges in which no byte passed for longer than `ttl`.
    pub fn sweep<S: Sink>(&mut self, now: Nanos, ttl: Nanos, sink: &mut S) {
        let oldest = Nanos(now.0.saturating_sub(ttl.0));
        match &mut self.next {
            Some(next) => next.sweep(oldest, sink),
            None => self.http1.sweep(oldest, sink),
        }
    }

    /// What the connection speaks, as far as is known.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match (&self.next, self.http1.state()) {
            (Some(Successor::Http2(http2)), _) if http2.is_over() => Protocol::NotHttp,
            (Some(Successor::Http2(_)), _) => Protocol::Http2,
            (Some(Successor::WebSocket(_, websocket)), _) if websocket.is_over() => Protocol::NotHttp,
            (Some(Successor::WebSocket(..)), _) => Protocol::WebSocket,
            (None, ConnectionState::Undecided { .. }) => Protocol::Undecided,
            (None, ConnectionState::Decided | ConnectionState::Upgraded(_)) => Protocol::Http1,
            (None, ConnectionState::Over) => Protocol::NotHttp,
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
        self.reject_detection(dir, sink);
        match &mut self.next {
            Some(next) => next.gap(dir, missing, sink),
            None => self.http1.gap(dir, missing, sink),
        }
    }

    /// Takes bytes of a connection that nothing is known of.
    fn undecided<S: Sink>(
        &mut self,
        dir: Direction,
        mut bytes: &[u8],
        mut starts_call: bool,
        at: Nanos,
        sink: &mut S,
    ) {
        let header = &mut self.detections[dir.index()].proxy;
        if !header.is_past() {
            match header.look(&mut bytes, at) {
                ProxyMatch::More => {}
                ProxyMatch::Neither(before, began) => self.detect(dir, before, true, began, sink),
                ProxyMatch::Ended => starts_call = true,
                ProxyMatch::Malformed(reason, len) => {
                    sink.dropped(reason, len as u64);
                    starts_call = false;
                }
            }
        }
        self.detect(dir, bytes, starts_call, at, sink);
    }

    /// Takes bytes of a connection that may speak HTTP/2 or HTTP/1.
    fn detect<S: Sink>(&mut self, dir: Direction, bytes: &[u8], starts_call: bool, at: Nanos, sink: &mut S) {
        if bytes.is_empty() {
            return;
        }
        if starts_call && begins_tls(bytes) {
            sink.dropped(Reason::TlsRecords, bytes.len() as u64);
            return self.http1.stop();
        }
        let Detection { preface: (have, began), frames, .. } = &mut self.detections[dir.index()];
        if *have > 0 || (starts_call && frames.is_empty() && bytes[0] == PREFACE[0]) {
            let began = if *have == 0 { at } else { *began };
            let same = PREFACE[*have..].iter().zip(bytes).take_while(|(want, got)| want == got).count();
            let before = std::mem::take(have);
            if before + same == PREFACE.len() {
                self.preface(dir, &PREFACE[..before], began, sink);
                return self.data_http2(dir, bytes, at, sink);
            }
            if same == bytes.len() {
                self.detections[dir.index()].preface = (before + same, began);
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
            self.reject_detection(dir, sink);
        }
        self.http1(dir, bytes, starts_call, at, sink);
    }

    /// Takes bytes as HTTP/1.
    fn http1<S: Sink>(&mut self, dir: Direction, bytes: &[u8], starts_call: bool, at: Nanos, sink: &mut S) {
        self.http1.data(dir, bytes, starts_call, at, sink);
        if let Some(upgrade) = self.http1.upgraded(sink) {
            self.upgrade(&upgrade, sink);
        }
        if !matches!(self.http1.state(), ConnectionState::Undecided { .. }) {
            for dir in Direction::ALL {
                self.reject_detection(dir, sink);
            }
        }
    }

    /// The connection goes on in another protocol, with what has come since.
    fn upgrade<S: Sink>(&mut self, upgrade: &Upgrade, sink: &mut S) {
        let Upgrade { to, requests, exchange, last, in_sync, ref held } = *upgrade;
        let next = self.next.insert(match to {
            UpgradeProtocol::Http2 => {
                Successor::Http2(Box::new(Http2::upgraded(self.limits, upgrade, self.http1.next_id())))
            }
            UpgradeProtocol::WebSocket(extensions) => {
                let mut websocket = WebSocket::new(exchange, extensions, &self.limits, last);
                if !in_sync {
                    websocket.gap(Role::Client, None, sink);
                }
                Successor::WebSocket(requests, Box::new(websocket))
            }
        });
        for dir in [requests, requests.opposite()] {
            let held = &held[dir.index()];
            for (bytes, starts_call, at) in held.runs() {
                next.data(dir, bytes, starts_call, at, sink);
            }
            if let Some(at) = held.closed {
                next.half_close(dir, at, sink);
            }
        }
    }

    fn data_http2<S: Sink>(&mut self, dir: Direction, bytes: &[u8], at: Nanos, sink: &mut S) {
        if let Some(Successor::Http2(http2)) = &mut self.next {
            http2.data(dir, bytes, false, at, sink);
        }
    }

    /// The preface has come: the connection is seen from its start.
    fn preface<S: Sink>(&mut self, dir: Direction, before: &[u8], began: Nanos, sink: &mut S) {
        let other = dir.opposite().index();
        let frames = std::mem::take(&mut self.detections[other].frames);
        let answers = !frames.is_empty() || self.positions[other] == Position::default();
        let mut http2 = Http2::opened(self.limits, dir, answers, self.http1.next_id());
        http2.adopt_search(dir.opposite(), frames, sink);
        http2.data(dir, before, false, began, sink);
        self.next = Some(Successor::Http2(Box::new(http2)));
    }

    /// Frames were found in a connection that was open before.
    fn join<S: Sink>(&mut self, dir: Direction, held: &HeldRuns, sink: &mut S) {
        let mut http2 = Http2::joined(self.limits, self.http1.next_id());
        let other = std::mem::take(&mut self.detections[dir.opposite().index()].frames);
        let first = other.began() < held.began();
        let mut other = Some(other);
        if first && let Some(other) = other.take() {
            http2.adopt_search(dir.opposite(), other, sink);
        }
        http2.resume(dir, held, sink);
        if let Some(other) = other {
            http2.adopt_search(dir.opposite(), other, sink);
        }
        self.next = Some(Successor::Http2(Box::new(http2)));
    }

    /// What may have begun HTTP/2 in this direction did not.
    fn reject_detection<S: Sink>(&mut self, dir: Direction, sink: &mut S) {
        let Detection { preface, frames, proxy } = &mut self.detections[dir.index()];
        let (before, first) = proxy.take_unmatched();
        let (have, began) = std::mem::take(preface);
        self.http1.skipped(frames.reject(), sink);
        if !before.is_empty() {
            self.http1.data(dir, before, true, first, sink);
        }
        if have > 0 {
            self.http1.data(dir, &PREFACE[..have], true, began, sink);
        }
    }
}

impl Successor {
    fn data<S: Sink>(&mut self, dir: Direction, bytes: &[u8], starts_call: bool, at: Nanos, sink: &mut S) {
        match self {
            Self::Http2(http2) => http2.data(dir, bytes, starts_call, at, sink),
            Self::WebSocket(_, websocket) if websocket.is_over() => {
                sink.dropped(Reason::ProtocolUnknown, bytes.len() as u64);
            }
            Self::WebSocket(clients, websocket) => {
                websocket.data(sender(dir, *clients), bytes, starts_call, at, sink);
            }
        }
    }

    fn gap<S: Sink>(&mut self, dir: Direction, missing: u64, sink: &mut S) {
        match self {
            Self::Http2(http2) => http2.gap(dir, missing, sink),
            Self::WebSocket(clients, websocket) => {
                websocket.gap(sender(dir, *clients), Some(missing), sink);
            }
        }
    }

    fn half_close<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        match self {
            Self::Http2(http2) => http2.half_close(dir, at, sink),
            Self::WebSocket(clients, websocket) => websocket.half_close(sender(dir, *clients), at, sink),
        }
    }

    fn close<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        match self {
            Self::Http2(http2) => http2.close(ending, at, sink),
            Self::WebSocket(_, websocket) => websocket.close(ending, at, sink),
        }
    }

    fn sweep<S: Sink>(&mut self, oldest: Nanos, sink: &mut S) {
        match self {
            Self::Http2(http2) => http2.sweep(oldest, sink),
            Self::WebSocket(_, websocket) => websocket.sweep(oldest, sink),
        }
    }
}

/// Whether a captured call begins with a TLS record (RFC 8446 §5.1): its type, a version and an allowed length.
fn begins_tls(bytes: &[u8]) -> bool {
    const MAX_LENGTH: u8 = 0x48;
    matches!(bytes, [20..=24, 3, 0..=4, length, ..] if *length <= MAX_LENGTH)
}

/// Who fills a direction.
fn sender(dir: Direction, clients: Direction) -> Role {
    if dir == clients { Role::Client } else { Role::Server }
}
