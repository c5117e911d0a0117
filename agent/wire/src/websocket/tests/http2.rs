//! WebSocket on streams of HTTP/2 (RFC 8441).

mod loss;

use proptest::sample::Index;

use super::*;
use crate::{Reason, recorder::Seen};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const DEFLATE: &str = "permessage-deflate";
/// The masked and the plain `Hello` of RFC 6455 §5.7, the compressed ones of RFC 7692 §7.2.3.
const MASKED: &[u8] = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
const PLAIN: &[u8] = &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
const PACKED: &[u8] = &[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
const PACKED_AGAIN: &[u8] = &[0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00];

/// A frame of HTTP/2.
fn http2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head, its fields as literals.
fn head(stream: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        match *name {
            ":method" => block.push(2),
            ":status" => block.push(8),
            name => block.extend([&[0, name.len() as u8], name.as_bytes()].concat()),
        }
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    http2(HEADERS, END_HEADERS | u8::from(end), stream, &block)
}

fn connect(stream: u32, protocol: &str) -> Vec<u8> {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "https"),
        (":path", "/chat"),
        (":authority", "server.example.com"),
        ("sec-websocket-extensions", DEFLATE),
        ("sec-websocket-version", "13"),
    ];
    head(stream, false, &fields)
}

fn answer(stream: u32, status: &str, extensions: &str) -> Vec<u8> {
    head(stream, false, &[(":status", status), ("sec-websocket-extensions", extensions)])
}

fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    http2(DATA, 0, stream, bytes)
}

fn last_data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    http2(DATA, END_STREAM, stream, bytes)
}

