//! Cuts a stream into server-sent events, incrementally and as in the [HTML standard] (§9.2.6).
//!
//! Two things that servers do, and the standard does not have, are read as they are meant. JSON objects in data lines
//! that follow each other without a blank line are events of their own (GLM and Kimi hosts part events by one line end):
//! `}` at the end of a line and `{` at the start of the next are no JSON. A field `error` with a JSON object is the data
//! of an event of that name (llama.cpp of 2025).
//!
//! An event whose data is one line inside the fed slice is given as a part of that slice. All other events are put
//! together in a buffer of the size that [`Parser::new`] takes. Memory: that bound, plus as much again for each of
//! the name of the event, its id and an incomplete line.
//!
//! [HTML standard]: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

use memchr::memchr2;

/// An event, or a piece of one that is longer than the bound of the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field; empty when there is none, which means `message`.
    pub name: &'a [u8],
    /// The `data` lines joined by LF, or the next piece of them.
    pub data: &'a [u8],
    /// The last event id, which stays the same until another one is sent.
    pub id: &'a [u8],
    /// Whether `data` begins the event.
    pub first: bool,
    /// Whether `data` ends the event. Before that, `name` and `id` may be incomplete.
    pub last: bool,
}

/// Cuts a byte stream into events.
#[derive(Debug)]
pub struct Parser {
    bound: usize,
    state: LineState,
    /// A CR has ended the line: if the next byte is LF, it is skipped.
    after_cr: bool,
    /// An incomplete line that is not data.
    line: Vec<u8>,
    data: Vec<u8>,
    /// A data line was seen in this event.
    has_data: bool,
    /// A piece of this event was given.
    begun: bool,
    /// The data begins with `{`, and ends with `}` so far.
    object: (bool, bool),
    name: Vec<u8>,
    id: Vec<u8>,
}

/// Where in the stream the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// In a byte order mark, of which this many bytes have come.
    Mark(usize),
    LineStart,
    /// In a line whose start is in `line`.
    Line,
    /// In the value of a data line.
    Data,
    /// In a line that is ignored.
    Ignored,
    /// After a gap: in a line whose start is not known.
    LostLine,
    /// After a gap: at the start of a line. A blank line ends the search.
    LostStart,
}

const MARK: &[u8] = b"\xef\xbb\xbf";

/// How many bytes of a line show its field and where the value starts.
const FIELD: usize = b"error: {".len();

impl Default for Parser {
    fn default() -> Self {
        Self::new(64 << 10)
    }
}

impl Parser {
    /// A parser at the start of a stream. It buffers at most about `bound` bytes of an event; a longer event that is
    /// not inside one fed slice is given in pieces.
    #[must_use]
    pub const fn new(bound: usize) -> Self {
        Self {
            bound,
            state: LineState::Mark(0),
            after_cr: false,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            begun: false,
            object: (false, false),
            name: Vec::new(),
            id: Vec::new(),
        }
    }

    /// Whether no event has begun since the last one: what came after it were comments, blank lines, or nothing.
    #[must_use]
    pub const fn is_between_events(&self) -> bool {
        let at_line_start = matches!(
            self.state,
            LineState::LineStart | LineState::Ignored | LineState::LostLine | LineState::LostStart
        );
        at_line_start && !self.has_data && self.name.is_empty()
    }

    /// Bytes are missing here: the current event is discarded, and the next one begins after a blank line.
    pub fn gap(&mut self) {
        self.line.clear();
        self.reset();
        self.after_cr = false;
        self.state = LineState::LostLine;
    }

