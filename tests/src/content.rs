//! What a body is made of, by its content type: the parsers' own account, as golden files have it.

use serde_json::{Value, json};
use tokentap_wire::{
    Limits,
    eventstream::{self, Value as Header},
    grpc, multipart, ndjson,
};

/// Longer than any line, header block or gRPC message of a test, in bytes.
const MOST: usize = 1 << 20;

/// A body, and what the head of its message says of it.
#[derive(Clone, Debug)]
pub struct Body<'a> {
    /// The value of its Content-Type field.
    pub content_type: &'a str,
    /// The value of its `grpc-encoding` field.
    pub grpc_encoding: &'a str,
    /// The body, in the pieces in which it came.
    pub pieces: Vec<&'a [u8]>,
}

impl Body<'_> {
    /// What it is made of, under the name of that: `lines`, `events`, `parts` or `messages`. `None` when its type
    /// is none of these.
    ///
    /// # Panics
    /// When it is not of the type that it says to be.
    #[must_use]
    pub fn list(&self) -> Option<(&'static str, Vec<Value>)> {
        let essence = self.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Some(match essence.as_str() {
            "application/x-ndjson" | "application/jsonl" => ("lines", self.lines()),
            "application/vnd.amazon.eventstream" => ("events", self.events()),
            "multipart/form-data" => ("parts", self.parts()),
            _ if essence.starts_with("application/grpc") => ("messages", self.messages()),
            _ => return None,
        })
    }

    /// Each line as text.
    fn lines(&self) -> Vec<Value> {
        let (mut parser, mut lines) = (ndjson::Parser::new(MOST), Vec::new());
        let mut on = |line: ndjson::Line<'_>| {
            assert!(line.whole, "{line:?}");
            lines.push(json!(exact(line.bytes)));
        };
        self.pieces.iter().for_each(|piece| parser.feed(piece, &mut on));
        parser.finish(&mut on);
        lines
    }

    /// Each message: its headers as `{name: {type: value}}`, and its payload; `error` when something is wrong with
    /// it. A message that has not ended has none of that, but `cut`.
    fn events(&self) -> Vec<Value> {
        let (mut parser, mut events) = (eventstream::Parser::new(MOST), Vec::new());
        let (mut begun, mut content) = (Value::Null, Vec::new());
        for piece in &self.pieces {
            parser.feed(piece, |piece| match piece {
                eventstream::Piece::Head { headers, .. } => {
                    begun = json!({"headers": header_values(headers)})
                }
                eventstream::Piece::Payload(bytes) => content.extend_from_slice(bytes),
                eventstream::Piece::End(ended) => {
                    let mut event = begun.take();
                    event["payload"] = json!(exact(&std::mem::take(&mut content)));
                    if let Err(reason) = ended {
                        event["error"] = json!(reason.sentence());
                    }
                    events.push(event);
                }
                eventstream::Piece::Lost(reason) => events.push(json!({"lost": reason.sentence()})),
                eventstream::Piece::Gap(missing) => {
                    panic!("{missing} bytes are missing of a body that is whole")
                }
            });
        }
        events.extend(parser.finish().err().map(|reason| json!({"cut": reason.sentence()})));
        events
    }

    /// Each part: its names and type, the text of a field, the length of a file in bytes.
    fn parts(&self) -> Vec<Value> {
        let boundary = multipart::boundary(self.content_type.as_bytes()).expect("a boundary");
        let (mut parser, mut parts) = (multipart::Parser::new(boundary, MOST), Vec::new());
        let (mut begun, mut value) = (Value::Null, Vec::new());
        for piece in &self.pieces {
            parser.feed(piece, |piece| match piece {
                multipart::Piece::Part(part) => {
                    let said = [
                        ("name", part.name),
                        ("filename", part.filename),
                        ("content_type", part.content_type),
                    ];
                    let said = said
                        .into_iter()
                        .filter_map(|(key, said)| Some((key.to_owned(), json!(exact(said?)))));
                    begun = Value::Object(said.collect());
                }
                multipart::Piece::Value(bytes) => value.extend_from_slice(bytes),
                multipart::Piece::End { bytes, whole } => {
                    let mut part = begun.take();
                    let value = std::mem::take(&mut value);
                    if part.get("filename").is_some() {
                        part["length"] = json!(bytes);
                    } else {
                        assert_eq!(bytes, value.len() as u64, "{part}");
                        part["value"] = json!(exact(&value));
                    }
                    if !whole {
                        part["whole"] = json!(false);
                    }
                    parts.push(part);
                }
                multipart::Piece::Lost(reason) => parts.push(json!({"lost": reason.sentence()})),
            });
        }
        parts.extend(parser.finish().err().map(|reason| json!({"cut": reason.sentence()})));
        parts
    }

    /// Each message of gRPC or gRPC-Web: its bytes, and whether it was compressed, or the trailers that it holds.
    fn messages(&self) -> Vec<Value> {
        let list = |message: Message| {
            if !message.trailers {
                return json!({"compressed": message.compressed, "bytes": exact(&message.bytes)});
            }
            let fields = grpc::web::trailers(&message.bytes);
            let fields: Vec<_> =
                fields.map(|(name, value)| format!("{}: {}", exact(name), exact(value))).collect();
            json!({"trailers": fields})
        };
        self.grpc().into_iter().map(list).collect()
    }

    /// The messages of gRPC or gRPC-Web.
    ///
    /// # Panics
    /// When the body is neither, or a message is not what `grpc_encoding` says.
    #[must_use]
    pub fn grpc(&self) -> Vec<Message> {
        let text = grpc::web::is_text(self.content_type.as_bytes()).unwrap_or(false);
        let read = |parser: grpc::Parser| {
            let (mut parser, mut messages) = (grpc::web::Parser::new(text, parser), Vec::new());
            for piece in &self.pieces {
                let fed = parser.feed(piece, |message| {
                    assert!(message.whole, "{message:?}");
                    messages.push(Message {
                        compressed: message.compressed,
                        trailers: message.trailers,
                        bytes: message.bytes.to_vec(),
                    });
                });
                assert_eq!(fed, Ok(()));
            }
            messages
        };
        let decoding = grpc::Parser::with_encoding(MOST, self.grpc_encoding.as_bytes(), &Limits::default());
        let (sent, plain) = (read(grpc::Parser::new(MOST)), read(decoding.expect("a coding that is known")));
        // Of what was compressed, only a parser that was not told how says so.
        sent.into_iter().zip(plain).map(|(sent, plain)| Message { bytes: plain.bytes, ..sent }).collect()
    }
}

