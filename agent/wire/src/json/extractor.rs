//! The push parser.

mod resync;

use super::{
    position::{Container, JsonState, ParserPosition},
    prefix_cache::PrefixCache,
    report::DeferredReports,
    scan,
    schema::{ESCAPED, MAX_KEY, NodeId, Schema},
    value::{MAX_NUMBER, Number, Str, Value, unescape},
};
use crate::Reason;

/// Deepest nesting: a deeper document is [`Status::Malformed`]. Servers accept less than 1,000.
const MAX_NESTING: u32 = 1024;

/// How a document ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing but white space.
    Empty,
    /// The end of the value is missing.
    Partial,
    /// One complete value.
    Complete,
    /// Bytes were missing: see [`Extractor::gap`].
    Gapped,
    /// Not JSON, or nested too deep. The values that were reported before are valid.
    Malformed(Reason),
}

/// Extracts wanted fields of one document at a time; see the [module](super).
#[derive(Debug)]
pub struct Extractor<F: 'static> {
    schema: &'static Schema<F>,
    position: ParserPosition,
    /// The last byte was a backslash inside a string, or after a gap may have been one.
    escaped: bool,
    /// The start of a token that comes in pieces.
    token: Vec<u8>,
    /// More of the token has come than is kept.
    cut: bool,
    gapped: bool,
    /// The values after a gap, until the end of the document proves them.
    deferred: DeferredReports<F>,
    /// This is not the first document.
    many: bool,
    prefix: PrefixCache<F, ParserPosition>,
}

/// Where to continue in the piece; `None`: it is used up.
type NextOffset = Option<usize>;

impl<F: Copy> Extractor<F> {
    /// An extractor for documents of one kind.
    #[must_use]
    pub fn new(schema: &'static Schema<F>) -> Self {
        Self {
            schema,
            position: ParserPosition::default(),
            escaped: false,
            token: Vec::new(),
            cut: false,
            gapped: false,
            deferred: DeferredReports::default(),
            many: false,
            prefix: PrefixCache::default(),
        }
    }

