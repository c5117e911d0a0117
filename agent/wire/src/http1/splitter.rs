//! Tells which bytes of a connection are heads, framing and bodies: a recorder redacts each in another way.

use std::collections::VecDeque;

use super::{
    framer::{Framer, MessageGap, MessageStep, RawHead},
    head::{self, BodyLength, MethodKind, StartLine},
};
use crate::{
    Direction, Headers, Limits, Nanos,
    body::codings,
    proxy::{ProxyHeader, ProxyMatch},
    reassembly::{Advance, Position},
};

/// What a run of bytes is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A start line or header fields, with their line ends. The blank line ends a head.
    Head,
    /// Chunk sizes, trailers and the line ends around them; blank lines between messages.
    Framing,
    /// A body.
    Body {
        /// The body is sent in chunks.
        chunked: bool,
        /// The body has a content or transfer coding.
        encoded: bool,
    },
    /// Unknown bytes: before the first message, after a loss, in another protocol, or seen before.
    Other,
}

/// Splits both directions of one connection, as its bytes come.
///
/// Memory: two header blocks at most ([`Limits::head`]), and a byte for each of [`Limits::in_flight`] requests.
#[derive(Debug)]
pub struct Splitter {
    limits: Limits,
    halves: [SplitterHalf; 2],
    /// Methods of requests whose response has not begun.
    kinds: VecDeque<MethodKind>,
    /// Another protocol has begun.
    over: bool,
}

#[derive(Debug)]
struct SplitterHalf {
    position: Position,
    /// The header of a load balancer: its bytes are [`Segment::Other`].
    proxy: ProxyHeader,
    framer: Framer,
    body: Segment,
}

