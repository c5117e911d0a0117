//! Events of streams: server-sent ones, and messages of Amazon's event stream.

use tokentap_wire::{eventstream, json::Extractor, sse};

use super::{
    base64_field::Base64Field,
    visitor::{Visitor, push},
};
use crate::api::Field;

/// Events up to this length, in bytes, are put together before they are read; longer ones are read in pieces.
pub(super) const EVENT_PIECE: usize = 4 << 10;
/// The same for the header blocks of an event stream.
pub(super) const EVENT_HEADERS: usize = 4 << 10;

#[inline(always)]
pub(super) fn read_sse(extractor: &mut Extractor<Field>, event: &sse::Event<'_>, visitor: &mut Visitor<'_>) {
    if event.first {
        if event.data.starts_with(b"[DONE]") {
            visitor.calls.current.response.done = true;
            return;
        }
        extractor.reset();
        visitor.begin_captured(event.name, event.name == b"error");
    }
    push(extractor, event.data, visitor);
    if event.last {
        visitor.end_captured(true);
    }
}

/// The name of a message of an event stream, and whether the message says that the call failed.
pub(super) fn message_name<'h>(headers: &eventstream::Headers<'h>) -> (&'h [u8], bool) {
    let text = |name| headers.text(name).unwrap_or_default();
    let name = [":event-type", ":exception-type", ":error-code"].into_iter().map(text);
    let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    (name, matches!(text(":message-type"), b"exception" | b"error"))
}

pub(super) fn read_event(
    extractor: &mut Extractor<Field>,
    base64: Option<&mut Base64Field>,
    piece: eventstream::Piece<'_>,
    visitor: &mut Visitor<'_>,
) {
    match piece {
        eventstream::Piece::Head { headers, .. } => {
            let (name, error) = message_name(&headers);
            extractor.reset();
            if let Some(base64) = base64 {
                // An exception is a document itself.
                *base64 = if error { Base64Field::plain() } else { Base64Field::default() };
            }
            visitor.begin_captured(name, error);
            if error {
                visitor.fail(name);
            }
        }
        eventstream::Piece::Payload(bytes) => match base64 {
            Some(base64) => base64.push(bytes, |bytes| push(extractor, bytes, visitor)),
            None => push(extractor, bytes, visitor),
        },
        eventstream::Piece::Gap(_) => {
            visitor.gap();
            extractor.gap();
        }
        eventstream::Piece::End(result) => visitor.end_captured(result.is_ok()),
        eventstream::Piece::Lost(_) => visitor.calls.current.response.gapped = true,
    }
}
