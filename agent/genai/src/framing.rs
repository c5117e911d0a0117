//! How documents lie in bodies: the only user of the parsers of `tokentap-wire`.
//!
//! A body becomes documents, and each document the fields that the tables of its API name, in order. Where the pieces of
//! a body are cut has no meaning.

mod base64_field;
mod encoding;
mod events;
mod form;
mod parts;
mod visitor;

use tokentap_wire::{
    Headers, Limits, MessagePart, Nanos, Reason, Role, eventstream, grpc,
    json::{Extractor, Schema, Status},
    multipart, protobuf, sse,
};

use crate::{
    api::{ApiSpec, Field},
    route::Framing,
};
use base64_field::Base64Field;
use encoding::Encoding;
use events::{EVENT_HEADERS, EVENT_PIECE, read_event, read_sse};
use form::Form;
use parts::Parts;
pub(crate) use visitor::Visitor;
use visitor::{finish, push};

/// One body, or the messages of one peer of a WebSocket.
#[derive(Debug)]
pub(crate) struct Body {
    framing: Framing,
    schema: &'static Schema<Field>,
    protobuf: Option<&'static protobuf::Schema<Field>>,
    extractor: Extractor<Field>,
    state: BodyState,
    encoding: Encoding,
    /// When the first bytes of an event came that is not whole.
    begun: Option<Nanos>,
}

#[derive(Debug)]
enum BodyState {
    /// Not known before the first byte that is not white space.
    Undetected {
        announced: Announced,
    },
    Document,
    Events(Box<sse::Parser>),
    /// `between`: the next byte that is not white space begins a document.
    Lines {
        between: bool,
        gapped: bool,
    },
    EventStream {
        parser: Box<eventstream::Parser>,
        base64: Option<Base64Field>,
    },
    Parts(Box<Parts>),
    Form(Box<Form>),
    Grpc(Box<grpc::Parser>),
    Opaque,
}

/// What the content type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    Nothing,
    Document,
    Events,
    Lines,
}

/// Messages of gRPC up to this length, in bytes, are put together before they are read.
const GRPC_MESSAGE: usize = 64 << 10;

