//! One rule of RFC 9113 at a time.

use super::*;

#[test]
fn rfc_9113_8_8_a_request_and_its_response() {
    let calls = [
        (Write, ask(1, "/a", true)),
        (Read, answer(1, "304", true)),
        (Write, ask(3, "/b", false)),
        (Write, data(3, "hello", true)),
        (Read, answer(3, "100", false)),
        (Read, answer(3, "200", false)),
        (Read, data(3, "world", false)),
        (Read, frame(1, END_HEADERS | END_STREAM, 3, &block(&[("grpc-status", "0")]))),
    ];
    check(&calls, &["POST /a [] 304 [] Complete", "POST /b [hello] 200 [world] Complete"]);
}

#[test]
fn rfc_9113_8_1_an_interim_response_that_ends_the_stream_is_malformed() {
    let ending = format!("POST /a [] - [] {:?}", Ending::Malformed(Reason::InterimResponseEndsStream));
    check(&[(Write, ask(1, "/a", true)), (Read, answer(1, "100", true))], &[&ending]);
}

#[test]
fn rfc_9113_8_1_trailers_are_told() {
    let mut watch = Watch::begun();
    watch.call(Write, ask(1, "/a.B/C", true));
    watch.call(Read, [answer(1, "200", false), data(1, "x", false)].concat());
    let trailers = block(&[("grpc-status", "5"), ("+grpc-message", "no")]);
    watch.call(Read, frame(1, END_HEADERS | END_STREAM, 1, &trailers));
    watch.expect(&["POST /a.B/C [] 200 [x] Complete"]);
    let want = [("grpc-status".into(), "5".into()), ("grpc-message".into(), "no".into())];
    assert_eq!(watch.recorder.seen[&0].trailers, want);
}

#[test]
fn rfc_9113_5_streams_are_told_apart_however_they_are_interleaved() {
    let count = 300;
    let number = |i: u32| 2 * i + 1;
    let mut calls: Vec<_> = (0..count).map(|i| (Write, ask(number(i), &format!("/{i}"), false))).collect();
    for round in ["a", "b"] {
        calls.extend((0..count).rev().map(|i| (Write, data(number(i), round, round == "b"))));
    }
    calls.extend((0..count).rev().map(|i| (Read, answer(number(i), "200", false))));
    for round in 0..3 {
        calls.extend((0..count).map(|i| (Read, data(number(i), &format!("{i}."), round == 2))));
    }
    let want: Vec<_> = (0..count).map(|i| format!("POST /{i} [ab] 200 [{i}.{i}.{i}.] Complete")).collect();
    check(&calls, &want.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn rfc_9113_6_padding_priority_and_continuation() {
    let fields = block(&[(":method", "POST"), (":path", "/p"), ("a", "b")]);
    let (first, rest) = fields.split_at(5);
    let headers = [&[2, 0, 0, 0, 0, 9][..], first, &[0, 0]].concat();
    let padded = [&[3][..], b"body", &[0; 3]].concat();
    let calls = [
        (Write, frame(1, 0x28, 1, &headers)),
        (Write, frame(9, 0, 1, rest)),
        (Write, frame(9, END_HEADERS, 1, b"")),
        (Write, frame(0, 0x9, 1, &padded)),
        (Read, answer(1, "200", false)),
        (Read, frame(0, 0x8, 1, &[2, 0, 0])),
        (Read, frame(0, 0x9, 1, &[0])),
    ];
    check(&calls, &["POST /p [body] 200 [] Complete"]);
}

#[test]
fn rfc_9113_6_frames_that_carry_no_exchange_are_passed_over() {
    let noise = [
        frame(2, 0, 1, &[0; 5]),
        frame(4, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0]),
        frame(4, 1, 0, b""),
        frame(6, 0, 0, &[7; 8]),
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(8, 0, 1, &[0, 0, 1, 0]),
        frame(0xbe, 0xff, 77, b"unknown"),
        frame(7, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, b'x']),
    ]
    .concat();
    let calls = [
        (Write, [&noise[..], &ask(1, "/a", true)].concat()),
        (Read, [&noise[..], &answer(1, "200", false), &noise, &data(1, "x", true)].concat()),
    ];
    check(&calls, &["POST /a [] 200 [x] Complete"]);
}

