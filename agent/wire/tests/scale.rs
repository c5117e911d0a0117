//! Many connections and many exchanges: each connection keeps to the memory that is stated for it, all of it
//! comes back, and what goes wrong on one is not felt on others.

mod counting;

use counting::cost;
use tokentap_wire::{
    Connection, Direction, Ending, ExchangeId, Interest, Limits, MessagePart, Nanos, Reason, RequestHead,
    ResponseHead, Role, Sink,
};

use Direction::{Read, Write};

/// Counts what it is told, over all connections.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    requests: u64,
    responses: u64,
    /// Bytes of bodies and messages.
    bytes: u64,
    whole: u64,
    cut: u64,
    malformed: u64,
    dropped: u64,
}

impl Sink for Tally {
    fn request(&mut self, _: ExchangeId, head: &RequestHead<'_>, _: Nanos) -> Interest {
        self.requests += u64::from(head.headers.complete);
        Interest::Body
    }
    fn request_body(&mut self, _: ExchangeId, bytes: &[u8], _: Nanos) {
        self.bytes += bytes.len() as u64;
    }
    fn request_end(&mut self, _: ExchangeId, _: Nanos) {}
    fn response(&mut self, _: ExchangeId, head: &ResponseHead<'_>, _: Nanos) -> Interest {
        self.responses += u64::from(head.headers.complete);
        Interest::Body
    }
    fn response_body(&mut self, _: ExchangeId, bytes: &[u8], _: Nanos) {
        self.bytes += bytes.len() as u64;
    }
    fn message(&mut self, _: ExchangeId, part: &MessagePart<'_>, _: Nanos) {
        self.bytes += part.bytes.len() as u64;
    }
    fn gap(&mut self, _: ExchangeId, _: Role, _: Option<u64>) {}
    fn end(&mut self, _: ExchangeId, ending: Ending, _: Nanos) {
        match ending {
            Ending::Complete => self.whole += 1,
            Ending::Malformed(_) => self.malformed += 1,
            _ => self.cut += 1,
        }
    }
    fn dropped(&mut self, _: Reason, bytes: u64) {
        self.dropped += bytes;
    }
}

/// A connection and how far both its directions are.
struct Peer {
    connection: Connection,
    offsets: [u64; 2],
    /// The next stream of HTTP/2.
    stream: u32,
}

impl Peer {
    fn new() -> Self {
        Self { connection: Connection::new(Limits::default()), offsets: [0; 2], stream: 1 }
    }

    fn call(&mut self, dir: Direction, bytes: &[u8], tally: &mut Tally) {
        let offset = &mut self.offsets[dir.index()];
        self.connection.data(dir, *offset, bytes, Nanos(1), tally);
        *offset += bytes.len() as u64;
    }

    fn close(mut self, tally: &mut Tally) {
        self.connection.close(Ending::Cut, Nanos(2), tally);
    }
}

const ASK: &[u8] =
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";
const ANSWER_BYTES: u64 = 15;
const EVENTS: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const GZIP_EVENTS: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\na\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff\r\n";
const CHUNK: &[u8] = b"16\r\ndata: {\"delta\":\"hi\"}\n\n\r\n";
const EVENT: &[u8] = b"data: {\"delta\":\"hi\"}\n\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

const UPGRADE: &[u8] =
    b"GET /v1/realtime HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const UPGRADED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const UPGRADED_DEFLATE: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
/// `Hello`, as RFC 6455 §5.7 has it, and compressed, as RFC 7692 §7.2.3.1 has it.
const HELLO: &[u8] = b"\x81\x05Hello";
const MASKED_HELLO: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
const DEFLATED_HELLO: &[u8] = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00";

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    into.extend_from_slice(&[kind, flags]);
    into.extend_from_slice(&stream.to_be_bytes());
    into.extend_from_slice(payload);
}

/// So long that 65 fields fill a table, which makes room for 128 of them.
const VALUE: u8 = 19;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Both sides of HTTP/2, each call into the same buffer.
#[derive(Default)]
struct Http2 {
    call: Vec<u8>,
    block: Vec<u8>,
}

