//! The chunked transfer coding (RFC 9112 §7.1), without buffering anything.

use memchr::memchr;

use crate::{Reason, reassembly::take};

/// The next piece of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkStep<'a> {
    /// Sizes, extensions, ends of line.
    Framing(&'a [u8]),
    /// Trailer fields, or the blank line that ends them and the body.
    Trailers(&'a [u8]),
    /// Data of a chunk.
    Data(&'a [u8]),
    /// The body breaks a rule.
    Malformed(Reason),
}

/// Where in a chunked body the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    state: ChunkState,
    /// Length of the current line, or of the trailers so far: it is bounded.
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    /// In the size: its value so far, and whether a digit was seen.
    Size(u64, bool),
    /// After the size, before its LF.
    Extension(u64),
    /// In the data, with this many bytes to come.
    Data(u64),
    /// At the end of line after the data, and whether its CR was seen.
    DataEnd(bool),
    /// In the trailers, and whether the current line has bytes other than CR.
    Trailer(bool),
    End,
}

impl Chunked {
    /// How many bytes come before the size of a chunk, where a captured call begins with one: none, or the end of the
    /// previous chunk. `None` unless the call has the whole chunk and its end, as other lines can look like a size.
    pub(super) fn begins(call: &[u8]) -> Option<usize> {
        let before = if call.starts_with(b"\r\n") { 2 } else { 0 };
        let line = &call[before..];
        let end = memchr(b'\n', line)?;
        let digits = line[..end].strip_suffix(b"\r")?.split(|&b| b == b';').next().unwrap_or_default();
        if !(1..=8).contains(&digits.len()) {
            return None;
        }
        let size = digits.iter().try_fold(0, |size, &digit| Some(size * 16 + hex(digit)? as usize))?;
        line[end + 1..].get(size..)?.starts_with(b"\r\n").then_some(before)
    }

    /// At the start of a body.
    pub(super) const fn new() -> Self {
        Self { state: ChunkState::Size(0, false), line: 0 }
    }

    /// Whether the last chunk and its trailers have passed.
    pub(super) fn is_over(&self) -> bool {
        self.state == ChunkState::End
    }

    /// Skips missing bytes; false when they hide how the body continues.
    pub(super) fn gap(&mut self, missing: u64) -> bool {
        match &mut self.state {
            ChunkState::Data(left) if missing <= *left => {
                *left -= missing;
                self.end_data();
                true
            }
            _ => false,
        }
    }

    /// Takes the next piece off `input`, which is not empty, while the body is not over.
    pub(super) fn step<'a>(&mut self, input: &mut &'a [u8], max_line: usize) -> ChunkStep<'a> {
        if let ChunkState::Data(left) = self.state {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            self.state = ChunkState::Data(left - len as u64);
            self.end_data();
            return ChunkStep::Data(take(input, len));
        }
        if let ChunkState::Trailer(filled) = self.state {
            return self.trailers(filled, input, max_line);
        }
        let mut at = 0;
        while at < input.len() {
            match self.state {
                ChunkState::Data(_) | ChunkState::Trailer(_) | ChunkState::End => break,
                ChunkState::Size(size, any) => match (hex(input[at]), input[at]) {
                    (Some(digit), _) => {
                        let Some(size) = size.checked_mul(16) else {
                            return ChunkStep::Malformed(Reason::ChunkSizeInvalid);
                        };
                        self.state = ChunkState::Size(size + digit, true);
                        at += 1;
                        self.line += 1;
                    }
                    (None, b'\r' | b'\n' | b';' | b' ' | b'\t') if any => {
                        self.state = ChunkState::Extension(size)
                    }
                    _ => return ChunkStep::Malformed(Reason::ChunkSizeInvalid),
                },
                ChunkState::Extension(size) => {
                    let end = self.line_end(&input[at..]);
                    at += end.unwrap_or(input.len() - at);
                    if end.is_some() && self.line <= max_line {
                        self.line = 0;
                        self.state =
                            if size == 0 { ChunkState::Trailer(false) } else { ChunkState::Data(size) };
                    }
                }
                ChunkState::DataEnd(cr) => {
                    match input[at] {
                        b'\r' if !cr => self.state = ChunkState::DataEnd(true),
                        b'\n' => *self = Self::new(),
                        _ => return ChunkStep::Malformed(Reason::ChunkEndInvalid),
                    }
                    at += 1;
                }
            }
            if self.line > max_line {
                return ChunkStep::Malformed(Reason::HeadTooLong);
            }
        }
        ChunkStep::Framing(take(input, at))
    }

    fn trailers<'a>(&mut self, mut filled: bool, input: &mut &'a [u8], max: usize) -> ChunkStep<'a> {
        let mut at = 0;
        while at < input.len() && self.state != ChunkState::End {
            let rest = &input[at..];
            let end = self.line_end(rest);
            let line = &rest[..end.map_or(rest.len(), |end| end - 1)];
            filled |= line.iter().any(|&b| b != b'\r');
            at += end.unwrap_or(rest.len());
            self.state = match end {
                None => ChunkState::Trailer(filled),
                Some(_) if filled => ChunkState::Trailer(false),
                Some(_) => ChunkState::End,
            };
            filled = false;
            if self.line > max {
                return ChunkStep::Malformed(Reason::HeadTooLong);
            }
        }
        ChunkStep::Trailers(take(input, at))
    }

    fn end_data(&mut self) {
        if self.state == ChunkState::Data(0) {
            self.state = ChunkState::DataEnd(false);
        }
    }

    /// The length of the rest of a line with its LF, if that is here.
    fn line_end(&mut self, rest: &[u8]) -> Option<usize> {
        let end = memchr(b'\n', rest).map(|lf| lf + 1);
        self.line += end.unwrap_or(rest.len());
        end
    }
}

