//! What can be wrong with receivers and between them and us: what was pushed is delivered or counted lost, by reason.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    ATTEMPT, PATIENCE, Vacant, at_once, otlp, push,
    receiver::{Answer, Arrival, Receiver, Speaks},
    record, started,
};
use crate::{
    ExportHandle,
    config::{BatchConfig, Compression, OtlpConfig, Protocol},
};

const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];

const fn speaks(protocol: Protocol) -> Speaks {
    match protocol {
        Protocol::Grpc => Speaks::Grpc,
        Protocol::HttpProtobuf | Protocol::HttpJson => Speaks::Http1,
    }
}

/// The ids of what arrived, in order, of requests that were taken or not.
fn ids(receiver: &Receiver) -> Vec<u8> {
    receiver.arrivals().iter().flat_map(Arrival::ids).collect()
}

/// A full batch of spans with such a name.
fn push_named(handle: &ExportHandle, spans: u8, name: &str) {
    for id in 1..=spans {
        let mut record = Arc::unwrap_or_clone(record(id));
        record.span.name = name.to_owned();
        handle.push(record);
    }
}

/// One batch of so many spans, however large.
fn one_batch(spans: usize) -> BatchConfig {
    BatchConfig {
        schedule_delay: PATIENCE,
        max_export_batch_size: spans,
        max_queue_bytes: 16 << 20,
        ..at_once()
    }
}

#[test]
fn every_protocol_arrives_in_every_coding() {
    for protocol in PROTOCOLS {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let receiver = Receiver::start(speaks(protocol), []);
            let config = OtlpConfig { compression, ..otlp(protocol, "http", receiver.address) };
            let handle = started([config], at_once());
            push(&handle, [7]);
            let arrival = receiver.arrival();
            assert_eq!(arrival.ids(), [7]);
            let field = if protocol == Protocol::Grpc { "grpc-encoding" } else { "content-encoding" };
            let coding = arrival.headers.get(field).map(|value| value.to_str().unwrap());
            let want = match compression {
                Compression::None => None,
                Compression::Gzip => Some("gzip"),
                Compression::Zstd => Some("zstd"),
            };
            assert_eq!(coding, want, "{protocol}");
            assert_eq!(handle.drain(Instant::now() + PATIENCE).exported(), 1);
        }
    }
}

#[test]
fn a_receiver_that_wants_certificates_takes_spans_of_their_owner_only() {
    let server = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let client = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let authority = file("ca.pem", server.cert.pem());
    let pair =
        (file("client.pem", client.cert.pem()), file("client.key", client.signing_key.serialize_pem()));
    for protocol in PROTOCOLS {
        let alpn = if protocol == Protocol::Grpc { "h2" } else { "http/1.1" };
        let receiver = Receiver::start(Speaks::mutual_tls(&server, &client, alpn, speaks(protocol)), []);
        let mut config = otlp(protocol, "https", receiver.address);
        config.tls.authorities = Some(authority.clone());
        let stranger = started([config.clone()], at_once());
        config.tls.client = Some(pair.clone());
        let known = started([config], at_once());
        push(&stranger, [1]);
        push(&known, [2]);
        assert_eq!(known.drain(Instant::now() + PATIENCE).exported(), 1, "{protocol}");
        let report = stranger.drain(Instant::now() + Duration::from_millis(100));
        assert_eq!(report.exporters[0].lost, [("drain_timeout", 1)]);
        assert_eq!(ids(&receiver), [2]);
    }
}

#[test]
fn two_that_cannot_be_reached_do_not_delay_the_third() {
    let vacant = Vacant::new();
    // Longer than a name can be: no resolver finds it, and none is asked.
    let nowhere = format!("http://{}:4318/v1/traces", "x".repeat(64)).parse().unwrap();
    let healthy = Receiver::start(Speaks::Http1, []);
    let handle = started(
        [
            otlp(Protocol::Grpc, "http", vacant.address),
            OtlpConfig { endpoint: nowhere, ..otlp(Protocol::HttpJson, "http", vacant.address) },
            otlp(Protocol::HttpProtobuf, "http", healthy.address),
        ],
        at_once(),
    );
    // The last quarter of a queue is not for one process alone: no more than fits at once.
    let mut arrived = Vec::new();
    for first in [1, 51, 101, 151] {
        push(&handle, first..first + 50);
        while arrived.len() < usize::from(first) + 49 {
            arrived.extend(healthy.arrival().ids());
        }
    }
    assert_eq!(arrived, (1..=200).collect::<Vec<_>>());
    let report = handle.drain(Instant::now() + Duration::from_millis(100));
    for dead in &report.exporters[..2] {
        assert_eq!((dead.exported, dead.lost_total()), (0, 200), "{dead:?}");
        let reasons: Vec<_> = dead.lost.iter().map(|(why, _)| *why).collect();
        assert_eq!(reasons, ["queue_share", "drain_timeout"]);
    }
    assert_eq!((report.exporters[2].exported, report.exporters[2].lost_total()), (200, 0));
}

