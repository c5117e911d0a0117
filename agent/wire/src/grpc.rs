//! Cuts a gRPC body into messages, incrementally (Length-Prefixed-Message of the gRPC over HTTP/2 protocol).
//!
//! The status is in the trailers of the response: [`crate::Sink::trailers`], or for gRPC-Web ([`web`]) in the last
//! message, which has a flag for that.

pub mod web;

use std::ops::ControlFlow;

use crate::{Limits, Reason, coding::Decoder, reassembly::take};

/// Cuts one body into messages, and decompresses them.
///
/// Memory: the message that comes in pieces or is compressed, up to the bound of [`Parser::new`], and what a decoder
/// needs: 64 KiB for gzip and deflate, up to 8 MiB for zstd where the encoder chose such a window.
#[derive(Debug)]
pub struct Parser {
    state: GrpcState,
    /// The message that comes in pieces or is compressed.
    kept: Vec<u8>,
    most: usize,
    decoder: Option<Box<Decoder>>,
    /// Why the message could not be decompressed.
    undecodable: Option<Reason>,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcMessage<'a> {
    /// Its bytes are compressed: the parser does not know how.
    pub compressed: bool,
    /// Its bytes are trailers as in HTTP/1 (gRPC-Web).
    pub trailers: bool,
    /// Its length as it was sent, in bytes.
    pub len: u32,
    /// Its bytes; only the first of them when it is longer than the bound, has a gap or could not be decompressed.
    pub bytes: &'a [u8],
    /// `bytes` is all of the message.
    pub whole: bool,
    /// Why it could not be decompressed.
    pub undecodable: Option<Reason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrpcState {
    Prefix {
        bytes: [u8; PREFIX],
        have: usize,
    },
    /// In a message, with `left` bytes to come. `coded`: they are decompressed. `cut`: no more are kept.
    Message {
        flags: u8,
        len: u32,
        left: u32,
        coded: bool,
        cut: bool,
    },
    /// It is not known where the next message begins, which has not been reported yet.
    Gap,
    /// The same, and it has been reported.
    Lost,
}

const PREFIX: usize = 5;
const START: GrpcState = GrpcState::Prefix { bytes: [0; PREFIX], have: 0 };
const COMPRESSED: u8 = 0x01;
const TRAILERS: u8 = 0x80;
/// Largest buffer that is kept for the next message, in bytes.
const KEPT_BUFFER: usize = 4 << 10;

impl Parser {
    /// A parser that keeps at most `most` bytes of a message that comes in pieces, and does not decompress.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { state: START, kept: Vec::new(), most, decoder: None, undecodable: None }
    }

    /// A parser that keeps at most `most` bytes of a message that comes in pieces or is compressed, for the value of
    /// the `grpc-encoding` field. Of `limits`, `decoded` and `ratio` apply, to each message.
    ///
    /// # Errors
    /// [`Reason::ContentCodingUnknown`] when that is none of gzip, deflate, zstd, br and identity.
    pub fn with_encoding(most: usize, encoding: &[u8], limits: &Limits) -> Result<Self, Reason> {
        let decoder = Decoder::new(std::iter::once(encoding.trim_ascii()), *limits)?;
        Ok(Self { decoder: decoder.map(Box::new), ..Self::new(most) })
    }