impl Http2 {
    fn open(&mut self, peer: &mut Peer, tally: &mut Tally) {
        peer.call(Write, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", tally);
        peer.call(Read, b"\0\0\0\x04\0\0\0\0\0", tally);
    }

    /// A request with an id that goes into the dynamic table (RFC 7541 §6.2.1), and its response up to the
    /// first event.
    fn begin(&mut self, peer: &mut Peer, tally: &mut Tally) -> u32 {
        let stream = peer.stream;
        peer.stream += 2;
        self.field(&[0x83, 0x84, 0x87], b"x-request-id", stream);
        self.call.clear();
        frame(HEADERS, END_HEADERS, stream, &self.block, &mut self.call);
        frame(DATA, END_STREAM, stream, b"{}", &mut self.call);
        peer.call(Write, &self.call, tally);
        self.field(&[0x88], b"x-answers-id", stream);
        self.call.clear();
        frame(HEADERS, END_HEADERS, stream, &self.block, &mut self.call);
        frame(DATA, 0, stream, EVENT, &mut self.call);
        peer.call(Read, &self.call, tally);
        stream
    }

    fn event(&mut self, peer: &mut Peer, stream: u32, tally: &mut Tally) {
        self.call.clear();
        frame(DATA, 0, stream, EVENT, &mut self.call);
        peer.call(Read, &self.call, tally);
    }

    fn end(&mut self, peer: &mut Peer, stream: u32, tally: &mut Tally) {
        self.call.clear();
        frame(DATA, END_STREAM, stream, EVENT, &mut self.call);
        peer.call(Read, &self.call, tally);
    }

    /// A block of indexed fields and one that is not.
    fn field(&mut self, indexed: &[u8], name: &[u8], value: u32) {
        self.block.clear();
        self.block.extend_from_slice(indexed);
        self.block.extend_from_slice(&[0x40, name.len() as u8]);
        self.block.extend_from_slice(name);
        self.block.push(VALUE);
        self.block.extend_from_slice(&[b'0'; VALUE as usize - 4]);
        self.block.extend_from_slice(&value.to_be_bytes());
    }
}

/// What a connection is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unused,
    /// It may become HTTP/2.
    Undecided,
    /// Between two exchanges.
    Http1,
    Events,
    GzipEvents,
    /// So many exchanges are over, and so many more are open.
    Http2(u32, u32),
    WebSocket,
    /// Messages of the client were seen, which are masked.
    Masked,
    /// Compressed messages of one side were seen.
    Deflated,
}

/// A connection in the middle of something.
fn open(kind: Kind, http2: &mut Http2, tally: &mut Tally) -> Peer {
    let mut peer = Peer::new();
    let calls: &[(Direction, &[u8])] = match kind {
        Kind::Unused => &[],
        Kind::Undecided => &[(Write, b"PRI * HTTP/2")],
        Kind::Http1 => &[(Write, ASK), (Read, ANSWER)],
        Kind::Events => &[(Write, ASK), (Read, EVENTS), (Read, CHUNK)],
        Kind::GzipEvents => &[(Write, ASK), (Read, GZIP_EVENTS)],
        Kind::WebSocket => &[(Write, UPGRADE), (Read, UPGRADED), (Read, HELLO)],
        Kind::Masked => &[(Write, UPGRADE), (Read, UPGRADED), (Write, MASKED_HELLO)],
        Kind::Deflated => &[(Write, UPGRADE), (Read, UPGRADED_DEFLATE), (Read, DEFLATED_HELLO)],
        Kind::Http2(over, open) => {
            http2.open(&mut peer, tally);
            for number in 0..over + open {
                let stream = http2.begin(&mut peer, tally);
                if number < over {
                    http2.end(&mut peer, stream, tally);
                }
            }
            &[]
        }
    };
    for (dir, bytes) in calls {
        peer.call(*dir, bytes, tally);
    }
    peer
}

/// Bytes of a connection itself, as its documentation says.
const ITSELF: usize = 864;

/// Bytes that a connection allots, as its documentation says.
const fn stated(kind: Kind) -> i64 {
    match kind {
        Kind::Unused | Kind::Undecided => 0,
        Kind::Http1 | Kind::Events => 384,
        Kind::GzipEvents => 384 + (64 << 10),
        Kind::Http2(over, open) => {
            let table = if over > 0 { 6 << 10 } else { 0 };
            (3 << 10) + 2 * table + 224 * open as i64
        }
        Kind::WebSocket | Kind::Masked => 768,
        Kind::Deflated => 768 + (64 << 10),
    }
}

