//! What reads the bodies of the tapes, as far as a reader of LLM calls would.

use std::sync::LazyLock;

use tokentap_wire::{
    Interest, Limits, MessagePart, RequestHead, eventstream, grpc,
    json::{Extractor, Schema, WantedField},
    multipart, ndjson, sse,
};

use crate::tape::{Reader, Work};

/// Wants nothing of any body.
pub(crate) struct Nothing;

impl Reader for Nothing {
    const INTEREST: Interest = Interest::Skip;

    fn read(&self) -> Work {
        Work::Nothing
    }
}

/// Takes bodies whole and counts their bytes.
#[derive(Default)]
pub(crate) struct Bytes(usize);

impl Reader for Bytes {
    fn response(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
    fn read(&self) -> Work {
        Work::Bytes(self.0)
    }
}

/// Looks one field of each request up.
#[derive(Default)]
pub(crate) struct Heads(usize);

impl Reader for Heads {
    fn request_head(&mut self, head: &RequestHead<'_>) {
        self.0 += usize::from(head.headers.get("x-request-id").is_some_and(|id| id.len() == 32));
    }
    fn read(&self) -> Work {
        Work::Chunks(self.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Content,
    Other,
}

/// The fields that a streamed chat completion is read for.
static SCHEMA: LazyLock<Schema<Field>> = LazyLock::new(|| {
    let wants = [
        WantedField::new("id", Field::Other),
        WantedField::new("model", Field::Other),
        WantedField::presence("choices[].delta.content", Field::Content),
        WantedField::new("choices[].finish_reason", Field::Other),
        WantedField::new("usage.prompt_tokens", Field::Other),
        WantedField::new("usage.completion_tokens", Field::Other),
    ];
    Schema::new(&wants)
});

/// The wanted fields of documents, of which each has one content.
struct Documents {
    extractor: Extractor<Field>,
    contents: usize,
}

impl Documents {
    fn new() -> Self {
        Self { extractor: Extractor::new(&SCHEMA), contents: 0 }
    }

    fn push(&mut self, piece: &[u8]) {
        self.extractor.push(piece, |field, _, _| self.contents += usize::from(field == Field::Content));
    }
}

/// Server-sent events with documents in them.
pub(crate) struct Events {
    parser: sse::Parser,
    documents: Documents,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { parser: sse::Parser::default(), documents: Documents::new() }
    }
}

impl Reader for Events {
    fn response(&mut self, bytes: &[u8]) {
        let documents = &mut self.documents;
        self.parser.feed(bytes, |event| {
            if event.first {
                documents.extractor.reset();
            }
            documents.push(event.data);
        });
    }
    fn read(&self) -> Work {
        Work::Chunks(self.documents.contents)
    }
}

/// A document on each line.
pub(crate) struct Lines {
    parser: ndjson::Parser,
    documents: Documents,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self { parser: ndjson::Parser::new(64 << 10), documents: Documents::new() }
    }
}

impl Reader for Lines {
    fn response(&mut self, bytes: &[u8]) {
        let documents = &mut self.documents;
        self.parser.feed(bytes, |line| {
            documents.extractor.reset();
            documents.push(line.bytes);
        });
    }
    fn read(&self) -> Work {
        Work::Chunks(self.documents.contents)
    }
}

/// A request that is one document, of which nothing large is wanted.
pub(crate) struct Document(Extractor<Field>);

impl Document {
    pub(crate) fn new() -> Self {
        Self(Extractor::new(&SCHEMA))
    }
}

impl Reader for Document {
    fn request(&mut self, bytes: &[u8]) {
        self.0.push(bytes, |_, _, _| {});
    }
    fn end(&mut self) {
        assert_eq!(self.0.finish(|_, _, _| {}), tokentap_wire::json::Status::Complete);
        self.0.reset();
    }
    fn read(&self) -> Work {
        Work::Nothing
    }
}

/// gRPC messages, as their responses say that they are compressed.
pub(crate) struct Calls {
    parser: grpc::Parser,
    messages: usize,
}

impl Calls {
    pub(crate) fn new(encoding: &str) -> Self {
        let parser = grpc::Parser::with_encoding(64 << 10, encoding.as_bytes(), &Limits::default());
        Self { parser: parser.expect("a known encoding"), messages: 0 }
    }
}

impl Reader for Calls {
    fn response(&mut self, bytes: &[u8]) {
        let fed = self.parser.feed(bytes, |message| self.messages += usize::from(message.whole));
        fed.expect("well-formed messages");
    }
    fn read(&self) -> Work {
        Work::Chunks(self.messages)
    }
}

/// gRPC-Web messages.
pub(crate) struct WebCalls {
    parser: grpc::web::Parser,
    messages: usize,
}

impl WebCalls {
    pub(crate) fn new(text: bool) -> Self {
        Self { parser: grpc::web::Parser::new(text, grpc::Parser::new(64 << 10)), messages: 0 }
    }
}

impl Reader for WebCalls {
    fn response(&mut self, bytes: &[u8]) {
        let fed = self.parser.feed(bytes, |message| self.messages += usize::from(!message.trailers));
        fed.expect("well-formed messages");
    }
    fn read(&self) -> Work {
        Work::Chunks(self.messages)
    }
}

/// Messages of an AWS event stream.
pub(crate) struct Frames {
    parser: eventstream::Parser,
    messages: usize,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self { parser: eventstream::Parser::new(4 << 10), messages: 0 }
    }
}

impl Reader for Frames {
    fn response(&mut self, bytes: &[u8]) {
        self.parser.feed(bytes, |piece| {
            self.messages += usize::from(piece == eventstream::Piece::End(Ok(())));
        });
    }
    fn read(&self) -> Work {
        Work::Chunks(self.messages)
    }
}

/// A form, whose boundary is `boundary`.
pub(crate) struct Form {
    parser: multipart::Parser,
    parts: usize,
}

impl Form {
    pub(crate) fn new() -> Self {
        Self { parser: multipart::Parser::new(b"boundary", 4 << 10), parts: 0 }
    }
}

impl Reader for Form {
    fn request(&mut self, bytes: &[u8]) {
        self.parser.feed(bytes, |piece| {
            self.parts += usize::from(matches!(piece, multipart::Piece::End { whole: true, .. }));
        });
    }
    fn end(&mut self) {
        assert_eq!((self.parser.finish(), std::mem::take(&mut self.parts)), (Ok(()), 2));
        self.parser = multipart::Parser::new(b"boundary", 4 << 10);
    }
    fn read(&self) -> Work {
        Work::Nothing
    }
}

/// Messages of a WebSocket.
#[derive(Default)]
pub(crate) struct Messages(usize);

impl Reader for Messages {
    fn message(&mut self, part: &MessagePart<'_>) {
        self.0 += usize::from(part.last);
    }
    fn read(&self) -> Work {
        Work::Chunks(self.0)
    }
}
