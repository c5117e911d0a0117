//! Exporters against receivers on the loopback that hang, refuse and recover.

mod faults;
mod receiver;

use std::{
    borrow::Cow,
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixListener},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
use tokentap_genai::{
    Attribute, Measurements, Relations, Resource, Span, SpanKind, SpanStatus, TraceContext, Value,
};
use tokentap_wire::Nanos;

use crate::{
    ExportHandle, Record,
    config::{
        BatchConfig, Compression, ExportConfig, ExporterConfig, HeaderSetting, OtlpConfig, Protocol, Proxy,
        Signal,
    },
    prepare,
};
use receiver::{Answer, Receiver, Speaks};

/// How long an exporter waits for an answer where one does not come: long enough for one that does.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Longer than anything here takes: a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A span of a resource of its own, with an id.
pub(super) fn record(id: u8) -> Arc<Record> {
    let text = |key: &'static str, value: &'static str| attribute(key, Value::Str(value.into()));
    Arc::new(Record {
        resource: Arc::new(Resource::new(vec![text("service.name", "shop")])),
        trace_id: std::array::from_fn(|i| i as u8),
        span_id: [0, 0, 0, 0, 0, 0, 0, id],
        start_unix_nanos: 1_700_000_000_000_000_123,
        end_unix_nanos: 1_700_000_001_500_000_123,
        span: Span {
            name: "chat gpt-4o-mini".into(),
            kind: SpanKind::Client,
            parent: None,
            start: Nanos(0),
            end: Nanos(1_500_000_000),
            status: SpanStatus::Unset,
            attributes: vec![
                text("gen_ai.operation.name", "chat"),
                text("gen_ai.request.model", "gpt-4o-mini"),
                attribute("gen_ai.usage.input_tokens", Value::Int(12)),
                attribute("gen_ai.usage.output_tokens", Value::Int(34)),
                attribute("gen_ai.response.finish_reasons", Value::StrList(vec!["stop".into()])),
            ],
            incomplete: None,
            event_content: Vec::new(),
            relations: Relations::default(),
            forced: false,
            measurements: Measurements::default(),
        },
        links: Vec::new(),
        pid: 4242,
    })
}

/// The same, failed, as the child of a span in another process.
pub(super) fn with_parent(record: Arc<Record>) -> Record {
    let mut record = (*record).clone();
    record.span.status = SpanStatus::Error(Cow::Borrowed("Too Many Requests"));
    record.span.parent = Some(TraceContext {
        trace_id: record.trace_id,
        span_id: [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7],
        flags: 1,
        state: "vendor=1".into(),
    });
    record
}

fn attribute(key: &'static str, value: Value) -> Attribute {
    Attribute { key: key.into(), value }
}

/// An exporter to a receiver, with settings that make nobody wait.
fn otlp(protocol: Protocol, scheme: &str, address: SocketAddr) -> OtlpConfig {
    let path = if protocol == Protocol::Grpc { "/" } else { "/v1/traces" };
    let host = if scheme == "https" { "localhost".into() } else { address.ip().to_string() };
    let endpoint = format!("{scheme}://{host}:{}{path}", address.port());
    OtlpConfig::new(Signal::Traces, protocol, endpoint.parse().unwrap())
}

fn started(exporters: impl IntoIterator<Item = OtlpConfig>, batch: BatchConfig) -> ExportHandle {
    let exporters = exporters.into_iter().map(|otlp| ExporterConfig::Otlp(Box::new(otlp))).collect();
    let (handle, work) = prepare(&ExportConfig { exporters, batch, ..ExportConfig::default() }).unwrap();
    thread::spawn(work);
    handle
}

const fn at_once() -> BatchConfig {
    BatchConfig {
        schedule_delay: Duration::ZERO,
        max_queue_size: 100,
        max_queue_bytes: 1 << 20,
        max_export_batch_size: 10,
    }
}

