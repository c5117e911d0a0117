//! Messages of a gRPC or gRPC-Web body, cut as the bytes come (the gRPC over HTTP/2 protocol's
//! Length-Prefixed-Message).
//!
//! The status is in the trailers of the response: [`crate::Sink::trailers`], or for gRPC-Web in the last
//! message, which says so.

use crate::{reason, reassembly::take};

/// Cuts one body into messages.
///
/// Memory: the message that is cut, and of that no more than was said to be kept.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// The message that is cut.
    kept: Vec<u8>,
    most: usize,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its bytes are compressed, as `grpc-encoding` says.
    pub compressed: bool,
    /// It holds trailers as HTTP/1 writes them, not a message (gRPC-Web).
    pub trailers: bool,
    /// How long it is, in bytes.
    pub len: u32,
    /// Its bytes; only the first of them when it is longer than is kept or some are missing.
    pub bytes: &'a [u8],
}

impl Message<'_> {
    /// Whether all its bytes are here.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.bytes.len() == self.len as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Prefix {
        bytes: [u8; PREFIX],
        have: usize,
    },
    /// In a message, with so many bytes to come. `cut`: no more of them are kept.
    Message {
        flags: u8,
        len: u32,
        left: u32,
        cut: bool,
    },
    /// Nobody knows where the next message begins.
    Lost,
}

const PREFIX: usize = 5;
const START: State = State::Prefix { bytes: [0; PREFIX], have: 0 };
const COMPRESSED: u8 = 0x01;
const TRAILERS: u8 = 0x80;
/// A buffer this large is kept for the next message that is cut.
const KEPT_BUFFER: usize = 4 << 10;

