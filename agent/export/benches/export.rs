//! What exporting costs: spans to a sink on the loopback, metrics of many processes.
//!
//! `cargo xtask bench export` prints a table, with `--json` one JSON object a line. Processor time is that of the thread that
//! does the work, without the sink's.

use std::{
    borrow::Cow,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokentap_export::{
    ExportHandle, Record,
    config::{BatchConfig, ExportConfig, ExporterConfig, MetricsConfig, OtlpConfig, Protocol, Signal},
    prepare,
};
use tokentap_genai::{
    Attribute, HttpMeasurements, Measurements, Relations, Resource, Span, SpanKind, SpanStatus, TokenUsage,
    Value,
};
use tokentap_wire::Nanos;

const SPANS: u64 = 200_000;
const PROCESSES: usize = 300;
const MODELS: usize = 4;

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let table = Table { json };
    if !json {
        println!("{:<60} {:>12}  {:<10} target", "", "", "unit");
    }
    // Before others have taken memory that it could use again.
    metrics(&table);
    // The sink speaks HTTP/1 only: gRPC is encoded alike.
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        spans(&table, protocol);
    }
}

struct Table {
    json: bool,
}

impl Table {
    fn row(&self, name: &str, value: f64, unit: &str, target: &str) {
        if self.json {
            println!("{}", serde_json::json!({"name": name, "value": value, "unit": unit, "target": target}));
        } else {
            println!("{name:<60} {value:>12.2}  {unit:<10} {target}");
        }
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Starts the exporters; the thread gives its processor time.
fn start(config: &ExportConfig) -> (ExportHandle, JoinHandle<Duration>) {
    let (handle, work) = prepare(config).expect("exporters");
    let thread = thread::spawn(move || {
        work();
        cpu()
    });
    (handle, thread)
}

fn spans(table: &Table, protocol: Protocol) {
    let sink = sink();
    let endpoint = format!("http://{sink}/v1/traces").parse().expect("a URL");
    let otlp = OtlpConfig::new(Signal::Traces, protocol, endpoint);
    let batch = BatchConfig { max_queue_size: 8192, max_queue_bytes: 64 << 20, ..BatchConfig::default() };
    let config = ExportConfig {
        exporters: vec![ExporterConfig::Otlp(Box::new(otlp))],
        batch,
        ..ExportConfig::default()
    };
    let (handle, thread) = start(&config);
    let resources: Vec<_> = (0..8).map(resource).collect();
    let records: Vec<Record> = resources.iter().map(|resource| record(resource, 0)).collect();
    let (begun, begun_cpu) = (Instant::now(), cpu());
    for n in 0..SPANS {
        while handle.counters()[0].report().waiting > 6000 {
            thread::sleep(Duration::from_micros(200));
        }
        handle.push(records[n as usize % records.len()].clone());
    }
    let pushed = cpu().saturating_sub(begun_cpu);
    let report = handle.drain(Instant::now() + Duration::from_secs(60));
    let wall = begun.elapsed();
    assert_eq!((report.exported(), report.lost()), (SPANS, 0));
    let exporting = thread.join().expect("the export thread");
    let each = |time: Duration| time.as_secs_f64() * 1e6 / SPANS as f64;
    table.row(&format!("spans encoded and sent, {protocol}"), 1e6 / each(exporting), "spans/s/core", "50000");
    table.row(&format!("handing over a span, {protocol}"), each(pushed), "us", "");
    table.row(
        &format!("spans delivered, wall clock, {protocol}"),
        SPANS as f64 / wall.as_secs_f64(),
        "spans/s",
        "",
    );
}

fn metrics(table: &Table) {
    let sink = sink();
    let endpoint = format!("http://{sink}/v1/metrics").parse().expect("a URL");
    let otlp = OtlpConfig::new(Signal::Metrics, Protocol::HttpProtobuf, endpoint);
    let interval = Duration::from_secs(1);
    let config = ExportConfig {
        exporters: vec![ExporterConfig::Otlp(Box::new(otlp))],
        metrics: MetricsConfig { interval, ..MetricsConfig::default() },
        ..ExportConfig::default()
    };
    let resources: Vec<_> = (0..PROCESSES).map(resource).collect();
    let records: Vec<Record> =
        resources.iter().flat_map(|resource| (0..MODELS).map(|model| record(resource, model))).collect();
    let before = resident();
    let (handle, thread) = start(&config);
    for record in &records {
        handle.push(record.clone());
    }
    let recorded = resident();
    let rounds = 50;
    let begun = cpu();
    for record in (0..rounds).flat_map(|_| &records) {
        handle.push(record.clone());
    }
    let recording = cpu().saturating_sub(begun);
    let cloning = {
        let begun = cpu();
        for record in (0..rounds).flat_map(|_| &records) {
            std::hint::black_box(record.clone());
        }
        cpu().saturating_sub(begun)
    };
    let collections = 10;
    thread::sleep(interval * collections + interval / 2);
    let after = resident();
    let report = handle.drain(Instant::now() + Duration::from_secs(60));
    assert_eq!(report.lost(), 0);
    let collecting = thread.join().expect("the export thread").as_secs_f64() / f64::from(collections + 1);
    let calls = (rounds * records.len()) as f64;
    let each = recording.saturating_sub(cloning).as_secs_f64() * 1e6 / calls;
    let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    let name = format!("{PROCESSES} processes with {MODELS} models each");
    table.row("metrics: recording a call", each, "us", "");
    table.row(&format!("metrics: memory of {name}"), mib(recorded - before), "MiB", "15");
    table.row("metrics: the same after ten collections", mib(after - before), "MiB", "15");
    table.row("metrics: a collection of them, encoded and sent", collecting * 1e3, "ms", "");
    table.row("metrics: of a core, at the default interval of 10 s", collecting * 10.0, "%", "0.5");
}

fn resident() -> i64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: i64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    pages * rustix::param::page_size() as i64
}

/// Takes every request.
fn sink() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(stream: TcpStream) {
    let mut reader = BufReader::with_capacity(1 << 20, stream.try_clone().expect("a second handle"));
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let copied = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink());
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        if copied.is_err() || writer.write_all(answer).is_err() {
            return;
        }
    }
}

