//! What holds for any exchanges, cuts, orders and losses.

use std::io::Write as _;

use proptest::{prelude::*, sample::Index};

use super::*;

#[derive(Clone, Debug)]
struct RecordedMessage {
    body: Vec<u8>,
    chunk: Option<usize>,
    coding: &'static str,
}

#[derive(Clone, Debug)]
struct Pair {
    method: &'static str,
    request: RecordedMessage,
    interim: bool,
    status: u16,
    response: RecordedMessage,
}

impl RecordedMessage {
    fn any() -> impl Strategy<Value = Self> {
        let body = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "(data: [a-z\r\n]{0,20}\n\n){0,5}".prop_map(String::into_bytes),
        ];
        let chunk = prop::option::of(1..20usize);
        let coding = prop::sample::select(vec!["identity", "gzip", "deflate", "zstd"]);
        (body, chunk, coding).prop_map(|(body, chunk, coding)| Self { body, chunk, coding })
    }

    /// The fields and the body as they are sent.
    fn sent(&self) -> Vec<u8> {
        let body = match self.coding {
            "gzip" => {
                let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                coder.write_all(&self.body).unwrap();
                coder.finish().unwrap()
            }
            "deflate" => {
                let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                coder.write_all(&self.body).unwrap();
                coder.finish().unwrap()
            }
            "zstd" => zstd::stream::encode_all(&self.body[..], 1).unwrap(),
            _ => self.body.clone(),
        };
        let mut sent = format!("Content-Encoding: {}\r\n", self.coding).into_bytes();
        let Some(size) = self.chunk else {
            sent.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
            sent.extend(body);
            return sent;
        };
        sent.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(size) {
            sent.extend(format!("{:x};n={size}\r\n", chunk.len()).into_bytes());
            sent.extend(chunk);
            sent.extend(b"\r\n");
        }
        sent.extend(b"0\r\nX-Sum: 1\r\n\r\n");
        sent
    }
}

impl Pair {
    fn any() -> impl Strategy<Value = Self> {
        let method = prop::sample::select(vec!["GET", "POST", "HEAD", "PUT"]);
        let status = prop::sample::select(vec![200, 204, 304, 404, 500]);
        (method, RecordedMessage::any(), any::<bool>(), status, RecordedMessage::any()).prop_map(
            |(method, request, interim, status, response)| Self {
                method,
                request,
                interim,
                status,
                response,
            },
        )
    }

    fn bytes(&self, n: usize) -> [Vec<u8>; 2] {
        let mut request = format!("{} /{n} HTTP/1.1\r\nHost: h\r\n", self.method).into_bytes();
        request.extend(self.request.sent());
        let interim = if self.interim { "HTTP/1.1 100 Continue\r\n\r\n" } else { "" };
        let mut response = format!("{interim}HTTP/1.1 {} Phrase\r\n", self.status).into_bytes();
        let sent = self.response.sent();
        let head = memchr::memmem::find(&sent, b"\r\n\r\n").unwrap() + 4;
        response.extend(if self.has_body() { &sent } else { &sent[..head] });
        [request, response]
    }

    fn has_body(&self) -> bool {
        self.method != "HEAD" && !matches!(self.status, 204 | 304)
    }

    fn line(&self, n: usize) -> String {
        let response = if self.has_body() { &self.response.body[..] } else { b"" };
        let (request, response) =
            (String::from_utf8_lossy(&self.request.body), String::from_utf8_lossy(response));
        format!("{} /{n} [{request}] {} [{response}] Complete", self.method, self.status)
    }
}

/// A captured call: direction, time, bytes.
type Piece = (Direction, u64, Vec<u8>);

/// The calls of each direction, in order, cut at random.
fn pieces(pairs: &[Pair], cuts: &[usize]) -> [Vec<Piece>; 2] {
    let mut cuts = cuts.iter().copied().cycle();
    let mut all = [Vec::new(), Vec::new()];
    for (n, pair) in pairs.iter().enumerate() {
        for (dir, bytes) in Direction::ALL.into_iter().zip(pair.bytes(n)) {
            let time = (2 * n + dir.index()) as u64;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                all[dir.index()].push((dir, time, piece.to_vec()));
                rest = tail;
            }
        }
    }
    all
}

/// Merges both directions in an order that the choices make, each kept in its own order.
fn merge(pieces: [Vec<Piece>; 2], choices: &[bool]) -> Vec<Piece> {
    let mut choices = choices.iter().copied().cycle();
    let [mut write, mut read] = pieces.map(|pieces| pieces.into_iter().peekable());
    let mut merged = Vec::new();
    while write.peek().is_some() || read.peek().is_some() {
        let first = choices.next().unwrap();
        let next =
            if first { write.next().or_else(|| read.next()) } else { read.next().or_else(|| write.next()) };
        merged.extend(next);
    }
    merged
}

fn watch(pieces: &[Piece], lost: impl Fn(usize) -> bool) -> Watch {
    let mut watch = Watch::new(Role::Client);
    for (i, (dir, time, bytes)) in pieces.iter().enumerate() {
        watch.now = *time;
        // Each message is sent by the other side than the one before.
        watch.turned(*time as u32 + 1);
        if lost(i) {
            watch.offsets[dir.index()] += bytes.len() as u64;
        } else {
            watch.piece(*dir, bytes);
        }
    }
    watch
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    prop::collection::vec(Pair::any(), 1..6)
}

/// Sizes of calls; a call never crosses from one message into the next, as it would not without pipelining.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..5usize, 1..400usize], 1..20)
}

