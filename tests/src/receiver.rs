//! OTLP receivers that are not ours, and what they received.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    metric::Series,
    parts,
    process::{Process, wait_until},
    span::Span,
};

/// A running receiver that writes what it gets to a file of JSON lines.
#[derive(Debug)]
pub struct Receiver {
    _process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
    output: PathBuf,
    folder: TempDir,
}

#[derive(Deserialize)]
struct Ports {
    grpc: u16,
    http: u16,
}

impl Receiver {
    /// The one in `parts/otlp_receiver.py`, on any ports: Python's own protobuf and gRPC.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn python() -> Self {
        Self::python_on(0)
    }

    /// The same, with gRPC on a given port.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn python_on(grpc: u16) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = folder.path().join("received.jsonl");
        let mut command = Command::new(parts::part("venv/bin/python"));
        command.arg(parts::file("parts/otlp_receiver.py")).arg("--out").arg(&output);
        command.args(["--grpc-port", &grpc.to_string()]);
        let process = Process::spawn(command);
        let ports: Ports = process.wait_for_line("ports", |line| serde_json::from_str(line).ok());
        Self { _process: process, grpc: loopback(ports.grpc), http: loopback(ports.http), output, folder }
    }

    /// A real OpenTelemetry Collector with its file exporter.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn collector() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = folder.path().join("received.jsonl");
        let (grpc, http) = (free_port(), free_port());
        let config = folder.path().join("config.yaml");
        let text = fs::read_to_string(parts::file("parts/otelcol-config.yaml")).expect("the configuration");
        let text = text
            .replace("GRPC_PORT", &grpc.to_string())
            .replace("HTTP_PORT", &http.to_string())
            .replace("SOCKET", &folder.path().join("otlp.sock").to_string_lossy())
            .replace("OUTPUT", &output.to_string_lossy());
        fs::write(&config, text).expect("a configuration is written");
        let mut command = Command::new(parts::part("otelcol/otelcol"));
        command.arg("--config").arg(&config);
        let process = Process::spawn(command);
        process.wait_for_complaint("line that says ready", |line| {
            line.contains("Everything is ready").then_some(())
        });
        Self { _process: process, grpc: loopback(grpc), http: loopback(http), output, folder }
    }

    /// Endpoint for gRPC.
    #[must_use]
    pub fn grpc(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Endpoint for HTTP.
    #[must_use]
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Endpoint for gRPC over a Unix socket, of the Collector only.
    #[must_use]
    pub fn unix(&self) -> String {
        format!("unix://{}", self.folder.path().join("otlp.sock").display())
    }

    /// Waits for so many spans.
    ///
    /// # Panics
    /// When fewer come in time.
    #[must_use]
    pub fn wait_for_spans(&self, count: usize) -> Vec<Span> {
        wait_until(&format!("{count} spans arrive"), || self.spans().len() >= count);
        self.spans()
    }

    /// What has arrived so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.documents().iter().flat_map(Span::from_otlp).collect()
    }

    /// Waits for so many log records, and gives them as OTLP's JSON has them.
    ///
    /// # Panics
    /// When fewer come in time.
    #[must_use]
    pub fn wait_for_logs(&self, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} log records arrive"), || self.logs().len() >= count);
        self.logs()
    }

    fn logs(&self) -> Vec<Value> {
        let list = |of: &Value, key: &str| of[key].as_array().cloned().unwrap_or_default();
        let resources = self.documents().into_iter().flat_map(|document| list(&document, "resourceLogs"));
        let scopes = resources.flat_map(|resource| list(&resource, "scopeLogs"));
        scopes.flat_map(|scope| list(&scope, "logRecords")).collect()
    }

    /// The series of a metric in its last state, once `is_enough` says so of them.
    ///
    /// # Panics
    /// When that does not happen in time.
    #[must_use]
    pub fn wait_for_metric(&self, name: &str, is_enough: impl Fn(&[Series]) -> bool) -> Vec<Series> {
        wait_until(&format!("{name} arrives"), || is_enough(&self.metric(name)));
        self.metric(name)
    }

    /// The series of a metric of which numbers count from the start, as they were last.
    #[must_use]
    pub fn metric(&self, name: &str) -> Vec<Series> {
        let mut series: Vec<Series> = Vec::new();
        for new in self.documents().iter().flat_map(|document| Series::of(document, name)) {
            match series.iter_mut().find(|known| known.is_same(&new)) {
                Some(known) => *known = new,
                None => series.push(new),
            }
        }
        series
    }

    /// A line that is still being written does not count yet.
    fn documents(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// A port that nobody listens on.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on loopback")
        .port()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
