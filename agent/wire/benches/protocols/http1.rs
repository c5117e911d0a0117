//! Tapes of HTTP/1.1.

use tokentap_wire::Direction;

use crate::{bodies, tape::Tape};

const ASKED: &str = "{}";

/// Requests and their responses on one connection that is kept.
pub(crate) struct Kept(pub(crate) Tape);

impl Kept {
    pub(crate) const fn new(exchanges: usize, chunks: usize) -> Self {
        Self(Tape::new(exchanges, chunks))
    }

    fn ask(&mut self, fields: &str, body: &[u8]) {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: api.example.com\r\nAccept: */*\r\n\
             User-Agent: client/1.0\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.call(Direction::Write, &[head.as_bytes(), body].concat());
    }

    /// An exchange whose response has a length.
    pub(crate) fn plain(&mut self, fields: &str, body: &[u8]) {
        self.ask("", ASKED.as_bytes());
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        self.0.call(Direction::Read, &[head.as_bytes(), body].concat());
    }

    /// An exchange whose response is sent in these chunks, each of which is read in a call of its own if
    /// `apart`, else as much as there is.
    pub(crate) fn chunked(&mut self, fields: &str, chunks: &[Vec<u8>], apart: bool) {
        self.ask("", ASKED.as_bytes());
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n");
        let mut calls = vec![head.into_bytes()];
        calls.extend(
            chunks.iter().map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()),
        );
        calls.push(b"0\r\n\r\n".to_vec());
        if !apart {
            calls = vec![calls.concat()];
        }
        for call in calls {
            self.0.call(Direction::Read, &call);
        }
    }

    /// An exchange whose request is large.
    pub(crate) fn upload(&mut self, body: &[u8]) {
        self.ask("", body);
        self.0.call(Direction::Read, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    }

    /// An exchange as small as those of an API often are, with the fields that those have.
    pub(crate) fn small(&mut self, number: usize) {
        self.ask(&format!("X-Request-Id: {}\r\n", bodies::id(number)), ASKED.as_bytes());
        let head = "HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nServer: example\r\n\
                    Content-Type: application/json\r\nCache-Control: no-cache\r\nContent-Length: 15\r\n\r\n";
        self.0.call(Direction::Read, format!("{head}{{\"status\":\"ok\"}}").as_bytes());
    }
}