impl Body {
    pub(crate) fn new(framing: Framing, api: &'static ApiSpec, from: Role) -> Self {
        let schema: &'static Schema<Field> = match from {
            Role::Client => api.request,
            Role::Server => api.response,
        };
        let protobuf = api.protobuf.map(|schemas| &**schemas[from.index()]);
        let state = match framing {
            Framing::Opaque => BodyState::Opaque,
            Framing::Grpc => BodyState::Grpc(Box::new(grpc::Parser::new(GRPC_MESSAGE))),
            _ => BodyState::Undetected { announced: Announced::Nothing },
        };
        Self {
            framing,
            schema,
            protobuf,
            extractor: Extractor::new(schema),
            state,
            encoding: Encoding::default(),
            begun: None,
        }
    }

    /// Takes the header fields of the message.
    pub(crate) fn headers(&mut self, headers: &Headers<'_>) {
        let kind = headers.get("content-type").unwrap_or_default();
        let is = |name: &str| kind.get(..name.len()).is_some_and(|k| k.eq_ignore_ascii_case(name.as_bytes()));
        if self.framing == Framing::Multipart
            && let Some(boundary) = multipart::boundary(kind)
        {
            self.state = BodyState::Form(Box::new(Form::new(boundary)));
        }
        if self.framing == Framing::Opaque && (is("application/json") || is("text/event-stream")) {
            self.state = BodyState::Undetected { announced: Announced::Nothing };
        }
        if let (BodyState::Grpc(parser), Some(encoding)) = (&mut self.state, headers.get("grpc-encoding")) {
            // What cannot be decompressed is known message by message.
            if let Ok(decoding) = grpc::Parser::with_encoding(GRPC_MESSAGE, encoding, &Limits::default()) {
                **parser = decoding;
            }
        }
        let text =
            headers.get("inference-header-content-length").and_then(|value| str::from_utf8(value).ok());
        if let Some(left) = text.and_then(|length| length.trim().parse().ok()) {
            self.encoding = Encoding::Prefix { left };
        }
        if let BodyState::Undetected { announced } = &mut self.state {
            *announced = if is("text/event-stream") {
                Announced::Events
            } else if is("application/x-ndjson")
                || is("application/stream+json")
                || is("application/jsonl")
                || is("application/x-jsonl")
                || is("application/json-lines")
            {
                Announced::Lines
            } else if is("application/json") {
                Announced::Document
            } else {
                Announced::Nothing
            };
        }
    }

    /// Detects the framing from the first byte. The announced type does not decide alone: errors are documents also where
    /// a stream was requested, some servers send documents as `text/event-stream`, and some streams come without that
    /// type.
    fn detect(&mut self, bytes: &[u8], visitor: &mut Visitor<'_>) {
        let BodyState::Undetected { announced } = self.state else { return };
        let Some(first) = bytes.iter().find(|b| !b.is_ascii_whitespace()) else { return };
        let events = announced == Announced::Events;
        let binary = self.framing.is_event_stream();
        let stream = match first {
            0 | 1 if binary => {
                self.state = self.event_stream();
                visitor.calls.current.response.streamed = true;
                return;
            }
            b'{' | b'[' | b'<' => false,
            // `data:`, `event:`, `id:`, `retry:` or a comment.
            b'd' | b'e' | b'i' | b'r' | b':' => events || visitor.calls.current.request.stream,
            _ => events,
        };
        let lines = announced == Announced::Lines
            || self.framing == Framing::Lines && announced != Announced::Document;
        if stream && visitor.from == Role::Server {
            self.state = event_framing(visitor);
        } else if lines && *first == b'{' {
            self.state = BodyState::Lines { between: true, gapped: false };
            visitor.calls.current.response.streamed |=
                visitor.from == Role::Server && announced == Announced::Lines;
        } else {
            self.state = BodyState::Document;
            visitor.begin_captured(b"", false);
        }
    }

    fn event_stream(&self) -> BodyState {
        if self.framing == Framing::EventStreamOfEvents {
            return BodyState::Parts(Box::new(Parts::new()));
        }
        let base64 = (self.framing == Framing::EventStreamBase64).then(Base64Field::default);
        BodyState::EventStream { parser: Box::new(eventstream::Parser::new(EVENT_HEADERS)), base64 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8], visitor: &mut Visitor<'_>) {
        match self.encoding {
            Encoding::Utf8 => self.push_utf8(bytes, visitor),
            mut encoding => {
                encoding.decode(bytes, &mut |bytes| self.push_utf8(bytes, visitor));
                self.encoding = encoding;
            }
        }
    }

    fn push_utf8(&mut self, bytes: &[u8], visitor: &mut Visitor<'_>) {
        if let BodyState::Undetected { .. } = self.state {
            self.detect(bytes, visitor);
        }
        let Self { extractor, state, schema, protobuf, begun, .. } = self;
        match state {
            BodyState::Undetected { .. } => {}
            BodyState::Opaque => visitor.opaque(),
            BodyState::Document => push(extractor, bytes, visitor),
            BodyState::Events(parser) => {
                let unseen = visitor.calls.current.response.first_chunk.is_none();
                if unseen {
                    visitor.begun = Some(*begun.get_or_insert(visitor.calls.now));
                }
                parser.feed(bytes, |event| read_sse(extractor, &event, visitor));
                if unseen && parser.is_between_events() {
                    *begun = None;
                }
            }
            BodyState::Lines { between, gapped } => {
                for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                    if *between {
                        if line.trim_ascii().is_empty() {
                            continue;
                        }
                        *between = false;
                        let response = &mut visitor.calls.current.response;
                        // The second line shows that the body is a stream.
                        response.streamed |= response.first_chunk.is_some() && visitor.from == Role::Server;
                        extractor.reset();
                        visitor.begin_captured(b"", false);
                    }
                    push(extractor, line, visitor);
                    if line.ends_with(b"\n") && (extractor.is_complete() || *gapped) {
                        visitor.end_captured(!*gapped);
                        (*between, *gapped) = (true, false);
                    }
                }
            }
            BodyState::EventStream { parser, base64 } => {
                parser.feed(bytes, |piece| read_event(extractor, base64.as_mut(), piece, visitor));
            }
            BodyState::Parts(parts) => parts.push(bytes, extractor, visitor),
            BodyState::Grpc(parser) => {
                let lost = parser.feed(bytes, |message| {
                    if !message.trailers {
                        read_message(*protobuf, &message, visitor);
                    }
                });
                if lost.is_err() {
                    visitor.calls.gap();
                }
            }
            BodyState::Form(form) => {
                form.push(bytes, schema, |field, value| visitor.field(field, &[], value));
            }
        }
    }

    /// Bytes are missing here.
    pub(crate) fn gap(&mut self, missing: Option<u64>, visitor: &mut Visitor<'_>) {
        // Messages are no body, which would be one more document when it ends.
        if self.framing == Framing::WebSocket {
            visitor.gap();
            return self.extractor.gap();
        }
        visitor.gap();
        self.encoding.gap(missing);
        if let BodyState::Undetected { announced } = self.state {
            self.state = match (self.framing, announced) {
                (framing, Announced::Nothing) if framing.is_event_stream() => {
                    visitor.calls.current.response.streamed = true;
                    self.event_stream()
                }
                (_, Announced::Events) if visitor.from == Role::Server => event_framing(visitor),
                (Framing::Lines, Announced::Nothing) | (_, Announced::Lines) => {
                    BodyState::Lines { between: false, gapped: true }
                }
                _ => BodyState::Document,
            };
        }
        let Self { extractor, state, .. } = self;
        match state {
            BodyState::Events(parser) => parser.gap(),
            BodyState::EventStream { parser, base64 } => {
                parser.gap(missing, |piece| read_event(extractor, base64.as_mut(), piece, visitor));
            }
            BodyState::Parts(parts) => parts.gap(missing, extractor, visitor),
            BodyState::Form(form) => form.gap(),
            BodyState::Grpc(parser) => parser.gap(missing),
            BodyState::Lines { between, gapped } => {
                extractor.gap();
                (*between, *gapped) = (false, true);
            }
            BodyState::Undetected { .. } | BodyState::Document | BodyState::Opaque => extractor.gap(),
        }
    }

    /// The body is over; `complete`: by protocol. Returns what is malformed in it.
    pub(crate) fn finish(&mut self, complete: bool, visitor: &mut Visitor<'_>) -> Option<Reason> {
        match self.state {
            BodyState::Document => {}
            BodyState::Lines { between: false, .. } => {
                let status = finish(&mut self.extractor, visitor);
                visitor.end_captured(status == Status::Complete);
                return None;
            }
            _ => return None,
        }
        if !complete {
            self.extractor.gap();
            visitor.gap();
        }
        let status = finish(&mut self.extractor, visitor);
        visitor.end_captured(status == Status::Complete);
        self.state = BodyState::Opaque;
        match status {
            Status::Malformed(reason) => Some(reason),
            Status::Partial => Some(Reason::JsonTruncated),
            Status::Empty | Status::Complete | Status::Gapped => None,
        }
    }

    /// Takes a part of a message of a WebSocket.
    pub(crate) fn message(&mut self, part: &MessagePart<'_>, visitor: &mut Visitor<'_>) {
        if part.first {
            self.extractor.reset();
            visitor.begin_captured(b"", false);
        }
        push(&mut self.extractor, part.bytes, visitor);
        if part.last {
            visitor.end_captured(self.extractor.is_complete());
        }
    }
}

fn event_framing(visitor: &mut Visitor<'_>) -> BodyState {
    visitor.calls.current.response.streamed = true;
    BodyState::Events(Box::new(sse::Parser::new(EVENT_PIECE)))
}

fn read_message(
    schema: Option<&protobuf::Schema<Field>>,
    message: &grpc::GrpcMessage<'_>,
    visitor: &mut Visitor<'_>,
) {
    let (Some(schema), false) = (schema, message.compressed) else { return };
    visitor.begin(b"", false);
    let whole = schema.read(message.bytes, |field, value| visitor.field(field, &[], value));
    visitor.end(whole && message.whole);
}
