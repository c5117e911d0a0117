//! Cuts a JSON Lines body (`application/x-ndjson`, `application/jsonl`) into lines, incrementally.

use memchr::memchr;

use crate::reassembly::take;

/// Cuts one body into lines.
///
/// Memory: the line that comes in pieces, up to the bound of [`Parser::new`].
#[derive(Debug)]
pub struct Parser {
    /// The line that comes in pieces.
    kept: Vec<u8>,
    most: usize,
    /// How many bytes of the line were not kept.
    beyond: u64,
    /// Bytes of the line are missing.
    lost: bool,
}

/// A line that is not blank, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its bytes, or the first of them when it is longer than the bound.
    pub bytes: &'a [u8],
    /// `bytes` is all of the line.
    pub whole: bool,
}

/// Largest buffer that is kept for the next line, in bytes.
const KEPT_BUFFER: usize = 4 << 10;

impl Parser {
    /// A parser that keeps at most `most` bytes of a line that comes in pieces.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most, beyond: 0, lost: false }
    }

    /// Takes bytes of the body and gives every line that they complete to `on`.
    pub fn feed(&mut self, bytes: &[u8], mut on: impl FnMut(Line<'_>)) {
        let mut input = bytes;
        while let Some(end) = memchr(b'\n', input) {
            let part = &take(&mut input, end + 1)[..end];
            if self.is_empty() {
                give(part, true, &mut on);
            } else {
                self.keep(part);
                self.finish(&mut on);
            }
        }
        self.keep(input);
    }

    /// The body is over: gives the last line, which may have no line end.
    pub fn finish(&mut self, mut on: impl FnMut(Line<'_>)) {
        if !self.is_empty() {
            give(&self.kept, self.beyond == 0 && !self.lost, &mut on);
        }
        self.kept.clear();
        self.kept.shrink_to(KEPT_BUFFER);
        self.beyond = 0;
        self.lost = false;
    }

    /// Bytes of the body are missing here, which may have held line ends: the current line is not `whole`.
    pub const fn gap(&mut self) {
        self.lost = true;
    }

    const fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.beyond == 0 && !self.lost
    }

    fn keep(&mut self, part: &[u8]) {
        // What comes after a gap does not follow on what is kept.
        let room = if self.lost { 0 } else { self.most.saturating_sub(self.kept.len()).min(part.len()) };
        self.kept.extend_from_slice(&part[..room]);
        self.beyond += (part.len() - room) as u64;
    }
}

fn give(line: &[u8], whole: bool, on: &mut impl FnMut(Line<'_>)) {
    let bytes = line.strip_suffix(b"\r").unwrap_or(line);
    if !whole || !bytes.trim_ascii().is_empty() {
        on(Line { bytes, whole });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines in brackets; `…` after those that are not whole.
    fn feed(parser: &mut Parser, body: &str, size: usize) -> String {
        let mut seen = String::new();
        let mut on = |line: Line<'_>| {
            let text = String::from_utf8_lossy(line.bytes);
            seen += &format!("[{text}{}]", if line.whole { "" } else { "…" });
        };
        body.as_bytes().chunks(size).for_each(|piece| parser.feed(piece, &mut on));
        seen
    }

    #[track_caller]
    fn check(body: &str, want: &str) {
        for size in [1, 2, 5, 100] {
            let mut parser = Parser::new(8);
            let mut got = feed(&mut parser, body, size);
            parser.finish(|line| got += &format!("[{}|", String::from_utf8_lossy(line.bytes)));
            assert_eq!(got, want, "in pieces of {size}");
        }
    }

    #[test]
    fn lines_are_given_whole_however_they_are_cut_and_ended() {
        check("", "");
        check("{1}\n{2}\r\n\n \r\n{3}\n", "[{1}][{2}][{3}]");
        check("{1}\n{2}", "[{1}][{2}|");
    }

    #[test]
    fn a_line_over_the_bound_that_comes_in_pieces_is_given_by_its_first_bytes() {
        for size in [1, 3, 7] {
            assert_eq!(
                feed(&mut Parser::new(4), "{12345}\n{2}\n", size),
                "[{123…][{2}]",
                "in pieces of {size}"
            );
        }
    }

    #[test]
    fn a_gap_spoils_the_line_that_it_is_in() {
        let mut parser = Parser::new(100);
        assert_eq!(feed(&mut parser, "{1}\n{2", 100), "[{1}]");
        parser.gap();
        assert_eq!(feed(&mut parser, "3}\n{4}\n", 100), "[{2…][{4}]");
        parser.gap();
        assert_eq!(feed(&mut parser, "{5}\n{6}\n", 100), "[…][{6}]");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_text_gives_the_same_lines_however_it_is_cut(body in "[ab\r\n ]{0,40}", size in 1..9usize) {
            let want = feed(&mut Parser::new(100), &body, 100);
            prop_assert_eq!(feed(&mut Parser::new(100), &body, size), want);
        }
    }
}
