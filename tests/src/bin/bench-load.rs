//! A closed loop of LLM calls: each connection makes its next call when the last one is answered. Uses the
//! system's OpenSSL, so that probes on it are in the way. Prints one line of JSON.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser;
use openssl::ssl::{SslConnector, SslMethod};

/// Makes LLM calls in a closed loop and reports throughput and latency.
#[derive(Parser)]
struct Args {
    /// Address of the server, as 127.0.0.1:8443.
    #[arg(long)]
    server: SocketAddr,
    /// TLS with this authority (PEM); plain HTTP without.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Connections, each with a thread of its own.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Stop after so many calls in all.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    calls: usize,
    /// Stop after so many seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Model of every call: what the mock does.
    #[arg(long, default_value = "mock-chunks200")]
    model: String,
    /// Ask for plain answers instead of streamed ones.
    #[arg(long)]
    plain: bool,
    /// Download files of so many bytes instead of making calls.
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["plain", "hold"])]
    download: Option<usize>,
    /// Bytes of the last message.
    #[arg(long, default_value_t = 200)]
    prompt: usize,
    /// Open the connections, print `{"ready":true}` and start at a line on standard input.
    #[arg(long)]
    wait: bool,
    /// Open as many streams as connections, read so many bytes of each (of plain answers: all), print
    /// `{"holding":N}` and keep them open until standard input ends.
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["calls", "wait"])]
    hold: Option<usize>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let request = request(&args);
    let mut connections = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        connections.push(Connection::open(args.server, args.ca.as_deref())?);
    }
    if let Some(bytes) = args.hold {
        return hold(connections, &request, (!args.plain).then_some(bytes));
    }
    if args.wait {
        println!("{}", serde_json::json!({"ready": true}));
        io::stdin().read_line(&mut String::new())?;
    }
    let taken = AtomicUsize::new(0);
    let start = Instant::now();
    let deadline = start + Duration::from_secs_f64(args.seconds);
    let results: Vec<anyhow::Result<Load>> = thread::scope(|scope| {
        let threads: Vec<_> = connections
            .into_iter()
            .map(|connection| {
                scope.spawn(|| {
                    let more =
                        || Instant::now() < deadline && taken.fetch_add(1, Ordering::Relaxed) < args.calls;
                    Load::run(connection, &request, more)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a connection's thread failed")))
            .collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut all = Load::default();
    for load in results {
        all.merge(load?);
    }
    all.latencies.sort_unstable();
    println!(
        "{}",
        serde_json::json!({
            "calls": all.latencies.len(), "seconds": seconds, "reads": all.reads, "bytes": all.bytes,
            "calls_per_second": all.latencies.len() as f64 / seconds,
            "p50_us": all.percentile(50), "p99_us": all.percentile(99),
        })
    );
    Ok(())
}

fn request(args: &Args) -> Vec<u8> {
    if let Some(bytes) = args.download {
        return format!("GET /files/{bytes} HTTP/1.1\r\nhost: {}\r\n\r\n", args.server).into_bytes();
    }
    let body = serde_json::json!({
        "messages": [{"role": "user", "content": "x".repeat(args.prompt)}],
        "model": args.model, "stream": !args.plain,
    })
    .to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        args.server,
        body.len()
    )
    .into_bytes()
}

/// Of each answer so many bytes are read, or all.
fn hold(mut connections: Vec<Connection>, request: &[u8], bytes: Option<usize>) -> anyhow::Result<()> {
    let mut buffer = [0; 16 << 10];
    for connection in &mut connections {
        connection.stream.write_all(request)?;
        if bytes.is_none() {
            connection.answer(&mut Load::default())?;
        }
    }
    for connection in &mut connections {
        let Some(bytes) = bytes else { break };
        let mut read = 0;
        while read < bytes {
            match connection.stream.read(&mut buffer)? {
                0 => bail!("the server ended a stream after {read} bytes"),
                n => read += n,
            }
        }
    }
    println!("{}", serde_json::json!({"holding": connections.len()}));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// What one connection did.
#[derive(Default)]
struct Load {
    /// Microseconds of each call.
    latencies: Vec<u64>,
    reads: u64,
    bytes: u64,
}

impl Load {
    fn run(
        mut connection: Connection,
        request: &[u8],
        mut more: impl FnMut() -> bool,
    ) -> anyhow::Result<Self> {
        let mut load = Self::default();
        while more() {
            let start = Instant::now();
            connection.stream.write_all(request)?;
            connection.answer(&mut load)?;
            load.latencies.push(u64::try_from(start.elapsed().as_micros())?);
        }
        Ok(load)
    }

    fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.reads += other.reads;
        self.bytes += other.bytes;
    }

    /// Of sorted latencies.
    fn percentile(&self, percent: usize) -> Option<u64> {
        let last = self.latencies.len().checked_sub(1)?;
        self.latencies.get((self.latencies.len() * percent / 100).min(last)).copied()
    }
}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Connection {
    fn open(server: SocketAddr, ca: Option<&Path>) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(server).with_context(|| format!("cannot connect to {server}"))?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match ca {
            None => Box::new(socket),
            Some(ca) => {
                let mut connector = SslConnector::builder(SslMethod::tls_client())?;
                connector.set_ca_file(ca).with_context(|| format!("cannot read {}", ca.display()))?;
                Box::new(connector.build().connect(&server.ip().to_string(), socket)?)
            }
        };
        Ok(Self { stream, buffer: vec![0; 16 << 10] })
    }

    /// Reads one answer to its last byte.
    fn answer(&mut self, load: &mut Load) -> anyhow::Result<()> {
        let mut filled = 0;
        let head = loop {
            filled += self.read(filled, load)?;
            if let Some(head) = Head::parse(&self.buffer[..filled])? {
                break head;
            }
        };
        match head.length {
            Some(length) => {
                let mut left = (head.bytes + length).saturating_sub(filled);
                while left > 0 {
                    left = left.saturating_sub(self.read(0, load)?);
                }
            }
            None => {
                // The mock's bodies have no such bytes within: JSON escapes line ends.
                const END: &[u8] = b"\r\n0\r\n\r\n";
                while !self.buffer[..filled].ends_with(END) {
                    let kept = filled.min(END.len() - 1);
                    self.buffer.copy_within(filled - kept..filled, 0);
                    filled = kept + self.read(kept, load)?;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize, load: &mut Load) -> anyhow::Result<usize> {
        let read = self.stream.read(&mut self.buffer[at..])?;
        if read == 0 {
            bail!("the server closed a connection in mid-answer");
        }
        load.reads += 1;
        load.bytes += read as u64;
        Ok(read)
    }
}

struct Head {
    bytes: usize,
    /// `Content-Length`; chunked without.
    length: Option<usize>,
}

impl Head {
    fn parse(buffer: &[u8]) -> anyhow::Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(bytes) = response.parse(buffer)? else { return Ok(None) };
        if response.code != Some(200) {
            bail!("the server answered {}", response.code.unwrap_or(0));
        }
        let length = response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("content-length"))
            .map(|field| std::str::from_utf8(field.value)?.parse().context("content-length"))
            .transpose()?;
        Ok(Some(Self { bytes, length }))
    }
}