    /// Whether the end of the document has come: what follows is white space or another document.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.position.state == JsonState::Done
    }

    /// Drops the document: the next piece begins another one.
    pub fn reset(&mut self) {
        self.position.state = JsonState::Start;
        self.position.child = Some(NodeId::ROOT);
        self.gapped = false;
        self.deferred.drop_all();
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
        let begins = self.many && self.position.state == JsonState::Start;
        let mut at = if begins { self.begin(piece, &mut visit) } else { 0 };
        while let Some(next) = self.step(piece, at, &mut visit) {
            at = next;
        }
    }

    /// The last piece ended the document as it was sent; where the document was cut, [`Extractor::gap`] has to be
    /// called before. Reports the values that only the end proves: a document that is a bare number or literal, and
    /// those after a gap.
    pub fn finish(&mut self, mut visit: impl FnMut(F, &[u32], Value<'_>)) -> Status {
        if self.position.state == JsonState::InScalar && self.position.depth == 0 {
            self.push(b" ", &mut visit);
        }
        match self.position.state {
            JsonState::Malformed => Status::Malformed(Reason::JsonInvalid),
            JsonState::TooDeep => Status::Malformed(Reason::JsonTooDeep),
            JsonState::Done if self.gapped => {
                self.deferred.make(&mut visit);
                Status::Gapped
            }
            _ if self.gapped => Status::Gapped,
            JsonState::Start => Status::Empty,
            JsonState::Done => Status::Complete,
            _ => Status::Partial,
        }
    }

    /// Skips the first bytes of a document that are those of the documents before it.
    #[inline]
    fn begin(&mut self, piece: &[u8], visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> usize {
        match self.prefix.replay(piece, visit) {
            Some((at, position)) => {
                self.position = position;
                at
            }
            None => self.learn(piece, visit),
        }
    }

    #[cold]
    fn learn(&mut self, piece: &[u8], visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> usize {
        let alike = self.prefix.compare(piece);
        if alike == 0 {
            return 0;
        }
        let mut prefix = std::mem::take(&mut self.prefix);
        let once = self.schema.once;
        let (mut at, mut sure) = (0, 0);
        while at < alike {
            let next = self.step(piece, at, &mut |field, indices, value| {
                if !once(field) {
                    prefix.record(piece, field, indices, &value);
                }
                visit(field, indices, value);
            });
            at = next.unwrap_or(piece.len());
            // The end and an error are decided by the byte after.
            if at <= alike
                && !matches!(self.position.state, JsonState::Done | JsonState::Malformed | JsonState::TooDeep)
            {
                prefix.commit(at, self.position);
                sure = prefix.recorded();
            }
        }
        prefix.truncate(sure);
        self.prefix = prefix;
        at
    }

    #[inline]
    fn step(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> NextOffset {
        match self.position.state {
            JsonState::Start | JsonState::Value | JsonState::FirstItem => self.value(piece, at, visit),
            JsonState::FirstKey | JsonState::Key => self.key(piece, at, visit),
            JsonState::InKey => self.in_key(piece, at),
            JsonState::Colon => self.colon(piece, at),
            JsonState::InString => self.in_string(piece, at, visit),
            JsonState::InScalar => self.in_scalar(piece, at, visit),
            JsonState::Next => self.next(piece, at, visit),
            JsonState::Skip => self.skip(piece, at, visit),
            JsonState::SkipString => {
                let end = self.string_end(piece, at)?;
                self.position.state = JsonState::Skip;
                Some(end + 1)
            }
            JsonState::Done => scan::not_space(piece, at).and_then(|at| self.fail(at)),
            JsonState::Lost => self.lost(piece, at),
            JsonState::LostKey => self.lost_key(piece, at),
            JsonState::Malformed | JsonState::TooDeep => None,
        }
    }

    #[inline]
    fn value(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> NextOffset {
        let at = scan::not_space(piece, at)?;
        match piece[at] {
            b'"' => {
                self.position.state = JsonState::InString;
                self.in_string(piece, at + 1, visit)
            }
            b'-' | b'0'..=b'9' | b'n' | b't' | b'f' | b'N' | b'I' => {
                self.position.state = JsonState::InScalar;
                self.in_scalar(piece, at, visit)
            }
            open @ (b'{' | b'[') => {
                self.open(open == b'[', visit);
                Some(at + 1)
            }
            b']' if self.position.state == JsonState::FirstItem => {
                self.close(visit);
                Some(at + 1)
            }
            _ => self.fail(at),
        }
    }

    fn open(&mut self, array: bool, visit: &mut impl FnMut(F, &[u32], Value<'_>)) {
        if let Some(node) = self.position.child {
            self.report(visit, if array { Value::Array } else { Value::Object });
            let items = self.schema.node(node).items;
            if array && items.is_some() || !array && self.schema.node(node).has_keys() {
                self.position.stack[self.position.depth] = Container { node, array };
                self.position.depth += 1;
                if array {
                    self.position.indices[self.position.arrays] = 0;
                    self.position.arrays += 1;
                    self.position.child = items;
                    self.position.state = JsonState::FirstItem;
                } else {
                    self.position.state = JsonState::FirstKey;
                }
                return;
            }
        }
        self.position.nesting = 1;
        self.position.state = JsonState::Skip;
    }

    fn close(&mut self, visit: &mut impl FnMut(F, &[u32], Value<'_>)) {
        self.position.depth -= 1;
        let frame = self.position.stack[self.position.depth];
        self.position.arrays -= usize::from(frame.array);
        self.position.child = Some(frame.node);
        self.report(visit, Value::End);
        self.ended();
    }

    /// A value has ended.
    #[inline]
    fn ended(&mut self) {
        self.position.state = if self.position.depth == 0 { JsonState::Done } else { JsonState::Next };
    }

    #[inline]
    fn next(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> NextOffset {
        let at = scan::not_space(piece, at)?;
        let Container { node, array } = self.position.stack[self.position.depth - 1];
        match (piece[at], array) {
            (b',', false) => self.position.state = JsonState::Key,
            (b',', true) => {
                let index = &mut self.position.indices[self.position.arrays - 1];
                *index = index.saturating_add(1);
                self.position.child = self.schema.node(node).items;
                self.position.state = JsonState::Value;
            }
            (b'}', false) | (b']', true) => self.close(visit),
            _ => return self.fail(at),
        }
        Some(at + 1)
    }

    #[inline]
    fn key(&mut self, piece: &[u8], at: usize, visit: &mut impl FnMut(F, &[u32], Value<'_>)) -> NextOffset {
        let at = scan::not_space(piece, at)?;
        match piece[at] {
            b'"' => {
                self.position.state = JsonState::InKey;
                self.in_key(piece, at + 1)
            }
            b'}' if self.position.state == JsonState::FirstKey => {
                self.close(visit);
                Some(at + 1)
            }
            _ => self.fail(at),
        }
    }

    #[inline]
    fn in_key(&mut self, piece: &[u8], at: usize) -> NextOffset {
        let Some(end) = self.string_end(piece, at) else {
            self.keep(&piece[at..], MAX_KEY * ESCAPED);
            return None;
        };
        let node = self.position.stack[self.position.depth - 1].node;
        if self.token.is_empty() && !self.cut {
            self.position.child = child(self.schema, node, piece, at, end);
        } else {
            self.keep(&piece[at..end], MAX_KEY * ESCAPED);
            self.position.child =
                child(self.schema, node, &self.token, 0, self.token.len()).filter(|_| !self.cut);
            self.drop_token();
        }
        self.position.state = JsonState::Colon;
        self.colon(piece, end + 1)
    }

    #[inline]
    fn colon(&mut self, piece: &[u8], at: usize) -> NextOffset {
        let at = scan::not_space(piece, at)?;
        if piece[at] != b':' {
            return self.fail(at);
        }
        self.position.state = JsonState::Value;
        Some(at + 1)
    }

    #[inline]
    fn in_string(
        &mut self,
        piece: &[u8],
        at: usize,
        visit: &mut impl FnMut(F, &[u32], Value<'_>),
    ) -> NextOffset {
        let end = self.string_end(piece, at);
        if let Some((field, cap)) = self.position.child.and_then(|node| self.schema.node(node).want) {
            let Some(end) = end else {
                self.keep(&piece[at..], usize::from(cap) * ESCAPED);
                return None;
            };
            let indices = &self.position.indices[..self.position.arrays];
            if self.token.is_empty() && !self.cut {
                visit(
                    field,
                    indices,
                    Value::Str(Str { raw: &piece[at..end], cap, cut: false, plain: false }),
                );
            } else {
                self.keep(&piece[at..end], usize::from(cap) * ESCAPED);
                let indices = &self.position.indices[..self.position.arrays];
                visit(field, indices, Value::Str(Str { raw: &self.token, cap, cut: self.cut, plain: false }));
                self.drop_token();
            }
        }
        let end = end?;
        self.ended();
        Some(end + 1)
    }

    #[inline]
    fn in_scalar(
        &mut self,
        piece: &[u8],
        at: usize,
        visit: &mut impl FnMut(F, &[u32], Value<'_>),
    ) -> NextOffset {
        let end = scan::scalar_end(piece, at);
        if let Some((field, _)) = self.position.child.and_then(|node| self.schema.node(node).want) {
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
            visit(field, &self.position.indices[..self.position.arrays], value);
            self.drop_token();
        }
        let end = end?;
        self.ended();
        // Takes the byte behind the value, too: with another byte there, the number would be another one.
        if self.position.state == JsonState::Next { self.next(piece, end, visit) } else { Some(end) }
    }

    fn skip(
        &mut self,
        piece: &[u8],
        mut at: usize,
        visit: &mut impl FnMut(F, &[u32], Value<'_>),
    ) -> NextOffset {
        loop {
            at = scan::quote_or_bracket(piece, at)?;
            match piece[at] {
                b'"' => {
                    self.position.state = JsonState::SkipString;
                    return Some(at + 1);
                }
                b'{' | b'[' if self.position.nesting == MAX_NESTING => {
                    return self.fail_as(JsonState::TooDeep, at);
                }
                b'{' | b'[' => self.position.nesting += 1,
                _ => self.position.nesting -= 1,
            }
            at += 1;
            if self.position.nesting == 0 {
                self.report(visit, Value::End);
                self.ended();
                return Some(at);
            }
        }
    }

    /// Position of the quote that ends the current string, of which `piece[at..]` is the rest.
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
        if let Some((field, _)) = self.position.child.and_then(|node| self.schema.node(node).want) {
            visit(field, &self.position.indices[..self.position.arrays], value);
        }
    }

    /// Keeps bytes of a token that continues in the next piece.
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
        self.position.depth = 0;
        self.position.arrays = 0;
        self.escaped = false;
    }

    /// The byte at `at` is invalid. After a gap, the bytes before it were misread: the search for keys continues.
    #[cold]
    fn fail(&mut self, at: usize) -> NextOffset {
        self.fail_as(JsonState::Malformed, at)
    }

    #[cold]
    fn fail_as(&mut self, state: JsonState, at: usize) -> NextOffset {
        self.position.state = if self.gapped { JsonState::Lost } else { state };
        self.drop_token();
        self.unwind();
        Some(at)
    }
}

/// Looks up a key as it was written, and decoded if it has escapes, which is rare.
#[inline]
fn child<F: Copy>(schema: &Schema<F>, node: NodeId, text: &[u8], from: usize, to: usize) -> Option<NodeId> {
    let known = schema.child(node, text, from, to);
    if known.is_some() || !text[from..to].contains(&b'\\') {
        return known;
    }
    let mut key = String::new();
    let short = unescape(&text[from..to], false, |piece| {
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