/// Whether what was told between losses is part of a body, in order. A number of missing bytes is written down, too.
fn is_in(told: &[u8], mut body: &[u8]) -> bool {
    let told = String::from_utf8_lossy(told);
    let known = |part: &str| !part.is_empty() && !part.contains(char::REPLACEMENT_CHARACTER);
    told.split(['<', '>']).filter(|part| known(part) && *part != "?" && part.parse::<u64>().is_err()).all(
        |part| {
            let at = memchr::memmem::find(body, part.as_bytes());
            body = at.map_or(body, |at| &body[at + part.len()..]);
            at.is_some()
        },
    )
}

proptest! {
    #[test]
    fn any_cut_and_any_order_give_the_same_exchanges(
        pairs in pairs(), cuts in cuts(), choices in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let want: Vec<_> = pairs.iter().enumerate().map(|(n, pair)| pair.line(n)).collect();
        let watch = watch(&merge(pieces(&pairs, &cuts), &choices), |_| false);
        prop_assert_eq!(watch.recorder.lines(), want);
        prop_assert!(watch.recorder.dropped.is_empty());
    }

    #[test]
    fn a_loss_makes_exchanges_incomplete_and_never_wrong(
        pairs in pairs(), cuts in cuts(), losses in prop::collection::vec(any::<Index>(), 1..4), from in any::<Index>(),
    ) {
        let [mut merged, read] = pieces(&pairs, &cuts);
        merged.extend(read);
        merged.sort_by_key(|(_, time, _)| *time);
        let losses: Vec<_> = losses.iter().map(|i| i.index(merged.len())).collect();
        let from = from.index(merged.len() * 3).saturating_sub(merged.len() * 2);
        let mut watch = watch(&merged, |i| i < from || losses.contains(&i));
        watch.close(Ending::Cut);
        for seen in watch.recorder.seen.values() {
            let n: usize = seen.request.split_once('/').unwrap().1.parse().unwrap();
            let pair = &pairs[n];
            prop_assert!(seen.status.is_none_or(|status| status == pair.status), "wrong status: {:?}", seen);
            prop_assert!(is_in(&seen.response_body, &pair.response.body), "{:?} of {:?}", seen, pair);
            let whole = seen.request_ended && seen.ending == Some(Ending::Complete);
            if whole && !seen.gap {
                prop_assert_eq!(&seen.request_body, &pair.request.body);
                prop_assert_eq!(&seen.response_body[..], if pair.has_body() { &pair.response.body[..] } else { b"" });
            }
        }
    }

    #[test]
    fn a_splitter_gives_every_byte_once_and_tells_bodies(pairs in pairs(), cuts in cuts()) {
        let [write, read] = pieces(&pairs, &cuts);
        let mut splitter = Splitter::new(Limits::default());
        for (dir, calls) in [(Write, write), (Read, read)] {
            let (mut all, mut body, mut offset) = (Vec::new(), Vec::new(), 0);
            for (_, _, bytes) in &calls {
                splitter.data(dir, offset, bytes, |segment, part| {
                    all.extend_from_slice(part);
                    if matches!(segment, Segment::Body { .. }) {
                        body.extend_from_slice(part);
                    }
                });
                offset += bytes.len() as u64;
            }
            prop_assert_eq!(all, calls.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect::<Vec<_>>());
            let plain = |message: &RecordedMessage| message.coding == "identity";
            if pairs.iter().all(|pair| plain(&pair.request) && plain(&pair.response)) {
                let want = pairs.iter().flat_map(|pair| match dir {
                    Write => &pair.request.body[..],
                    Read if pair.has_body() => &pair.response.body[..],
                    Read => b"",
                });
                prop_assert!(body.iter().eq(want));
            }
        }
    }

    #[test]
    fn any_bytes_are_survived_and_every_exchange_ends_once(
        steps in prop::collection::vec(
            (any::<bool>(), 0..8u8, prop_oneof![
                prop::collection::vec(any::<u8>(), 0..30),
                "(GET|POST|HEAD|CONNECT|HTTP/1.1|200|101|204|100| |/|:|,|Content-Length|Transfer-Encoding|chunked|\
                  Content-Encoding|gzip|br|Expect: 100-continue|Upgrade|Connection|[0-9a-f]{1,2}|\r\n|\n){0,20}"
                    .prop_map(String::into_bytes),
                "(GET|CONNECT) / HTTP/1.1\r\n(Content-Length: 3|Transfer-Encoding: chunked|Upgrade: h2c|X: y)?\r\n\r\n"
                    .prop_map(String::into_bytes),
                "HTTP/1.1 [12]0[014] \r\n(Content-Length: 3|Transfer-Encoding: chunked|Content-Encoding: br)?\r\n\r\n"
                    .prop_map(String::into_bytes),
            ]),
            0..60,
        ),
    ) {
        let mut watch = Watch::new(Role::Client);
        let mut splitter = Splitter::new(Limits::default());
        watch.recorder.terminator = Some("4");
        for (read, what, bytes) in &steps {
            let dir = if *read { Read } else { Write };
            let mut split = Vec::new();
            splitter.data(dir, watch.offsets[dir.index()], bytes, |_, part| split.extend_from_slice(part));
            prop_assert_eq!(&split, bytes);
            match what {
                0 => watch.lose(dir, bytes.len() as u64),
                1 => watch.tell_loss(dir, bytes.len() as u64),
                2 if bytes.len() < 2 => watch.half_close(dir),
                3 => {
                    let now = Nanos(watch.now);
                    watch.connection.sweep(now, Nanos(5), &mut watch.recorder);
                    &mut watch
                }
                _ => watch.call(dir, bytes),
            };
        }
        watch.close(Ending::Cut);
        prop_assert!(watch.recorder.seen.values().all(|seen| seen.ending.is_some()));
    }
}