#[test]
fn a_connection_takes_what_is_stated_for_what_it_does() {
    let (mut http2, mut tally) = (Http2::default(), Tally::default());
    open(Kind::Http2(1, 0), &mut http2, &mut tally);
    for kind in [
        Kind::Unused,
        Kind::Undecided,
        Kind::Http1,
        Kind::Events,
        Kind::GzipEvents,
        Kind::Http2(0, 1),
        Kind::Http2(200, 0),
        Kind::Http2(200, 8),
        Kind::Http2(200, 1000),
        Kind::WebSocket,
        Kind::Masked,
        Kind::Deflated,
    ] {
        let mut peer = None;
        let (_, bytes, _) = cost(|| peer = Some(open(kind, &mut http2, &mut tally)));
        assert!(bytes <= stated(kind), "{kind:?}: {bytes} bytes, {} stated", stated(kind));
        assert!(bytes * 5 >= stated(kind) * 4, "{kind:?}: {bytes} bytes are much less than stated");
    }
    assert!(size_of::<Connection>() <= ITSELF);
    assert_eq!(tally.dropped, 0);
}

/// What the `number`th of many connections is in the middle of.
const fn mixed(number: usize) -> Kind {
    match number % 8 {
        0..4 => Kind::Events,
        4..6 => Kind::Http2(0, STREAMS),
        6 => Kind::Masked,
        _ => Kind::Undecided,
    }
}

const STREAMS: u32 = 4;

/// More of what a connection is in the middle of.
fn go_on(kind: Kind, peer: &mut Peer, http2: &mut Http2, tally: &mut Tally) {
    match kind {
        Kind::Events => peer.call(Read, CHUNK, tally),
        Kind::Http2(..) => (0..STREAMS).for_each(|n| http2.event(peer, 1 + 2 * n, tally)),
        Kind::Masked => peer.call(Write, MASKED_HELLO, tally),
        _ => {}
    }
}

/// Bytes that no sender of what a connection is in the middle of would send.
fn spoil(kind: Kind, peer: &mut Peer, tally: &mut Tally) {
    let (dir, bytes): (_, &[u8]) = match kind {
        Kind::Events => (Read, b"no length\r\n"),
        // More padding than there is of the frame.
        Kind::Http2(..) => (Read, b"\0\0\x01\0\x08\0\0\0\x01\xff"),
        // An opcode that means nothing.
        Kind::Masked => (Write, b"\x83\x80\0\0\0\0"),
        _ => (Write, b"\0\xff\0\xff"),
    };
    peer.call(dir, bytes, tally);
}

/// The exchanges of a connection end as they should.
fn finish(kind: Kind, mut peer: Peer, http2: &mut Http2, tally: &mut Tally) {
    match kind {
        Kind::Events => peer.call(Read, LAST_CHUNK, tally),
        Kind::Http2(..) => (0..STREAMS).for_each(|n| http2.end(&mut peer, 1 + 2 * n, tally)),
        Kind::Masked => {
            peer.call(Write, b"\x88\x80\0\0\0\0", tally);
            peer.call(Read, b"\x88\0", tally);
        }
        _ => {
            peer.call(Write, b".0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", tally);
            peer.call(Read, b"\0\0\0\x04\0\0\0\0\0", tally);
            let stream = http2.begin(&mut peer, tally);
            http2.end(&mut peer, stream, tally);
        }
    }
    peer.close(tally);
}