impl Splitter {
    /// A splitter for a connection that may have been open before it was first seen.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let half = || SplitterHalf {
            position: Position::default(),
            proxy: ProxyHeader::default(),
            framer: Framer::new(limits.head),
            body: Segment::Other,
        };
        Self { limits, halves: [half(), half()], kinds: VecDeque::new(), over: false }
    }

    /// Takes bytes of one direction, as [`crate::Connection::data`] does, and gives all of them to `on`, in order and
    /// each piece with what it is. A head can come in several pieces.
    pub fn data(&mut self, dir: Direction, offset: u64, bytes: &[u8], mut on: impl FnMut(Segment, &[u8])) {
        let half = &mut self.halves[dir.index()];
        let Advance { missing, bytes: new, mut starts_call } = half.position.take(offset, bytes);
        let mut on = |segment, bytes: &[u8]| {
            if !bytes.is_empty() {
                on(segment, bytes);
            }
        };
        on(Segment::Other, &bytes[..bytes.len() - new.len()]);
        self.gap(dir, missing);
        let mut input = new;
        let proxy = &mut self.halves[dir.index()].proxy;
        if proxy.is_started_by(input) {
            starts_call |= proxy.skip(&mut input, Nanos(0)) == ProxyMatch::Ended;
            on(Segment::Other, &new[..new.len() - input.len()]);
        }
        let first = input.len();
        while !self.over {
            let half = &mut self.halves[dir.index()];
            let before = input;
            let starts_call = starts_call && input.len() == first;
            match half.framer.next(&mut input, starts_call, Nanos(0)) {
                MessageStep::More => break,
                MessageStep::HeadPart(part) => on(Segment::Head, part),
                MessageStep::Framing(part) => on(Segment::Framing, part),
                MessageStep::Body(part) => on(half.body, part),
                MessageStep::Trailers(trailers) => {
                    on(Segment::Framing, trailers.tail);
                    half.framer.reuse_buffer(trailers);
                }
                MessageStep::Skipped(part, _) => on(Segment::Other, part),
                MessageStep::End => {}
                MessageStep::Malformed(..) => on(Segment::Other, &before[..before.len() - input.len()]),
                MessageStep::Head(head) => {
                    on(Segment::Head, head.tail);
                    self.head(dir, head);
                }
            }
        }
        on(Segment::Other, input);
    }

    /// `len` bytes from `offset` on will not come.
    pub fn lost(&mut self, dir: Direction, offset: u64, len: u64) {
        let missing = self.halves[dir.index()].position.lose(offset, len);
        self.gap(dir, missing);
    }

    fn gap(&mut self, dir: Direction, missing: u64) {
        if missing > 0 {
            self.halves[dir.index()].proxy.take_unmatched();
        }
        if missing > 0
            && let MessageGap::Lost | MessageGap::Chunks | MessageGap::Between =
                self.halves[dir.index()].framer.gap(missing)
        {
            self.kinds.clear();
        }
    }

    fn head(&mut self, dir: Direction, head: RawHead<'_>) {
        let mut fields = Vec::new();
        let parsed = head::parse(head.bytes(), &mut fields);
        let headers = Headers::new(&fields, true);
        let body = match parsed {
            Ok((StartLine::Request { method, .. }, _)) => {
                if self.kinds.len() == self.limits.in_flight {
                    self.kinds.pop_front();
                }
                self.kinds.push_back(MethodKind::of(method));
                head::request_body(headers)
            }
            Ok((StartLine::Response { status: 102..200 | 100, .. }, _)) => Ok(BodyLength::Length(0)),
            Ok((StartLine::Response { status, .. }, _)) => {
                let kind = self.kinds.pop_front().unwrap_or(MethodKind::Plain);
                self.over = head::switches_protocol(kind, status);
                head::response_body(kind, status, headers)
            }
            Err(reason) => Err(reason),
        };
        let half = &mut self.halves[dir.index()];
        match body {
            Ok(body) => {
                half.body = Segment::Body {
                    chunked: body == BodyLength::Chunked,
                    encoded: codings(headers).next().is_some(),
                };
                half.framer.begin(body);
            }
            Err(_) => half.framer.lose_sync(),
        }
        half.framer.reuse_buffer(head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits `bytes` of one direction, cut at `size`, and joins equal neighbours.
    fn split(splitter: &mut Splitter, dir: Direction, bytes: &[u8], size: usize) -> Vec<(Segment, String)> {
        let mut all: Vec<(Segment, String)> = Vec::new();
        for (i, piece) in bytes.chunks(size).enumerate() {
            splitter.data(dir, (i * size) as u64, piece, |segment, part| {
                let part = String::from_utf8_lossy(part);
                match all.last_mut() {
                    Some((last, text)) if *last == segment => text.push_str(&part),
                    _ => all.push((segment, part.into_owned())),
                }
            });
        }
        all
    }

    #[track_caller]
    fn check(requests: &str, responses: &str, want: [&[(Segment, &str)]; 2]) {
        for size in [1, 7, usize::MAX] {
            let mut splitter = Splitter::new(Limits::default());
            for (dir, bytes, want) in
                [(Direction::Write, requests, want[0]), (Direction::Read, responses, want[1])]
            {
                let size = size.min(bytes.len()).max(1);
                let got = split(&mut splitter, dir, bytes.as_bytes(), size);
                let got: Vec<_> = got.iter().map(|(segment, text)| (*segment, text.as_str())).collect();
                assert_eq!(got, want, "cut every {size}");
            }
        }
    }

    const PLAIN: Segment = Segment::Body { chunked: false, encoded: false };
    const CHUNKED: Segment = Segment::Body { chunked: true, encoded: false };
    const GZIP: Segment = Segment::Body { chunked: false, encoded: true };

    #[test]
    fn heads_framing_and_bodies_are_told_apart() {
        check(
            "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\r\nHEAD /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\nxy",
            [
                &[
                    (Segment::Head, "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\n"),
                    (PLAIN, "abc"),
                    (Segment::Framing, "\r\n"),
                    (Segment::Head, "HEAD /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n"),
                ],
                &[
                    (Segment::Head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
                    (Segment::Framing, "2\r\n"),
                    (CHUNKED, "de"),
                    (Segment::Framing, "\r\n0\r\nT: 1\r\n\r\n"),
                    (
                        Segment::Head,
                        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n",
                    ),
                    (GZIP, "xy"),
                ],
            ],
        );
    }

    #[test]
    fn what_a_load_balancer_puts_in_front_is_other() {
        let mut splitter = Splitter::new(Limits::default());
        let got = split(
            &mut splitter,
            Direction::Read,
            b"PROXY TCP4 1.2.3.4 ::1 5 6\r\nGET / HTTP/1.1\r\n\r\n",
            99,
        );
        assert_eq!(
            got,
            [
                (Segment::Other, "PROXY TCP4 1.2.3.4 ::1 5 6\r\n".to_owned()),
                (Segment::Head, "GET / HTTP/1.1\r\n\r\n".to_owned())
            ]
        );
    }

    #[test]
    fn what_is_no_http_is_other() {
        let mut splitter = Splitter::new(Limits::default());
        let secret = split(&mut splitter, Direction::Write, b"\x16\x03\x01 hello", 4);
        assert_eq!(secret, [(Segment::Other, "\u{16}\u{3}\u{1} hello".to_owned())]);
        check(
            "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 binary",
            [
                &[(Segment::Head, "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n")],
                &[(Segment::Head, "HTTP/1.1 101 Switching\r\n\r\n"), (Segment::Other, "HTTP/1.1 binary")],
            ],
        );
    }

    #[test]
    fn a_loss_inside_a_body_keeps_step_and_one_elsewhere_does_not() {
        let mut splitter = Splitter::new(Limits::default());
        let mut got = Vec::new();
        let mut feed = |offset, bytes: &[u8]| {
            splitter.data(Direction::Write, offset, bytes, |segment, part| got.push((segment, part.len())));
        };
        feed(0, b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n01");
        feed(48, b"9GET / HTTP/1.1\r\n");
        feed(70, b"Host: a\r\n\r\n");
        feed(75, b"a\r\n\r\nGET");
        assert_eq!(
            got,
            [
                (Segment::Head, 39),
                (PLAIN, 2),
                (PLAIN, 1),
                (Segment::Head, 16),
                (Segment::Other, 11),
                (Segment::Other, 6),
                (Segment::Other, 2),
            ]
        );
    }
}