fn push(handle: &ExportHandle, ids: impl IntoIterator<Item = u8>) {
    for id in ids {
        handle.push(Arc::unwrap_or_clone(record(id)));
    }
}

/// Pushes spans one batch after the other, and accounts for all of them.
#[track_caller]
fn check(
    protocol: Protocol,
    script: impl IntoIterator<Item = Answer>,
    spans: u8,
    want: (u64, &[(&'static str, u64)]),
) {
    let speaks = if protocol == Protocol::Grpc { Speaks::Grpc } else { Speaks::Http1 };
    let receiver = Receiver::start(speaks, script);
    let config = OtlpConfig { timeout: ATTEMPT, ..otlp(protocol, "http", receiver.address) };
    let handle = started([config], BatchConfig { max_export_batch_size: 1, ..at_once() });
    push(&handle, 1..=spans);
    let report = handle.drain(Instant::now() + PATIENCE);
    assert_eq!((report.exporters[0].exported, &*report.exporters[0].lost), want);
}

#[test]
fn http_answers_decide_what_becomes_of_a_batch() {
    use Answer::{Hang, Http, Take, TakeBut};
    let http = Protocol::HttpProtobuf;
    check(http, [Take, Take], 2, (2, &[]));
    check(http, [Http(503, Some("0")), Http(429, None), Take], 1, (1, &[]));
    check(http, [Hang, Take], 1, (1, &[]));
    check(http, [Http(400, None), Take], 2, (1, &[("rejected", 1)]));
    check(http, [Http(401, None)], 1, (0, &[("rejected", 1)]));
    check(http, [TakeBut(1), Take], 2, (1, &[("rejected", 1)]));
    // A receiver cannot reject more than it got, nor less than nothing.
    check(http, [TakeBut(99), TakeBut(-5)], 2, (1, &[("rejected", 1)]));
}

#[test]
fn grpc_answers_decide_what_becomes_of_a_batch() {
    use Answer::{Grpc, Hang, Http, Take, TakeBut};
    use tonic::Code;
    let grpc = Protocol::Grpc;
    // google.rpc.Status { details: [Any { "type.googleapis.com/google.rpc.RetryInfo", RetryInfo { 1 ms } }] }
    let mut soon = b"\x1a\x32\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x06\x0a\x04\x10".to_vec();
    soon.extend_from_slice(b"\xc0\x84\x3d");
    check(grpc, [Take, Take], 2, (2, &[]));
    check(grpc, [Grpc(Code::Unavailable, vec![]), Take], 1, (1, &[]));
    check(grpc, [Grpc(Code::ResourceExhausted, soon), Take], 1, (1, &[]));
    check(grpc, [Grpc(Code::ResourceExhausted, vec![]), Take], 2, (1, &[("rejected", 1)]));
    check(grpc, [Grpc(Code::InvalidArgument, vec![]), Take], 2, (1, &[("rejected", 1)]));
    // A proxy in between that speaks no gRPC.
    check(grpc, [Http(503, None), Take], 1, (1, &[]));
    check(grpc, [Http(404, None)], 1, (0, &[("rejected", 1)]));
    check(grpc, [Hang, Take], 1, (1, &[]));
    check(grpc, [TakeBut(1)], 1, (0, &[("rejected", 1)]));
}

#[test]
fn a_span_that_a_receiver_refuses_does_not_take_others_along() {
    use Answer::{Grpc, Http, Take};
    let bad = || Http(400, None);
    let invalid = || Grpc(tonic::Code::InvalidArgument, vec![]);
    for (protocol, script) in [
        // All four, the first two, the last two, the third, the fourth.
        (Protocol::HttpProtobuf, vec![bad(), Take, bad(), bad(), Take]),
        (Protocol::HttpJson, vec![Http(413, None), Take, bad(), bad(), Take]),
        (Protocol::Grpc, vec![invalid(), Take, invalid(), invalid(), Take]),
    ] {
        let speaks = if protocol == Protocol::Grpc { Speaks::Grpc } else { Speaks::Http1 };
        let receiver = Receiver::start(speaks, script);
        let batch = BatchConfig { schedule_delay: PATIENCE, max_export_batch_size: 4, ..at_once() };
        let handle = started([otlp(protocol, "http", receiver.address)], batch);
        push(&handle, 1..=5);
        let report = handle.drain(Instant::now() + PATIENCE);
        assert_eq!((report.exporters[0].exported, &*report.exporters[0].lost), (4, &[("rejected", 1)][..]));
        let offered: Vec<_> = receiver.arrivals().iter().map(receiver::Arrival::ids).collect();
        assert_eq!(offered, [vec![1, 2, 3, 4], vec![1, 2], vec![3, 4], vec![3], vec![4], vec![5]]);
    }
}

/// Passes on what comes to a Unix socket.
fn relay(path: &std::path::Path, to: SocketAddr) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for from in listener.incoming().flatten() {
            let to = TcpStream::connect(to).unwrap();
            let (mut from_reader, mut to_writer) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            // Each ends when its side is closed.
            thread::spawn(move || io::copy(&mut from_reader, &mut to_writer).ok());
            let (mut to, mut from) = (to, from);
            thread::spawn(move || io::copy(&mut to, &mut from).ok());
        }
    });
}