    /// Takes bytes of the body and gives every message that they complete to `on`. After an error, no more messages are
    /// given.
    ///
    /// # Errors
    /// [`Reason::GrpcFlagsInvalid`] when a message has undefined flags, [`Reason::GrpcGap`] when a gap hides where a message
    /// begins; each once.
    pub fn feed(&mut self, bytes: &[u8], mut on: impl FnMut(GrpcMessage<'_>)) -> Result<(), Reason> {
        let mut input = bytes;
        loop {
            match &mut self.state {
                GrpcState::Lost => return Ok(()),
                GrpcState::Gap => {
                    self.state = GrpcState::Lost;
                    return Err(Reason::GrpcGap);
                }
                GrpcState::Prefix { bytes, have } => {
                    let len = input.len().min(PREFIX - *have);
                    bytes[*have..*have + len].copy_from_slice(take(&mut input, len));
                    *have += len;
                    if *have < PREFIX {
                        return Ok(());
                    }
                    let [flags, a, b, c, d] = *bytes;
                    if flags & !(COMPRESSED | TRAILERS) != 0 {
                        self.state = GrpcState::Lost;
                        return Err(Reason::GrpcFlagsInvalid);
                    }
                    let len = u32::from_be_bytes([a, b, c, d]);
                    self.begin(flags, len);
                }
                GrpcState::Message { flags, len, left, coded, cut } => {
                    let taken = input.len().min(*left as usize);
                    let part = take(&mut input, taken);
                    *left -= taken as u32;
                    let whole = self.kept.is_empty() && *left == 0 && !*cut && !*coded;
                    if !whole && !*cut {
                        let mut keep = |part: &[u8]| {
                            let room = self.most.saturating_sub(self.kept.len()).min(part.len());
                            self.kept.extend_from_slice(&part[..room]);
                            *cut = room < part.len();
                            if *cut { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                        };
                        let kept = match &mut self.decoder {
                            Some(decoder) if *coded => decoder.feed(part, &mut keep),
                            _ => Ok(keep(part)),
                        };
                        *cut |= kept.is_err();
                        self.undecodable = kept.err();
                    }
                    if *left > 0 {
                        return Ok(());
                    }
                    if let Some(decoder) = self.decoder.as_ref().filter(|_| *coded && !*cut) {
                        self.undecodable = decoder.finish().err();
                    }
                    on(GrpcMessage {
                        compressed: *flags & COMPRESSED != 0 && !*coded,
                        trailers: *flags & TRAILERS != 0,
                        len: *len,
                        bytes: if whole { part } else { &self.kept },
                        whole: !*cut && self.undecodable.is_none(),
                        undecodable: self.undecodable,
                    });
                    self.kept.clear();
                    self.kept.shrink_to(KEPT_BUFFER);
                    self.state = START;
                }
            }
        }
    }

    /// A message begins.
    fn begin(&mut self, flags: u8, len: u32) {
        self.undecodable = None;
        let mut coded = false;
        if let Some(decoder) = self.decoder.as_mut().filter(|_| flags & COMPRESSED != 0) {
            coded = true;
            self.undecodable = decoder.reset().err();
        }
        let cut = self.undecodable.is_some();
        self.state = GrpcState::Message { flags, len, left: len, coded, cut };
    }

    /// Bytes of the body are missing here. `None`: it is not known how many.
    pub fn gap(&mut self, missing: Option<u64>) {
        match (&mut self.state, missing) {
            (GrpcState::Message { left, cut, .. }, Some(missing)) if missing <= u64::from(*left) => {
                *left -= missing as u32;
                *cut |= missing > 0;
            }
            (_, Some(0)) | (GrpcState::Lost, _) => {}
            (state, _) => {
                *state = GrpcState::Gap;
                self.kept = Vec::new();
            }
        }
    }

    /// The rest of the body is not read.
    fn stop(&mut self) {
        self.state = GrpcState::Lost;
        self.kept = Vec::new();
    }

    /// Whether no more messages will be found.
    const fn is_lost(&self) -> bool {
        matches!(self.state, GrpcState::Gap | GrpcState::Lost)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn message(flags: u8, bytes: &[u8]) -> Vec<u8> {
        [&[flags][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
    }

    /// Messages as text: `~` before compressed ones, `#` before trailers, `+n` after those of which n bytes are
    /// not here.
    fn feed(parser: &mut Parser, body: &[u8], size: usize) -> (String, Result<(), Reason>) {
        let mut seen = Vec::new();
        let mut on = |message: GrpcMessage<'_>| {
            let text = String::from_utf8_lossy(message.bytes);
            let marks = [("~", message.compressed), ("#", message.trailers)];
            let marks: String = marks.iter().filter(|mark| mark.1).map(|mark| mark.0).collect();
            let rest = message.len as usize - message.bytes.len();
            assert_eq!(message.whole, rest == 0);
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
        for (missing, told) in [(Some(1), Err(Reason::GrpcGap)), (None, Ok(()))] {
            parser.gap(missing);
            assert_eq!(feed(&mut parser, &rest, 100), (String::new(), told));
        }
    }

    #[test]
    fn what_is_no_message_is_named() {
        let mut parser = Parser::new(100);
        let body = [message(0, b"a"), b"<html>".to_vec()].concat();
        assert_eq!(feed(&mut parser, &body, 100), ("a".into(), Err(Reason::GrpcFlagsInvalid)));
        assert_eq!(feed(&mut parser, &message(0, b"b"), 100), (String::new(), Ok(())));
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        coder.write_all(bytes).unwrap();
        coder.finish().unwrap()
    }

    /// Messages as text, `!reason` after those that cannot be decompressed.
    fn decode(encoding: &str, body: &[u8], size: usize, limits: &Limits) -> String {
        let mut parser = Parser::with_encoding(30, encoding.as_bytes(), limits).unwrap();
        let mut seen = Vec::new();
        for piece in body.chunks(size) {
            let fed = parser.feed(piece, |message| {
                assert!(!message.compressed);
                let reason = message.undecodable.map_or_else(String::new, |reason| format!("!{reason}"));
                let text = String::from_utf8_lossy(message.bytes).into_owned();
                seen.push(format!("{text}{}{reason}", if message.whole { "" } else { "…" }));
            });
            assert_eq!(fed, Ok(()));
        }
        seen.join(" ")
    }

    #[test]
    fn compressed_messages_are_decompressed_each_for_itself() {
        let (first, second) = (&b"first message"[..], &b"second message"[..]);
        let zlib = |bytes: &[u8]| {
            let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            coder.write_all(bytes).unwrap();
            coder.finish().unwrap()
        };
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        for (encoding, coded) in [
            ("gzip", [gzip(first), gzip(second)]),
            ("deflate", [zlib(first), zlib(second)]),
            (" zstd", [zstd(first), zstd(second)]),
        ] {
            let body = [message(1, &coded[0]), message(0, b"plain"), message(1, &coded[1]), message(1, b"")];
            for size in [1, 3, 7, 1000] {
                let got = decode(encoding, &body.concat(), size, &Limits::default());
                assert_eq!(got, "first message plain second message ", "{encoding} in pieces of {size}");
            }
        }
        assert_eq!(decode("identity", &message(0, b"plain"), 3, &Limits::default()), "plain");
        let unknown = Parser::with_encoding(30, b"snappy", &Limits::default());
        assert_eq!(unknown.map(|_| ()), Err(Reason::ContentCodingUnknown));
    }

    #[test]
    fn a_message_that_cannot_be_decompressed_within_its_bounds_costs_no_other() {
        let long = gzip(&[b'x'; 1000]);
        let bomb = gzip(&vec![0; 4 << 20]);
        // Without its checksums and the end of its data.
        let cut = gzip(b"whole message");
        let limits = Limits { decoded: 20, ..Limits::default() };
        for size in [1, 7, 10_000] {
            let check = |coded: &[u8], limits: &Limits, first: &str, end: &str| {
                let body = [message(1, coded), message(1, &gzip(b"next"))].concat();
                let got = decode("gzip", &body, size, limits);
                assert!(got.starts_with(first), "{got} in pieces of {size}");
                assert!(got.ends_with(&format!("…{end} next")), "{got} in pieces of {size}");
            };
            check(&long, &Limits::default(), &"x".repeat(30), "");
            check(&long, &limits, "", &format!("!{}", Reason::DecodedTooLarge));
            check(&bomb, &Limits::default(), &"\0".repeat(30), "");
            check(b"no gzip at all", &limits, "", &format!("!{}", Reason::ContentCodingCorrupt));
            check(
                &cut[..cut.len() - 9],
                &limits,
                "whole message",
                &format!("!{}", Reason::ContentCodingTruncated),
            );
        }
    }

    #[test]
    fn a_gap_in_a_compressed_message_costs_that_one() {
        let coded = gzip(b"whole message");
        let body = [message(1, &coded), message(1, &gzip(b"next"))].concat();
        let mut parser = Parser::with_encoding(30, b"gzip", &Limits::default()).unwrap();
        let mut seen = Vec::new();
        let mut on = |message: GrpcMessage<'_>| seen.push((message.whole, message.bytes.to_vec()));
        parser.feed(&body[..16], &mut on).unwrap();
        parser.gap(Some(4));
        parser.feed(&body[20..], &mut on).unwrap();
        assert_eq!(seen, [(false, vec![]), (true, b"next".to_vec())]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_compressed_message_with_any_wrong_byte_costs_no_other(
            mut coded in prop::sample::select(vec![gzip(b"some message"), gzip(&[7; 500])]),
            at in any::<prop::sample::Index>(), byte in any::<u8>(), size in 1..20usize,
        ) {
            let at = at.index(coded.len());
            coded[at] = byte;
            let body = [message(1, &coded), message(1, &gzip(b"next"))].concat();
            prop_assert!(decode("gzip", &body, size, &Limits::default()).ends_with(" next"));
        }

        #[test]
        fn any_bytes_are_survived_alike_however_they_are_cut(
            body in prop::collection::vec(prop_oneof![Just(0), 0..4u8, any::<u8>()], 0..80), size in 1..20usize,
        ) {
            let want = feed(&mut Parser::new(1000), &body, 1000);
            prop_assert_eq!(feed(&mut Parser::new(1000), &body, size), want);
        }
    }
}