#[test]
fn rfc_9113_6_6_a_pushed_response_is_no_exchange() {
    let promise = [&[0, 0, 0, 2][..], &block(&[(":method", "GET"), (":path", "/pushed")])].concat();
    let calls = [
        (Write, ask(1, "/a", true)),
        (Read, frame(5, END_HEADERS, 1, &promise)),
        (Read, answer(1, "200", true)),
        (Read, answer(2, "200", false)),
        (Read, data(2, "pushed", true)),
    ];
    check(&calls, &["POST /a [] 200 [] Complete"]);
}

#[test]
fn rfc_9113_6_4_and_6_8_streams_that_are_reset_or_refused_are_cut() {
    let reset = |stream| frame(3, 0, stream, &[0, 0, 0, 8]);
    let calls = [
        (Write, [ask(1, "/1", true), ask(3, "/3", true), ask(5, "/5", false), ask(7, "/7", true)].concat()),
        (Read, [answer(1, "200", false), data(1, "some", false)].concat()),
        (Write, reset(1)),
        (Read, data(1, "more", false)),
        // A response before the request's end (RFC 9113 §8.1).
        (Read, [answer(5, "413", true), reset(5)].concat()),
        (Read, frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])),
        (Read, answer(3, "200", true)),
    ];
    let want = [
        "POST /1 [] 200 [some] ClosedLocally",
        "POST /3 [] 200 [] Complete",
        "POST /5 [… 413 [] Complete",
        "POST /7 [] - [] Cut",
    ];
    check(&calls, &want);
}

#[test]
fn rfc_9113_8_1_1_a_response_of_the_length_that_was_announced_is_whole_although_it_is_left() {
    let announced = |stream, length| {
        frame(1, END_HEADERS, stream, &block(&[(":status", "200"), ("content-length", length)]))
    };
    let reset = |stream| frame(3, 0, stream, &[0, 0, 0, 8]);
    for (length, content, ending) in [
        ("4", "whole"[..4].to_owned(), "Complete"),
        ("0", String::new(), "Complete"),
        ("5", "some".into(), "ClosedLocally"),
        ("3", "more".into(), "ClosedLocally"),
        ("4, 5", "some".into(), "ClosedLocally"),
    ] {
        let calls = [
            (Write, ask(1, "/1", true)),
            (Read, announced(1, length)),
            (Read, data(1, &content, false)),
            (Write, reset(1)),
            (Read, data(1, "", true)),
        ];
        check(&calls, &[&format!("POST /1 [] 200 [{content}] {ending}")]);
    }
}

#[test]
fn a_stream_that_the_sink_finds_finished_needs_no_end() {
    let mut watch = Watch::begun();
    watch.recorder.terminator = Some("[DONE]");
    watch.call(Write, ask(1, "/a", true)).call(Read, answer(1, "200", false));
    watch.call(Read, data(1, "data: [DONE]", false)).expect(&["POST /a [] 200 [data: [DONE]] Complete"]);
    watch.call(Read, data(1, "more", false)).call(Write, frame(3, 0, 1, &[0, 0, 0, 8])).close();
    watch.expect(&["POST /a [] 200 [data: [DONE]] Complete"]);
    assert!(watch.recorder.dropped.is_empty());
}

#[test]
fn a_connection_that_closes_cuts_what_is_open() {
    let mut watch = Watch::begun();
    watch.call(Write, [ask(1, "/a", true), ask(3, "/b", true)].concat()).call(Read, answer(1, "200", false));
    watch.close().expect(&["POST /a [] 200 [] Cut", "POST /b [] - [] Cut"]);
}

#[test]
fn a_server_that_closes_its_side_ends_streams_that_never_said_so() {
    let mut watch = Watch::begun();
    watch.call(Write, [ask(1, "/a", true), ask(3, "/b", true)].concat());
    watch.call(Read, [answer(1, "200", false), data(1, "some", false)].concat());
    watch.connection.half_close(Write, Nanos(8), &mut watch.recorder);
    watch.call(Read, [answer(3, "200", false), data(3, "all", true)].concat());
    watch.expect(&["POST /a [] 200 [some] -", "POST /b [] 200 [all] Complete"]);
    watch.connection.half_close(Read, Nanos(9), &mut watch.recorder);
    watch.expect(&["POST /a [] 200 [some] Cut", "POST /b [] 200 [all] Complete"]);
}

