//! One captured connection: both directions in, exchanges out.

use crate::{
    Direction, Ending, Limits, Nanos, Reason, Role, Sink,
    http1::{ConnectionState, Http1, Upgrade, UpgradeProtocol, begins_message},
    http2::{FrameSearch, Http2, PREFACE, PROOF},
    proxy::{ProxyHeader, ProxyMatch},
    reassembly::{Advance, Position},
    runs::{HeldRuns, Run},
    websocket::WebSocket,
};

/// The first byte of an HTTP/2 frame, which is the upper one of its length, is less in all frames that are searched
/// for. The first byte of an HTTP/1 message is not.
const FRAME_START: u8 = 9;

/// The protocol that was detected on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// No byte that shows the protocol was seen yet.
    Undecided,
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// WebSocket, opened by an HTTP/1.1 exchange. One on a stream of HTTP/2 is an exchange of that.
    WebSocket,
    /// A protocol that is not read, or one that is not read any more: further bytes are useless.
    NotHttp,
}

/// Follows one captured connection.
///
/// ```
/// use tokentap_wire::{
///     Connection, Direction, Ending, ExchangeId, Interest, Limits, Nanos, RequestHead, ResponseHead, Role, Sink,
/// };
///
/// /// Records what it is told.
/// #[derive(Default)]
/// struct Recorder(Vec<String>);
///
/// impl Sink for Recorder {
///     fn request(&mut self, _: ExchangeId, head: &RequestHead<'_>, _: Nanos) -> Interest {
///         self.0.push(format!("{} {}", head.method.escape_ascii(), head.target.escape_ascii()));
///         Interest::Body
///     }
///     fn request_body(&mut self, _: ExchangeId, bytes: &[u8], _: Nanos) {
///         self.0.push(bytes.escape_ascii().to_string());
///     }
///     fn request_end(&mut self, _: ExchangeId, _: Nanos) {}
///     fn response(&mut self, _: ExchangeId, head: &ResponseHead<'_>, _: Nanos) -> Interest {
///         self.0.push(head.status.to_string());
///         Interest::Body
///     }
///     fn response_body(&mut self, _: ExchangeId, bytes: &[u8], _: Nanos) {
///         self.0.push(bytes.escape_ascii().to_string());
///     }
///     fn gap(&mut self, _: ExchangeId, _: Role, _: Option<u64>) {}
///     fn end(&mut self, _: ExchangeId, ending: Ending, _: Nanos) {
///         self.0.push(format!("{ending:?}"));
///     }
/// }
///
/// let (mut connection, mut sink) = (Connection::new(Limits::default()), Recorder::default());
/// let request = b"POST /v1/messages HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
/// connection.data(Direction::Write, 0, request, Nanos(1), &mut sink);
/// let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
/// connection.data(Direction::Read, 0, response, Nanos(2), &mut sink);
/// connection.close(Ending::Cut, Nanos(3), &mut sink);
/// assert_eq!(sink.0, ["POST /v1/messages", "hi", "200", "hello", "Complete"]);
/// ```
///
/// Memory in ordinary traffic, where heads come whole, in bytes:
///
/// | | |
/// |---|--:|
/// | a connection by itself, and before its protocol is detected | 864 |
/// | HTTP/1, idle or within an exchange | + 384 |
/// | HTTP/2 | + 3 KiB |
/// | … each direction whose table of fields is full, at the size that peers have unless they say otherwise | + 6 KiB |
/// | … each open stream | + 224 |
/// | … each of them that is a WebSocket | + 600 |
/// | WebSocket | + 768 |
/// | … each direction in which messages are compressed | + 64 KiB |
/// | a body in gzip or deflate | + 64 KiB |
///
/// The upper bounds are:
///
/// - in each direction one header block ([`Limits::head`]), and [`Limits::held`] bytes that wait for the other
///   direction
/// - [`Limits::in_flight`] exchanges of about 150 bytes, and 32 KiB for the places of header fields
/// - for each body with a content coding what its decoder needs: 64 KiB for gzip and deflate, up to 8 MiB for zstd and
///   up to 16 MiB for br where the encoder chose such a window
/// - for HTTP/2, in each direction, [`Limits::table`], one header block more, and as much again while it is out of sync
/// - for HTTP/2, [`Limits::streams`] streams; no more than [`Limits::inflating`] of them are WebSockets whose
///   messages are decompressed; [`Limits::held`] bytes, with what each run costs, wait for servers that have not
///   accepted a WebSocket
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    positions: [Position; 2],
    http1: Http1,
    /// The protocol that is spoken instead of HTTP/1.
    successor: Option<Successor>,
    /// The detection of what can come before HTTP/1 or instead of it, by direction.
    detections: [Detection; 2],
}

