//! Server-sent events inside of Amazon's event stream: what SageMaker makes of the stream of a server behind it. Where the
//! messages begin has nothing to do with where the events do.

use tokentap_wire::{eventstream, json::Extractor, sse};

use super::{
    events::{EVENT_HEADERS, EVENT_PIECE, message_name, read_sse},
    visitor::Visitor,
};
use crate::api::Field;

#[derive(Debug)]
pub(super) struct Parts {
    messages: eventstream::Parser,
    events: sse::Parser,
    /// The message that is read says that the call failed.
    exception: bool,
}

impl Parts {
    pub(super) fn new() -> Self {
        Self {
            messages: eventstream::Parser::new(EVENT_HEADERS),
            events: sse::Parser::new(EVENT_PIECE),
            exception: false,
        }
    }

    // Not a part of the code that reads every stream.
    #[cold]
    #[inline(never)]
    pub(super) fn push(&mut self, bytes: &[u8], extractor: &mut Extractor<Field>, visitor: &mut Visitor<'_>) {
        let Self { messages, events, exception } = self;
        messages.feed(bytes, |piece| part(events, exception, piece, extractor, visitor));
    }

    #[cold]
    pub(super) fn gap(
        &mut self,
        missing: Option<u64>,
        extractor: &mut Extractor<Field>,
        visitor: &mut Visitor<'_>,
    ) {
        let Self { messages, events, exception } = self;
        messages.gap(missing, |piece| part(events, exception, piece, extractor, visitor));
        // Whole messages may be missing, of which there is no piece.
        events.gap();
    }
}

fn part(
    events: &mut sse::Parser,
    exception: &mut bool,
    piece: eventstream::Piece<'_>,
    extractor: &mut Extractor<Field>,
    visitor: &mut Visitor<'_>,
) {
    match piece {
        eventstream::Piece::Head { headers, .. } => {
            let (name, error) = message_name(&headers);
            *exception = error;
            if error {
                visitor.begin_captured(name, true);
                visitor.fail(name);
            }
        }
        eventstream::Piece::Payload(bytes) if !*exception => {
            events.feed(bytes, |event| read_sse(extractor, &event, visitor));
        }
        eventstream::Piece::Payload(_) => {}
        eventstream::Piece::End(result) if *exception => visitor.end_captured(result.is_ok()),
        eventstream::Piece::End(Ok(())) => {}
        eventstream::Piece::Gap(_) | eventstream::Piece::End(Err(_)) => events.gap(),
        eventstream::Piece::Lost(_) => {
            events.gap();
            visitor.calls.current.response.gapped = true;
        }
    }
}