#[test]
fn a_receiver_may_be_behind_a_unix_socket_that_comes_later() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("otlp.sock");
        // Nobody must be asked by TCP.
        let config =
            OtlpConfig { socket: Some(socket.clone()), ..otlp(protocol, "http", ([127, 0, 0, 1], 1).into()) };
        let handle = started([config], at_once());
        push(&handle, 1..=3);
        let speaks = if protocol == Protocol::Grpc { Speaks::Grpc } else { Speaks::Http1 };
        let receiver = Receiver::start(speaks, []);
        relay(&socket, receiver.address);
        let report = handle.drain(Instant::now() + PATIENCE);
        assert_eq!((report.exported(), report.lost()), (3, 0));
        let ids: Vec<_> = receiver.arrivals().iter().flat_map(receiver::Arrival::ids).collect();
        assert_eq!(ids, [1, 2, 3]);
    }
}

#[test]
fn spans_wait_for_a_collector_that_comes_later() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let vacant = Vacant::new();
        let handle = started([otlp(protocol, "http", vacant.address)], at_once());
        push(&handle, 1..=3);
        let speaks = if protocol == Protocol::Grpc { Speaks::Grpc } else { Speaks::Http1 };
        let receiver = Receiver::start_on(vacant.listen(), speaks, []);
        let mut ids = receiver.arrival().ids();
        let report = handle.drain(Instant::now() + PATIENCE);
        ids.extend(receiver.arrivals().iter().flat_map(receiver::Arrival::ids));
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!((report.exported(), report.lost()), (3, 0));
    }
}

#[test]
fn a_connection_that_went_dead_is_not_used_again() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let config = OtlpConfig { timeout: ATTEMPT, ..otlp(protocol, "http", address) };
        let handle = started([config], at_once());
        push(&handle, [1]);
        let (connected, connections) = mpsc::channel();
        thread::spawn(move || {
            // The test may have ended.
            listener.incoming().try_for_each(|stream| connected.send(stream.unwrap()).ok())
        });
        let _dead = connections.recv_timeout(PATIENCE).unwrap();
        let alive = connections.recv_timeout(PATIENCE).unwrap();
        let speaks = if protocol == Protocol::Grpc { Speaks::Grpc } else { Speaks::Http1 };
        let receiver = Receiver::serve_one(alive, speaks);
        assert_eq!(receiver.arrival().ids(), [1]);
        assert_eq!(handle.drain(Instant::now() + PATIENCE).exported(), 1);
    }
}