const fn hex(byte: u8) -> Option<u64> {
    match byte {
        b'0'..=b'9' => Some((byte - b'0') as u64),
        b'a'..=b'f' => Some((byte - b'a') as u64 + 10),
        b'A'..=b'F' => Some((byte - b'A') as u64 + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data and what is left of the input, or the broken rule; the same when cut at every byte. `None`, which no
    /// test expects: the body needs more.
    #[track_caller]
    fn check(body: &[u8], want: Result<(&[u8], &[u8]), Reason>) {
        for size in [1, 3, usize::MAX] {
            let mut chunked = Chunked::new();
            let (mut data, mut taken) = (Vec::new(), 0);
            let mut got = None;
            'pieces: for piece in body.chunks(size.min(body.len())) {
                let mut input = piece;
                loop {
                    let before = input.len();
                    if chunked.is_over() {
                        got = Some(Ok((&data[..], &body[taken..])));
                        break 'pieces;
                    }
                    if input.is_empty() {
                        break;
                    }
                    match chunked.step(&mut input, 40) {
                        ChunkStep::Framing(_) | ChunkStep::Trailers(_) => {}
                        ChunkStep::Data(bytes) => data.extend_from_slice(bytes),
                        ChunkStep::Malformed(reason) => {
                            got = Some(Err(reason));
                            break 'pieces;
                        }
                    }
                    taken += before - input.len();
                }
            }
            assert_eq!(got, Some(want), "cut every {size}");
        }
    }

    #[test]
    fn rfc_9112_7_1_chunks_extensions_and_trailers() {
        check(b"5\r\nhello\r\n0\r\n\r\nnext", Ok((b"hello", b"next")));
        check(
            b"5;a=b;c=\"d;\"\r\nhello\r\n00000000000000000000A \t\r\n0123456789\r\n000;x\r\n\r\n",
            Ok((b"hello0123456789", b"")),
        );
        check(b"1\r\na\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\nz", Ok((b"a", b"z")));
        check(b"1\r\n\n\r\n0\r\n\r\n", Ok((b"\n", b"")));
    }

    #[test]
    fn rfc_9112_2_2_bare_lf_ends_a_line() {
        check(b"2\nab\n0\n\nnext", Ok((b"ab", b"next")));
        check(b"2\r\nab\n0\nT: 1\n\r\nnext", Ok((b"ab", b"next")));
    }

    #[test]
    fn rfc_9112_7_1_3_a_broken_chunk_is_named() {
        check(b"x\r\n", Err(Reason::ChunkSizeInvalid));
        check(b"\r\n", Err(Reason::ChunkSizeInvalid));
        check(b"-1\r\n", Err(Reason::ChunkSizeInvalid));
        check(b"0x5\r\nhello", Err(Reason::ChunkSizeInvalid));
        check(b"10000000000000000\r\n", Err(Reason::ChunkSizeInvalid));
        check(b"2\r\nabc\r\n", Err(Reason::ChunkEndInvalid));
        check(b"2\r\nab\r\r\n", Err(Reason::ChunkEndInvalid));
        check(format!("2;{}\r\n", "x".repeat(60)).as_bytes(), Err(Reason::HeadTooLong));
        check(format!("0\r\n{}\r\n", "T: 1\r\n".repeat(10)).as_bytes(), Err(Reason::HeadTooLong));
    }

    #[test]
    fn a_gap_inside_a_chunk_keeps_its_place() {
        let mut chunked = Chunked::new();
        let mut input = &b"A\r\n01"[..];
        assert_eq!(chunked.step(&mut input, 99), ChunkStep::Framing(b"A\r\n"));
        assert_eq!(chunked.step(&mut input, 99), ChunkStep::Data(b"01"));
        assert!(!chunked.clone().gap(9));
        assert!(chunked.gap(8));
        input = b"\r\n0\r\n\r\n";
        assert_eq!(chunked.step(&mut input, 99), ChunkStep::Framing(b"\r\n0\r\n"));
        assert_eq!(chunked.step(&mut input, 99), ChunkStep::Trailers(b"\r\n"));
        assert!(chunked.is_over());
        assert!(!chunked.gap(1));
    }
}
