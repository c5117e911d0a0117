//! The push parser.

mod resync;

use super::{
    opening::Opening,
    report::Held,
    scan,
    schema::{ESCAPED, MAX_DEPTH, MAX_KEY, NodeId, Schema},
    value::{MAX_NUMBER, Number, Str, Value, unescape},
};
use crate::Reason;

/// Brackets in brackets, beyond which a document is [`Status::Malformed`]. What servers accept is below 1,000.
const MAX_NESTING: u32 = 1024;

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing but white space.
    Empty,
    /// It ends before its value does.
    Partial,
    /// One whole value.
    Complete,
    /// Bytes were missing: see [`Extractor::gap`].
    Gapped,
    /// Not JSON, or more of it than is followed. Values reported before stand.
    Malformed(Reason),
}

/// Extracts wanted fields of one document at a time; see the [module](super).
#[derive(Debug)]
pub struct Extractor<F: 'static> {
    schema: &'static Schema<F>,
    place: Place,
    /// The last byte was a backslash inside a string; after a gap: may have been one.
    escaped: bool,
    /// Start of the token that the last cut fell into.
    token: Vec<u8>,
    /// The token is longer than what is kept of it.
    cut: bool,
    gapped: bool,
    /// What was read after a gap, until the end shows that it was read rightly.
    held: Held<F>,
    /// More than one document is read.
    many: bool,
    opening: Opening<F, Place>,
}

/// Where in a document the parser is.
#[derive(Clone, Copy, Debug)]
struct Place {
    state: State,
    /// Containers around the current position that something is wanted of.
    stack: [Frame; MAX_DEPTH],
    depth: usize,
    /// Position in each array of the stack.
    indices: [u32; MAX_DEPTH],
    arrays: usize,
    /// What the schema says of the value at hand; `None`: nobody wants it.
    child: Option<NodeId>,
    /// Open brackets while skipping.
    nesting: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the document.
    Start,
    /// A value begins.
    Value,
    /// After `[`.
    FirstItem,
    /// After `{`.
    FirstKey,
    /// After `,` in an object.
    Key,
    /// Inside a key.
    InKey,
    /// After a key.
    Colon,
    /// Inside a string value.
    InString,
    /// Inside a number or literal.
    InScalar,
    /// After a value in a container.
    Next,
    /// Inside a container that nobody wants anything of.
    Skip,
    /// Inside a string therein.
    SkipString,
    /// After the document.
    Done,
    /// After a gap: looking for a quote.
    Lost,
    /// After a quote that may begin a key.
    LostKey,
    Malformed,
    /// Brackets are nested too deep.
    TooDeep,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            state: State::Start,
            stack: [Frame { node: NodeId::ROOT, array: false }; MAX_DEPTH],
            depth: 0,
            indices: [0; MAX_DEPTH],
            arrays: 0,
            child: Some(NodeId::ROOT),
            nesting: 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    node: NodeId,
    array: bool,
}

/// Where to go on in the piece; `None`: it is used up.
type Step = Option<usize>;

impl<F: Copy> Extractor<F> {
    /// For documents of one kind.
    #[must_use]
    pub fn new(schema: &'static Schema<F>) -> Self {
        Self {
            schema,
            place: Place::default(),
            escaped: false,
            token: Vec::new(),
            cut: false,
            gapped: false,
            held: Held::default(),
            many: false,
            opening: Opening::default(),
        }
    }

    /// Forgets the document: the next piece begins another one.
    pub fn reset(&mut self) {
        self.place.state = State::Start;
        self.place.child = Some(NodeId::ROOT);
        self.gapped = false;
        self.held.drop_all();
        self.many = true;
        self.drop_token();
        self.unwind();
    }

