//! `multipart/form-data`: the values of form fields are fields of the top-level object.

use tokentap_wire::{
    json::{Schema, Str, Value},
    multipart::{Parser, Piece},
};

use crate::api::Field;

/// One form.
#[derive(Debug)]
pub(super) struct Form {
    parser: Parser,
    /// What the part that is read is, and its value.
    part: Option<Field>,
    value: Vec<u8>,
}

/// The head of a part up to this length, in bytes, is put together before it is read.
const HEAD: usize = 4 << 10;
/// Longest value that is kept, in bytes.
const VALUE: usize = 256;

impl Form {
    pub(super) fn new(boundary: &[u8]) -> Self {
        Self { parser: Parser::new(boundary, HEAD), part: None, value: Vec::new() }
    }

    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        schema: &Schema<Field>,
        mut give: impl FnMut(Field, Value<'_>),
    ) {
        let Self { parser, part, value } = self;
        parser.feed(bytes, |piece| match piece {
            Piece::Part(head) => {
                let name = str::from_utf8(head.name.unwrap_or_default()).unwrap_or_default();
                *part = schema.top_level(name.trim_end_matches("[]"));
                value.clear();
                if head.file
                    && let Some(field) = part.take()
                {
                    // A file is not text: it is only known to be there.
                    give(field, Value::Object);
                }
            }
            Piece::Value(bytes) if part.is_some() => {
                let room = VALUE.saturating_sub(value.len()).min(bytes.len());
                value.extend_from_slice(&bytes[..room]);
            }
            Piece::End { whole: true, .. } => {
                if let Some(field) = part.take() {
                    let truth = match &value[..] {
                        b"true" | b"True" => Some(Value::Bool(true)),
                        b"false" | b"False" => Some(Value::Bool(false)),
                        _ => None,
                    };
                    give(field, truth.unwrap_or_else(|| Value::Str(Str::plain(value))));
                }
            }
            Piece::Value(_) | Piece::End { .. } | Piece::Lost(_) => {
                *part = part.filter(|_| !matches!(piece, Piece::End { .. }))
            }
        });
    }

    pub(super) fn gap(&mut self) {
        self.part = None;
        self.parser.gap(|_| {});
    }
}