#[test]
fn ten_thousand_connections_keep_to_their_memory_and_a_spoiled_one_is_not_felt_on_others() {
    const CONNECTIONS: usize = 10_000;
    const EVENTS_MORE: u64 = 10;
    let (mut http2, mut sound, mut spoiled) = (Http2::default(), Tally::default(), Tally::default());
    open(Kind::Http2(1, 0), &mut http2, &mut Tally::default());
    let is_spoiled = |number: usize| number.is_multiple_of(11);
    let (_, left, _) = cost(|| {
        let mut peers = Vec::with_capacity(CONNECTIONS);
        let (_, bytes, _) = cost(|| {
            for number in 0..CONNECTIONS {
                let tally = if is_spoiled(number) { &mut spoiled } else { &mut sound };
                peers.push(open(mixed(number), &mut http2, tally));
            }
        });
        let most: i64 = (0..CONNECTIONS).map(|number| stated(mixed(number))).sum();
        assert!(bytes <= most, "{bytes} bytes, {most} stated");

        let streamed = cost(|| {
            for turn in 0..EVENTS_MORE {
                for (number, peer) in peers.iter_mut().enumerate() {
                    let tally = if is_spoiled(number) { &mut spoiled } else { &mut sound };
                    if turn == 5 && is_spoiled(number) {
                        spoil(mixed(number), peer, tally);
                    }
                    go_on(mixed(number), peer, &mut http2, tally);
                }
            }
        });
        assert!(streamed.1 <= 0, "{} bytes more", streamed.1);

        for (number, peer) in peers.drain(..).enumerate() {
            if is_spoiled(number) {
                peer.close(&mut spoiled);
            } else {
                finish(mixed(number), peer, &mut http2, &mut sound);
            }
        }
    });
    assert_eq!(left, 0);

    let mut want = Tally::default();
    for number in (0..CONNECTIONS).filter(|&number| !is_spoiled(number)) {
        let (exchanges, bytes) = match mixed(number) {
            Kind::Events => (1, 2 + (1 + EVENTS_MORE) * EVENT.len() as u64),
            Kind::Http2(_, open) => {
                (u64::from(open), u64::from(open) * (2 + (2 + EVENTS_MORE) * EVENT.len() as u64))
            }
            Kind::Masked => (1, (1 + EVENTS_MORE) * b"Hello".len() as u64),
            _ => (1, 2 + 2 * EVENT.len() as u64),
        };
        want.requests += exchanges;
        want.responses += exchanges;
        want.whole += exchanges;
        want.bytes += bytes;
    }
    assert_eq!(sound, want);
    assert!(spoiled.malformed > 0 && spoiled.dropped > 0);
    assert_eq!(spoiled.whole, 0);
    assert_eq!(spoiled.malformed + spoiled.cut, spoiled.requests);
}

#[test]
fn a_million_exchanges_leave_nothing_behind() {
    const GENERATIONS: u64 = 5;
    const TURNS: u64 = 1000;
    const CONNECTIONS: u64 = 200;
    let (mut http2, mut tally) = (Http2::default(), Tally::default());
    open(Kind::Http2(1, 0), &mut http2, &mut Tally::default());
    for _ in 0..GENERATIONS {
        let (_, left, _) = cost(|| {
            let mut peers: Vec<Peer> = (0..CONNECTIONS).map(|_| Peer::new()).collect();
            for number in (3..peers.len()).step_by(10).chain((4..peers.len()).step_by(10)) {
                http2.open(&mut peers[number], &mut tally);
            }
            let mut turn = || {
                for (number, peer) in peers.iter_mut().enumerate() {
                    match number % 10 {
                        3 | 4 => {
                            let stream = http2.begin(peer, &mut tally);
                            http2.end(peer, stream, &mut tally);
                        }
                        5 => [ASK, EVENTS, CHUNK, CHUNK, LAST_CHUNK]
                            .into_iter()
                            .zip([Write, Read, Read, Read, Read])
                            .for_each(|(bytes, dir)| peer.call(dir, bytes, &mut tally)),
                        _ => {
                            peer.call(Write, ASK, &mut tally);
                            peer.call(Read, ANSWER, &mut tally);
                        }
                    }
                }
            };
            (0..TURNS / 10).for_each(|_| turn());
            let (_, grown, _) = cost(|| (0..TURNS - TURNS / 10).for_each(|_| turn()));
            assert_eq!(grown, 0);
            peers.into_iter().for_each(|peer| peer.close(&mut tally));
        });
        assert_eq!(left, 0);
    }
    let tenth = GENERATIONS * TURNS * CONNECTIONS / 10;
    let want = Tally {
        requests: 10 * tenth,
        responses: 10 * tenth,
        whole: 10 * tenth,
        bytes: tenth * (7 * (2 + ANSWER_BYTES) + 3 * (2 + 2 * EVENT.len() as u64)),
        ..Tally::default()
    };
    assert_eq!(tally, want);
    assert_eq!(want.whole, 1_000_000);
}
