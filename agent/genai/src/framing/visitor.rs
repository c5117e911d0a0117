//! Receives what the framings find in bodies: the documents and their fields.

use tokentap_wire::{
    Nanos, Role,
    json::{Extractor, Status, Value},
};

use crate::{
    api::{ApiSpec, Field, Kind},
    decoder::{Decoder, Event, OpenCalls},
};

/// Receives the documents of a body and their fields.
pub(crate) struct Visitor<'a> {
    pub(crate) api: &'static ApiSpec,
    pub(crate) decoder: &'a mut dyn Decoder,
    pub(crate) calls: &'a mut OpenCalls,
    /// Who sent the body.
    pub(crate) from: Role,
    /// When the first bytes of the event that is read came, where that is known.
    pub(crate) begun: Option<Nanos>,
    /// Whether content is captured.
    pub(crate) capturing: bool,
}

impl Visitor<'_> {
    pub(super) fn begin(&mut self, name: &[u8], error: bool) {
        if self.from == Role::Server {
            let response = &mut self.calls.current.response;
            response.begin_document();
            response.failure.seen |= error;
            if !response.gapped && !is_keep_alive(name) {
                response.chunk(self.begun, self.calls.now);
            }
        }
        self.decoder.begin(&Event { from: self.from, name }, self.calls);
    }

    /// A document of a body begins, or an event of a stream: what is captured of content begins with it.
    #[inline]
    pub(super) fn begin_captured(&mut self, name: &[u8], error: bool) {
        if self.capturing {
            self.begin_capture();
        }
        self.begin(name, error);
    }

    #[cold]
    fn begin_capture(&mut self) {
        if let Some(capture) = &mut self.calls.capture {
            capture.begin(self.from);
        }
    }

    /// Bytes came of which nothing is read. They are an answer of the API only if the request is one of its.
    pub(super) fn opaque(&mut self) {
        if self.from == Role::Client {
            return;
        }
        let call = &mut self.calls.current;
        call.response.first_chunk.get_or_insert(self.calls.now);
        if !call.response.is_recognised {
            call.response.is_recognised = (self.api.is_request)(&call.request);
        }
    }

    /// As [`Self::end`], for the end of what [`Self::begin_captured`] began.
    #[inline]
    pub(super) fn end_captured(&mut self, whole: bool) {
        if self.capturing {
            self.end_capture(whole);
        }
        self.end(whole);
    }

    #[cold]
    fn end_capture(&mut self, whole: bool) {
        let OpenCalls { current, capture, .. } = &mut *self.calls;
        if let Some(capture) = capture {
            capture.end(self.from, whole, &mut current.content);
        }
    }

    #[cold]
    pub(super) fn capture(&mut self, bytes: &[u8]) {
        if let Some(capture) = &mut self.calls.capture {
            capture.push(self.from, bytes);
        }
    }

    pub(super) fn end(&mut self, whole: bool) {
        if self.from == Role::Server {
            let response = &mut self.calls.current.response;
            response.end_document();
            // Not before: what matters may be at its end.
            response.done |= std::mem::take(&mut response.in_last_event);
        }
        self.decoder.end(whole, self.calls);
    }

    /// Bytes of the document are missing.
    pub(super) fn gap(&mut self) {
        if let Some(capture) = &mut self.calls.capture {
            capture.gap(self.from);
        }
    }

    #[inline]
    pub(super) fn field(&mut self, field: Field, indices: &[u32], value: Value<'_>) {
        match field {
            Field::Response(field) | Field::Once(field) => {
                self.calls.current.response.read(field, indices, value, self.api.usage);
            }
            Field::Request(field) => self.calls.current.request.read(field, indices, value),
            Field::Kind => self.kind(value),
            Field::Item => self.item(value),
            Field::Extra(extra) => self.calls.current.read(extra, value),
            Field::Own(field) => self.decoder.field(field, indices, value, self.calls),
        }
    }

    /// A message of this name says that the call failed.
    #[cold]
    pub(super) fn fail(&mut self, name: &[u8]) {
        self.calls.current.response.failure.kind = String::from_utf8_lossy(name).chars().take(64).collect();
    }

    pub(super) fn kind(&mut self, value: Value<'_>) {
        let Value::Str(text) = value else { return };
        let response = &mut self.calls.current.response;
        let Some((_, kind)) = self.api.kinds.iter().find(|(name, _)| text.is(name)) else { return };
        response.is_recognised |= !matches!(kind, Kind::Failure | Kind::OwnFailure | Kind::Choice);
        match kind {
            Kind::Evidence => {}
            Kind::OneChoice | Kind::Choice => response.choice(0, ""),
            Kind::Last => response.in_last_event = true,
            Kind::Failure => response.failure.seen = true,
            Kind::OwnFailure => {
                response.failure.seen = true;
                response.is_recognised |= (self.api.is_request)(&self.calls.current.request);
            }
        }
    }

    #[cold]
    pub(super) fn item(&mut self, value: Value<'_>) {
        match value {
            Value::Object => {
                self.calls.current.response.streamed |= self.from == Role::Server;
                self.begin(b"", false);
            }
            Value::End => self.end(true),
            _ => {}
        }
    }
}

/// Whether an event of this name only keeps the connection open.
fn is_keep_alive(name: &[u8]) -> bool {
    [&b"ping"[..], b"keepalive", b"keep-alive", b"heartbeat"].contains(&name)
}

/// The one place where documents are parsed: one copy of the parser serves all APIs and framings.
#[inline(never)]
pub(super) fn push(extractor: &mut Extractor<Field>, bytes: &[u8], visitor: &mut Visitor<'_>) {
    if visitor.capturing {
        visitor.capture(bytes);
    }
    extractor.push(bytes, |field, indices, value| visitor.field(field, indices, value));
}

#[cold]
pub(super) fn finish(extractor: &mut Extractor<Field>, visitor: &mut Visitor<'_>) -> Status {
    extractor.finish(|field, indices, value| visitor.field(field, indices, value))
}
