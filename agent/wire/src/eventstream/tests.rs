use proptest::{collection::vec, prelude::*};

use super::*;

/// The second message of what Amazon Bedrock answered to InvokeModelWithResponseStream.
const RECORDED: &[u8] = b"\0\0\0\xf4\0\0\0\x4b\x39\x98\xb1\xec\
    \x0b:event-type\x07\0\x05chunk\x0d:content-type\x07\0\x10application/json\x0d:message-type\x07\0\x05event\
    {\"bytes\":\"eyJ0eXBlIjoiY29udGVudF9ibG9ja19zdGFydCIsImluZGV4IjowLCJjb250ZW50X2Jsb2NrIjp7InR5cGUiOiJ0ZXh0\
    IiwidGV4dCI6IiJ9fQ==\",\"p\":\"abcdefghijklmnopqrstuv\"}\x9f\x91\x7f\xdc";

fn header(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
    [&[name.len() as u8][..], name.as_bytes(), &[kind], value].concat()
}

fn text(name: &str, value: &str) -> Vec<u8> {
    header(name, 7, &[&(value.len() as u16).to_be_bytes(), value.as_bytes()].concat())
}

fn message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = (16 + headers.len() + payload.len()) as u32;
    let mut bytes = [total.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend([headers, payload].concat());
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

/// A message whose only header is its type.
fn event(kind: &str, payload: &str) -> Vec<u8> {
    message(&text(":event-type", kind), payload.as_bytes())
}

/// What was told, as text: `type/payload.` for a message, `+` after the type where headers are missing, `<n>`
/// for missing bytes, `!reason` for what is wrong.
#[derive(Debug, Default, PartialEq)]
struct Told(String);

impl Told {
    fn on(&mut self, piece: Piece<'_>) {
        self.0 += &match piece {
            Piece::Head { headers, .. } => {
                let kind = headers.text(":event-type").unwrap_or(b"-");
                format!("{}{}/", String::from_utf8_lossy(kind), if headers.complete { "" } else { "+" })
            }
            Piece::Payload(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Piece::Gap(missing) => format!("<{missing}>"),
            Piece::End(Ok(())) => ". ".into(),
            Piece::End(Err(reason)) | Piece::Lost(reason) => format!("!{reason} "),
        };
    }
}

fn feed(parser: &mut Parser, body: &[u8], size: usize) -> String {
    let mut told = Told::default();
    body.chunks(size).for_each(|piece| parser.feed(piece, |piece| told.on(piece)));
    told.0
}

#[track_caller]
fn check(body: &[u8], want: &str) {
    for size in [1, 2, 3, 11, 12, 13, 1000] {
        assert_eq!(feed(&mut Parser::new(100), body, size), want, "in pieces of {size}");
    }
}

#[test]
fn messages_are_given_however_they_are_cut() {
    check(b"", "");
    check(&event("chunk", "hello"), "chunk/hello. ");
    check(&[event("a", "1"), message(b"", b""), event("b", "")].concat(), "a/1. -/. b/. ");
    check(&event("cut", "hello")[..37], "cut/hello");
}

#[test]
fn a_recorded_message_is_whole() {
    let payload = String::from_utf8_lossy(&RECORDED[12 + 0x4b..RECORDED.len() - 4]).into_owned();
    for size in [1, 7, 1000] {
        let mut parser = Parser::new(100);
        let mut types = Vec::new();
        parser.feed(RECORDED, |piece| {
            if let Piece::Head { headers, .. } = piece {
                types = headers.iter().map(|(name, value)| (name.to_vec(), format!("{value:?}"))).collect();
            }
        });
        let names: Vec<_> = types.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(names, [&b":event-type"[..], b":content-type", b":message-type"]);
        assert_eq!(feed(&mut Parser::new(100), RECORDED, size), format!("chunk/{payload}. "));
    }
}

#[test]
fn headers_of_every_type_are_read() {
    let block = [
        header("t", 0, b""),
        header("f", 1, b""),
        header("byte", 2, &[0xff]),
        header("short", 3, &[0x80, 0]),
        header("int", 4, &7_i32.to_be_bytes()),
        header("long", 5, &i64::MIN.to_be_bytes()),
        header("bytes", 6, b"\0\x02\x00\xff"),
        text("text", "a"),
        header("time", 8, &1_700_000_000_000_i64.to_be_bytes()),
        header("uuid", 9, &[9; 16]),
    ]
    .concat();
    let want = [
        (&b"t"[..], Value::Bool(true)),
        (b"f", Value::Bool(false)),
        (b"byte", Value::Byte(-1)),
        (b"short", Value::Short(i16::MIN)),
        (b"int", Value::Int(7)),
        (b"long", Value::Long(i64::MIN)),
        (b"bytes", Value::Bytes(&[0, 0xff])),
        (b"text", Value::Text(b"a")),
        (b"time", Value::Timestamp(1_700_000_000_000)),
        (b"uuid", Value::Uuid([9; 16])),
    ];
    let mut heads = 0;
    for size in [1, 1000] {
        let mut parser = Parser::new(1000);
        message(&block, b"").chunks(size).for_each(|piece| {
            parser.feed(piece, |piece| {
                if let Piece::Head { headers, payload } = piece {
                    assert_eq!((headers.iter().collect::<Vec<_>>(), headers.complete), (want.to_vec(), true));
                    assert_eq!(
                        (headers.get("int"), headers.text("int"), payload),
                        (Some(Value::Int(7)), None, 0)
                    );
                    heads += 1;
                }
            });
        });
    }
    assert_eq!(heads, 2);
}

#[test]
fn headers_that_cannot_be_read_are_named_and_cost_no_other_message() {
    for bad in [&b"\x01a\x0a"[..], b"\x05ab", b"\x01a\x07\0\x09abc", b"\x01a\x04\0", b"\x01a"] {
        let block = [text(":event-type", "x"), bad.to_vec()].concat();
        let body = [message(&block, b"data"), event("next", "1")].concat();
        check(&body, &format!("x+/data!{} next/1. ", Reason::EventStreamHeadersInvalid));
    }
    let block = [text(":event-type", "x"), text("long", &"y".repeat(200))].concat();
    let body = [message(&block, b"data"), event("next", "1")].concat();
    for size in [1, 13, 99] {
        assert_eq!(feed(&mut Parser::new(50), &body, size), "x+/data. next/1. ", "in pieces of {size}");
    }
}

#[test]
fn a_wrong_byte_costs_one_message() {
    let (first, next) = (event("a", "hello"), event("next", "1"));
    for at in 12..first.len() {
        let mut bad = first.clone();
        bad[at] ^= 0x40;
        let told = feed(&mut Parser::new(100), &[&bad[..], &next].concat(), 1000);
        assert!(told.contains('!') && told.ends_with(" next/1. "), "byte {at}: {told}");
    }
    let mut bad = first.clone();
    bad[30] ^= 1;
    check(&[&bad[..], &next].concat(), &format!("a/hemlo!{} next/1. ", Reason::EventStreamChecksumInvalid));
    for at in 0..12 {
        let mut bad = first.clone();
        bad[at] ^= 1;
        check(&[&bad[..], &next].concat(), &format!("!{} next/1. ", Reason::EventStreamPreludeInvalid));
    }
}

#[test]
fn what_is_no_event_stream_is_named_once_and_the_next_message_is_found() {
    let html = b"<html>Bad Gateway</html>".to_vec();
    check(&html, &format!("!{} ", Reason::EventStreamPreludeInvalid));
    check(&[html, event("a", "1"), vec![0; 50], event("b", "2")].concat(), &{
        let reason = Reason::EventStreamPreludeInvalid;
        format!("!{reason} a/1. !{reason} b/2. ")
    });
}

#[test]
fn a_gap_whose_length_is_known_costs_the_message_that_it_is_in() {
    let (first, next) =
        (message(&[text(":event-type", "a"), text("b", "c")].concat(), b"hello"), event("next", "1"));
    let wrong = Reason::EventStreamGap;
    for (from, missing, want) in [
        (34, 1, format!("a/<1>ello!{wrong} ")),
        (35, 4, format!("a/h<4>!{wrong} ")),
        (35, 8, format!("a/h<4>!{wrong} ")),
        (39, 4, format!("a/hello!{wrong} ")),
        (42, 1, format!("a/hello!{wrong} ")),
        (32, 1, format!("a+/hello!{wrong} ")),
        (20, 14, format!("-+/hello!{wrong} ")),
        (32, 4, format!("a+/<2>llo!{wrong} ")),
        (32, 11, format!("a+/<5>!{wrong} ")),
        (34, 0, "a/hello. ".into()),
    ] {
        let mut parser = Parser::new(100);
        let mut told = Told::default();
        parser.feed(&first[..from], |piece| told.on(piece));
        parser.gap(Some(missing as u64), |piece| told.on(piece));
        parser.feed(&[&first[from + missing..], &next].concat(), |piece| told.on(piece));
        assert_eq!(told.0, format!("{want}next/1. "), "{missing} from {from} on");
    }
}

#[test]
fn after_a_gap_that_hides_where_messages_begin_the_next_one_is_found() {
    let (first, next) = (event("a", "hello"), event("next", "1"));
    for missing in [None, Some(1000), Some(u64::MAX)] {
        for (from, want) in [
            (0, String::new()),
            (5, String::new()),
            (20, String::new()),
            (30, format!("a/he!{} ", Reason::EventStreamGap)),
            (first.len() - 1, format!("a/hello!{} ", Reason::EventStreamGap)),
            (first.len(), "a/hello. ".into()),
        ] {
            let mut parser = Parser::new(100);
            let mut told = Told::default();
            parser.feed(&first[..from], |piece| told.on(piece));
            parser.gap(missing, |piece| told.on(piece));
            parser.feed(b"\0\0rest of another one", |piece| told.on(piece));
            assert_eq!(parser.finish(), Ok(()));
            parser.feed(&next, |piece| told.on(piece));
            assert_eq!(told.0, format!("{want}next/1. "), "{missing:?} at {from}");
        }
    }
}

#[test]
fn a_body_that_ends_inside_a_message_is_told_from_a_whole_one() {
    let body = event("a", "hello");
    for len in 0..=body.len() {
        let mut parser = Parser::new(100);
        feed(&mut parser, &body[..len], 100);
        let whole = len == 0 || len == body.len();
        assert_eq!(
            parser.finish(),
            if whole { Ok(()) } else { Err(Reason::EventStreamTruncated) },
            "{len} bytes"
        );
    }
}

#[test]
fn a_message_longer_than_any_is_not_believed() {
    for (total, headers) in
        [(MAX_MESSAGE + 1, 0), (15, 0), (20, 5), (MAX_MESSAGE, MAX_HEADERS + 1), (u32::MAX, 1)]
    {
        let mut prelude = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        prelude.extend(crc32fast::hash(&prelude).to_be_bytes());
        check(&prelude, &format!("!{} ", Reason::EventStreamPreludeInvalid));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_cut_gives_the_same(
        events in vec(("[a-z]{0,6}", "[a-z]{0,20}", any::<bool>()), 0..6),
        sizes in vec(1..40_usize, 1..6),
    ) {
        let body: Vec<u8> = events
            .iter()
            .flat_map(|(kind, payload, noise)| {
                let mut bytes = event(kind, payload);
                bytes.extend_from_slice(if *noise { b"\0noise" } else { b"" });
                bytes
            })
            .collect();
        let want = feed(&mut Parser::new(100), &body, 10_000);
        let mut parser = Parser::new(100);
        let mut told = Told::default();
        let mut rest = &body[..];
        for size in sizes.iter().cycle().take(1000) {
            let len = rest.len().min(*size);
            let part = take(&mut rest, len);
            parser.feed(part, |piece| told.on(piece));
        }
        prop_assert_eq!(told.0, want);
    }

    #[test]
    fn any_bytes_are_survived(
        pieces in vec((vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..60), 0..30_u64), 0..6),
        start in any::<bool>(),
    ) {
        let mut parser = Parser::new(20);
        // Between the messages, every `Head` has one `End`.
        let mut open = false;
        let mut on = |piece: Piece<'_>| match piece {
            Piece::Head { .. } => assert!(!std::mem::replace(&mut open, true)),
            Piece::End(_) => assert!(std::mem::replace(&mut open, false)),
            Piece::Payload(_) | Piece::Gap(_) => assert!(open),
            Piece::Lost(_) => assert!(!open),
        };
        if start {
            parser.feed(&RECORDED[..40], &mut on);
        }
        for (bytes, missing) in &pieces {
            parser.feed(bytes, &mut on);
            parser.gap((*missing < 29).then_some(*missing), &mut on);
        }
    }
}
