//! OpenAI Responses over a WebSocket (`GET …/responses`). One connection holds many calls: each is one `response.create` of the
//! client and the events that answer it, which are those of a streamed response. The server answers in order; where calls
//! run at the same time, each has a `stream_id`.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead, Role,
    json::{Schema, Value},
};

use super::openai_responses::{
    INCOMPLETE_REASON, OUTPUT_TYPE, REQUEST_FIELDS, RESPONSE_OBJECT, STATUS, finish_reason, is_tool_call,
};
use crate::{
    api::{self, ApiSpec, Field, content, own, response},
    decoder::{Decoder, Event, OpenCalls},
    facts::{Extra, Facts, ResponseFacts, ResponseField, read},
    provider,
    route::{Captures, Confidence, Framing, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    openai_api_type: Some("responses"),
    decoder: || Box::<Session>::default(),
    is_request: |_| false,
    chained: true,
    ..ApiSpec::new("openai-responses-websocket", provider::OPENAI, ROUTES, &REQUEST, &RESPONSE)
};

/// Without the field, it asks for a list: of others' responses.
const ROUTES: &[Route] = &[Route::get("/responses", "chat")
    .confidence(Confidence::WithHeader("sec-websocket-version"))
    .request(Framing::WebSocket)
    .response(Framing::WebSocket)];

// After those of `openai_responses`.
const TYPE: u8 = 10;
const STREAM: u8 = 11;

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", REQUEST_FIELDS), ("", &[own("type", TYPE), own("stream_id", STREAM)])])
});

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("response", RESPONSE_OBJECT),
        (
            "",
            &[
                own("type", TYPE),
                own("stream_id", STREAM),
                content("delta"),
                response("item.call_id", ResponseField::ToolCallId),
                response("item.name", ResponseField::ToolCallName),
                content("partial_image_b64"),
                // Of the event `error`.
                response("code", ResponseField::ErrorCode),
                response("error", ResponseField::Error),
                response("error.code", ResponseField::ErrorCode),
                response("error.type", ResponseField::ErrorType),
            ],
        ),
    ])
});

/// What the current event says besides the facts. Keeps the memory of its texts.
#[derive(Debug, Default)]
struct Session {
    from_client: bool,
    kind: String,
    stream: String,
    status: String,
    incomplete_reason: String,
    calls_tool: bool,
}

impl Decoder for Session {
    fn request_head(&mut self, _head: &RequestHead<'_>, _captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.many = true;
    }

    fn begin(&mut self, event: &Event<'_>, calls: &mut OpenCalls) {
        let Self { kind, stream, status, incomplete_reason, .. } = self;
        for text in [kind, stream, status, incomplete_reason] {
            text.clear();
        }
        self.calls_tool = false;
        self.from_client = event.from == Role::Client;
        // What was lost before an event is not missing in it.
        calls.current.response.gapped = false;
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, _calls: &mut OpenCalls) {
        match field {
            TYPE => read(value, &mut self.kind),
            STREAM => read(value, &mut self.stream),
            STATUS => read(value, &mut self.status),
            INCOMPLETE_REASON => read(value, &mut self.incomplete_reason),
            OUTPUT_TYPE => self.calls_tool |= is_tool_call(value),
            _ => {}
        }
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        match self.kind.as_str() {
            "response.create" if self.from_client => self.create(calls),
            _ if self.from_client => {}
            "response.created" => {
                let event = calls.take_event();
                self.answered(event, calls);
            }
            "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled"
            | "response.done" => self.done(whole, calls),
            "error" => self.failed(calls),
            kind if kind.ends_with(".delta") => {
                let (now, token) = (calls.now, calls.current.response.first_token);
                if let Some(call) = calls.get(&self.stream) {
                    call.response.first_token = call.response.first_token.or(token);
                    // A loss has not ended it.
                    call.end = call.end.map(|_| now);
                }
            }
            _ => {}
        }
        calls.take_event();
    }
}

impl Session {
    fn create(&self, calls: &mut OpenCalls) {
        let request = calls.take_event();
        if !request.request.has_evidence() && request.request.model.is_empty() {
            return;
        }
        // The end of the one before may be what was lost: what follows must not be told of it.
        if calls.get(&self.stream).is_some_and(|earlier| earlier.response.gapped) {
            calls.close(&self.stream);
        }
        let mut call = request;
        call.response = ResponseFacts::default();
        call.response.streamed = true;
        calls.open(self.stream.clone(), call);
    }

    /// The call that an event with a response belongs to, with what the event says.
    fn answered<'c>(&self, event: Facts, calls: &'c mut OpenCalls) -> Option<&'c mut Facts> {
        let id = &event.response.id;
        let other =
            |call: &mut Facts| !id.is_empty() && !call.response.id.is_empty() && call.response.id != *id;
        if let Some(call) = calls.get(&self.stream).filter(|call| !call.response.id.is_empty())
            && other(call)
        {
            // Its end was lost.
            call.response.gapped = true;
            calls.close(&self.stream);
        }
        if calls.get(&self.stream).is_none() {
            if event.response.model.is_empty() {
                return None;
            }
            // Its beginning was not seen: how long it took is not known.
            let mut call = Facts::default();
            call.response.streamed = true;
            call.response.gapped = true;
            calls.open(self.stream.clone(), call);
        }
        let call = calls.get(&self.stream)?;
        call.absorb(event);
        call.response.is_recognised = true;
        Some(call)
    }

    fn done(&self, whole: bool, calls: &mut OpenCalls) {
        let event = calls.take_event();
        let Some(call) = self.answered(event, calls) else { return };
        call.response.gapped |= !whole;
        let gapped = call.response.gapped;
        let reason = finish_reason(&self.status, &self.incomplete_reason, self.calls_tool, gapped);
        if !reason.is_empty() {
            call.response.choice(0, reason);
        }
        if !self.status.is_empty() {
            call.set(Extra::ResponseStatus, self.status.as_str());
        }
        call.response.failure.seen |= self.status == "failed";
        calls.close(&self.stream);
    }

    /// An `error` ends the call that it answers.
    fn failed(&self, calls: &mut OpenCalls) {
        let event = calls.take_event();
        let Some(call) = calls.get(&self.stream) else { return };
        call.absorb(event);
        call.response.failure.seen = true;
        calls.close(&self.stream);
    }
}
