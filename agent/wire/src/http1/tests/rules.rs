//! Rules of RFC 9110 and RFC 9112, one by one.

use super::*;

#[test]
fn rfc_9112_6_3_the_length_rules_find_the_end() {
    check(
        &[
            (Write, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"),
            (Read, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde"),
            (
                Write,
                "POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\nT: 1\r\n\r\n",
            ),
            (Read, "HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n3\r\ndef\r\n0\r\n\r\n"),
            (Write, "GET /c HTTP/1.1\r\n\r\n"),
            (
                Read,
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            ),
            (Write, "GET /d HTTP/1.1\r\n\r\n"),
            (Read, "HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\nContent-Length: 4\r\n\r\nlast"),
        ],
        &[
            "POST /a [abc] 200 [de] Complete",
            "POST /b [abc] 200 [def] Complete",
            "GET /c [] 200 [x] Complete",
            "GET /d [] 200 [last] Complete",
        ],
    );
}

#[test]
fn rfc_9112_6_3_responses_without_a_body() {
    check(
        &[
            (Write, "HEAD /a HTTP/1.1\r\n\r\n"),
            (Read, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"),
            (Write, "GET /b HTTP/1.1\r\n\r\n"),
            (Read, "HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n"),
            (Write, "DELETE /c HTTP/1.1\r\n\r\n"),
            (Read, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (Write, "HEAD /d HTTP/1.1\r\n\r\n"),
            (Read, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"),
        ],
        &[
            "HEAD /a [] 200 [] Complete",
            "GET /b [] 304 [] Complete",
            "DELETE /c [] 204 [] Complete",
            "HEAD /d [] 200 [] Complete",
        ],
    );
}

#[test]
fn rfc_9112_9_3_2_pipelined_requests_are_answered_in_order() {
    check(
        &[
            (
                Write,
                "GET /a HTTP/1.1\r\n\r\nHEAD /b HTTP/1.1\r\n\r\nPOST /c HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /d HTTP/1.1\r\n\r\n",
            ),
            (
                Read,
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 201 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 202 OK\r\nContent-Length: 1\r\n\r\n3",
            ),
            (Read, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        ],
        &[
            "GET /a [] 200 [1] Complete",
            "HEAD /b [] 201 [] Complete",
            "POST /c [x] 202 [3] Complete",
            "GET /d [] 404 [] Complete",
        ],
    );
}

#[test]
fn rfc_9110_15_2_interim_responses_are_passed_over() {
    check(
        &[
            (Write, "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
            (Read, "HTTP/1.1 100 Continue\r\n\r\n"),
            (Write, "hi"),
            (Read, "HTTP/1.1 102 Processing\r\nX: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
            (Read, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ],
        &["POST /a [hi] 200 [] Complete"],
    );
}

#[test]
fn rfc_9110_10_1_1_a_final_answer_to_expect_spares_the_body() {
    let spared = [
        (Write, "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
        (Read, "HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno"),
    ];
    check(&spared, &["POST /a [… 417 [no] Complete"]);
    let next = (Write, "POST /b HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    let refused = (Read, "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    let last = (Write, "GET /c HTTP/1.1\r\n\r\n");
    let answer = (Read, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    check_calls(
        &[spared[0], spared[1], next, refused, last, answer],
        &["POST /a [… 417 [no] Complete", "POST /b [… 401 [] Complete", "GET /c [] 200 [] Complete"],
    );
    // The client may send it all the same: it belongs to nobody, and the next request is in sync.
    check(
        &[spared[0], spared[1], (Write, "12345"), last, answer],
        &["POST /a [… 417 [no] Complete", "GET /c [] 200 [] Complete"],
    );
}

#[test]
fn an_answer_before_the_request_is_whole_waits_for_it() {
    let early = [
        (Write, "POST /a HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc"),
        (Read, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"),
    ];
    check(&[early[0], early[1], (Write, "def")], &["POST /a [abcdef] 413 [no] Complete"]);
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, early[0].1).call(Read, early[1].1).expect(&["POST /a [abc… 413 [no] -"]);
    watch.close(Ending::Cut).expect(&["POST /a [abc… 413 [no] Complete"]);
    assert_eq!(watch.recorder.seen[&0].times, [Some(1), Some(2), Some(2)]);
}

#[test]
fn an_answer_that_overtakes_its_request_is_paired() {
    for role in [Role::Client, Role::Server] {
        for size in [1, 10, 1000] {
            let mut watch = Watch::new(role);
            let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde";
            watch.now = 5;
            answer.chunks(size).for_each(|piece| {
                watch.piece(Read, piece);
            });
            watch.expect(&[]);
            watch.now = 4;
            b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".chunks(size).for_each(|piece| {
                watch.piece(Write, piece);
            });
            watch.expect(&["POST /a [abc] 200 [de] Complete"]);
            assert_eq!(watch.recorder.seen[&0].times, [Some(4), Some(5), Some(5)]);
        }
    }
}

#[test]
fn an_answer_to_an_unseen_request_is_not_paired_with_a_later_one() {
    check_calls(
        &[
            (Read, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde"),
            (Write, "GET /a HTTP/1.1\r\n\r\n"),
            (Read, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        ],
        &["GET /a [] 404 [] Complete"],
    );
    let mut watch = Watch::new(Role::Client);
    watch.call(Read, "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n");
    for _ in 0..20 {
        watch.call(Read, "x".repeat(1000));
    }
    watch.call(Write, "GET /a HTTP/1.1\r\n\r\n").call(Read, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    watch.expect(&["GET /a [] 404 [] Complete"]);
    assert!(watch.recorder.dropped[&Reason::ResponseWithoutRequest] > 16_000);
}

#[test]
fn rfc_9112_6_3_a_body_without_a_length_ends_with_the_connection() {
    let calls = [(Write, "GET /a HTTP/1.0\r\n\r\n"), (Read, "HTTP/1.0 200 OK\r\n\r\nabc"), (Read, "def")];
    for role in [Role::Client, Role::Server] {
        for (end, want) in [
            (Ending::Cut, "GET /a [] 200 [abcdef] Complete"),
            (Ending::ProcessExit, "GET /a [] 200 [abcdef] ProcessExit"),
            (Ending::AgentStop, "GET /a [] 200 [abcdef] AgentStop"),
        ] {
            let mut watch = Watch::new(role);
            calls.iter().for_each(|(dir, bytes)| {
                watch.call(*dir, bytes);
            });
            watch.expect(&["GET /a [] 200 [abcdef] -"]).close(end).expect(&[want]);
        }
        let mut watch = Watch::new(role);
        calls.iter().for_each(|(dir, bytes)| {
            watch.call(*dir, bytes);
        });
        watch.half_close(Read).expect(&["GET /a [] 200 [abcdef] Complete"]).close(Ending::ProcessExit);
    }
}

#[test]
fn rfc_9112_8_a_message_that_is_not_whole_at_the_end_is_cut() {
    let request = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab";
    for (calls, want) in [
        (&[(Write, request)][..], "POST /a [… - [] Cut"),
        (&[(Write, request), (Write, "abc")], "POST /a [abc] - [] Cut"),
        (&[(Write, request), (Write, "abc"), (Read, "HTTP/1.1 200")], "POST /a [abc] - [] Cut"),
        (&[(Write, request), (Write, "abc"), (Read, answer)], "POST /a [abc] 200 [ab] Cut"),
    ] {
        for half in [false, true] {
            let mut watch = Watch::new(Role::Client);
            calls.iter().for_each(|(dir, bytes)| {
                watch.call(*dir, bytes);
            });
            if half {
                watch.half_close(Read);
            }
            watch.close(Ending::Cut).expect(&[want]);
        }
    }
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, request).half_close(Write).call(Read, answer).call(Read, "cdefghi");
    watch.expect(&["POST /a [… 200 [abcdefghi] Complete"]);
}

#[test]
fn rfc_9112_7_1_2_trailers_of_a_response_are_told() {
    let calls = [
        (Write, "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n"),
        (
            Read,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Time: 9\nServer-Timing : a, b\r\n\r\n",
        ),
        (Write, "GET /b HTTP/1.1\r\n\r\n"),
        (Read, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno field\r\n\r\n"),
    ];
    check(&calls, &["POST /a [x] 200 [ok] Complete", "GET /b [] 200 [] Complete"]);
    for size in [1, 5, usize::MAX] {
        let mut watch = Watch::new(Role::Client);
        for (dir, bytes) in calls {
            for piece in bytes.as_bytes().chunks(size.min(bytes.len())) {
                watch.call(dir, piece);
            }
        }
        let trailers = |id| watch.recorder.seen[&id].trailers.clone();
        let want = [("X-Time", "9"), ("Server-Timing", "a, b")];
        assert_eq!(trailers(0), want.map(|(n, v)| (n.to_owned(), v.to_owned())), "cut every {size}");
        assert_eq!(trailers(1), []);
        assert_eq!(watch.recorder.dropped[&Reason::HeaderFieldInvalid], 12);
    }
}

#[test]
fn rfc_9110_9_3_6_a_tunnel_is_looked_at_anew() {
    check(
        &[
            (Write, "CONNECT api:443 HTTP/1.1\r\nHost: api:443\r\n\r\n"),
            (Read, "HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n"),
            (Write, "GET /a HTTP/1.1\r\n\r\n"),
            (Read, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ],
        &["CONNECT api:443 [] 200 [] Complete", "GET /a [] 200 [ok] Complete"],
    );
    check(
        &[
            (Write, "CONNECT api:443 HTTP/1.1\r\n\r\n"),
            (Read, "HTTP/1.1 407 Who\r\nContent-Length: 2\r\n\r\nno"),
            (Write, "GET /a HTTP/1.1\r\n\r\n"),
        ],
        &["CONNECT api:443 [] 407 [no] Complete", "GET /a [] - [] -"],
    );
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, "CONNECT api:443 HTTP/1.1\r\n\r\n");
    // What the client sends next has overtaken the answer.
    watch.now = 9;
    watch.piece(Write, b"\x16\x03\x01");
    watch.now = 8;
    watch.piece(Read, b"HTTP/1.1 200 OK\r\n\r\n");
    watch.expect(&["CONNECT api:443 [] 200 [] Complete"]);
    assert_eq!(watch.connection.protocol(), Protocol::NotHttp);
}

#[test]
fn rfc_9110_7_8_after_a_switch_of_protocols_nothing_is_read() {
    let upgrade = (Write, "GET /a HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut watch = Watch::new(Role::Client);
    watch.call(upgrade.0, upgrade.1).call(Read, "HTTP/1.1 101 Switching Protocols\r\n\r\n\x01\x02");
    watch.call(Write, "GET /b HTTP/1.1\r\n\r\n");
    watch.expect(&["GET /a [] 101 [] Complete"]);
    assert_eq!(watch.connection.protocol(), Protocol::NotHttp);
    check(
        &[
            upgrade,
            (Read, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"),
            (Write, "GET /b HTTP/1.1\r\n\r\n"),
            (Read, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ],
        &["GET /a [] 200 [no] Complete", "GET /b [] 200 [] Complete"],
    );
}

#[test]
fn rfc_9112_2_2_blank_lines_and_bare_lf_are_tolerated() {
    check(
        &[
            (Write, "\r\n\r\nPOST /a HTTP/1.1\nHost: h\nContent-Length: 1\n\nx\r\n\n"),
            (Read, "HTTP/1.1 200\nTransfer-Encoding: chunked\n\n1\ny\n0\n\n\r\n"),
            (Write, "GET /b HTTP/1.1\r\n\n"),
            (Read, "HTTP/1.1 204 \r\n\r\n"),
        ],
        &["POST /a [x] 200 [y] Complete", "GET /b [] 204 [] Complete"],
    );
}

#[test]
fn rfc_9112_5_2_folded_fields_and_many_fields_are_read() {
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, "GET /a HTTP/1.1\r\nX: a\r\n  b\r\n\tc\r\nHost : h\r\nEmpty:\r\n\r\n");
    let fields = |watch: &Watch, id| watch.recorder.seen[&id].fields.clone();
    let want = [("X", "a    b  \tc"), ("Host", "h"), ("Empty", "")];
    assert_eq!(fields(&watch, 0), want.map(|(n, v)| (n.to_owned(), v.to_owned())));
    watch.call(Read, "HTTP/1.1 204 \r\n\r\n");
    let many: String = (0..500).map(|n| format!("X-{n}: {n}\r\n")).collect();
    watch.call(Write, format!("GET /b HTTP/1.1\r\n{many}\r\n"));
    assert_eq!(fields(&watch, 1).len(), 500);
    assert_eq!(fields(&watch, 1)[499], ("X-499".to_owned(), "499".to_owned()));
}

#[test]
fn rfc_9112_3_2_every_form_of_target_is_kept() {
    for (line, host, want) in [
        ("GET /a?b=c", "Host: h:1\r\n", Some("h:1")),
        ("GET http://user:pw@h:2/a?x=://", "", Some("h:2")),
        ("GET https://h", "", Some("h")),
        ("OPTIONS *", "Host: h\r\n", Some("h")),
        ("CONNECT h:443", "", Some("h:443")),
        ("GET /redirect?to=http://x/", "", None),
    ] {
        let mut watch = Watch::new(Role::Client);
        watch.call(Write, format!("{line} HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(watch.recorder.seen[&0].request, line);
        assert_eq!(watch.recorder.seen[&0].authority.as_deref(), want, "{line}");
    }
}

#[test]
fn times_are_those_of_the_first_and_last_bytes() {
    let mut watch = Watch::new(Role::Client);
    watch
        .call(Write, "\r\n")
        .call(Write, "PO")
        .call(Write, "ST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
        .call(Write, "x");
    watch
        .call(Read, "HT")
        .call(Read, "TP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .call(Read, "1\r\na");
    watch.call(Read, "\r\n0\r\n").call(Read, "\r\n").expect(&["POST / [x] 200 [a] Complete"]);
    assert_eq!(watch.recorder.seen[&0].times, [Some(2), Some(5), Some(9)]);
}

#[test]
fn a_response_is_over_when_the_sink_says_so() {
    let mut watch = Watch::new(Role::Client);
    watch.recorder.terminator = Some("[DONE]");
    watch.call(Write, "POST /a HTTP/1.1\r\n\r\n");
    watch.call(Read, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    watch.call(Read, "6\r\n[DONE]\r\n").expect(&["POST /a [] 200 [abc[DONE]] Complete"]);
    watch.call(Read, "4\r\nmore\r\n0\r\n\r\n").call(Write, "GET /b HTTP/1.1\r\n\r\n");
    watch.call(Read, "HTTP/1.1 204 \r\n\r\n").close(Ending::Cut);
    watch.expect(&["POST /a [] 200 [abc[DONE]] Complete", "GET /b [] 204 [] Complete"]);
    assert_eq!(watch.recorder.seen[&0].times[2], Some(3));
}

#[test]
fn bodies_that_nobody_wants_are_skipped_in_step() {
    let mut watch = Watch::new(Role::Client);
    watch.recorder.skip = Some("/skip");
    watch.call(Write, "POST /skip HTTP/1.1\r\nContent-Length: 3\r\nContent-Encoding: what\r\n\r\nabc");
    watch.call(Read, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx");
    watch.call(Write, "GET /b HTTP/1.1\r\n\r\n").call(Read, "HTTP/1.1 204 \r\n\r\n");
    watch.expect(&["POST /skip [] 200 [] Complete", "GET /b [] 204 [] Complete"]);
}

#[test]
fn stale_exchanges_end_once_and_keep_their_place() {
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, "GET /a HTTP/1.1\r\n\r\n");
    watch.connection.sweep(Nanos(100), Nanos(99), &mut watch.recorder);
    watch.expect(&["GET /a [] - [] -"]);
    watch.connection.sweep(Nanos(100), Nanos(98), &mut watch.recorder);
    watch.expect(&["GET /a [] - [] Stale"]);
    watch.call(Write, "GET /b HTTP/1.1\r\n\r\n");
    watch.call(
        Read,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nb",
    );
    watch.expect(&["GET /a [] - [] Stale", "GET /b [] 404 [b] Complete"]);
}

#[test]
fn rfc_9110_8_4_a_body_that_cannot_be_decoded_keeps_its_exchange_in_step() {
    for (coding, body, why) in [
        ("lzw", "abc", Reason::ContentCodingUnknown),
        ("gzip", "abc", Reason::ContentCodingCorrupt),
        ("br, br, br, br", "abc", Reason::TooManyContentCodings),
        ("gzip", "\x1f", Reason::ContentCodingTruncated),
    ] {
        let length = body.len();
        let coded = format!("Content-Encoding: {coding}\r\nContent-Length: {length}\r\n\r\n{body}");
        let (ask, answer) = (format!("POST /a HTTP/1.1\r\n{coded}"), format!("HTTP/1.1 200 OK\r\n{coded}"));
        let ending = format!("Undecodable({why:?})");
        check(
            &[
                (Write, &ask),
                (Read, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
                (Write, "POST /b HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"),
                (Read, &answer),
                (Write, "GET /c HTTP/1.1\r\n\r\n"),
                (Read, "HTTP/1.1 204 \r\n\r\n"),
            ],
            &[
                &format!("POST /a [] 200 [ok] {ending}"),
                &format!("POST /b [x] 200 [] {ending}"),
                "GET /c [] 204 [] Complete",
            ],
        );
    }
}

#[test]
fn rfc_9112_7_2_a_transfer_coding_below_chunked_is_undone() {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"hello").unwrap();
    let coded = gzip.finish().unwrap();
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, "GET /a HTTP/1.1\r\n\r\n");
    watch.call(Read, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
    for chunk in coded.chunks(7) {
        watch.call(Read, format!("{:x}\r\n", chunk.len())).call(Read, chunk).call(Read, "\r\n");
    }
    watch.call(Read, "0\r\n\r\n").expect(&["GET /a [] 200 [hello] Complete"]);
}