impl Parser {
    /// A parser that keeps at most `most` bytes of a message that comes in pieces.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { state: START, kept: Vec::new(), most }
    }

    /// Takes bytes of the body and gives every message that is whole to `on`. After an error, and after a gap
    /// that hides where messages begin, nothing more is given.
    ///
    /// # Errors
    /// [`reason::GRPC_FLAGS`] when a message begins with what no gRPC message does.
    pub fn feed(&mut self, bytes: &[u8], mut on: impl FnMut(Message<'_>)) -> Result<(), &'static str> {
        let mut input = bytes;
        loop {
            match &mut self.state {
                State::Lost => return Ok(()),
                State::Prefix { bytes, have } => {
                    let len = input.len().min(PREFIX - *have);
                    bytes[*have..*have + len].copy_from_slice(take(&mut input, len));
                    *have += len;
                    if *have < PREFIX {
                        return Ok(());
                    }
                    let [flags, a, b, c, d] = *bytes;
                    if flags & !(COMPRESSED | TRAILERS) != 0 {
                        self.state = State::Lost;
                        return Err(reason::GRPC_FLAGS);
                    }
                    let len = u32::from_be_bytes([a, b, c, d]);
                    self.state = State::Message { flags, len, left: len, cut: false };
                }
                State::Message { flags, len, left, cut } => {
                    let taken = input.len().min(*left as usize);
                    let part = take(&mut input, taken);
                    *left -= taken as u32;
                    let whole = self.kept.is_empty() && *left == 0 && !*cut;
                    if !whole && !*cut {
                        let room = self.most.saturating_sub(self.kept.len()).min(taken);
                        self.kept.extend_from_slice(&part[..room]);
                        *cut = room < taken;
                    }
                    if *left > 0 {
                        return Ok(());
                    }
                    on(Message {
                        compressed: *flags & COMPRESSED != 0,
                        trailers: *flags & TRAILERS != 0,
                        len: *len,
                        bytes: if whole { part } else { &self.kept },
                    });
                    self.kept.clear();
                    self.kept.shrink_to(KEPT_BUFFER);
                    self.state = START;
                }
            }
        }
    }

    /// Bytes of the body are missing here, or nobody knows how many.
    pub fn gap(&mut self, missing: Option<u64>) {
        match (&mut self.state, missing) {
            (State::Message { left, cut, .. }, Some(missing)) if missing <= u64::from(*left) => {
                *left -= missing as u32;
                *cut |= missing > 0;
            }
            (_, Some(0)) => {}
            (state, _) => {
                *state = State::Lost;
                self.kept = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(flags: u8, bytes: &[u8]) -> Vec<u8> {
        [&[flags][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
    }

    /// Messages as text: `~` before compressed ones, `#` before trailers, `+n` after those of which n bytes are
    /// not here.
    fn feed(parser: &mut Parser, body: &[u8], size: usize) -> (String, Result<(), &'static str>) {
        let mut seen = Vec::new();
        let mut on = |message: Message<'_>| {
            let text = String::from_utf8_lossy(message.bytes);
            let marks = [("~", message.compressed), ("#", message.trailers)];
            let marks: String = marks.iter().filter(|mark| mark.1).map(|mark| mark.0).collect();
            let rest = message.len as usize - message.bytes.len();
            assert_eq!(message.is_whole(), rest == 0);
            seen.push(format!("{marks}{text}{}", if rest > 0 { format!("+{rest}") } else { String::new() }));
        };
        let fed = body.chunks(size).try_for_each(|piece| parser.feed(piece, &mut on));
        (seen.join(" "), fed)
    }

    #[track_caller]
    fn check(body: &[u8], want: &str) {
        for size in [1, 2, 6, 1000] {
            assert_eq!(feed(&mut Parser::new(100), body, size), (want.into(), Ok(())), "in pieces of {size}");
        }
    }

    #[test]
    fn messages_are_given_whole_however_they_are_cut() {
        check(b"", "");
        check(&message(0, b"hello"), "hello");
        check(
            &[message(0, b"a"), message(1, b"bb"), message(0x80, b"grpc-status:0")].concat(),
            "a ~bb #grpc-status:0",
        );
        let empty = [message(0, b""), message(0, b"x")].concat();
        assert_eq!(feed(&mut Parser::new(9), &empty, 3).0, " x");
        check(&message(0, b"cut")[..7], "");
    }

    #[test]
    fn a_message_over_the_bound_is_given_by_its_first_bytes() {
        let body = [message(0, b"0123456789"), message(0, b"next")].concat();
        for size in [1, 3, 9] {
            assert_eq!(feed(&mut Parser::new(4), &body, size).0, "0123+6 next", "in pieces of {size}");
        }
    }

    #[test]
    fn a_gap_in_a_message_costs_that_one_and_another_gap_all_that_follow() {
        let (first, rest) = (message(0, b"0123456789"), message(0, b"next"));
        let mut parser = Parser::new(100);
        assert_eq!(feed(&mut parser, &first[..8], 100).0, "");
        parser.gap(Some(4));
        assert_eq!(feed(&mut parser, &[&first[12..], &rest].concat(), 100).0, "012+7 next");
        for missing in [Some(1), None] {
            parser.gap(missing);
            assert_eq!(feed(&mut parser, &rest, 100).0, "");
        }
    }

    #[test]
    fn what_is_no_message_is_named() {
        let mut parser = Parser::new(100);
        let body = [message(0, b"a"), b"<html>".to_vec()].concat();
        assert_eq!(feed(&mut parser, &body, 100), ("a".into(), Err(reason::GRPC_FLAGS)));
        assert_eq!(feed(&mut parser, &message(0, b"b"), 100), (String::new(), Ok(())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_survived_alike_however_they_are_cut(
            body in prop::collection::vec(prop_oneof![Just(0), 0..4u8, any::<u8>()], 0..80), size in 1..20usize,
        ) {
            let want = feed(&mut Parser::new(1000), &body, 1000);
            prop_assert_eq!(feed(&mut Parser::new(1000), &body, size), want);
        }
    }
}
