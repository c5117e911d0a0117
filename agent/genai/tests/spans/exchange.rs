//! An HTTP/1.1 exchange as a process would see it.

use std::sync::Arc;

use tokentap_genai::{Calls, Options, Span, Transport, Value};
use tokentap_wire::{Connection, Direction, Ending, Limits, Nanos};

/// A request and its response. Time is the number of the captured piece, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) target: String,
    pub(crate) request_fields: Vec<(String, String)>,
    pub(crate) request: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) response_fields: Vec<(String, String)>,
    pub(crate) response: Vec<u8>,
}

impl Exchange {
    /// With a JSON or, when it does not begin like JSON, event stream as response.
    pub(crate) fn new(
        host: &str,
        target: &str,
        request: impl ToString,
        status: u16,
        response: impl ToString,
    ) -> Self {
        let response = response.to_string();
        let kind =
            if response.trim_start().starts_with('{') { "application/json" } else { "text/event-stream" };
        Self {
            method: "POST".into(),
            host: host.into(),
            target: target.into(),
            request_fields: Vec::new(),
            request: request.to_string().into_bytes(),
            status,
            response_fields: vec![("Content-Type".into(), kind.into())],
            response: response.into_bytes(),
        }
    }

    pub(crate) fn request_field(mut self, name: &str, value: &str) -> Self {
        self.request_fields.push((name.into(), value.into()));
        self
    }

    pub(crate) fn response_field(mut self, name: &str, value: &str) -> Self {
        self.response_fields.push((name.into(), value.into()));
        self
    }

    pub(crate) fn request_bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n",
            self.method,
            self.target,
            self.host,
            self.request.len()
        );
        for (name, value) in &self.request_fields {
            bytes += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (bytes + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.request);
        bytes
    }

    /// Chunked, as servers send what they stream.
    pub(crate) fn response_bytes(&self) -> Vec<u8> {
        let mut bytes = self.head_bytes_with("Transfer-Encoding: chunked\r\n");
        for chunk in self.response.chunks(1000) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    }

    /// The head of a response without body.
    pub(crate) fn head_bytes(&self) -> Vec<u8> {
        self.head_bytes_with("")
    }

    fn head_bytes_with(&self, first: &str) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} X\r\n{first}", self.status);
        for (name, value) in &self.response_fields {
            bytes += &format!("{name}: {value}\r\n");
        }
        (bytes + "\r\n").into_bytes()
    }

    /// The one span that comes of it, in two pieces each way.
    #[track_caller]
    pub(crate) fn span(&self) -> Span {
        let spans = self.spans();
        let [span] = spans.as_slice() else { panic!("one span expected: {spans:?}") };
        span.clone()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut capture = Capture::new(Options::default());
        capture.whole(self, &[]);
        capture.end(Ending::Cut)
    }
}

/// A captured connection.
pub(crate) struct Capture {
    connection: Connection,
    pub(crate) calls: Calls,
    offsets: [u64; 2],
    /// Directions of requests and responses.
    directions: [Direction; 2],
    /// The side of the last bytes, and how often it has changed.
    turns: (Option<usize>, u32),
    now: u64,
}

impl Capture {
    pub(crate) fn new(options: Options) -> Self {
        let transport = Transport { tls: true, peer: Some("192.0.2.1:8443".parse().expect("an address")) };
        Self {
            connection: Connection::new(Limits::default()),
            calls: Calls::new(Arc::new(options), transport),
            offsets: [0; 2],
            directions: [Direction::Write, Direction::Read],
            turns: (None, 0),
            now: 0,
        }
    }

    /// The server's side of it.
    pub(crate) fn server() -> Self {
        Self { directions: [Direction::Read, Direction::Write], ..Self::new(Options::default()) }
    }

    pub(crate) fn request(&mut self, bytes: &[u8]) {
        self.data(0, bytes);
    }

    pub(crate) fn response(&mut self, bytes: &[u8]) {
        self.data(1, bytes);
    }

    /// Bytes of one side: 0 for the client, 1 for the server.
    pub(crate) fn piece(&mut self, side: usize, bytes: &[u8]) {
        self.data(side, bytes);
    }

    fn data(&mut self, side: usize, bytes: &[u8]) {
        self.now += 1;
        if self.turns.0.replace(side) != Some(side) {
            self.turns.1 += 1;
        }
        self.connection.set_turns(Some(self.turns.1));
        let (at, offset) = (Nanos(self.now * 1_000_000), self.offsets[side]);
        self.connection.data(self.directions[side], offset, bytes, at, &mut self.calls);
        self.offsets[side] += bytes.len() as u64;
    }

    pub(crate) fn lose_request(&mut self, len: usize) {
        self.lose(0, len);
    }

    pub(crate) fn lose_response(&mut self, len: usize) {
        self.lose(1, len);
    }

    /// Bytes of one side are lost.
    pub(crate) fn lose(&mut self, side: usize, len: usize) {
        let at = Nanos(self.now * 1_000_000);
        self.connection.lost(self.directions[side], self.offsets[side], len as u64, at, &mut self.calls);
        self.offsets[side] += len as u64;
    }

    /// Both messages, cut at the given shares (0 to 1) of their length.
    pub(crate) fn whole(&mut self, exchange: &Exchange, cuts: &[f64]) {
        for (side, bytes) in [exchange.request_bytes(), exchange.response_bytes()].into_iter().enumerate() {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            for cut in cuts.windows(2) {
                self.data(side, &bytes[cut[0]..cut[1]]);
            }
        }
    }

    pub(crate) fn end(mut self, ending: Ending) -> Vec<Span> {
        self.now += 1;
        self.connection.close(ending, Nanos(self.now * 1_000_000), &mut self.calls);
        self.taken()
    }

    pub(crate) fn taken(&mut self) -> Vec<Span> {
        std::iter::from_fn(|| self.calls.take()).collect()
    }
}

/// The attributes of a span, but for those that are the same in most tests, as `key=value` lines without the
/// `gen_ai.` prefix.
pub(crate) fn lines(span: &Span) -> Vec<String> {
    let line = |(key, value): (&str, &Value)| {
        let value = match value {
            Value::Str(text) => text.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Double(value) => format!("{value:?}"),
            Value::StrList(list) => list.join(","),
        };
        format!("{}={value}", key.strip_prefix("gen_ai.").unwrap_or(key))
    };
    let mut lines: Vec<String> = span.attributes.iter().map(|a| line((&a.key, &a.value))).collect();
    lines.sort();
    lines
}

/// Checks that a span has these attributes, and none of those that begin with one of the given prefixes
/// besides: `key=value` without the `gen_ai.` prefix, in any order.
#[track_caller]
pub(crate) fn check(span: &Span, prefixes: &[&str], expected: &[&str]) {
    let found: Vec<String> = lines(span)
        .into_iter()
        .filter(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)))
        .collect();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected, "{span:#?}");
}
