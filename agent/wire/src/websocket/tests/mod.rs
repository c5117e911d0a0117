//! WebSocket on bytes as they would pass.

mod http2;

use std::io::Write as _;

use proptest::prelude::*;

use crate::{
    Connection, Direction, Ending, Limits, MessageKind, Nanos, Protocol, Role,
    recorder::{RecordedMessage, Recorder},
};
use Direction::{Read, Write};
use MessageKind::{Binary, Text};

const ASK: &str = "GET /live HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's connection whose upgrade has passed.
struct Watch {
    connection: Connection,
    recorder: Recorder,
    offsets: [u64; 2],
}

impl Watch {
    fn new(extensions: &str) -> Self {
        let (connection, recorder) = (Connection::new(Limits::default()), Recorder::default());
        let mut watch = Self { connection, recorder, offsets: [0; 2] };
        let extensions = match extensions {
            "" => String::new(),
            extensions => format!("Sec-WebSocket-Extensions: {extensions}\r\n"),
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extensions}\r\n"
        );
        watch.call(Write, ASK).call(Read, answer);
        watch
    }

    fn call(&mut self, dir: Direction, bytes: impl AsRef<[u8]>) -> &mut Self {
        let offset = &mut self.offsets[dir.index()];
        self.connection.data(dir, *offset, bytes.as_ref(), Nanos(1), &mut self.recorder);
        *offset += bytes.as_ref().len() as u64;
        self
    }

    fn lose(&mut self, dir: Direction, len: usize) -> &mut Self {
        let offset = &mut self.offsets[dir.index()];
        self.connection.lost(dir, *offset, len as u64, Nanos(1), &mut self.recorder);
        *offset += len as u64;
        self
    }

    fn close(&mut self, ending: Ending) -> &mut Self {
        self.connection.close(ending, Nanos(2), &mut self.recorder);
        self
    }

    fn messages(&self) -> &[RecordedMessage] {
        &self.recorder.seen[&0].messages
    }

    fn ending(&self) -> Option<Ending> {
        self.recorder.seen[&0].ending
    }
}

fn whole(from: Role, kind: MessageKind, bytes: impl AsRef<[u8]>) -> RecordedMessage {
    RecordedMessage { from, kind, bytes: bytes.as_ref().to_vec(), whole: true }
}