fn reset(stream: u32) -> Vec<u8> {
    http2(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// A connection on which both sides have begun.
fn begun(limits: Limits, skip: Option<&'static str>) -> Watch {
    let recorder = Recorder { skip, ..Recorder::default() };
    let mut watch = Watch { connection: Connection::new(limits), recorder, offsets: [0; 2] };
    watch.call(Write, [PREFACE, SETTINGS].concat()).call(Read, SETTINGS);
    watch
}

/// One on which these streams have opened a WebSocket.
fn opened(streams: &[u32], extensions: &str) -> Watch {
    let mut watch = begun(Limits::default(), None);
    for stream in streams {
        watch.call(Write, connect(*stream, "websocket")).call(Read, answer(*stream, "200", extensions));
    }
    watch
}

impl Watch {
    fn seen(&self, exchange: u64) -> &Seen {
        &self.recorder.seen[&exchange]
    }

    fn dropped(&self, reason: Reason) -> u64 {
        self.recorder.dropped.get(&reason).copied().unwrap_or_default()
    }
}

fn hello(from: Role) -> RecordedMessage {
    whole(from, Text, "Hello")
}

#[test]
fn rfc_8441_5_1_example() {
    let ask = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/chat"),
        (":authority", "server.example.com"),
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", DEFLATE),
        ("sec-websocket-version", "13"),
        ("origin", "http://www.example.com"),
    ];
    let tell = [(":status", "200"), ("sec-websocket-protocol", "chat")];
    let calls = [
        (Write, PREFACE.to_vec()),
        (Write, SETTINGS.to_vec()),
        // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3)
        (Read, http2(4, 0, 0, &[0, 8, 0, 0, 0, 1])),
        (Write, head(1, false, &ask)),
        (Read, head(1, false, &tell)),
        (Write, data(1, MASKED)),
        (Read, last_data(1, PLAIN)),
        (Write, last_data(1, MASKED)),
    ];
    for (role, size) in [(Role::Client, 99), (Role::Server, 99), (Role::Client, 1), (Role::Server, 2)] {
        let mut watch = Watch {
            connection: Connection::new(Limits::default()),
            recorder: Recorder::default(),
            offsets: [0; 2],
        };
        for (dir, bytes) in &calls {
            let dir = if role == Role::Client { *dir } else { dir.opposite() };
            bytes.chunks(size).for_each(|piece| _ = watch.call(dir, piece));
        }
        let want = [hello(Role::Client), hello(Role::Server), hello(Role::Client)];
        assert_eq!(watch.messages(), want, "in pieces of {size}");
        // No side has sent a Close frame.
        assert_eq!(watch.recorder.lines(), ["CONNECT /chat [] 200 [] Cut"]);
        let seen = watch.seen(0);
        assert_eq!((seen.role, seen.authority.as_deref()), (Some(role), Some("server.example.com")));
        assert_eq!(seen.fields[0], ("sec-websocket-protocol".to_owned(), "chat, superchat".to_owned()));
        assert!(watch.recorder.dropped.is_empty(), "{:?}", watch.recorder.dropped);
        assert_eq!(watch.connection.protocol(), Protocol::Http2);
    }
}

#[test]
fn rfc_8441_5_compression_is_agreed_upon_as_in_http_1() {
    for (extensions, second) in
        [(DEFLATE, PACKED_AGAIN), ("permessage-deflate; server_no_context_takeover", PACKED)]
    {
        let mut watch = opened(&[1], extensions);
        watch.call(Read, data(1, PACKED)).call(Read, data(1, second));
        assert_eq!(watch.messages(), [hello(Role::Server), hello(Role::Server)], "{extensions}");
    }
    let mut watch = opened(&[1], "x-unknown");
    watch.call(Read, data(1, PLAIN)).close(Ending::Cut);
    assert!(watch.messages().is_empty());
    watch = opened(&[1], "");
    watch.call(Read, data(1, PACKED)).call(Read, data(1, PLAIN)).close(Ending::Cut);
    assert_eq!(watch.ending(), Some(Ending::Malformed(Reason::WebSocketReservedBits)));
}

#[test]
fn rfc_8441_5_a_close_of_both_sides_ends_the_exchange_and_the_end_of_a_stream_is_that_of_its_side() {
    let (ask, tell) = (frame(0x88, Some(KEY), &[3, 232]), frame(0x88, None, &[3, 232]));
    let mut watch = opened(&[1], "");
    watch.call(Write, data(1, &ask));
    assert_eq!(watch.ending(), None);
    watch.call(Read, data(1, &tell));
    assert_eq!(watch.ending(), Some(Ending::Complete));
    // What follows is no loss.
    watch.call(Read, last_data(1, b"")).call(Write, last_data(1, b"")).close(Ending::Cut);
    assert!(watch.recorder.dropped.is_empty());
    for (first, second, want) in
        [(&ask[..], &b""[..], Ending::Complete), (b"", &tell, Ending::Complete), (b"", b"", Ending::Cut)]
    {
        let mut watch = opened(&[1], "");
        watch.call(Write, last_data(1, first));
        assert_eq!(watch.ending(), None);
        watch.call(Read, data(1, PLAIN)).call(Read, last_data(1, second));
        assert_eq!((watch.ending(), watch.messages()), (Some(want), &[hello(Role::Server)][..]));
    }
}

#[test]
fn rfc_8441_5_a_stream_that_is_reset_is_a_connection_that_is_reset() {
    for (dir, before, want) in [
        (Write, PLAIN, Ending::ClosedLocally),
        (Read, PLAIN, Ending::Cut),
        (Read, &[0x88, 0], Ending::Complete),
        (Write, &[0x01, 0x03, 0x48], Ending::ClosedLocally),
    ] {
        let mut watch = opened(&[1, 3], "");
        watch.call(Read, data(1, before)).call(dir, reset(1));
        assert_eq!(watch.ending(), Some(want), "{before:?}");
        // Another stream goes on.
        watch.call(Read, data(3, PLAIN));
        assert_eq!(watch.seen(1).messages, [hello(Role::Server)]);
        assert_eq!(watch.seen(1).ending, None);
    }
    let mut watch = begun(Limits::default(), None);
    watch.call(Write, connect(1, "websocket")).call(Write, data(1, MASKED)).call(Read, reset(1));
    assert_eq!(watch.recorder.lines(), ["CONNECT /chat [] - [] Cut"]);
    assert_eq!(watch.dropped(Reason::SwitchUnanswered), MASKED.len() as u64);
}

#[test]
fn rfc_8441_5_a_websocket_that_is_refused_is_a_plain_exchange() {
    let mut watch = begun(Limits::default(), None);
    watch.call(Write, connect(1, "websocket")).call(Write, data(1, MASKED));
    watch.call(Read, answer(1, "403", "")).call(Read, last_data(1, PLAIN));
    assert_eq!(
        watch.recorder.lines(),
        ["CONNECT /chat [] 403 [\u{81}\u{5}Hello] Complete".replace('\u{81}', "\u{fffd}")]
    );
    assert_eq!(watch.recorder.dropped, [(Reason::SwitchUnanswered, MASKED.len() as u64)].into());
    // An interim response is no answer.
    watch.call(Write, connect(3, "WebSocket")).call(Read, answer(3, "103", ""));
    watch.call(Read, answer(3, "201", "")).call(Read, data(3, PLAIN));
    assert_eq!(watch.seen(1).messages, [hello(Role::Server)]);
}

#[test]
fn rfc_9113_8_5_a_tunnel_without_a_protocol_is_read_as_bodies() {
    let mut watch = begun(Limits::default(), None);
    let fields = [(":method", "CONNECT"), (":authority", "h:443")];
    watch.call(Write, head(1, false, &fields)).call(Read, answer(1, "200", ""));
    watch.call(Write, last_data(1, b"to")).call(Read, last_data(1, b"fro"));
    assert_eq!(watch.recorder.lines(), ["CONNECT h:443 [to] 200 [fro] Complete"]);
}

#[test]
fn rfc_8441_4_another_protocol_is_not_read_and_its_bytes_are_counted() {
    let mut watch = begun(Limits::default(), None);
    watch.call(Write, connect(1, "connect-udp")).call(Write, data(1, b"early"));
    watch.call(Read, answer(1, "200", "")).call(Read, last_data(1, b"fro")).call(Write, last_data(1, b"to"));
    assert_eq!(watch.recorder.lines(), ["CONNECT /chat [] 200 [] Complete"]);
    assert_eq!(watch.recorder.dropped, [(Reason::ProtocolUnknown, 10)].into());
    watch.call(Write, connect(3, "connect-udp"));
    watch.call(Read, answer(3, "501", "")).call(Read, last_data(3, b"no")).call(Write, last_data(3, b""));
    assert_eq!(watch.recorder.lines()[1], "CONNECT /chat [] 501 [no] Complete");
    // Not a request that may have a protocol.
    watch.call(Write, head(5, true, &[(":method", "GET"), (":protocol", "websocket"), (":path", "/a")]));
    watch.call(Read, answer(5, "200", "")).call(Read, last_data(5, b"x"));
    assert_eq!(watch.recorder.lines()[2], "GET /a [] 200 [x] Complete");
}

#[test]
fn frames_that_come_before_the_answer_are_read_after_it() {
    let mut watch = begun(Limits::default(), None);
    watch.call(Write, connect(1, "websocket")).call(Write, data(1, &MASKED[..4]));
    watch.call(Write, last_data(1, &[&MASKED[4..], &frame(0x88, Some(KEY), b"")].concat()));
    assert!(watch.messages().is_empty());
    watch.call(Read, answer(1, "200", "")).call(Read, data(1, PLAIN));
    assert_eq!(watch.messages(), [hello(Role::Client), hello(Role::Server)]);
    watch.call(Read, data(1, &[0x88, 0]));
    assert_eq!(watch.ending(), Some(Ending::Complete));
    assert!(watch.recorder.dropped.is_empty());
}

#[test]
fn what_cannot_be_kept_until_the_answer_is_counted_and_the_other_side_goes_on() {
    let limits = Limits { held: 400, ..Limits::default() };
    let mut watch = begun(limits, None);
    watch.call(Write, [connect(1, "websocket"), connect(3, "websocket")].concat());
    let message = frame(0x82, Some(KEY), &[7; 200]);
    watch.call(Write, data(1, &message)).call(Write, data(3, &message)).call(Write, data(3, MASKED));
    watch.call(Read, [answer(1, "200", ""), answer(3, "200", ""), data(3, PLAIN)].concat());
    assert_eq!(watch.seen(0).messages, [whole(Role::Client, Binary, [7; 200])]);
    assert_eq!(watch.seen(1).messages, [hello(Role::Server)]);
    assert!(watch.seen(1).gap && !watch.seen(0).gap);
    assert_eq!(watch.dropped(Reason::SwitchUnanswered), (message.len() + MASKED.len()) as u64);
    // The first stream keeps nothing any more.
    watch.call(Write, [connect(5, "websocket"), data(5, &message)].concat());
    watch.call(Read, answer(5, "200", ""));
    assert_eq!(watch.seen(2).messages, [whole(Role::Client, Binary, [7; 200])]);
}

#[test]
fn no_more_websockets_are_decompressed_than_the_limit_and_the_others_say_so() {
    let limits = Limits { inflating: 1, ..Limits::default() };
    let mut watch = begun(limits, None);
    for stream in [1, 3] {
        watch.call(Write, connect(stream, "websocket")).call(Read, answer(stream, "200", DEFLATE));
        watch.call(Read, data(stream, &[PACKED, PLAIN].concat()));
    }
    assert_eq!(watch.seen(0).messages, [hello(Role::Server), hello(Role::Server)]);
    assert_eq!(watch.seen(1).messages, [hello(Role::Server)]);
    watch.call(Read, data(3, &[0x88, 0])).call(Read, reset(3)).call(Read, reset(1));
    assert_eq!(watch.seen(1).ending, Some(Ending::Undecodable(Reason::TooManyCompressedWebSockets)));
    watch.call(Write, connect(5, "websocket")).call(Read, answer(5, "200", DEFLATE));
    watch.call(Read, data(5, PACKED));
    assert_eq!(watch.seen(2).messages, [hello(Role::Server)]);
}

#[test]
fn who_does_not_want_the_messages_of_a_stream_is_told_its_end_alone() {
    let mut watch = begun(Limits::default(), Some("/chat"));
    watch.call(Write, connect(1, "websocket")).call(Write, data(1, MASKED));
    watch.call(Read, answer(1, "200", "")).call(Read, data(1, PLAIN)).call(Read, last_data(1, PLAIN));
    assert!(watch.messages().is_empty() && watch.recorder.dropped.is_empty());
    assert_eq!(watch.recorder.lines(), ["CONNECT /chat [] 200 [] Complete"]);
}

#[test]
fn a_stream_on_which_nothing_passes_is_stale_and_a_connection_that_ends_ends_all() {
    let mut watch = opened(&[1, 3], "");
    let offset = watch.offsets[Read.index()];
    watch.connection.data(Read, offset, &data(3, PLAIN), Nanos(50), &mut watch.recorder);
    watch.connection.sweep(Nanos(60), Nanos(20), &mut watch.recorder);
    assert_eq!([watch.seen(0).ending, watch.seen(1).ending], [Some(Ending::Stale), None]);
    watch.connection.half_close(Write, Nanos(61), &mut watch.recorder);
    assert_eq!(watch.seen(1).ending, None);
    watch.connection.half_close(Read, Nanos(62), &mut watch.recorder);
    assert_eq!(watch.seen(1).ending, Some(Ending::Cut));
}

#[test]
fn wherever_a_stream_is_cut_off_its_messages_are_a_beginning_of_those_that_were_sent() {
    let packed: [(Direction, &[u8]); 5] =
        [(Write, MASKED), (Read, PACKED), (Read, PLAIN), (Write, MASKED), (Read, PACKED_AGAIN)];
    let calls: Vec<_> = [(Write, connect(1, "websocket")), (Read, answer(1, "200", DEFLATE))]
        .into_iter()
        .chain(packed.map(|(dir, bytes)| (dir, data(1, bytes))))
        .collect();
    let all: usize = calls.iter().map(|(_, bytes)| bytes.len()).sum();
    let sent = packed.map(|(dir, _)| hello(if dir == Write { Role::Client } else { Role::Server }));
    for len in 0..=all {
        let mut watch = begun(Limits::default(), None);
        let mut left = len;
        for (dir, bytes) in &calls {
            let taken = left.min(bytes.len());
            watch.call(*dir, &bytes[..taken]);
            left -= taken;
        }
        watch.close(Ending::Cut);
        let Some(seen) = watch.recorder.seen.get(&0) else { continue };
        assert_eq!(seen.ending, Some(Ending::Cut), "after {len} bytes");
        let (told, cut) = seen.messages.split_at(seen.messages.iter().take_while(|m| m.whole).count());
        assert_eq!(told, &sent[..told.len()], "after {len} bytes");
        assert!(cut.iter().all(|message| b"Hello".starts_with(&message.bytes)), "after {len} bytes");
        assert!(len < all || told.len() == sent.len());
    }
}

/// Bytes in pieces of these sizes.
fn pieces<'a>(bytes: &'a [u8], sizes: &mut impl Iterator<Item = &'a usize>) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_interleaving_of_streams_and_sides_gives_the_messages_that_were_sent(
        all in prop::collection::vec((0..3_usize, sent()), 0..12),
        order in prop::collection::vec(any::<Index>(), 1..30),
        frames_of in prop::collection::vec(1..90_usize, 1..20),
        calls_of in prop::collection::vec(1..70_usize, 1..20),
    ) {
        // What each side sends on each stream.
        let mut sides = vec![Vec::new(); 6];
        let mut coders: Vec<_> =
            (0..6).map(|_| flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast())).collect();
        for (stream, sent) in &all {
            let side = stream * 2 + usize::from(sent.client);
            sides[side].extend(frames(sent, &mut coders[side]));
        }
        let mut sizes = frames_of.iter().cycle();
        let mut queues: Vec<_> =
            sides.iter().map(|side| pieces(side, &mut sizes).into_iter().peekable()).collect();
        let mut ways = [Vec::new(), Vec::new()];
        let mut order = order.iter().cycle();
        loop {
            let ready: Vec<_> = (0..6).filter(|&side| queues[side].peek().is_some()).collect();
            if ready.is_empty() {
                break;
            }
            let side = ready[order.next().unwrap().index(ready.len())];
            let payload = queues[side].next().unwrap();
            ways[side % 2].extend(data(2 * (side / 2) as u32 + 1, payload));
        }
        let mut watch = opened(&[1, 3, 5], DEFLATE);
        let mut sizes = calls_of.iter().cycle();
        let [tell, ask] = ways.each_ref().map(|way| pieces(way, &mut sizes));
        let (mut ask, mut tell) = (ask.into_iter().peekable(), tell.into_iter().peekable());
        while ask.peek().is_some() || tell.peek().is_some() {
            let client = tell.peek().is_none() || (ask.peek().is_some() && order.next().unwrap().index(2) == 0);
            match client {
                true => watch.call(Write, ask.next().unwrap()),
                false => watch.call(Read, tell.next().unwrap()),
            };
        }
        for stream in 0..3 {
            for role in [Role::Client, Role::Server] {
                let want: Vec<_> = all
                    .iter()
                    .filter(|(of, sent)| *of == stream && sent.client == (role == Role::Client))
                    .map(|(_, sent)| whole(role, if sent.text { Text } else { Binary }, sent.parts.concat()))
                    .collect();
                let got: Vec<_> =
                    watch.seen(stream as u64).messages.iter().filter(|m| m.from == role).cloned().collect();
                prop_assert_eq!(got, want);
            }
        }
        prop_assert!(watch.recorder.dropped.is_empty(), "{:?}", watch.recorder.dropped);
    }

    #[test]
    fn any_bytes_and_losses_on_streams_are_survived_and_every_exchange_ends(
        steps in prop::collection::vec(
            (any::<bool>(), 0..3_u32, 0..12_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
        deflate in any::<bool>(),
    ) {
        let mut watch = begun(Limits { held: 200, inflating: 1, ..Limits::default() }, None);
        let extensions = if deflate { DEFLATE } else { "" };
        for (read, stream, what, bytes) in &steps {
            let (dir, stream) = (if *read { Read } else { Write }, 2 * stream + 1);
            let key = (!read).then_some(KEY);
            match what {
                0 => watch.call(Write, connect(stream, "websocket")),
                1 => watch.call(Read, answer(stream, "200", extensions)),
                2 => watch.call(dir, answer(stream, "404", "")),
                3 => watch.lose(dir, bytes.len()),
                4 => watch.call(dir, reset(stream)),
                5 => watch.call(dir, last_data(stream, bytes)),
                6 => watch.call(dir, data(stream, bytes)),
                7 => {
                    let whole = data(stream, &frame(0x81, key, bytes));
                    watch.call(dir, &whole[..9]).lose(dir, bytes.len() / 2);
                    watch.call(dir, &whole[9 + bytes.len() / 2..])
                }
                _ => watch.call(dir, data(stream, &frame(bytes.first().map_or(1, |b| b & 0xcf), key, bytes))),
            };
        }
        watch.close(Ending::Cut);
        prop_assert!(watch.recorder.seen.values().all(|seen| seen.ending.is_some()));
    }
}