fn resource(number: usize) -> Arc<Resource> {
    let text =
        |key: &'static str, value: String| Attribute { key: key.into(), value: Value::Str(value.into()) };
    Arc::new(Resource::new(vec![
        text("service.name", format!("service-{number}")),
        text("service.instance.id", format!("6c6a3a4e-7f2b-4f86-9f43-{number:012}")),
        text("host.name", "node-17.eu-west.example.internal".into()),
        text("host.id", "2f6e0e7f3d5a4b6c8d9e0f1a2b3c4d5e".into()),
        text("os.type", "linux".into()),
        text("process.executable.path", "/usr/local/bin/python3.12".into()),
        text("process.command", "python3 -m app.server".into()),
        Attribute { key: "process.pid".into(), value: Value::Int(number as i64 + 1000) },
        text("container.id", format!("{number:064x}")),
    ]))
}

fn record(resource: &Arc<Resource>, model: usize) -> Record {
    let model = format!("gpt-5-mini-{model}");
    let text = |key: &'static str, value: &str| Attribute {
        key: key.into(),
        value: Value::Str(value.to_owned().into()),
    };
    let number = |key: &'static str, value: i64| Attribute { key: key.into(), value: Value::Int(value) };
    Record {
        resource: Arc::clone(resource),
        trace_id: [7; 16],
        span_id: [9; 8],
        start_unix_nanos: 1_700_000_000_000_000_000,
        end_unix_nanos: 1_700_000_001_500_000_000,
        span: Span {
            name: format!("chat {model}"),
            kind: SpanKind::Client,
            parent: None,
            start: Nanos(0),
            end: Nanos(1_500_000_000),
            status: SpanStatus::Unset,
            attributes: vec![
                text("gen_ai.operation.name", "chat"),
                text("gen_ai.provider.name", "openai"),
                text("openai.api.type", "chat_completions"),
                text("gen_ai.request.model", &model),
                number("gen_ai.request.max_tokens", 1024),
                Attribute { key: "gen_ai.request.temperature".into(), value: Value::Double(0.7) },
                Attribute { key: "gen_ai.request.stream".into(), value: Value::Bool(true) },
                text("gen_ai.response.id", "chatcmpl-0123456789abcdef0123456789"),
                text("gen_ai.response.model", "gpt-5-mini-2025-08-07"),
                Attribute {
                    key: "gen_ai.response.finish_reasons".into(),
                    value: Value::StrList(vec!["stop".into()]),
                },
                number("gen_ai.usage.input_tokens", 1234),
                number("gen_ai.usage.output_tokens", 345),
                Attribute { key: "gen_ai.response.time_to_first_chunk".into(), value: Value::Double(0.31) },
                text("server.address", "api.openai.com"),
                number("server.port", 443),
                number("http.response.status_code", 200),
            ],
            incomplete: None,
            event_content: Vec::new(),
            relations: Relations::default(),
            forced: false,
            measurements: Measurements {
                operation: Cow::Borrowed("chat"),
                provider: Cow::Borrowed("openai"),
                request_model: model,
                response_model: "gpt-5-mini-2025-08-07".into(),
                server: Some(("api.openai.com".into(), 443)),
                http: Some(HttpMeasurements { method: "POST", status: 200, tls: true, http2: true }),
                duration: Some(Duration::from_millis(1500)),
                streamed: true,
                time_to_first_chunk: Some(Duration::from_millis(310)),
                time_to_first_token: Some(Duration::from_millis(320)),
                usage: TokenUsage { input: Some(1234), output: Some(345), ..TokenUsage::default() },
                ..Measurements::default()
            },
        },
        links: Vec::new(),
        pid: 4242,
    }
}
