//! HTTP/1.1 as a server speaks it: requests off a stream, answers onto it.

use std::io::{self, Read, Write};

const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 64 << 20;

/// A request, whole.
pub(super) struct Request {
    pub(super) method: String,
    /// The target without its query.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    pub(super) keep_alive: bool,
}

/// One connection, and how much plaintext passed it.
pub(super) struct Peer<S> {
    stream: S,
    buffer: Vec<u8>,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl<S: Read + Write> Peer<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), received: 0, sent: 0 }
    }

    /// The next request; `None` when the client is done.
    pub(super) fn request(&mut self) -> io::Result<Option<Request>> {
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break self.buffer.drain(..end + 4).collect::<Vec<_>>();
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("header block over 64 KiB"));
            }
            if self.fill()? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut fields);
        parsed.parse(&head).map_err(|e| invalid(&e.to_string()))?;
        let field = |name: &str| {
            parsed
                .headers
                .iter()
                .find(|h| h.name.eq_ignore_ascii_case(name))
                .map(|h| String::from_utf8_lossy(h.value).to_ascii_lowercase())
        };
        if field("expect").as_deref() == Some("100-continue") {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = if field("transfer-encoding").as_deref() == Some("chunked") {
            self.chunked_body()?
        } else {
            let length = field("content-length").map_or(Ok(0), |v| v.parse());
            self.exactly(length.map_err(|_| invalid("Content-Length is no number"))?)?
        };
        Ok(Some(Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: parsed.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned(),
            body,
            keep_alive: field("connection").as_deref() != Some("close"),
        }))
    }

    /// Writes all of it, as one TLS write where the stream is TLS.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// One chunk of a chunked body.
    pub(super) fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk)
    }

    /// The stream itself, to end it in its own way.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    fn chunked_body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(|b| *b == b';').next().unwrap_or_default();
            let length =
                std::str::from_utf8(digits).ok().and_then(|d| usize::from_str_radix(d.trim(), 16).ok());
            let length = length.ok_or_else(|| invalid("chunk size is no number"))?;
            if length == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend_from_slice(&self.exactly(length)?);
            if body.len() > MAX_BODY || !self.line()?.is_empty() {
                return Err(invalid("chunk is too long"));
            }
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return Ok(line);
            }
            if self.buffer.len() > MAX_HEAD || self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > MAX_BODY {
            return Err(invalid("body over 64 MiB"));
        }
        while self.buffer.len() < length {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let old = self.buffer.len();
        self.buffer.resize(old + (64 << 10), 0);
        let read = self.stream.read(&mut self.buffer[old..]);
        self.buffer.truncate(old + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.received += read as u64;
        Ok(read)
    }
}

/// The head of an answer, blank line and all.
pub(super) fn head(status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Overloaded",
    };
    let mut head = format!("HTTP/1.1 {status} {reason}\r\nserver: mock-llm\r\n").into_bytes();
    for (name, value) in fields {
        head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
