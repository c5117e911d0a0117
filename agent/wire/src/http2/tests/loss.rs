//! Joining late, and missing bytes.

use super::*;

#[test]
fn a_connection_that_is_joined_late_is_known_by_its_frames() {
    for role in [Role::Client, Role::Server] {
        let mut watch = Watch::new(role);
        watch.call(Write, ask(7, "/a", true));
        assert_eq!(watch.connection.protocol(), Protocol::Undecided);
        watch
            .call(Read, answer(7, "200", false))
            .call(Read, data(7, "x", false))
            .call(Read, data(7, "y", true));
        watch.call(Write, ask(9, "/b", true)).call(Read, answer(9, "200", true));
        watch.expect(&["POST /a [] 200 [xy] Complete", "POST /b [] 200 [] Complete"]);
        assert_eq!(watch.connection.protocol(), Protocol::Http2);
    }
}

#[test]
fn what_was_inserted_before_is_left_out_and_the_head_says_so() {
    let mut watch = Watch::new(Role::Client);
    // POST, a path that was inserted before, and a field of its own.
    let fields = [&[0x83, 0xbe][..], &block(&[("+x", "1")])].concat();
    watch.call(Write, [frame(1, END_HEADERS, 9, &fields), data(9, "{}", true), settings()].concat());
    watch.call(Read, [frame(1, END_HEADERS, 9, &[0xbe]), data(9, "x", true), settings()].concat());
    watch.expect(&["POST  [{}] 0 [x] Complete"]);
    assert_eq!(watch.recorder.seen[&0].fields, [("x".into(), "1".into())]);
    // Now `x` is the newest.
    watch.call(Write, frame(1, END_HEADERS | END_STREAM, 11, &[0x83, 0x84, 0xbe]));
    assert_eq!(watch.recorder.seen[&1].fields, [("x".into(), "1".into())]);
}

#[test]
fn what_only_looks_like_frames_is_none() {
    for bytes in
        [&b"\0\0\x04\x08\0\0\0\0\0abcd not a frame"[..], b"\x00\x00\x00\x03abc", b"PRI * HTTP/2.0\r\n\r\nXX"]
    {
        let mut watch = Watch::new(Role::Client);
        watch.call(Write, bytes).call(Write, "GET / HTTP/1.1\r\n\r\n").call(Read, "HTTP/1.1 204 \r\n\r\n");
        watch.expect(&["GET / [] 204 [] Complete"]);
        assert_eq!(watch.recorder.dropped[&Reason::OutOfSync], bytes.len() as u64);
    }
}

#[test]
fn missing_bytes_of_data_are_counted_exactly() {
    let mut watch = Watch::begun();
    watch.call(Write, ask(1, "/a", true)).call(Read, answer(1, "200", false));
    let bytes = data(1, "0123456789", false);
    watch.call(Read, &bytes[..11]).lose(Read, 5).call(Read, &bytes[16..]);
    watch.call(Read, &bytes[..12]).lose(Read, 7).call(Read, data(1, "end", true));
    watch.expect(&["POST /a [] 200 [01<5>789012<7>end] Complete"]);
}

#[test]
fn missing_frames_leave_a_gap_of_unknown_length_and_the_table_is_not_trusted() {
    let mut watch = Watch::begun();
    watch.call(Write, [ask(1, "/a", true), ask(3, "/b", true)].concat());
    watch.call(Read, [answer(1, "200", false), data(1, "x", false)].concat());
    let lost = answer(3, "200", false);
    watch.lose(Read, lost.len() as u64);
    watch.call(Read, [data(1, "y", false), data(3, "z", true)].concat());
    // `server` was inserted before the loss.
    watch.call(Read, frame(1, END_HEADERS | END_STREAM, 1, &[0xbe]));
    watch.call(Write, ask(5, "/c", true)).call(Read, frame(1, END_HEADERS | END_STREAM, 5, &[0x88, 0xbe]));
    watch.expect(&[
        "POST /a [] 200 [x<?>y] Complete",
        "POST /b [] 0 [<?>z] Complete",
        "POST /c [] 200 [] Complete",
    ]);
}

#[test]
fn a_lost_end_is_not_taken_for_a_cut() {
    let mut watch = Watch::begun();
    watch.call(Write, ask(1, "/a", true)).call(Read, answer(1, "200", false));
    watch.lose(Read, 12).call(Read, settings()).close();
    watch.expect(&["POST /a [] 200 [<?>] Lost"]);
}

#[test]
fn a_response_that_overtakes_its_request_waits_for_it() {
    let mut watch = Watch::begun();
    watch.now = 9;
    watch.call(Read, [answer(1, "200", false), data(1, "x", true)].concat());
    watch.now = 5;
    watch.call(Write, ask(1, "/a", true)).expect(&["POST /a [] 200 [x] Complete"]);
    // One whose request nobody saw does not wait for ever.
    watch.now = 20;
    watch
        .call(Read, answer(3, "200", true))
        .call(Write, ask(5, "/b", true))
        .call(Read, answer(5, "200", true));
    watch.expect(&["POST /a [] 200 [x] Complete", "POST /b [] 200 [] Complete"]);
    assert!(watch.recorder.dropped[&Reason::ResponseWithoutRequest] > 0);
}

#[test]
fn a_field_block_over_the_limit_is_given_up_and_the_exchange_still_told() {
    let mut watch = Watch::begun();
    watch.call(Write, frame(1, 0, 1, &[0x82; 16384]));
    for _ in 0..5 {
        watch.call(Write, frame(9, 0, 1, &[0x82; 16384]));
    }
    watch.call(Write, frame(9, END_HEADERS, 1, &[])).call(Write, data(1, "{}", true));
    watch.call(Read, answer(1, "200", true)).expect(&["  [{}] 200 [] Complete"]);
    assert_eq!(watch.recorder.dropped[&Reason::HeadTooLong], 6 * 16384);
}