#[test]
fn a_dead_collector_costs_the_drain_its_deadline_and_no_more() {
    let vacant = Vacant::new();
    let handle = started([otlp(Protocol::Grpc, "http", vacant.address)], at_once());
    push(&handle, 1..=25);
    let report = handle.drain(Instant::now() + Duration::from_millis(200));
    assert_eq!(report.exporters[0].lost, [("drain_timeout", 25)]);
    assert_eq!(report.exported(), 0);
    push(&handle, [26]);
    assert_eq!(handle.drain(Instant::now()).exporters[0].lost, [("drain_timeout", 25), ("late", 1)]);
}

#[test]
fn a_hanging_collector_holds_up_nobody_else() {
    let stuck = Receiver::start(Speaks::Http1, [Answer::Hang]);
    let healthy = Receiver::start(Speaks::Grpc, []);
    let handle = started(
        [otlp(Protocol::HttpProtobuf, "http", stuck.address), otlp(Protocol::Grpc, "http", healthy.address)],
        BatchConfig { max_queue_size: 5, max_export_batch_size: 1, ..at_once() },
    );
    push(&handle, [1]);
    assert_eq!(stuck.arrival().ids(), [1]);
    // One span is on its way to the collector that hangs, five wait, the newest have no room.
    for id in 2..=9 {
        push(&handle, [id]);
        assert_eq!(healthy.arrival().ids(), [id - 1]);
    }
    assert_eq!(healthy.arrival().ids(), [9]);
    let report = handle.drain(Instant::now() + Duration::from_millis(200));
    assert_eq!(report.exporters[0].lost, [("queue_full", 3), ("drain_timeout", 6)]);
    assert_eq!((report.exporters[1].exported, report.exporters[1].lost_total()), (9, 0));
}

#[test]
fn a_queue_is_bounded_in_bytes_too() {
    let size = record(1).size();
    let batch = BatchConfig { max_queue_bytes: 3 * size, max_export_batch_size: 1, ..at_once() };
    let stuck = Receiver::start(Speaks::Http1, [Answer::Hang]);
    let handle = started([otlp(Protocol::HttpProtobuf, "http", stuck.address)], batch);
    push(&handle, [1]);
    assert_eq!(stuck.arrival().ids(), [1]);
    push(&handle, 2..=9);
    let report = handle.drain(Instant::now());
    assert_eq!(report.exporters[0].lost, [("queue_bytes_full", 5), ("drain_timeout", 4)]);
}