#[test]
fn connections_that_are_reset_lose_nothing() {
    for protocol in PROTOCOLS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let handle = started([otlp(protocol, "http", listener.local_addr().unwrap())], at_once());
        push(&handle, 1..=3);
        for _ in 0..2 {
            let (stream, _) = listener.accept().unwrap();
            // What was not read makes the end of the connection a reset.
            stream.peek(&mut [0]).unwrap();
        }
        let receiver = Receiver::start_on(listener, speaks(protocol), []);
        let report = handle.drain(Instant::now() + PATIENCE);
        assert_eq!((report.exported(), report.lost()), (3, 0), "{protocol}");
        assert_eq!(ids(&receiver), [1, 2, 3]);
    }
}

/// Passes on what comes, slowly.
fn slow(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut from, _) = listener.accept().unwrap();
        let mut to = TcpStream::connect(to).unwrap();
        let (mut answers, mut back) = (to.try_clone().unwrap(), from.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut answers, &mut back).ok());
        let mut piece = vec![0; 128 << 10];
        while let Ok(read @ 1..) = from.read(&mut piece) {
            thread::sleep(Duration::from_millis(5));
            if to.write_all(&piece[..read]).is_err() {
                return;
            }
        }
    });
    address
}

#[test]
fn a_receiver_that_reads_slowly_gets_large_batches_whole() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start(speaks(protocol), []);
        let config = OtlpConfig { timeout: PATIENCE, ..otlp(protocol, "http", slow(receiver.address)) };
        let handle = started([config], one_batch(3));
        push_named(&handle, 3, &"x".repeat(700_000));
        let report = handle.drain(Instant::now() + PATIENCE);
        assert_eq!((report.exported(), report.lost()), (3, 0), "{protocol}");
        assert_eq!(receiver.arrival().ids(), [1, 2, 3]);
    }
}

#[test]
fn requests_stay_below_4_mib_in_json_too() {
    let receiver = Receiver::start(Speaks::Http1, []);
    let handle = started([otlp(Protocol::HttpJson, "http", receiver.address)], one_batch(4));
    // Each of these is six bytes there.
    push_named(&handle, 4, &"\u{1}".repeat(300_000));
    let report = handle.drain(Instant::now() + PATIENCE);
    assert_eq!((report.exported(), report.lost()), (4, 0));
    let offered: Vec<_> = receiver.arrivals().iter().map(Arrival::ids).collect();
    assert_eq!(offered, [[1, 2], [3, 4]]);
}

#[test]
fn refusals_and_delays_in_any_order_are_accounted_for_to_the_span() {
    use Answer::{Hang, Http, Take, TakeBut};
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        // Batches of two: the second and third are put off and taken, of the fourth one is refused, the fifth is
        // taken but for one, the sixth is refused as a whole.
        let script = [
            Take,
            Http(429, Some("0")),
            Take,
            Http(503, Some("0")),
            Hang,
            Take,
            Http(413, None),
            Take,
            Http(413, None),
            TakeBut(1),
            Http(403, None),
        ];
        let receiver = Receiver::start(Speaks::Http1, script);
        let config = OtlpConfig { timeout: ATTEMPT, ..otlp(protocol, "http", receiver.address) };
        let handle = started([config], one_batch(2));
        push(&handle, 1..=20);
        let report = handle.drain(Instant::now() + PATIENCE);
        assert_eq!((report.exporters[0].exported, &*report.exporters[0].lost), (16, &[("rejected", 4)][..]));
        let ids = ids(&receiver);
        assert_eq!(
            ids,
            [1, 2, 3, 4, 3, 4, 5, 6, 5, 6, 5, 6, 7, 8, 7, 8, 9, 10, 11, 12]
                .into_iter()
                .chain(13..=20)
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn what_was_taken_of_a_batch_in_parts_counts_when_time_is_over() {
    use Answer::{Hang, Http, Take};
    let receiver = Receiver::start(Speaks::Http1, [Http(400, None), Take, Hang]);
    let handle = started([otlp(Protocol::HttpProtobuf, "http", receiver.address)], one_batch(2));
    push(&handle, 1..=2);
    let offered: Vec<_> = (0..3).map(|_| receiver.arrival().ids()).collect();
    assert_eq!(offered, [vec![1, 2], vec![1], vec![2]]);
    let report = handle.drain(Instant::now() + Duration::from_millis(100));
    assert_eq!((report.exporters[0].exported, &*report.exporters[0].lost), (1, &[("drain_timeout", 1)][..]));
}
