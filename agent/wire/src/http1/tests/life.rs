//! What comes before, instead of and after the messages of a connection.

use proptest::prelude::*;

use super::*;

const ASK: &str = "POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nx";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const WHOLE: &str = "POST /a [x] 200 [ok] Complete";

/// The signature, the version with the command, the family, and what follows after its length.
fn proxy_v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend((rest.len() as u16).to_be_bytes());
    header.extend(rest);
    header
}

/// Headers as the specification has them: §2.1's examples, a TCP4 and a LOCAL header of §2.2, one with a TLV, and
/// the longest.
fn proxy_headers() -> Vec<Vec<u8>> {
    let ipv6 = "ffff:f...f:ffff".replace("f...f", "ffff:ffff:ffff:ffff:ffff:ffff");
    vec![
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(),
        format!("PROXY TCP6 {ipv6} {ipv6} 65535 65535\r\n").into_bytes(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        format!("PROXY UNKNOWN {ipv6} {ipv6} 65535 65535\r\n").into_bytes(),
        proxy_v2(0x21, 0x11, &[192, 168, 0, 1, 10, 0, 0, 1, 0xdc, 4, 0x1f, 0x90]),
        proxy_v2(0x20, 0, &[]),
        proxy_v2(0x21, 0x21, &[&[7; 36][..], &[4, 0, 3, b'\n', b'P', b'P']].concat()),
        proxy_v2(0x21, 0x31, &[0; 65535]),
    ]
}

#[test]
fn proxy_protocol_headers_in_front_of_a_connection_are_passed_over() {
    for header in proxy_headers() {
        for (joined, size) in [(true, usize::MAX), (false, usize::MAX), (true, 1), (false, 3)] {
            let mut watch = Watch::new(Role::Server);
            watch.connection = Connection::opened(Limits::default());
            let calls = match joined {
                true => vec![[&header[..], ASK.as_bytes()].concat()],
                false => vec![header.clone(), ASK.into()],
            };
            for piece in calls.iter().flat_map(|call| call.chunks(size.min(call.len()))) {
                watch.call(Write, piece);
            }
            watch.call(Read, ANSWER).call(Write, ASK).call(Read, ANSWER).expect(&[WHOLE, WHOLE]);
            assert!(watch.recorder.dropped.is_empty(), "{joined} {size} {:?}", watch.recorder.dropped);
        }
    }
}

#[test]
fn what_only_begins_like_a_proxy_header_is_what_it_is() {
    for ask in ["PUT /a HTTP/1.1\r\n\r\n", "PATCH /a HTTP/1.1\r\n\r\n", "\r\n\r\nPOST /a HTTP/1.1\r\n\r\n"] {
        let want = format!("{} [] 200 [ok] Complete", ask.trim().trim_end_matches(" HTTP/1.1"));
        check(&[(Write, ask), (Read, ANSWER)], &[&want]);
    }
    // It is looked for in the first bytes only.
    check(
        &[(Write, ASK), (Read, ANSWER), (Write, "PROXY /p HTTP/1.1\r\n\r\n"), (Read, ANSWER)],
        &[WHOLE, "PROXY /p [] 200 [ok] Complete"],
    );
}

#[test]
fn a_broken_proxy_header_is_counted_and_what_follows_is_looked_for() {
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(100));
    for header in [long.as_bytes(), &proxy_v2(0x11, 0x11, &[0; 12])] {
        let mut watch = Watch::new(Role::Server);
        watch.call(Write, header).call(Write, ASK).call(Read, ANSWER).expect(&[WHOLE]);
        let dropped = &watch.recorder.dropped;
        assert!(dropped.contains_key(&Reason::ProxyHeaderInvalid), "{dropped:?}");
        assert_eq!(dropped.values().sum::<u64>(), header.len() as u64);
    }
    // A gap or the end inside a header leaves nothing behind.
    let mut watch = Watch::new(Role::Server);
    watch.call(Write, "PROXY TC").lose(Write, 40).call(Write, ASK).call(Read, ANSWER).expect(&[WHOLE]);
    let mut watch = Watch::new(Role::Server);
    watch.call(Write, "P").close(Ending::Cut).expect(&[]);
}

#[test]
fn http2_comes_after_a_proxy_header_as_well() {
    let mut watch = Watch::new(Role::Server);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    watch.call(Write, [b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n", &preface[..]].concat());
    assert_eq!(watch.connection.protocol(), Protocol::Http2);
}

#[test]
fn tls_records_are_left_to_where_they_are_decrypted() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more";
    let proxied = [b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n", &hello[..]].concat();
    for (fresh, first) in [(true, &hello[..]), (false, hello), (true, &proxied)] {
        let mut watch = Watch::new(Role::Client);
        if fresh {
            watch.connection = Connection::opened(Limits::default());
        }
        watch.call(Write, first).call(Read, "\x16\x03\x03\x00\x7a").call(Write, ASK).expect(&[]);
        assert_eq!(watch.connection.protocol(), Protocol::NotHttp);
        assert_eq!(watch.recorder.dropped[&Reason::TlsRecords], hello.len() as u64);
    }
    let mut watch = Watch::new(Role::Client);
    watch.call(Write, "CONNECT api:443 HTTP/1.1\r\n\r\n").call(Read, "HTTP/1.1 200 OK\r\n\r\n");
    watch.call(Write, hello).expect(&["CONNECT api:443 [] 200 [] Complete"]);
    assert_eq!(watch.recorder.dropped[&Reason::TlsRecords], hello.len() as u64);
}

#[test]
fn a_client_that_has_closed_its_side_is_still_answered() {
    let mut watch = Watch::new(Role::Server);
    watch.call(Write, ASK).half_close(Write).call(Read, ANSWER).close(Ending::Cut).expect(&[WHOLE]);
    // One that closes it inside its request is answered, too, but will not be understood.
    let mut watch = Watch::new(Role::Server);
    watch.call(Write, "POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nx").half_close(Write);
    watch.call(Read, "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n").close(Ending::Cut);
    watch.expect(&["POST /a [x… 400 [] Complete"]);
}

#[test]
fn an_exchange_whose_reader_has_left_ends_so() {
    let streaming = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n";
    for (ending, want) in
        [(Ending::ClosedLocally, "ClosedLocally"), (Ending::Cut, "Cut"), (Ending::ProcessExit, "ProcessExit")]
    {
        let mut watch = Watch::new(Role::Client);
        watch.call(Write, ASK).call(Read, streaming).close(ending);
        watch.expect(&[&format!("POST /a [x] 200 [some] {want}")]);
    }
}

proptest! {
    #[test]
    fn a_proxy_header_is_passed_over_however_it_is_cut(
        which in 0..7_usize, cuts in prop::collection::vec(1..60_usize, 1..8),
    ) {
        let bytes = [&proxy_headers()[which][..], ASK.as_bytes()].concat();
        let (mut rest, mut watch) = (&bytes[..], Watch::new(Role::Server));
        for cut in cuts.iter().cycle() {
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            watch.call(Write, piece);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        watch.call(Read, ANSWER);
        prop_assert_eq!(watch.recorder.lines(), [WHOLE]);
        prop_assert!(watch.recorder.dropped.is_empty());
    }
}