/// A protocol that is spoken instead of HTTP/1.
#[derive(Debug)]
enum Successor {
    Http2(Box<Http2>),
    /// With the direction in which the client sends.
    WebSocket(Direction, Box<WebSocket>),
}

/// What the first bytes of a direction have matched, as long as no protocol is detected.
#[derive(Debug, Default)]
struct Detection {
    proxy: ProxyHeader,
    /// How many bytes of the connection preface of HTTP/2 have come, and the time of the first one.
    preface: (usize, Nanos),
    frames: FrameSearch,
}

impl Connection {
    /// A connection that may have been open before it was first seen: its bytes may begin anywhere.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::start(limits, false)
    }

    /// A connection that is seen from its first byte: if that begins no known protocol, no later byte does.
    #[must_use]
    pub fn opened(limits: Limits) -> Self {
        Self::start(limits, true)
    }

    fn start(limits: Limits, from_start: bool) -> Self {
        Self {
            limits,
            positions: [Position::default(); 2],
            http1: Http1::new(limits, from_start),
            successor: None,
            detections: Default::default(),
        }
    }

    /// Sets how often the connection had turned to the other direction before the next bytes, if that is known: where
    /// it has not turned during a loss, no other message began in it. See [`tokentap_abi::Header::turns`].
    pub fn set_turns(&mut self, turns: Option<u32>) {
        self.http1.set_turns(turns);
    }

    /// Takes bytes of one direction. `offset` is the absolute offset of the first one, counted from 0 since the
    /// connection was first seen, `at` its time. Bytes that were seen before are skipped; a jump forward is a gap.
    pub fn data<S: Sink>(&mut self, dir: Direction, offset: u64, bytes: &[u8], at: Nanos, sink: &mut S) {
        let Advance { missing, bytes, starts_call } = self.positions[dir.index()].take(offset, bytes);
        if missing > 0 {
            self.gap(dir, missing, sink);
        }
        let run = Run { bytes, starts_call, at };
        match (&mut self.successor, self.http1.state()) {
            _ if bytes.is_empty() => {}
            (Some(successor), _) => successor.data(dir, run, sink),
            (None, ConnectionState::Undecided { .. }) => self.undecided(dir, run, sink),
            (None, _) => self.http1(dir, run, sink),
        }
    }

    /// `len` bytes from `offset` on will not come.
    pub fn lost<S: Sink>(&mut self, dir: Direction, offset: u64, len: u64, _at: Nanos, sink: &mut S) {
        let missing = self.positions[dir.index()].lose(offset, len);
        if missing > 0 {
            self.gap(dir, missing, sink);
        }
    }

    /// One direction ended in order: no more bytes come in it.
    pub fn half_close<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        match &mut self.successor {
            Some(successor) => successor.half_close(dir, at, sink),
            None => self.http1.half_close(dir, at, sink),
        }
    }

    /// The connection is over: every exchange in flight ends, with `ending` unless it is complete.
    pub fn close<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        for dir in Direction::ALL {
            self.reject_detection(dir, sink);
        }
        match &mut self.successor {
            Some(successor) => successor.close(ending, at, sink),
            None => self.http1.close(ending, at, sink),
        }
    }

    /// Ends the exchanges in which no byte passed for longer than `ttl`.
    pub fn sweep<S: Sink>(&mut self, now: Nanos, ttl: Nanos, sink: &mut S) {
        let oldest = Nanos(now.0.saturating_sub(ttl.0));
        match &mut self.successor {
            Some(successor) => successor.sweep(oldest, sink),
            None => self.http1.sweep(oldest, sink),
        }
    }

    /// The protocol of the connection, as far as it is known.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match (&self.successor, self.http1.state()) {
            (Some(Successor::Http2(http2)), _) if http2.is_over() => Protocol::NotHttp,
            (Some(Successor::Http2(_)), _) => Protocol::Http2,
            (Some(Successor::WebSocket(_, websocket)), _) if websocket.is_over() => Protocol::NotHttp,
            (Some(Successor::WebSocket(..)), _) => Protocol::WebSocket,
            (None, ConnectionState::Undecided { .. }) => Protocol::Undecided,
            (None, ConnectionState::Decided | ConnectionState::Upgraded(_)) => Protocol::Http1,
            (None, ConnectionState::Over) => Protocol::NotHttp,
        }
    }

    /// The direction of the responses, once it is known, of HTTP/1 only: there, the first byte after a turn of the
    /// direction begins a message.
    #[must_use]
    pub fn responses(&self) -> Option<Direction> {
        match self.protocol() {
            Protocol::Http1 => self.http1.requests().map(Direction::opposite),
            _ => None,
        }
    }

    fn gap<S: Sink>(&mut self, dir: Direction, missing: u64, sink: &mut S) {
        self.reject_detection(dir, sink);
        match &mut self.successor {
            Some(successor) => successor.gap(dir, missing, sink),
            None => self.http1.gap(dir, missing, sink),
        }
    }

    /// Takes bytes before the protocol is detected: those of a load balancer first.
    fn undecided<S: Sink>(&mut self, dir: Direction, mut run: Run<'_>, sink: &mut S) {
        let proxy = &mut self.detections[dir.index()].proxy;
        if !proxy.is_past() {
            match proxy.skip(&mut run.bytes, run.at) {
                ProxyMatch::More => {}
                ProxyMatch::Neither(before, started) => {
                    self.detect(dir, Run { bytes: before, starts_call: true, at: started }, sink);
                }
                ProxyMatch::Ended => run.starts_call = true,
                ProxyMatch::Malformed(reason, len) => {
                    sink.dropped(reason, len as u64);
                    run.starts_call = false;
                }
            }
        }
        self.detect(dir, run, sink);
    }

    /// Takes bytes before the protocol is detected: HTTP/2, TLS or HTTP/1.
    fn detect<S: Sink>(&mut self, dir: Direction, run: Run<'_>, sink: &mut S) {
        let Run { bytes, starts_call, at } = run;
        if bytes.is_empty() {
            return;
        }
        if starts_call && begins_tls(bytes) {
            sink.dropped(Reason::TlsRecords, bytes.len() as u64);
            return self.http1.stop();
        }
        let Detection { preface: (have, started), frames, .. } = &mut self.detections[dir.index()];
        if *have > 0 || (starts_call && frames.is_empty() && bytes[0] == PREFACE[0]) {
            let started = if *have == 0 { at } else { *started };
            let same = PREFACE[*have..].iter().zip(bytes).take_while(|(want, got)| want == got).count();
            let before = std::mem::take(have);
            if before + same == PREFACE.len() {
                let seen = Run { bytes: &PREFACE[..before], starts_call: false, at: started };
                return self.start_http2(dir, [seen, Run { starts_call: false, ..run }], sink);
            }
            if same == bytes.len() {
                self.detections[dir.index()].preface = (before + same, started);
                return;
            }
            if before > 0 {
                self.http1(dir, Run { bytes: &PREFACE[..before], starts_call: true, at: started }, sink);
            }
        } else if !frames.is_empty() || (starts_call && bytes[0] < FRAME_START) {
            if !(starts_call && begins_message(bytes)) {
                let found = frames.look(run, PROOF, self.limits.head);
                self.http1.skipped(found.rejected, sink);
                if let Some(held) = found.frames {
                    self.join_http2(dir, &held, sink);
                }
                return;
            }
            self.reject_detection(dir, sink);
        }
        self.http1(dir, run, sink);
    }

    /// Takes bytes as HTTP/1.
    fn http1<S: Sink>(&mut self, dir: Direction, run: Run<'_>, sink: &mut S) {
        self.http1.data(dir, run, sink);
        if let Some(upgrade) = self.http1.take_upgrade(sink) {
            self.upgrade(&upgrade, sink);
        }
        if !matches!(self.http1.state(), ConnectionState::Undecided { .. }) {
            for dir in Direction::ALL {
                self.reject_detection(dir, sink);
            }
        }
    }

    /// The connection continues in another protocol, with the bytes that were captured since the switch.
    fn upgrade<S: Sink>(&mut self, upgrade: &Upgrade, sink: &mut S) {
        let Upgrade { protocol, requests, exchange, last_byte, in_sync, ref held } = *upgrade;
        let successor = self.successor.insert(match protocol {
            UpgradeProtocol::Http2 => {
                Successor::Http2(Box::new(Http2::upgraded(self.limits, upgrade, self.http1.next_id())))
            }
            UpgradeProtocol::WebSocket(extensions) => {
                let mut websocket = WebSocket::new(exchange, extensions, &self.limits, last_byte);
                if !in_sync {
                    websocket.gap(Role::Client, None, sink);
                }
                Successor::WebSocket(requests, Box::new(websocket))
            }
        });
        for dir in [requests, requests.opposite()] {
            let held = &held[dir.index()];
            for run in held.iter() {
                successor.data(dir, run, sink);
            }
            if let Some(at) = held.closed {
                successor.half_close(dir, at, sink);
            }
        }
    }

    /// The connection preface has come, in these runs: HTTP/2 is seen from its first byte.
    fn start_http2<S: Sink>(&mut self, dir: Direction, preface: [Run<'_>; 2], sink: &mut S) {
        let other = dir.opposite().index();
        let frames = std::mem::take(&mut self.detections[other].frames);
        let responses_in_sync = !frames.is_empty() || self.positions[other] == Position::default();
        let mut http2 = Box::new(Http2::opened(self.limits, dir, responses_in_sync, self.http1.next_id()));
        http2.adopt_search(dir.opposite(), frames, sink);
        for run in preface {
            http2.data(dir, run, sink);
        }
        self.successor = Some(Successor::Http2(http2));
    }

    /// Frames were found: HTTP/2 was open before the connection was first seen.
    fn join_http2<S: Sink>(&mut self, dir: Direction, held: &HeldRuns, sink: &mut S) {
        let mut http2 = Http2::joined(self.limits, self.http1.next_id());
        let other = std::mem::take(&mut self.detections[dir.opposite().index()].frames);
        let other_first = other.started() < held.started();
        let mut other = Some(other);
        if other_first && let Some(other) = other.take() {
            http2.adopt_search(dir.opposite(), other, sink);
        }
        http2.resume(dir, held, sink);
        if let Some(other) = other {
            http2.adopt_search(dir.opposite(), other, sink);
        }
        self.successor = Some(Successor::Http2(Box::new(http2)));
    }

    /// The bytes that have matched the start of another protocol in this direction belong to HTTP/1.
    fn reject_detection<S: Sink>(&mut self, dir: Direction, sink: &mut S) {
        let Detection { preface, frames, proxy } = &mut self.detections[dir.index()];
        let (signature, signature_at) = proxy.take_unmatched();
        let (have, preface_at) = std::mem::take(preface);
        self.http1.skipped(frames.reject(), sink);
        for (bytes, at) in [(signature, signature_at), (&PREFACE[..have], preface_at)] {
            if !bytes.is_empty() {
                self.http1.data(dir, Run { bytes, starts_call: true, at }, sink);
            }
        }
    }
}

impl Successor {
    fn data<S: Sink>(&mut self, dir: Direction, run: Run<'_>, sink: &mut S) {
        match self {
            Self::Http2(http2) => http2.data(dir, run, sink),
            Self::WebSocket(_, websocket) if websocket.is_over() => {
                sink.dropped(Reason::ProtocolUnknown, run.bytes.len() as u64);
            }
            Self::WebSocket(requests, websocket) => {
                websocket.data(Role::sender(dir, *requests), run, sink);
            }
        }
    }

    fn gap<S: Sink>(&mut self, dir: Direction, missing: u64, sink: &mut S) {
        match self {
            Self::Http2(http2) => http2.gap(dir, missing, sink),
            Self::WebSocket(requests, websocket) => {
                websocket.gap(Role::sender(dir, *requests), Some(missing), sink);
            }
        }
    }

    fn half_close<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        match self {
            Self::Http2(http2) => http2.half_close(dir, at, sink),
            Self::WebSocket(requests, websocket) => {
                websocket.half_close(Role::sender(dir, *requests), at, sink);
            }
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
