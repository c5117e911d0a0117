use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::Instant,
};

use tokentap_export::{ExporterCounters, Loss, config::Signal};

use super::*;

fn served() -> (SocketAddr, Arc<Telemetry>) {
    let telemetry = Telemetry::new();
    let (address, work) = prepare((Ipv4Addr::LOCALHOST, 0).into(), &telemetry).unwrap();
    std::thread::spawn(work);
    (address, telemetry)
}

/// Status, fields and body.
fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_owned(), body.to_owned())
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    (status, body)
}

/// The samples of an exposition, read as strictly as Prometheus does: every name has one type, said before its samples.
fn samples(text: &str) -> BTreeMap<String, (String, f64)> {
    let mut types = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let is_name = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# TYPE ") {
            let (name, kind) = comment.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(
                types.insert(name.to_owned(), kind.to_owned()),
                None,
                "one group for each name: {line}"
            );
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(is_name(name), "{line}");
        let kind = types.get(name).unwrap_or_else(|| panic!("no type before {line}")).clone();
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        if let Some(labels) = series.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) {
            let labels = labels.strip_suffix("\"}").unwrap_or_else(|| panic!("{line}"));
            for label in labels.split("\",") {
                let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                assert!(is_name(key) && !value.contains('"'), "{line}");
            }
        }
        assert_eq!(samples.insert(series.to_owned(), (kind, value.parse().unwrap())), None, "{line}");
    }
    samples
}

#[test]
fn every_number_is_scraped_also_where_it_is_zero() {
    let (address, telemetry) = served();
    telemetry.add(Event::Calls, 7);
    telemetry.add(Event::WorkerFullBytes, 9);
    telemetry.raise(Event::ProbeDelayMaxMicros, 1500);
    let exporter = ExporterCounters::of("otlp/grpc http://c:4317/".into(), Signal::Traces);
    telemetry.add_exporter(&exporter);
    exporter.exported(5);
    exporter.lost(Loss::QueueFull, 2);
    let (status, head, text) = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let samples = samples(&text);
    for (series, kind, value) in [
        ("tokentap_calls_total", "counter", 7.0),
        ("tokentap_frames_read_total", "counter", 0.0),
        ("tokentap_bytes_lost_total{stage=\"worker\",reason=\"queue_full\"}", "counter", 9.0),
        ("tokentap_probes_delay_max_microseconds", "gauge", 1500.0),
        ("tokentap_spans_exported_total{exporter=\"otlp/grpc http://c:4317/\"}", "counter", 5.0),
        (
            "tokentap_spans_lost_total{exporter=\"otlp/grpc http://c:4317/\",reason=\"queue_full\"}",
            "counter",
            2.0,
        ),
        ("tokentap_spans_waiting{exporter=\"otlp/grpc http://c:4317/\"}", "gauge", 0.0),
    ] {
        assert_eq!(samples.get(series), Some(&(kind.to_owned(), value)), "{series} in\n{text}");
    }
    assert!(
        samples.keys().any(|series| series.starts_with("tokentap_process_memory_resident_bytes")),
        "{text}"
    );
    assert!(samples.keys().any(|series| series.starts_with("tokentap_uptime_seconds")), "{text}");
}

#[test]
fn it_is_alive_before_it_is_ready_and_a_dead_collector_changes_nothing() {
    let (address, telemetry) = served();
    let exporter = ExporterCounters::of("otlp/grpc http://dead:4317/".into(), Signal::Traces);
    telemetry.add_exporter(&exporter);
    exporter.lost(Loss::QueueFull, 1000);
    assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
    let state = |path: &str| {
        let (status, body) = get(address, path);
        (status, serde_json::from_str::<serde_json::Value>(&body).unwrap())
    };
    let (status, body) = state("/readyz");
    assert_eq!((status, &body["ready"]), (503, &json!(false)));
    assert!(body["faults"][0].as_str().unwrap().contains("not begun"), "{body}");
    telemetry.health().set_observing(true);
    telemetry.health().ring_read(Instant::now());
    let (status, body) = state("/readyz?verbose=1");
    assert_eq!((status, &body["ready"], &body["exporters"][0]["lost"]), (200, &json!(true), &json!(1000)));
    telemetry.add(Event::AttachFailed, 1);
    assert_eq!(state("/readyz").0, 503);
}

#[test]
fn other_paths_and_methods_are_told_what_there_is() {
    let (address, _telemetry) = served();
    let (status, body) = get(address, "/nothing");
    assert!(status == 404 && body.contains("/metrics"), "{body}");
    assert_eq!(get(address, "/").0, 200);
    let (status, head, _) = ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(status == 405 && head.contains("allow: GET, HEAD"), "{head}");
    let (status, _, body) = ask(address, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((status, body.as_str()), (200, ""));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may close before all of it is written.
    let _written = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _read = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn who_says_nothing_does_not_keep_others_from_an_answer() {
    let (address, _telemetry) = served();
    let silent: Vec<TcpStream> = (0..2 * CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(get(address, "/healthz").0, 200);
    drop(silent);
}