#[test]
fn streams_without_an_end_are_stale_in_time_and_their_place_is_free() {
    let mut watch = Watch::begun();
    watch.connection = Connection::new(Limits { streams: 2, ..Limits::default() });
    watch.offsets = [0; 2];
    watch.call(Write, [PREFACE, &settings()].concat()).call(Read, settings());
    for round in 0..3_u64 {
        let first = (round * 4 + 1) as u32;
        watch.call(Write, [ask(first, "/a", true), ask(first + 2, "/b", true)].concat());
        watch.call(Read, [answer(first, "200", false), data(first, "some", false)].concat());
        watch.connection.sweep(Nanos(watch.now + 100), Nanos(99), &mut watch.recorder);
    }
    let lines = watch.recorder.lines();
    assert_eq!(lines.len(), 6);
    assert!(lines.iter().all(|line| line.ends_with("Stale")), "{lines:?}");
}

#[test]
fn rfc_7540_3_2_an_upgraded_request_is_answered_on_stream_1() {
    let request = b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                    HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    for early in [false, true] {
        let mut watch = Watch::new(Role::Client);
        watch.call(Write, request);
        let preface = [PREFACE, &settings()].concat();
        if early {
            watch
                .call(Write, &preface)
                .call(Read, [&switch[..], &settings(), &answer(1, "200", false)].concat());
        } else {
            watch.call(Read, switch).call(Read, [settings(), answer(1, "200", false)].concat());
            watch.call(Write, &preface);
        }
        watch
            .call(Read, data(1, "hi", true))
            .call(Write, ask(3, "/b", true))
            .call(Read, answer(3, "204", true));
        watch.expect(&["GET /up [] 200 [hi] Complete", "POST /b [] 204 [] Complete"]);
        assert!(watch.recorder.dropped.is_empty());
    }
}

#[test]
fn what_breaks_a_rule_is_named_and_the_connection_goes_on() {
    for (broken, reason) in [
        (frame(0, 0, 0, b"x"), Reason::FrameStreamInvalid),
        (frame(6, 0, 0, b"x"), Reason::FrameSizeInvalid),
        (frame(9, 4, 1, b""), Reason::ContinuationInvalid),
        ([frame(1, 0, 1, b""), data(1, "", false)].concat(), Reason::ContinuationInvalid),
        (frame(0, 8, 1, &[9]), Reason::PaddingInvalid),
        (frame(1, 4, 1, &[0xff, 0x00]), Reason::HpackIndexInvalid),
    ] {
        let mut watch = Watch::begun();
        watch.call(Write, broken);
        assert!(watch.recorder.dropped.contains_key(&reason), "{reason}: {:?}", watch.recorder.dropped);
        let fields = block(&[(":method", "GET"), (":path", "/next")]);
        watch.call(Write, frame(1, END_HEADERS | END_STREAM, 5, &fields)).call(Read, answer(5, "200", true));
        assert!(watch.recorder.lines().contains(&"GET /next [] 200 [] Complete".into()), "{reason}");
    }
}

#[test]
fn a_body_that_nobody_wants_is_skipped_and_a_coding_is_undone() {
    use std::io::Write as _;
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coder.write_all(b"plain text").unwrap();
    let coded = coder.finish().unwrap();
    let head = block(&[(":status", "200"), ("content-encoding", "gzip")]);
    let calls = [
        (Write, ask(1, "/z", true)),
        (Read, frame(1, END_HEADERS, 1, &head)),
        (Read, frame(0, 0, 1, &coded[..9])),
        (Read, frame(0, END_STREAM, 1, &coded[9..])),
    ];
    check(&calls, &["POST /z [] 200 [plain text] Complete"]);
    let mut watch = Watch::begun();
    watch.recorder.skip = Some("/z");
    for (dir, bytes) in &calls {
        watch.call(*dir, bytes);
    }
    watch.expect(&["POST /z [] 200 [] Complete"]);
}