    /// Takes the next piece. Calls `visit` with the field, the position in each array of its path from the
    /// outermost, and the value.
    pub fn push(&mut self, piece: &[u8], mut visit: impl FnMut(F, &[u32], Value<'_>)) {
        if self.gapped {
            return self.push_after_gap(piece);
        }
        let begins = self.many && self.place.state == State::Start;
        let mut at = if begins { self.begin(piece, &mut visit) } else { 0 };
        while let Some(next) = self.step(piece, at, &mut visit) {
            at = next;
        }
    }

    /// Says that no more pieces follow, and that the last one ended the document as it was sent: one that was cut
    /// has a [`Extractor::gap`] at its end. Reports what only the end can show: a document that is a bare number
    /// or literal, and what was found after a gap.
    pub fn finish(&mut self, mut visit: impl FnMut(F, &[u32], Value<'_>)) -> Status {
        if self.place.state == State::InScalar && self.place.depth == 0 {
            self.push(b" ", &mut visit);
        }
        match self.place.state {
            State::Malformed => Status::Malformed(Reason::JsonInvalid),
            State::TooDeep => Status::Malformed(Reason::JsonTooDeep),
            State::Done if self.gapped => {
                self.held.make(&mut visit);
                Status::Gapped
            }
            _ if self.gapped => Status::Gapped,
            State::Start => Status::Empty,
            State::Done => Status::Complete,
            _ => Status::Partial,
        }
    }

    /// Passes over as much of a document as begins like the ones before it.
    #[inline]
    fn begin(&mut self, piece: &[u8], visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> usize {
        match self.opening.replay(piece, visit) {
            Some((at, place)) => {
                self.place = place;
                at
            }
            None => self.learn(piece, visit),
        }
    }

    #[cold]
    fn learn(&mut self, piece: &[u8], visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> usize {
        let alike = self.opening.compare(piece);
        if alike == 0 {
            return 0;
        }
        let mut opening = std::mem::take(&mut self.opening);
        let (mut at, mut sure) = (0, 0);
        while at < alike {
            let next = self.step(piece, at, &mut |field, indices, value| {
                opening.record(piece, field, indices, &value);
                visit(field, indices, value);
            });
            at = next.unwrap_or(piece.len());
            // The end and an error are decided by the byte after.
            if at <= alike && !matches!(self.place.state, State::Done | State::Malformed | State::TooDeep) {
                opening.commit(at, self.place);
                sure = opening.recorded();
            }
        }
        opening.truncate(sure);
        self.opening = opening;
        at
    }

    #[inline]
    fn step(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> Step {
        match self.place.state {
            State::Start | State::Value | State::FirstItem => self.value(piece, at, visit),
            State::FirstKey | State::Key => self.key(piece, at, visit),
            State::InKey => self.in_key(piece, at),
            State::Colon => self.colon(piece, at),
            State::InString => self.in_string(piece, at, visit),
            State::InScalar => self.in_scalar(piece, at, visit),
            State::Next => self.next(piece, at, visit),
            State::Skip => self.skip(piece, at, visit),
            State::SkipString => {
                let end = self.string_end(piece, at)?;
                self.place.state = State::Skip;
                Some(end + 1)
            }
            State::Done => scan::not_space(piece, at).and_then(|at| self.fail(at)),
            State::Lost => self.lost(piece, at),
            State::LostKey => self.lost_key(piece, at),
            State::Malformed | State::TooDeep => None,
        }
    }

    #[inline]
    fn value(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> Step {
        let at = scan::not_space(piece, at)?;
        match piece[at] {
            b'"' => {
                self.place.state = State::InString;
                self.in_string(piece, at + 1, visit)
            }
            b'-' | b'0'..=b'9' | b'n' | b't' | b'f' | b'N' | b'I' => {
                self.place.state = State::InScalar;
                self.in_scalar(piece, at, visit)
            }
            open @ (b'{' | b'[') => {
                self.open(open == b'[', visit);
                Some(at + 1)
            }
            b']' if self.place.state == State::FirstItem => {
                self.close(visit);
                Some(at + 1)
            }
            _ => self.fail(at),
        }
    }

    fn open(&mut self, array: bool, visit: &mut impl FnMut(F, &[u32], Value<'_>)) {
        if let Some(node) = self.place.child {
            self.report(visit, if array { Value::Array } else { Value::Object });
            let items = self.schema.node(node).items;
            if array && items.is_some() || !array && self.schema.node(node).has_keys() {
                self.place.stack[self.place.depth] = Frame { node, array };
                self.place.depth += 1;
                if array {
                    self.place.indices[self.place.arrays] = 0;
                    self.place.arrays += 1;
                    self.place.child = items;
                    self.place.state = State::FirstItem;
                } else {
                    self.place.state = State::FirstKey;
                }
                return;
            }
        }
        self.place.nesting = 1;
        self.place.state = State::Skip;
    }

    fn close(&mut self, visit: &mut impl FnMut(F, &[u32], Value<'_>)) {
        self.place.depth -= 1;
        let frame = self.place.stack[self.place.depth];
        self.place.arrays -= usize::from(frame.array);
        self.place.child = Some(frame.node);
        self.report(visit, Value::End);
        self.ended();
    }

    /// A value is over.
    #[inline]
    fn ended(&mut self) {
        self.place.state = if self.place.depth == 0 { State::Done } else { State::Next };
    }

    #[inline]
    fn next(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> Step {
        let at = scan::not_space(piece, at)?;
        let Frame { node, array } = self.place.stack[self.place.depth - 1];
        match (piece[at], array) {
            (b',', false) => self.place.state = State::Key,
            (b',', true) => {
                let index = &mut self.place.indices[self.place.arrays - 1];
                *index = index.saturating_add(1);
                self.place.child = self.schema.node(node).items;
                self.place.state = State::Value;
            }
            (b'}', false) | (b']', true) => self.close(visit),
            _ => return self.fail(at),
        }
        Some(at + 1)
    }

    #[inline]
    fn key(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> Step {
        let at = scan::not_space(piece, at)?;
        match piece[at] {
            b'"' => {
                self.place.state = State::InKey;
                self.in_key(piece, at + 1)
            }
            b'}' if self.place.state == State::FirstKey => {
                self.close(visit);
                Some(at + 1)
            }
            _ => self.fail(at),
        }
    }

    #[inline]
    fn in_key(&mut self, piece: &[u8], at: usize) -> Step {
        let Some(end) = self.string_end(piece, at) else {
            self.keep(&piece[at..], MAX_KEY * ESCAPED);
            return None;
        };
        let node = self.place.stack[self.place.depth - 1].node;
        if self.token.is_empty() && !self.cut {
            self.place.child = child(self.schema, node, piece, at, end);
        } else {
            self.keep(&piece[at..end], MAX_KEY * ESCAPED);
            self.place.child =
                child(self.schema, node, &self.token, 0, self.token.len()).filter(|_| !self.cut);
            self.drop_token();
        }
        self.place.state = State::Colon;
        self.colon(piece, end + 1)
    }

    #[inline]
    fn colon(&mut self, piece: &[u8], at: usize) -> Step {
        let at = scan::not_space(piece, at)?;
        if piece[at] != b':' {
            return self.fail(at);
        }
        self.place.state = State::Value;
        Some(at + 1)
    }

    #[inline]
    fn in_string(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> Step {
        let end = self.string_end(piece, at);
        if let Some((field, cap)) = self.place.child.and_then(|node| self.schema.node(node).want) {
            let Some(end) = end else {
                self.keep(&piece[at..], usize::from(cap) * ESCAPED);
                return None;
            };
            let indices = &self.place.indices[..self.place.arrays];
            if self.token.is_empty() && !self.cut {
                visit(field, indices, Value::Str(Str { raw: &piece[at..end], cap, cut: false }));
            } else {
                self.keep(&piece[at..end], usize::from(cap) * ESCAPED);
                let indices = &self.place.indices[..self.place.arrays];
                visit(field, indices, Value::Str(Str { raw: &self.token, cap, cut: self.cut }));
                self.drop_token();
            }
        }
        let end = end?;
        self.ended();
        Some(end + 1)
    }

    #[inline]
    fn in_scalar(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> Step {
        let end = scan::scalar_end(piece, at);
        if let Some((field, _)) = self.place.child.and_then(|node| self.schema.node(node).want) {
            let Some(end) = end else {
                self.keep(&piece[at..], MAX_NUMBER + 1);
                return None;
            };
            let whole = self.token.is_empty();
            if !whole {
                self.keep(&piece[at..end], MAX_NUMBER + 1);
            }
            let Some(value) = scalar(if whole { &piece[at..end] } else { &self.token }) else {
                return self.fail(end);
            };
            visit(field, &self.place.indices[..self.place.arrays], value);
            self.drop_token();
        }
        let end = end?;
        self.ended();
        // Takes what ended it along, as what was a number up to here could be another one with another end.
        if self.place.state == State::Next { self.next(piece, end, visit) } else { Some(end) }
    }

    fn skip(&mut self, piece: &[u8], mut at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> Step {
        loop {
            at = scan::quote_or_bracket(piece, at)?;
            match piece[at] {
                b'"' => {
                    self.place.state = State::SkipString;
                    return Some(at + 1);
                }
                b'{' | b'[' if self.place.nesting == MAX_NESTING => {
                    return self.fail_as(State::TooDeep, at);
                }
                b'{' | b'[' => self.place.nesting += 1,
                _ => self.place.nesting -= 1,
            }
            at += 1;
            if self.place.nesting == 0 {
                self.report(visit, Value::End);
                self.ended();
                return Some(at);
            }
        }
    }

    /// Position of the quote that ends the string at hand, of which `piece[at..]` is the rest.
    #[inline]
    fn string_end(&mut self, piece: &[u8], mut at: usize) -> Option<usize> {
        if self.escaped && at < piece.len() {
            self.escaped = false;
            at += 1;
        }
        loop {
            at = scan::quote_or_backslash(piece, at)?;
            if piece[at] == b'"' {
                return Some(at);
            }
            at += 2;
            if at > piece.len() {
                self.escaped = true;
                return None;
            }
        }
    }

    #[inline]
    fn report(&self, visit: &mut impl FnMut(F, &[u32], Value<'_>), value: Value<'_>) {
        if let Some((field, _)) = self.place.child.and_then(|node| self.schema.node(node).want) {
            visit(field, &self.place.indices[..self.place.arrays], value);
        }
    }

    /// Keeps bytes of a token that goes on in the next piece.
    fn keep(&mut self, bytes: &[u8], cap: usize) {
        let room = cap.saturating_sub(self.token.len()).min(bytes.len());
        self.token.extend_from_slice(&bytes[..room]);
        self.cut |= room < bytes.len();
    }

    fn drop_token(&mut self) {
        self.token.clear();
        self.cut = false;
    }

    fn unwind(&mut self) {
        self.place.depth = 0;
        self.place.arrays = 0;
        self.escaped = false;
    }

    /// The byte at `at` cannot be there. What follows a gap may be something else than it seemed: goes on
    /// looking for keys.
    #[cold]
    fn fail(&mut self, at: usize) -> Step {
        self.fail_as(State::Malformed, at)
    }

    #[cold]
    fn fail_as(&mut self, state: State, at: usize) -> Step {
        self.place.state = if self.gapped { State::Lost } else { state };
        self.drop_token();
        self.unwind();
        Some(at)
    }
}

/// Looks a key up as it was written; one with escapes is rare, but means the same.
#[inline]
fn child<F: Copy>(schema: &Schema<F>, node: NodeId, text: &[u8], from: usize, to: usize) -> Option<NodeId> {
    let known = schema.child(node, text, from, to);
    if known.is_some() || !text[from..to].contains(&b'\\') {
        return known;
    }
    let mut key = String::new();
    let short = unescape(&text[from..to], |piece| {
        key.push_str(piece);
        key.len() <= MAX_KEY
    });
    schema.child(node, key.as_bytes(), 0, key.len()).filter(|_| short)
}

fn scalar(raw: &[u8]) -> Option<Value<'_>> {
    Some(match raw {
        b"null" => Value::Null,
        b"true" => Value::Bool(true),
        b"false" => Value::Bool(false),
        [b'-' | b'0'..=b'9', ..] | b"NaN" | b"Infinity" => Value::Number(Number { raw }),
        _ => return None,
    })
}
