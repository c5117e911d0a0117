//! Streams of which bytes, or the opening, were not seen.

use super::*;

#[test]
fn bytes_that_are_missing_inside_a_frame_leave_a_gap_in_its_message() {
    let mut watch = opened(&[1, 3], "");
    let bytes = data(1, &frame(0x81, Some(KEY), b"0123456789"));
    watch.call(Write, &bytes[..9 + 8]).lose(Write, 5).call(Write, &bytes[9 + 13..]);
    watch.call(Write, data(3, MASKED)).call(Write, data(1, MASKED));
    assert_eq!(watch.messages(), [whole(Role::Client, Text, "01789"), hello(Role::Client)]);
    assert!(watch.seen(0).gap && !watch.seen(1).gap);
    // A Close frame whose end is missing closes its side still.
    let close = data(1, &frame(0x88, None, &[3, 232]));
    watch.call(Write, data(1, &frame(0x88, Some(KEY), b"")));
    watch.call(Read, &close[..close.len() - 1]).lose(Read, 1);
    assert_eq!(watch.ending(), Some(Ending::Complete));
}

#[test]
fn frames_that_are_missing_cost_their_side_of_every_stream_until_messages_are_found_again() {
    let mut watch = opened(&[1, 3], "");
    let lost = data(1, PLAIN);
    watch.lose(Read, lost.len()).call(Read, [SETTINGS, &lost].concat());
    watch.call(Write, data(1, MASKED)).call(Write, data(3, MASKED));
    for exchange in [0, 1] {
        assert_eq!(watch.seen(exchange).messages, [hello(Role::Client)]);
        assert!(watch.seen(exchange).gap);
    }
    // Four frames in a row tell where they begin, and are passed over.
    for _ in 0..5 {
        watch.call(Read, data(3, PLAIN));
    }
    assert_eq!(watch.seen(1).messages, [hello(Role::Client), hello(Role::Server)]);
    watch.close(Ending::Cut);
    // Of the first too little was seen since.
    assert_eq!([watch.seen(0).ending, watch.seen(1).ending], [Some(Ending::Lost), Some(Ending::Cut)]);
    // A part of a frame in the middle of a DATA frame is none.
    let mut watch = opened(&[1], "");
    watch.lose(Read, 100).call(Read, SETTINGS);
    for _ in 0..9 {
        watch.call(Read, data(1, &[b"xx", PLAIN, PLAIN, PLAIN, PLAIN].concat()));
    }
    assert!(watch.messages().is_empty());
}

#[test]
fn an_answer_that_is_missing_or_not_known_opens_nothing() {
    let lost = answer(1, "200", "");
    let mut watch = begun(Limits::default(), None);
    watch.call(Write, connect(1, "websocket")).call(Write, data(1, MASKED));
    watch.lose(Read, lost.len()).call(Read, [SETTINGS, &data(1, PLAIN)].concat());
    watch.call(Write, last_data(1, MASKED)).call(Read, last_data(1, PLAIN));
    assert_eq!(watch.recorder.lines(), ["CONNECT /chat [] 0 [<?>] Complete"]);
    assert!(watch.messages().is_empty());
    let bytes = 2 * (MASKED.len() + PLAIN.len()) as u64;
    assert_eq!(watch.recorder.dropped, [(Reason::SwitchUnanswered, bytes)].into());
    // A status that refers to a field that was inserted before the loss.
    watch.call(Write, connect(3, "websocket")).lose(Read, 50).call(Read, SETTINGS);
    watch.call(Read, http2(HEADERS, END_HEADERS, 3, &[0xbe])).call(Read, data(3, PLAIN));
    assert_eq!(watch.seen(1).status, Some(0));
    assert!(watch.seen(1).messages.is_empty() && watch.seen(1).response_body.is_empty());
}

#[test]
fn a_websocket_that_was_opened_before_the_connection_was_seen_is_no_exchange() {
    let mut watch = Watch {
        connection: Connection::new(Limits::default()),
        recorder: Recorder::default(),
        offsets: [0; 2],
    };
    for _ in 0..9 {
        watch.call(Write, data(1, MASKED)).call(Read, data(1, PLAIN));
    }
    assert_eq!(watch.connection.protocol(), Protocol::Http2);
    // The method, the protocol and the path were inserted before: whether it is a request is not known either.
    watch.call(Write, http2(HEADERS, END_HEADERS, 3, &[0xc1, 0xc0, 0xbf, 0x87]));
    watch.call(Write, data(3, MASKED)).call(Read, answer(3, "200", "")).call(Read, data(3, PLAIN));
    // Of this one the protocol.
    let fields = [0x02, 7, b'C', b'O', b'N', b'N', b'E', b'C', b'T', 0xbe];
    watch.call(Write, http2(HEADERS, END_HEADERS, 5, &fields));
    watch.call(Write, data(5, MASKED)).call(Read, answer(5, "200", "")).call(Read, data(5, PLAIN));
    watch.close(Ending::Cut);
    assert!(watch.recorder.seen.values().all(|seen| seen.messages.is_empty()));
    let connect = watch.recorder.seen.values().find(|seen| seen.request == "CONNECT ").unwrap();
    assert!(connect.request_body.is_empty() && connect.response_body.is_empty());
    assert!(watch.dropped(Reason::OutOfSync) >= 9 * (MASKED.len() + PLAIN.len()) as u64);
}
