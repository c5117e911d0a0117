//! The seam between what all LLM APIs share and what one API family knows.

use std::fmt::Debug;

use tokentap_wire::{
    Headers, Nanos, Reason,
    json::{Extractor, Schema, Status, Value},
    sse,
};

use crate::{
    request_facts::{RequestFacts, RequestField},
    response_facts::ResponseFacts,
};

/// How sure the head of a request makes it that the exchange is a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confidence {
    /// No other API has such a path.
    Certain,
    /// Other APIs have such a path: the bodies have to confirm it.
    Likely,
}

/// What one API family knows: which requests are its own, which fields of its bodies matter, and what they
/// mean. `Self` holds the state of the body that is being read; results go to [`RequestFacts`] and
/// [`ResponseFacts`].
pub(crate) trait ApiFamily: Debug + Default + Send + 'static {
    /// Fields of responses, and of the events of streamed responses.
    type ResponseField: Copy + Debug + Send + Sync;

    const API_INFO: ApiInfo;

    /// Whether a POST with this path (without query) and these header fields is a call.
    fn match_path(path: &str, headers: &Headers<'_>) -> Option<Confidence>;
    /// Takes the facts that are in the path.
    fn path(&mut self, _path: &str) {}
    fn request_schema() -> &'static Schema<RequestField>;
    fn response_schema() -> &'static Schema<Self::ResponseField>;
    /// Takes a field of a response or event.
    fn response_field(
        &mut self,
        facts: &mut ResponseFacts,
        field: Self::ResponseField,
        indices: &[u32],
        value: Value<'_>,
    );
    /// A response, or an event of a streamed one, begins.
    fn begin(&mut self) {}
    /// A response or event ends. Its JSON document may be incomplete.
    fn end(&mut self, _facts: &mut ResponseFacts) {}
    /// The call is over: sets the facts that only the whole response can tell.
    fn conclude(&mut self, request: &mut RequestFacts, response: &mut ResponseFacts);
}

/// What is the same for all calls of an API family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiInfo {
    /// `gen_ai.operation.name`
    pub(crate) operation: &'static str,
    /// `gen_ai.provider.name` where neither the host nor the response tells the provider.
    pub(crate) provider: &'static str,
    /// `openai.api.type`
    pub(crate) openai_api_type: Option<&'static str>,
}

/// Reads the bodies of one call as bodies of one API family.
pub(crate) trait BodyReader: Debug + Send {
    fn info(&self) -> ApiInfo;
    fn request_body(&mut self, bytes: &[u8]);
    fn request_gap(&mut self);
    /// The request is complete.
    fn request_end(&mut self);
    /// The `Content-Type` of the response is that of server-sent events.
    fn announce_events(&mut self);
    fn response_body(&mut self, bytes: &[u8], at: Nanos);
    fn response_gap(&mut self);
    /// The call is over; `complete`: with the end of the response. Returns what is malformed in the response body.
    fn conclude(&mut self, complete: bool) -> Option<Reason>;
    fn facts(&mut self) -> (&mut RequestFacts, &mut ResponseFacts);
    fn response_facts(&self) -> &ResponseFacts;
}

/// The reader of an API family.
#[derive(Debug)]
pub(crate) struct FamilyReader<F: ApiFamily> {
    family: F,
    request: RequestFacts,
    response: ResponseFacts,
    request_fields: Extractor<RequestField>,
    response_fields: Extractor<F::ResponseField>,
    framing: Framing,
}

/// How documents lie in a response body.
#[derive(Debug)]
enum Framing {
    /// Not known before the first byte that is not white space. `events`: server-sent events were announced.
    Unknown {
        events: bool,
    },
    Document,
    Events(Box<sse::Parser>),
}

/// Events up to this length, in bytes, are put together before they are read; longer ones are read in pieces.
const EVENT_PIECE: usize = 4 << 10;