    /// Takes the next bytes and calls `on` with every event that they complete.
    pub fn feed(&mut self, bytes: &[u8], mut on: impl FnMut(Event<'_>)) {
        let mut rest = self.pass_mark(bytes);
        // The first data line of the event, while it can still be given as it is.
        let mut only: Option<&[u8]> = None;
        while let Some(&next) = rest.first() {
            if std::mem::take(&mut self.after_cr) && next == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = memchr2(b'\n', b'\r', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            match self.state {
                LineState::LineStart | LineState::Mark(_) => match end {
                    Some(0) => self.dispatch(only.take(), &mut on),
                    Some(_) => match data_value(part) {
                        Some(value) if only.is_none() && !self.has_data => only = Some(value),
                        Some(value) => {
                            self.keep(&mut only, &mut on);
                            self.append(value, true, &mut on);
                        }
                        None => {
                            if part.starts_with(b"error") {
                                self.keep(&mut only, &mut on);
                            }
                            self.field(part, &mut on);
                        }
                    },
                    None => {
                        self.keep(&mut only, &mut on);
                        self.begin(part, &mut on);
                    }
                },
                LineState::Line => self.resume(part, end.is_some(), &mut on),
                LineState::Data => self.append(part, false, &mut on),
                LineState::LostStart if end == Some(0) => self.state = LineState::LineStart,
                LineState::LostStart if end.is_none() => self.state = LineState::LostLine,
                LineState::Ignored | LineState::LostLine | LineState::LostStart => {}
            }
            let Some(end) = end else { break };
            self.state = match self.state {
                LineState::LostLine | LineState::LostStart => LineState::LostStart,
                _ => LineState::LineStart,
            };
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
        }
        self.keep(&mut only, &mut on);
    }

    /// Skips the byte order mark that a stream may begin with.
    fn pass_mark<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let LineState::Mark(seen) = self.state else { return bytes };
        let same = bytes.iter().zip(&MARK[seen..]).take_while(|(a, b)| a == b).count();
        let rest = &bytes[same..];
        if seen + same == MARK.len() {
            self.state = LineState::LineStart;
        } else if rest.is_empty() {
            self.state = LineState::Mark(seen + same);
        } else if seen + same > 0 {
            // These bytes are no mark but the start of an unknown field.
            self.state = LineState::Ignored;
        } else {
            self.state = LineState::LineStart;
        }
        rest
    }

    /// Moves a data line that was still borrowed from the input into the buffer.
    fn keep(&mut self, only: &mut Option<&[u8]>, on: &mut impl FnMut(Event<'_>)) {
        if let Some(value) = only.take() {
            self.append(value, true, on);
        }
    }

    /// Takes the start of an incomplete line.
    fn begin(&mut self, part: &[u8], on: &mut impl FnMut(Event<'_>)) {
        self.line.clear();
        self.state = LineState::Line;
        self.resume(part, false, on);
    }

    /// Takes more of a line whose start is in `line`. `ends`: the line ends behind it.
    fn resume(&mut self, part: &[u8], ends: bool, on: &mut impl FnMut(Event<'_>)) {
        let (head, tail) = part.split_at(FIELD.saturating_sub(self.line.len()).min(part.len()));
        self.line.extend_from_slice(head);
        if !ends && self.line.len() < FIELD {
            return;
        }
        let line = std::mem::take(&mut self.line);
        if let Some(value) = data_value(&line) {
            self.append(value, true, on);
            self.append(tail, false, on);
            self.state = LineState::Data;
            self.line = line;
            return;
        }
        if let Some(value) = self.error_value(&line) {
            self.name.extend_from_slice(b"error");
            self.append(value, true, on);
            self.append(tail, false, on);
            self.state = LineState::Data;
            self.line = line;
            return;
        }
        self.line = line;
        if !is_field(&self.line) {
            self.state = LineState::Ignored;
            return;
        }
        let room = (self.bound + FIELD).saturating_sub(self.line.len()).min(tail.len());
        self.line.extend_from_slice(&tail[..room]);
        if ends {
            let line = std::mem::take(&mut self.line);
            self.field(&line, on);
            self.line = line;
        }
    }

    /// Adds to the data of the event; gives a piece when the buffer is full.
    fn append(&mut self, value: &[u8], line_start: bool, on: &mut impl FnMut(Event<'_>)) {
        if line_start && self.has_data && self.object == (true, true) && begins_document(value) {
            self.dispatch(None, on);
        }
        if line_start && std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        } else if line_start {
            self.object.0 = value.starts_with(b"{");
        }
        if let Some(last) = value.last() {
            self.object.1 = *last == b'}';
        }
        if self.data.len() + value.len() <= self.bound {
            self.data.extend_from_slice(value);
            return;
        }
        if !self.data.is_empty() {
            self.give(None, false, on);
            self.data.clear();
        }
        if value.len() > self.bound {
            self.give(Some(value), false, on);
        } else {
            self.data.extend_from_slice(value);
        }
    }

    /// A blank line: the event is complete, if it has data.
    fn dispatch(&mut self, only: Option<&[u8]>, on: &mut impl FnMut(Event<'_>)) {
        if self.has_data || only.is_some() {
            self.give(only, true, on);
        }
        self.reset();
    }

    fn give(&mut self, data: Option<&[u8]>, last: bool, on: &mut impl FnMut(Event<'_>)) {
        let first = !std::mem::replace(&mut self.begun, true);
        on(Event { name: &self.name, data: data.unwrap_or(&self.data), id: &self.id, first, last });
    }

    fn reset(&mut self) {
        self.data.clear();
        self.name.clear();
        self.has_data = false;
        self.begun = false;
        self.object = (false, false);
    }

    /// The JSON object that a line of the field `error` begins, where that is all of the event.
    fn error_value<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let alone = !self.has_data && self.name.is_empty();
        field_value(line, b"error").filter(|value| alone && value.starts_with(b"{"))
    }

    /// Takes a complete line that is neither blank nor data.
    fn field(&mut self, line: &[u8], on: &mut impl FnMut(Event<'_>)) {
        let set = |to: &mut Vec<u8>, value: &[u8]| {
            to.clear();
            to.extend_from_slice(&value[..value.len().min(self.bound)]);
        };
        if let Some(value) = field_value(line, b"event") {
            set(&mut self.name, value);
        } else if let Some(value) = field_value(line, b"id")
            && !value.contains(&0)
        {
            set(&mut self.id, value);
        } else if let Some(value) = self.error_value(line) {
            set(&mut self.name, b"error");
            self.append(value, true, on);
        }
    }
}

/// The value of a line, if it has this field. A line without a colon is a field without a value.
fn field_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(b""),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

fn data_value(line: &[u8]) -> Option<&[u8]> {
    field_value(line, b"data")
}

/// Whether a data line begins JSON, or says that the stream is over: `[DONE]`.
fn begins_document(value: &[u8]) -> bool {
    value.starts_with(b"{") || value.starts_with(b"[")
}

/// Whether an incomplete line of at least [`FIELD`] bytes has a known field besides data.
fn is_field(line: &[u8]) -> bool {
    [&b"event"[..], b"id"].iter().any(|name| field_value(line, name).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Events as (name, data, id), pieces joined; each data also says whether it was borrowed from the input.
    fn events(parser: &mut Parser, pieces: &[&[u8]]) -> Vec<(String, String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mut all, mut data) = (Vec::new(), Vec::new());
        for piece in pieces {
            parser.feed(piece, |event| {
                if event.first {
                    data.clear();
                }
                data.extend_from_slice(event.data);
                if event.last {
                    all.push((text(event.name), text(&data), text(event.id)));
                }
            });
        }
        all
    }

    #[track_caller]
    fn check(stream: &[u8], want: &[(&str, &str, &str)]) {
        let want: Vec<_> =
            want.iter().map(|(n, d, i)| (n.to_string(), d.to_string(), i.to_string())).collect();
        assert_eq!(events(&mut Parser::default(), &[stream]), want, "in one piece");
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&mut Parser::default(), &bytes), want, "byte by byte");
        assert_eq!(events(&mut Parser::new(5), &bytes), want, "byte by byte with a tiny bound");
    }

    #[test]
    fn examples_of_the_standard() {
        check(b"data: YHOO\ndata: +2\ndata: 10\n\n", &[("", "YHOO\n+2\n10", "")]);
        check(
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &[("", "first event", "1"), ("", "second event", ""), ("", " third event", "")],
        );
        check(b"data\n\ndata\ndata\n\ndata:", &[("", "", ""), ("", "\n", "")]);
        check(b"data:test\n\ndata: test\n\n", &[("", "test", ""), ("", "test", "")]);
    }

    #[test]
    fn objects_that_one_line_end_parts_are_events() {
        check(
            b"data: {\"a\":1}\ndata: {\"a\":2}\ndata: [DONE]\n\n",
            &[("", "{\"a\":1}", ""), ("", "{\"a\":2}", ""), ("", "[DONE]", "")],
        );
        check(b"event: x\ndata: {\ndata:  \"a\": {}\ndata: }\n\n", &[("x", "{\n \"a\": {}\n}", "")]);
        check(b"data: {\"a\":[{}\ndata: ,{}]}\n\n", &[("", "{\"a\":[{}\n,{}]}", "")]);
        check(b"data: a}\ndata: {b\n\n", &[("", "a}\n{b", "")]);
    }

    #[test]
    fn a_field_named_error_is_an_event_of_that_name() {
        check(b"data: 1\n\nerror: {\"code\":400}\n\n", &[("", "1", ""), ("error", "{\"code\":400}", "")]);
        check(b"error: text\ndata: 1\nerror: {}\n\n", &[("", "1", "")]);
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = "event: a§data: 1§data: 2§§data: 3§§".replace('§', end);
            check(stream.as_bytes(), &[("a", "1\n2", ""), ("", "3", "")]);
        }
        check(b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\r", &[("", "1", ""), ("", "2", ""), ("", "3", "")]);
    }

    #[test]
    fn a_byte_order_mark_counts_only_at_the_start() {
        check(b"\xef\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n", &[("", "1", "")]);
        check(b"\xef\xbbdata: 1\n\ndata: 2\n\n", &[("", "2", "")]);
        check(b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n", &[]);
    }

    #[test]
    fn fields_that_mean_nothing_are_passed_over() {
        check(b"Data: x\ndatax: x\ndat: x\n data: x\nfoo\n:data: x\ndata: y\n\n", &[("", "y", "")]);
        check(b"event: lost\n\ndata: x\n\n", &[("", "x", "")]);
        check(b"event: a\nevent: b\ndata: x\n\n", &[("b", "x", "")]);
        check(b"event: a\nevent\ndata: x\n\n", &[("", "x", "")]);
        check(b"data: x\nevent: late\n\n", &[("late", "x", "")]);
    }

    #[test]
    fn an_id_stays_and_one_with_nul_is_ignored() {
        check(
            b"id: 7\ndata: a\n\ndata: b\n\nid: 8\0\ndata: c\n\n",
            &[("", "a", "7"), ("", "b", "7"), ("", "c", "7")],
        );
        check(b"id: 7\n\ndata: b\n\n", &[("", "b", "7")]);
    }

    #[test]
    fn an_unfinished_event_is_not_given() {
        check(b"data: a\n\ndata: b\n", &[("", "a", "")]);
        check(b"data: [DONE]", &[]);
    }

    #[test]
    fn one_line_of_data_is_given_without_a_copy() {
        let stream = b"event: x\ndata: {\"a\":1}\nid: 4\n\ndata: next";
        let mut at = None;
        Parser::default().feed(stream, |event| at = Some(event.data.as_ptr_range()));
        assert!(stream.as_ptr_range().contains(&at.unwrap().start));
    }

    #[test]
    fn an_event_over_the_bound_comes_in_pieces_and_memory_stays_bounded() {
        let mut parser = Parser::new(1000);
        let (mut total, mut longest, mut firsts, mut lasts) = (0, 0, 0, 0);
        let mut on = |event: Event<'_>| {
            total += event.data.len();
            longest = longest.max(event.data.len());
            firsts += usize::from(event.first);
            lasts += usize::from(event.last);
        };
        parser.feed(b"event: big\ndata: ", &mut on);
        for _ in 0..10_000 {
            parser.feed(&[b'x'; 700], &mut on);
        }
        parser.feed(b"\nid: ", &mut on);
        for _ in 0..10_000 {
            parser.feed(&[b'7'; 700], &mut on);
        }
        parser.feed(b"\n\n", &mut on);
        assert_eq!((total, longest, firsts, lasts), (7_000_000, 700, 1, 1));
        assert!(parser.data.capacity() <= 2000 && parser.line.capacity() <= 4000 && parser.id.len() == 1000);
    }

    #[test]
    fn after_a_gap_events_begin_at_the_next_blank_line() {
        #[track_caller]
        fn check(before: &[u8], after: &[u8], want: &[&str]) {
            for step in [1, usize::MAX] {
                let mut parser = Parser::default();
                let mut got = Vec::new();
                parser.feed(before, |_| {});
                parser.gap();
                for piece in after.chunks(step.min(after.len())) {
                    parser.feed(piece, |event| got.push(String::from_utf8_lossy(event.data).into_owned()));
                }
                assert_eq!(got, want);
            }
        }
        check(b"event: a\ndata: lo", b"st\n\ndata: 1\n\n", &["1"]);
        check(b"data: a\n", b"data: b\n\ndata: 1\n\n", &["1"]);
        check(b"data: a\n", b"\ndata: b\n\ndata: 1\n\n", &["1"]);
        check(b"data: a\r", b"\r\ndata: b\r\n\r\ndata: 1\r\n\r\n", &["1"]);
        check(b"", b"\r\rdata: 1\r\r", &["1"]);
        check(b"", b"x", &[]);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            lines in prop::collection::vec("(data|event|id|retry|:|x)?:? ?[ab\u{0}é]{0,9}(\r|\n|\r\n){1,2}", 0..20),
            cuts in prop::collection::vec(1..9usize, 1..60),
            bound in 1..20usize,
        ) {
            let stream = lines.concat().into_bytes();
            let whole = events(&mut Parser::default(), &[&stream]);
            let (mut rest, mut pieces) = (&stream[..], Vec::new());
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(&events(&mut Parser::default(), &pieces), &whole);
            let data = |events: Vec<(String, String, String)>| events.into_iter().map(|e| e.1).collect::<Vec<_>>();
            prop_assert_eq!(data(events(&mut Parser::new(bound), &pieces)), data(whole));
        }

        #[test]
        fn any_bytes_are_survived(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut parser = Parser::new(8);
            for piece in &pieces {
                parser.feed(piece, |_| {});
            }
            prop_assert!(parser.data.len() <= 8 && parser.line.len() <= 8 + FIELD);
        }
    }
}