/// A message of gRPC or gRPC-Web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// It was compressed.
    pub compressed: bool,
    /// It holds trailers.
    pub trailers: bool,
    /// Its bytes, decompressed.
    pub bytes: Vec<u8>,
}

/// As text where it is that, else escaped.
#[must_use]
pub fn exact(bytes: &[u8]) -> String {
    str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), ToOwned::to_owned)
}

/// As `{name: {type: value}}`, with the types' names in the Smithy specification; bytes and UUIDs in hexadecimal.
fn header_values(headers: eventstream::Headers<'_>) -> Value {
    assert!(headers.complete, "{headers:?}");
    let value = |value| match value {
        Header::Bool(value) => json!({"boolean": value}),
        Header::Byte(value) => json!({"byte": value}),
        Header::Short(value) => json!({"short": value}),
        Header::Int(value) => json!({"integer": value}),
        Header::Long(value) => json!({"long": value}),
        Header::Bytes(value) => json!({"byte_array": hex(value)}),
        Header::Text(value) => json!({"string": exact(value)}),
        Header::Timestamp(value) => json!({"timestamp": value}),
        Header::Uuid(value) => json!({"uuid": hex(&value)}),
    };
    Value::Object(headers.iter().map(|(name, of)| (exact(name), value(of))).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