/// A frame, masked when there is a key.
fn frame(first: u8, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mask = if key.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ ..=125 => out.push(mask | len as u8),
        len @ ..=0xffff => {
            out.push(mask | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(mask | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let Some(key) = key else { return [out, payload.to_vec()].concat() };
    out.extend(key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// Checks the server's messages in these bytes, however they are cut.
#[track_caller]
fn check(extensions: &str, bytes: &[u8], want: &[&str]) {
    for size in [usize::MAX, 1, 3] {
        let mut watch = Watch::new(extensions);
        for piece in bytes.chunks(size.min(bytes.len())) {
            watch.call(Read, piece);
        }
        let want: Vec<RecordedMessage> = want.iter().map(|text| whole(Role::Server, Text, text)).collect();
        assert_eq!(watch.messages(), want, "in pieces of {size}");
        assert_eq!(watch.connection.protocol(), Protocol::WebSocket);
    }
}

#[test]
fn rfc_6455_5_7_examples() {
    check("", &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], &["Hello"]);
    check("", &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f], &["Hello"]);
    let mut watch = Watch::new("");
    // A masked text message, an unmasked ping and its masked pong.
    watch.call(Write, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    watch.call(Read, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    watch.call(Write, [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    let (some, much) = (vec![7; 256], vec![8; 65536]);
    watch.call(Read, [vec![0x82, 0x7e, 0x01, 0x00], some.clone()].concat());
    watch.call(Read, [vec![0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0], much.clone()].concat());
    let want = [
        whole(Role::Client, Text, "Hello"),
        whole(Role::Server, Binary, some),
        whole(Role::Server, Binary, much),
    ];
    assert_eq!(watch.messages(), want);
}

#[test]
fn rfc_6455_5_4_control_frames_may_come_inside_a_message() {
    let bytes = [
        frame(0x01, None, b"one "),
        frame(0x89, None, b"?"),
        frame(0x00, None, b"two "),
        frame(0x80, None, b"!"),
    ];
    check("", &bytes.concat(), &["one two !"]);
}

#[test]
fn rfc_7692_7_2_3_examples() {
    let deflate = "permessage-deflate";
    let one: &[u8] = &[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    check(deflate, one, &["Hello"]);
    check(deflate, &[0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00], &["Hello"]);
    // The window goes on in the second message.
    let again: &[u8] = &[0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00];
    check(deflate, &[one, again].concat(), &["Hello", "Hello"]);
    check(&format!("{deflate}; server_no_context_takeover"), &[one, one].concat(), &["Hello", "Hello"]);
    // A block without compression, one with BFINAL set, two blocks in a message.
    check(
        deflate,
        &[0xc1, 0x0b, 0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &["Hello"],
    );
    check(deflate, &[0xc1, 0x08, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], &["Hello"]);
    check(
        deflate,
        &[0xc1, 0x0d, 0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        &["Hello"],
    );
    // Not every message need be compressed.
    check(deflate, &[one, &frame(0x81, None, b"plain"), again].concat(), &["Hello", "plain", "Hello"]);
}

#[test]
fn a_conversation_is_over_with_a_close_of_both_sides_or_with_the_connection() {
    let (ask, answer) = (frame(0x88, Some(KEY), &[3, 232]), frame(0x88, None, &[3, 232]));
    let mut watch = Watch::new("");
    watch.call(Write, &ask);
    assert_eq!(watch.ending(), None);
    watch.call(Read, &answer);
    assert_eq!(watch.ending(), Some(Ending::Complete));
    assert_eq!(watch.connection.protocol(), Protocol::NotHttp);
    for (bytes, ending, want) in [
        (&ask[..], Ending::Cut, Ending::Complete),
        (&ask[..], Ending::AgentStop, Ending::AgentStop),
        (b"", Ending::Cut, Ending::Cut),
        (b"", Ending::ClosedLocally, Ending::ClosedLocally),
        (b"", Ending::ProcessExit, Ending::ProcessExit),
    ] {
        let mut watch = Watch::new("");
        watch.call(Write, bytes).close(ending);
        assert_eq!(watch.ending(), Some(want), "{bytes:?} {ending:?}");
    }
}

#[test]
fn who_does_not_want_the_messages_is_not_told_them() {
    let mut watch = Watch {
        connection: Connection::new(Limits::default()),
        recorder: Recorder { skip: Some("/live"), ..Recorder::default() },
        offsets: [0; 2],
    };
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    watch.call(Write, ASK).call(Read, answer).call(Read, frame(0x81, None, b"secret"));
    assert!(watch.messages().is_empty());
    assert_eq!(watch.connection.protocol(), Protocol::NotHttp);
}

#[test]
fn a_broken_rule_ends_its_side_and_not_the_other() {
    for (what, broken) in [
        ("reserved bits", frame(0xa1, None, b"x")),
        ("an opcode that does not exist", frame(0x83, None, b"x")),
        ("a control frame in parts", frame(0x09, None, b"x")),
        ("a long control frame", frame(0x89, None, &[0; 126])),
        ("a message that goes on without a start", frame(0x80, None, b"x")),
        ("a length of 64 bits", vec![0x82, 0x7f, 0xff, 0, 0, 0, 0, 0, 0, 0]),
        ("a message inside another", [frame(0x01, None, b"a"), frame(0x81, None, b"b")].concat()),
    ] {
        let mut watch = Watch::new("");
        watch.call(Read, &broken).call(Read, frame(0x81, None, b"later"));
        watch.call(Write, frame(0x81, Some(KEY), b"still here"));
        let from = |role| watch.messages().iter().filter(move |m| m.from == role && m.whole).count();
        assert_eq!((from(Role::Server), from(Role::Client)), (0, 1), "{what}");
        watch.close(Ending::Cut);
        assert!(matches!(watch.ending(), Some(Ending::Malformed(_))), "{what}: {:?}", watch.ending());
    }
}

#[test]
fn bytes_that_are_missing_inside_a_payload_leave_a_gap_there() {
    let bytes = frame(0x81, Some(KEY), b"0123456789");
    let mut watch = Watch::new("");
    watch.call(Write, &bytes[..8]).lose(Write, 5).call(Write, &bytes[13..]);
    watch.call(Write, frame(0x81, Some(KEY), b"next"));
    // The mask goes on where it would have been.
    let want = [whole(Role::Client, Text, "01789"), whole(Role::Client, Text, "next")];
    assert_eq!(watch.messages(), want);
    assert!(watch.recorder.seen[&0].gap);
}

#[test]
fn bytes_that_are_missing_between_frames_cost_their_side_only() {
    let mut watch = Watch::new("");
    watch.lose(Read, 10).call(Read, frame(0x81, None, b"x"));
    watch.call(Write, frame(0x81, Some(KEY), b"still here"));
    assert_eq!(watch.messages(), [whole(Role::Client, Text, "still here")]);
    watch.close(Ending::Cut);
    assert_eq!(watch.ending(), Some(Ending::Lost));
}

#[test]
fn a_compressed_message_with_a_gap_spoils_those_that_refer_to_it() {
    let one: &[u8] = &[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for (extensions, later) in
        [("permessage-deflate", 0), ("permessage-deflate; server_no_context_takeover", 1)]
    {
        let mut watch = Watch::new(extensions);
        watch.call(Read, &one[..4]).lose(Read, 2).call(Read, &one[6..]).call(Read, one);
        let hello = watch.messages().iter().filter(|message| message.bytes == b"Hello").count();
        assert_eq!(hello, later, "{extensions}: {:?}", watch.messages());
    }
}

#[test]
fn a_bomb_ends_the_reading_of_its_side_with_a_reason() {
    let mut coder = flate2::Compress::new(flate2::Compression::best(), false);
    let mut packed = Vec::with_capacity(4 << 20);
    let zeros = vec![0; 64 << 20];
    coder.compress_vec(&zeros, &mut packed, flate2::FlushCompress::Sync).unwrap();
    let mut watch = Watch::new("permessage-deflate");
    watch.call(Read, frame(0xc2, None, &packed[..packed.len() - 4]));
    watch.call(Read, frame(0x88, None, b"")).call(Write, frame(0x88, Some(KEY), b""));
    assert!(watch.messages().iter().map(|m| m.bytes.len()).sum::<usize>() < zeros.len());
    assert!(matches!(watch.ending(), Some(Ending::Undecodable(_))), "{:?}", watch.ending());
}

#[test]
fn wherever_a_connection_is_cut_off_its_messages_are_a_beginning_of_those_that_were_sent() {
    let packed: &[u8] = &[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let parts = [frame(0x01, None, b"He"), frame(0x89, None, b"?"), frame(0x80, None, b"llo")];
    let bytes = [packed, &parts.concat(), &frame(0x81, None, &[b'x'; 200])].concat();
    let sent = [&b"Hello"[..], b"Hello", &[b'x'; 200]];
    for len in 0..=bytes.len() {
        let mut watch = Watch::new("permessage-deflate");
        watch.call(Read, &bytes[..len]).close(Ending::Cut);
        assert_eq!(watch.ending(), Some(Ending::Cut), "after {len} bytes");
        let messages = watch.messages();
        for (message, sent) in messages.iter().zip(sent) {
            assert!(sent.starts_with(&message.bytes) && (!message.whole || message.bytes == sent));
        }
        let whole = messages.iter().filter(|message| message.whole).count();
        assert!(
            messages.len() <= whole + 1 && (len < bytes.len() || whole == sent.len()),
            "after {len} bytes"
        );
    }
}

#[derive(Clone, Debug)]
struct Sent {
    client: bool,
    text: bool,
    parts: Vec<Vec<u8>>,
    key: [u8; 4],
    packed: bool,
    ping: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let parts = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4);
    (any::<bool>(), any::<bool>(), parts, any::<[u8; 4]>(), any::<bool>(), any::<bool>())
        .prop_map(|(client, text, parts, key, packed, ping)| Sent { client, text, parts, key, packed, ping })
}

/// The frames of a message, compressed by its side's coder or not.
fn frames(sent: &Sent, coder: &mut flate2::write::DeflateEncoder<Vec<u8>>) -> Vec<u8> {
    let content = sent.parts.concat();
    let mut parts = sent.parts.clone();
    if sent.packed {
        coder.write_all(&content).unwrap();
        coder.flush().unwrap();
        let mut bytes = std::mem::take(coder.get_mut());
        assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
        bytes.truncate(bytes.len() - 4);
        parts = bytes.chunks(bytes.len().div_ceil(sent.parts.len()).max(1)).map(<[u8]>::to_vec).collect();
    }
    let key = sent.client.then_some(sent.key);
    let mut out = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let opcode = match index {
            0 => (if sent.text { 1 } else { 2 }) | if sent.packed { 0x40 } else { 0 },
            _ => 0,
        };
        let last = if index + 1 == parts.len() { 0x80 } else { 0 };
        out.extend(frame(opcode | last, key, part));
        if sent.ping {
            out.extend(frame(0x89, key, b"ping"));
        }
    }
    out
}

proptest! {
    #[test]
    fn any_messages_come_out_as_they_were_sent_however_they_are_cut(
        all in prop::collection::vec(sent(), 0..12),
        cuts in prop::collection::vec(1..300usize, 1..40),
    ) {
        let mut coders =
            [(); 2].map(|()| flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut watch = Watch::new("permessage-deflate");
        let mut cuts = cuts.iter().cycle();
        for sent in &all {
            let bytes = frames(sent, &mut coders[usize::from(sent.client)]);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                watch.call(if sent.client { Write } else { Read }, piece);
                rest = more;
            }
        }
        let want: Vec<RecordedMessage> = all
            .iter()
            .map(|sent| {
                let from = if sent.client { Role::Client } else { Role::Server };
                whole(from, if sent.text { Text } else { Binary }, sent.parts.concat())
            })
            .collect();
        prop_assert_eq!(watch.messages(), want);
    }

    #[test]
    fn any_bytes_and_losses_are_survived(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80), 0..9usize), 0..40),
        packed in any::<bool>(),
    ) {
        let mut watch = Watch::new(if packed { "permessage-deflate" } else { "" });
        for (client, bytes, lost) in &pieces {
            let dir = if *client { Write } else { Read };
            watch.call(dir, bytes);
            if *lost > 6 {
                watch.lose(dir, *lost);
            }
        }
        watch.close(Ending::Cut);
        prop_assert!(watch.ending().is_some());
    }
}

#[test]
fn nothing_is_told_of_a_stale_connection_that_goes_on() {
    let mut watch = Watch::new("");
    watch.call(Read, frame(0x01, None, b"one"));
    watch.connection.sweep(Nanos(60), Nanos(20), &mut watch.recorder);
    assert_eq!(watch.ending(), Some(Ending::Stale));
    // The recorder takes nothing for an exchange that has ended.
    watch.lose(Read, 5).lose(Write, 5).call(Read, frame(0x80, None, b"two")).call(Write, b"x");
    watch.connection.half_close(Read, Nanos(3), &mut watch.recorder);
    watch.close(Ending::Cut);
    assert_eq!(watch.ending(), Some(Ending::Stale));
}