impl<F: ApiFamily> FamilyReader<F> {
    pub(crate) fn new(path: &str) -> Self {
        let mut family = F::default();
        family.path(path);
        Self {
            family,
            request: RequestFacts::default(),
            response: ResponseFacts::default(),
            request_fields: Extractor::new(F::request_schema()),
            response_fields: Extractor::new(F::response_schema()),
            framing: Framing::Unknown { events: false },
        }
    }

    /// Detects the framing from the first byte. The announced type does not decide: errors are documents also
    /// where a stream was requested, some servers send documents as `text/event-stream`, and some streams come
    /// without that type.
    fn detect_framing(&mut self, bytes: &[u8]) {
        let Framing::Unknown { events } = self.framing else { return };
        let Some(first) = bytes.iter().find(|b| !b.is_ascii_whitespace()) else { return };
        let stream = match first {
            b'{' | b'[' | b'<' => false,
            // `data:`, `event:`, `id:`, `retry:`, a comment, or a byte order mark before one.
            b'd' | b'e' | b'i' | b'r' | b':' | 0xef => events || self.request.stream,
            _ => events,
        };
        self.framing = if stream { self.event_framing() } else { Framing::Document };
        self.family.begin();
    }

    fn event_framing(&mut self) -> Framing {
        self.response.streamed = true;
        Framing::Events(Box::new(sse::Parser::new(EVENT_PIECE)))
    }
}

impl<F: ApiFamily> BodyReader for FamilyReader<F> {
    fn info(&self) -> ApiInfo {
        F::API_INFO
    }

    fn request_body(&mut self, bytes: &[u8]) {
        let Self { request, request_fields, .. } = self;
        request_fields.push(bytes, |field, _, value| request.read(field, value));
    }

    fn request_gap(&mut self) {
        self.request_fields.gap();
    }

    fn request_end(&mut self) {
        let Self { request, request_fields, .. } = self;
        request_fields.finish(|field, _, value| request.read(field, value));
    }

    fn announce_events(&mut self) {
        self.framing = Framing::Unknown { events: true };
    }

    fn response_body(&mut self, bytes: &[u8], at: Nanos) {
        self.detect_framing(bytes);
        let Self { family, response, response_fields, framing, .. } = self;
        response.now = at;
        match framing {
            Framing::Unknown { .. } => {}
            Framing::Document => response_fields.push(bytes, |field, indices, value| {
                family.response_field(response, field, indices, value);
            }),
            Framing::Events(parser) => parser.feed(bytes, |event| {
                if event.first {
                    if event.data.starts_with(b"[DONE]") {
                        response.done = true;
                        return;
                    }
                    response.failure.seen |= event.name == b"error";
                    response_fields.reset();
                    family.begin();
                }
                response_fields.push(event.data, |field, indices, value| {
                    family.response_field(response, field, indices, value);
                });
                if event.last {
                    family.end(response);
                }
            }),
        }
    }

    fn response_gap(&mut self) {
        self.response.gapped = true;
        if let Framing::Unknown { events } = self.framing {
            self.framing = if events { self.event_framing() } else { Framing::Document };
        }
        match &mut self.framing {
            Framing::Events(parser) => parser.gap(),
            _ => self.response_fields.gap(),
        }
    }

    fn conclude(&mut self, complete: bool) -> Option<Reason> {
        let Self { family, request, response, response_fields, framing, .. } = self;
        let mut malformed = None;
        if let Framing::Document = framing {
            if !complete {
                response_fields.gap();
            }
            let status = response_fields.finish(|field, indices, value| {
                family.response_field(response, field, indices, value);
            });
            malformed = match status {
                Status::Malformed(reason) => Some(reason),
                Status::Partial => Some(Reason::JsonTruncated),
                Status::Empty | Status::Complete | Status::Gapped => None,
            };
            family.end(response);
        }
        family.conclude(request, response);
        malformed
    }

    fn facts(&mut self) -> (&mut RequestFacts, &mut ResponseFacts) {
        (&mut self.request, &mut self.response)
    }

    fn response_facts(&self) -> &ResponseFacts {
        &self.response
    }
}