#[test]
fn draining_does_not_wait_for_company_nor_for_the_next_attempt() {
    let receiver = Receiver::start(Speaks::Http1, [Answer::Http(503, Some("300"))]);
    let batch = BatchConfig { max_export_batch_size: 2, schedule_delay: PATIENCE * 10, ..at_once() };
    let handle = started([otlp(Protocol::HttpProtobuf, "http", receiver.address)], batch);
    push(&handle, 1..=3);
    assert_eq!(receiver.arrival().ids(), [1, 2]);
    let report = handle.drain(Instant::now() + PATIENCE);
    assert_eq!((report.exported(), report.lost()), (3, 0));
    assert_eq!(receiver.arrivals().iter().flat_map(receiver::Arrival::ids).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn requests_carry_path_headers_and_coding() {
    for (protocol, path) in [
        (Protocol::Grpc, "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
        (Protocol::HttpProtobuf, "/v1/traces"),
    ] {
        let speaks = if protocol == Protocol::Grpc { Speaks::Grpc } else { Speaks::Http1 };
        let receiver = Receiver::start(speaks, []);
        let header: HeaderSetting = "Authorization=Bearer s3cret".parse().unwrap();
        let config = OtlpConfig {
            headers: vec![header],
            compression: Compression::Gzip,
            ..otlp(protocol, "http", receiver.address)
        };
        assert!(!format!("{config} {config:?}").contains("s3cret"));
        let handle = started([config], at_once());
        push(&handle, [7]);
        let arrival = receiver.arrival();
        assert_eq!(arrival.path, path);
        assert_eq!(arrival.headers["authorization"], "Bearer s3cret");
        assert_eq!(arrival.headers["user-agent"], concat!("tokentap/", env!("CARGO_PKG_VERSION")));
        assert_eq!(arrival.ids(), [7]);
        assert_eq!(handle.drain(Instant::now() + PATIENCE).exported(), 1);
    }
}

#[test]
fn https_trusts_the_authority_it_is_given_and_no_other() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("ca.pem");
    fs::write(&authority, certified.cert.pem()).unwrap();
    for (protocol, speaks, alpn) in
        [(Protocol::Grpc, Speaks::Grpc, "h2"), (Protocol::HttpProtobuf, Speaks::Http1, "http/1.1")]
    {
        let receiver = Receiver::start(Speaks::tls(&certified, alpn, speaks), []);
        let mut config = otlp(protocol, "https", receiver.address);
        let distrusting = started([config.clone()], at_once());
        config.tls.authorities = Some(authority.clone());
        let trusting = started([config], at_once());
        push(&distrusting, [1]);
        push(&trusting, [2]);
        assert_eq!(trusting.drain(Instant::now() + PATIENCE).exported(), 1);
        let report = distrusting.drain(Instant::now() + Duration::from_millis(100));
        assert_eq!(report.exporters[0].lost, [("drain_timeout", 1)]);
        assert_eq!(receiver.arrivals().iter().flat_map(receiver::Arrival::ids).collect::<Vec<_>>(), [2]);
    }
}

#[test]
fn a_certificate_file_that_is_none_is_named() {
    let mut config = otlp(Protocol::Grpc, "https", Vacant::new().address);
    config.tls.authorities = Some("/nonexistent/ca.pem".into());
    let exporters = vec![ExporterConfig::Otlp(Box::new(config))];
    let why = prepare(&ExportConfig { exporters, ..ExportConfig::default() }).err().unwrap();
    assert!(why.to_string().starts_with("/nonexistent/ca.pem: "), "{why}");
}

/// An address at which nobody listens, and nobody else can.
struct Vacant {
    socket: OwnedFd,
    address: SocketAddr,
}

impl Vacant {
    fn new() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = getsockname(&socket).unwrap().try_into().unwrap();
        Self { socket, address }
    }

    fn listen(self) -> TcpListener {
        listen(&self.socket, 16).unwrap();
        self.socket.into()
    }
}

/// A proxy that tunnels one connection; gives the head of the request for it.
fn proxy() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (head, heads) = mpsc::channel();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        let text = String::from_utf8(bytes).unwrap();
        let to = text.split(' ').nth(1).unwrap().to_owned();
        head.send(text).unwrap();
        let server = TcpStream::connect(to).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut from, mut into) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut from, &mut into));
        let (mut from, mut into) = (client, server);
        io::copy(&mut from, &mut into)
    });
    (address, heads)
}

#[test]
fn spans_go_through_a_proxy_with_either_protocol() {
    for (protocol, speaks) in [(Protocol::Grpc, Speaks::Grpc), (Protocol::HttpProtobuf, Speaks::Http1)] {
        let receiver = Receiver::start(speaks, []);
        let (address, heads) = proxy();
        let mut config = otlp(protocol, "http", receiver.address);
        config.proxy = Some(Proxy {
            uri: format!("http://{address}").parse().unwrap(),
            authorization: Some("Basic dXNlcjpwYXNz".parse().unwrap()),
        });
        let handle = started([config], BatchConfig::default());
        handle.push((*record(1)).clone());
        let report = handle.drain(Instant::now() + PATIENCE);
        assert_eq!((report.exported(), report.lost()), (1, 0), "{protocol}");
        let head = heads.recv_timeout(PATIENCE).unwrap();
        assert!(head.starts_with(&format!("CONNECT {} HTTP/1.1", receiver.address)), "{head}");
        assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnz"), "{head}");
    }
}
