//! Bytes that are missing, joined late, or not HTTP: exchanges are incomplete, never wrong.

use super::*;

const ASK: &str = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
const ASK_AGAIN: &str = "GET /b HTTP/1.1\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What happens to a connection.
enum Do<'a> {
    Call(Direction, &'a str),
    Lose(Direction, u64),
    Close,
}

use Do::{Call as C, Close, Lose};

#[track_caller]
fn check(steps: &[Do<'_>], want: &[&str]) {
    for (role, told) in [(Role::Client, false), (Role::Client, true), (Role::Server, false)] {
        let mut watch = Watch::new(role);
        for step in steps {
            match *step {
                C(dir, bytes) => watch.call(dir, bytes),
                Lose(dir, len) if told => watch.tell_loss(dir, len),
                Lose(dir, len) => watch.lose(dir, len),
                Close => watch.close(Ending::Cut),
            };
        }
        assert_eq!(watch.recorder.lines(), want, "{role:?}, told of the loss: {told}");
    }
}

#[test]
fn a_gap_inside_a_body_of_known_length_is_counted_and_keeps_step() {
    check(
        &[
            C(Write, "POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\n012"),
            Lose(Write, 4),
            C(Write, "78"),
            C(Read, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n01"),
            Lose(Read, 3),
            C(Read, "5"),
            C(Write, ASK_AGAIN),
            C(Read, ANSWER),
        ],
        &["POST /a [012<4>78] 200 [01<3>5] Complete", "GET /b [] 200 [ok] Complete"],
    );
    // The same within a chunk, and in a body that ends with the connection.
    check(
        &[
            C(Write, ASK),
            C(Read, CHUNKS),
            C(Read, "A\r\n01"),
            Lose(Read, 7),
            C(Read, "9\r\n0\r\n\r\n"),
            C(Write, ASK_AGAIN),
            C(Read, "HTTP/1.1 200 OK\r\n\r\nab"),
            Lose(Read, 1000),
            C(Read, "yz"),
            Close,
        ],
        &["POST /a [abc] 200 [01<7>9] Complete", "GET /b [] 200 [ab<1000>yz] Complete"],
    );
}

#[test]
fn a_gap_up_to_the_end_of_a_body_ends_it() {
    check(
        &[
            C(Write, ASK),
            C(Read, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n01"),
            Lose(Read, 4),
            C(Write, ASK_AGAIN),
            C(Read, ANSWER),
        ],
        &["POST /a [abc] 200 [01<4>] Complete", "GET /b [] 200 [ok] Complete"],
    );
    check(
        &[
            C(Write, "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\n"),
            Lose(Write, 3),
            C(Read, ANSWER),
            C(Write, ASK_AGAIN),
        ],
        &["POST /a [<3>] 200 [ok] Complete", "GET /b [] - [] -"],
    );
}

#[test]
fn a_gap_over_a_whole_exchange_leaves_the_others_right() {
    check(
        &[
            C(Write, "POST /a HTTP/1.1\r\nContent-Length: 6\r\n\r\nab"),
            Lose(Write, 100),
            C(Read, ANSWER),
            // The answer to the request that was lost.
            C(Read, "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"),
            C(Write, ASK_AGAIN),
            C(Read, ANSWER),
        ],
        &["POST /a [ab<4>] 200 [ok] Complete", "GET /b [] 200 [ok] Complete"],
    );
}

#[test]
fn a_gap_that_hides_the_end_of_a_response_loses_what_is_due() {
    for (seen, want) in [
        (CHUNKS, "POST /a [abc] 200 [<?>] Lost"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n01", "POST /a [abc] 200 [01<?>] Lost"),
        ("HTTP/1.1 20", "POST /a [abc] - [] Lost"),
        ("", "POST /a [abc] - [] Lost"),
    ] {
        // What is left may be of that response or of one to a request that was lost, too.
        for rest in ["0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "of a head\r\n\r\n", ANSWER] {
            let calls = [C(Write, ASK), C(Read, seen), Lose(Read, 50), C(Read, rest)];
            check(&calls, &[want]);
        }
        check(
            &[
                C(Write, ASK),
                C(Read, seen),
                Lose(Read, 50),
                C(Read, "x"),
                C(Write, ASK_AGAIN),
                C(Read, ANSWER),
            ],
            &[want, "GET /b [] 200 [ok] Complete"],
        );
    }
}

#[test]
fn a_gap_that_is_noticed_after_the_next_request_is_not_guessed_around() {
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, ASK).lose(Read, 40).call(Write, ASK_AGAIN).call(Read, ANSWER);
    watch.expect(&["POST /a [abc] - [] Lost", "GET /b [] - [] Lost"]);
    watch.call(Write, ASK_AGAIN).call(Read, ANSWER);
    assert_eq!(watch.recorder.lines()[2], "GET /b [] 200 [ok] Complete");
    // Told in time, it costs one exchange only.
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, ASK).tell_loss(Read, 40).call(Write, ASK_AGAIN).call(Read, ANSWER);
    watch.expect(&["POST /a [abc] - [] Lost", "GET /b [] 200 [ok] Complete"]);
}

#[test]
fn a_gap_among_pipelined_answers_pairs_nothing_by_guess() {
    let ask = C(Write, "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    check(
        &[ask, Lose(Read, 40), C(Read, ANSWER), C(Write, ASK_AGAIN), C(Read, ANSWER)],
        &["GET /1 [] - [] Lost", "GET /2 [] - [] Lost", "GET /b [] 200 [ok] Complete"],
    );
    let ask = C(Write, "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    let part = C(Read, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123");
    check(
        &[ask, part, Lose(Read, 50), C(Read, ANSWER)],
        &["GET /1 [] 200 [0123<6>] Complete", "GET /2 [] - [] Lost"],
    );
}

#[test]
fn a_request_whose_end_is_lost_still_gets_its_answer() {
    check(
        &[
            C(Write, "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
            Lose(Write, 10),
            C(Read, ANSWER),
            C(Write, ASK_AGAIN),
            C(Read, ANSWER),
        ],
        &["POST /a [ab<?>… 200 [ok] Complete", "GET /b [] 200 [ok] Complete"],
    );
    check(
        &[C(Write, "POST /a HT"), Lose(Write, 2), C(Write, "/1.1\r\n\r\n"), C(Write, ASK_AGAIN)],
        &["GET /b [] - [] -"],
    );
}

#[test]
fn after_a_gap_nothing_more_of_a_coded_body_follows() {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"first").unwrap();
    gzip.flush().unwrap();
    let begin = gzip.get_ref().len();
    gzip.write_all(b"second").unwrap();
    let coded = gzip.finish().unwrap();
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, ASK);
    watch.call(
        Read,
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", coded.len()),
    );
    watch.call(Read, &coded[..begin]).lose(Read, 1).call(Read, &coded[begin + 1..]);
    watch.expect(&["POST /a [abc] 200 [first<1>] Complete"]);
}

#[test]
fn a_connection_that_is_joined_late_is_skipped_to_the_next_message() {
    check(
        &[
            C(Read, "and the middle of a body, HTTP/1.1 200 OK\r\n\r\n"),
            C(Write, "more, POST / HTTP/1.1\r\n\r\n"),
            C(Write, ASK),
            C(Read, "the rest of an answer"),
            C(Read, ANSWER),
        ],
        &["POST /a [abc] 200 [ok] Complete"],
    );
    // What looks like a start at first, but is none.
    check(
        &[
            C(Write, "GET me out"),
            C(Write, "HTTP/1.1 is a protocol\r\n"),
            C(Write, "HTTP/1.1 200 is a status, but of a response on the other side"),
            C(Write, "P"),
            C(Write, ASK),
        ],
        &["POST /a [abc] - [] -"],
    );
}

#[test]
fn a_rule_that_breaks_is_named_and_the_next_message_is_found() {
    #[track_caller]
    fn request(head: &str, body: &str, reason: Reason) {
        let whole = format!("{head}\r\n\r\n{body}");
        let mut watch = Watch::new(Role::Client);
        watch.call(Write, "GET /1 HTTP/1.1\r\n\r\n").call(Read, ANSWER).call(Write, &whole);
        watch.call(Read, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
        watch.call(Write, ASK_AGAIN).call(Read, ANSWER);
        let lines = watch.recorder.lines();
        assert_eq!(lines.last().unwrap(), "GET /b [] 200 [ok] Complete", "{whole:?}");
        let named = lines.len() == 3 && lines[1].ends_with(&format!("Malformed({reason:?})"));
        assert!(
            named || watch.recorder.dropped.contains_key(&reason),
            "{whole:?}: {lines:?} {:?}",
            watch.recorder.dropped
        );
        assert_eq!(watch.connection.protocol(), Protocol::Http1);
    }
    let long = "x".repeat(66_000);
    request("no http at all", "", Reason::StartLineInvalid);
    request("GET / HTTP/2.0", "", Reason::StartLineInvalid);
    request("GET  HTTP/1.1", "", Reason::StartLineInvalid);
    request("GET /a b HTTP/1.1", "", Reason::StartLineInvalid);
    request("GET /\x01 HTTP/1.1", "", Reason::StartLineInvalid);
    request("G@T / HTTP/1.1", "", Reason::StartLineInvalid);
    request("\x16\x03\x01\x02", "", Reason::StartLineInvalid);
    request("HTTP/1.1 200 OK\r\nContent-Length: 0", "", Reason::MessageFromWrongSide);
    request("GET / HTTP/1.1\r\nno colon", "", Reason::HeaderFieldInvalid);
    request("GET / HTTP/1.1\r\n: no name", "", Reason::HeaderFieldInvalid);
    request("GET / HTTP/1.1\r\nb@d: x", "", Reason::HeaderFieldInvalid);
    request(&format!("GET / HTTP/1.1\r\nX: {long}"), "", Reason::HeadTooLong);
    request(&format!("GET /{long} HTTP/1.1"), "", Reason::HeadTooLong);
    request("POST / HTTP/1.1\r\nContent-Length: 3, 4", "", Reason::ContentLengthInvalid);
    request("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4", "", Reason::ContentLengthInvalid);
    request("POST / HTTP/1.1\r\nContent-Length: +3", "", Reason::ContentLengthInvalid);
    request("POST / HTTP/1.1\r\nContent-Length:", "", Reason::ContentLengthInvalid);
    request("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999", "", Reason::ContentLengthInvalid);
    request("POST / HTTP/1.1\r\nTransfer-Encoding: gzip", "", Reason::TransferEncodingInvalid);
    request("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", "zz\r\n", Reason::ChunkSizeInvalid);
    request("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", "1\r\nabc", Reason::ChunkEndInvalid);
    request("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", &format!("1;{long}"), Reason::HeadTooLong);
}

#[test]
fn a_response_that_is_no_http_ends_its_exchange() {
    for (answer, reason) in [
        ("HTTP/1.1 20x OK\r\n\r\n", Reason::StartLineInvalid),
        ("HTTP/3 200 OK\r\n\r\n", Reason::StartLineInvalid),
        ("garbage\r\n\r\n", Reason::StartLineInvalid),
        ("GET / HTTP/1.1\r\n\r\n", Reason::MessageFromWrongSide),
        ("HTTP/1.1 200 OK\r\nb d: 1\r\n\r\n", Reason::HeaderFieldInvalid),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Reason::ContentLengthInvalid),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx", Reason::ChunkSizeInvalid),
    ] {
        let mut watch = Watch::new(Role::Client);
        watch.call(Write, ASK_AGAIN).call(Read, ANSWER).call(Write, ASK).call(Read, answer);
        let line = &watch.recorder.lines()[1];
        assert!(line.ends_with(&format!("Malformed({reason:?})")), "{answer:?}: {line}");
        watch.call(Write, ASK_AGAIN).call(Read, ANSWER).close(Ending::Cut);
        assert_eq!(watch.recorder.lines()[2], "GET /b [] 200 [ok] Complete", "{answer:?}");
    }
}

#[test]
fn what_is_not_http_is_given_up() {
    for (first, dir) in [("SSH-2.0-x\r\n", Read), ("\x16\x03\x01", Write), ("220 mail\r\n", Read)] {
        let mut watch = Watch::new(Role::Client);
        watch.connection = Connection::opened(Limits::default());
        assert_eq!(watch.connection.protocol(), Protocol::Undecided);
        watch.call(dir, first);
        assert_eq!(watch.connection.protocol(), Protocol::NotHttp, "{first:?}");
    }
    let limits = Limits { search: 100, ..Limits::default() };
    let mut watch = Watch::new(Role::Client);
    watch.connection = Connection::new(limits);
    watch.call(Write, "x".repeat(60));
    assert_eq!(watch.connection.protocol(), Protocol::Undecided);
    watch.call(Write, "x".repeat(60)).call(Write, ASK).expect(&[]);
    assert_eq!(watch.connection.protocol(), Protocol::NotHttp);
    assert_eq!(watch.recorder.dropped[&Reason::OutOfSync], 120);
    assert_eq!(watch.recorder.dropped[&Reason::ProtocolUnknown], ASK.len() as u64);
}

#[test]
fn requests_without_end_are_bounded() {
    let mut watch = Watch::new(Role::Client);
    for _ in 0..65 {
        watch.call(Write, ASK_AGAIN);
    }
    let ending = format!("Malformed({:?})", Reason::TooManyInFlight);
    assert!(watch.recorder.lines().iter().all(|line| line.ends_with(&ending)));
    assert_eq!(watch.connection.protocol(), Protocol::NotHttp);
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n";

/// A request, and the beginning of its answer in chunks; then chunks are lost.
fn lossy() -> Watch {
    let mut watch = Watch::new(Role::Client);
    watch.turned(1).call(Write, ASK_AGAIN).turned(2).call(Read, STREAM).tell_loss(Read, 100);
    watch
}

#[test]
fn a_body_in_chunks_goes_on_after_a_loss_in_which_the_connection_did_not_turn() {
    for told in [false, true] {
        for rest in [
            &["6\r\nfghijk\r\n", "2\r\nlm\r\n0\r\n\r\n"][..],
            &["\r\n6;x=y\r\nfghijk\r\n2\r\nlm\r\n", "0\r\n\r\n"],
        ] {
            let mut watch = Watch::new(Role::Client);
            watch.turned(1).call(Write, ASK_AGAIN).turned(2).call(Read, STREAM);
            if told {
                watch.tell_loss(Read, 100);
            } else {
                watch.lose(Read, 100);
            }
            watch.turned(2).call(Read, "the end of a chunk\r\n");
            rest.iter().for_each(|rest| {
                watch.turned(2).call(Read, rest);
            });
            watch.expect(&["GET /b [] 200 [abcde<?>fghijklm] Complete"]);
            assert_eq!(watch.recorder.dropped, [(Reason::OutOfSync, 20)].into());
            watch.turned(3).call(Write, ASK_AGAIN).turned(4).call(Read, ANSWER);
            assert_eq!(watch.recorder.lines()[1], "GET /b [] 200 [ok] Complete");
        }
    }
}

#[test]
fn chunks_that_may_be_of_another_response_are_not_taken() {
    const CHUNKS: &str = "6\r\nfghijk\r\n0\r\n\r\n";
    let lost = "GET /b [] 200 [abcde<?><?>] Lost";
    // A request and the head of its answer were in the loss.
    lossy().turned(4).call(Read, CHUNKS).close(Ending::Cut).expect(&[lost]);
    // Nobody knows whether one was.
    let mut watch = lossy();
    watch.connection.set_turns(None);
    watch.call(Read, CHUNKS).close(Ending::Cut).expect(&[lost]);
    // The next request comes before any chunk.
    let mut watch = lossy();
    watch.turned(3).call(Write, ASK_AGAIN).turned(4).call(Read, CHUNKS).call(Read, ANSWER).close(Ending::Cut);
    watch.expect(&[lost, "GET /b [] 200 [ok] Complete"]);
    // Two answers are due.
    let mut watch = Watch::new(Role::Client);
    watch.turned(1).call(Write, ASK_AGAIN).call(Write, ASK_AGAIN).turned(2).call(Read, STREAM).lose(Read, 9);
    watch.turned(2).call(Read, CHUNKS);
    watch.expect(&["GET /b [] 200 [abcde<?>] Lost", "GET /b [] - [] Lost"]);
}

#[test]
fn what_is_no_chunk_after_a_loss_is_passed_over() {
    for text in [
        "fff\r\nabc",
        "2\r\nxyz\r\n",
        "2\r\nxy",
        "2\r\nxy\r",
        "123456789\r\nx\r\n",
        "g\r\nx\r\n",
        "a\nb",
        "\r\n",
        "\r\n\r\n",
        "0\r\n",
        ";\r\n\r\n",
    ] {
        let mut watch = lossy();
        watch.turned(2).call(Read, text).turned(2).call(Read, "1\r\nz\r\n0\r\n\r\n");
        watch.expect(&["GET /b [] 200 [abcde<?>z] Complete"]);
    }
    // The end may have been lost, too.
    lossy().close(Ending::Cut).expect(&["GET /b [] 200 [abcde<?><?>] Lost"]);
    lossy().half_close(Read).close(Ending::Cut).expect(&["GET /b [] 200 [abcde<?><?>] Lost"]);
}
