//! OpenAI Realtime over a WebSocket (`GET …/realtime?model=…`), also at Azure and xAI. One connection holds many calls: each
//! is one response of the model, from `response.created` to `response.done`.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, content, counted, extra, own, response},
    decoder::{Decoder, Event, OpenCalls},
    facts::{Count, Extra, Facts, ResponseField, read},
    provider,
    route::{Captures, Framing, Route, query},
};

pub(crate) static API: ApiSpec = ApiSpec {
    openai_api_type: Some("realtime"),
    decoder: || Box::<Realtime>::default(),
    is_request: |_| false,
    ..ApiSpec::new("openai-realtime", provider::OPENAI, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] =
    &[Route::get("/realtime", "chat").request(Framing::WebSocket).response(Framing::WebSocket)];

const TYPE: u8 = 0;
const RESPONSE_ID: u8 = 1;
const SESSION_MODEL: u8 = 2;
const STATUS: u8 = 3;
const REASON: u8 = 4;
const OUTPUT_TYPE: u8 = 5;

static REQUEST: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", &[own("session.model", SESSION_MODEL)])]));

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                own("type", TYPE),
                own("response_id", RESPONSE_ID),
                own("session.model", SESSION_MODEL),
                content("delta"),
            ],
        ),
        (
            "response",
            &[
                response("id", ResponseField::Id),
                own("status", STATUS),
                own("status_details.reason", REASON),
                response("status_details.error", ResponseField::Error),
                response("status_details.error.code", ResponseField::ErrorCode),
                response("status_details.error.type", ResponseField::ErrorType),
                own("output[].type", OUTPUT_TYPE),
                extra("conversation_id", Extra::ConversationId),
                response("usage", ResponseField::Usage),
                counted("usage.input_tokens", Count::Input),
                counted("usage.output_tokens", Count::Output),
                counted("usage.total_tokens", Count::Total),
                counted("usage.input_token_details.cached_tokens", Count::CacheRead),
                counted("usage.input_token_details.text_tokens", Count::TextInput),
                counted("usage.input_token_details.audio_tokens", Count::AudioInput),
                counted("usage.input_token_details.image_tokens", Count::ImageInput),
                counted("usage.output_token_details.text_tokens", Count::TextOutput),
                counted("usage.output_token_details.audio_tokens", Count::AudioOutput),
                counted("usage.output_token_details.reasoning_tokens", Count::Reasoning),
            ],
        ),
    ])
});

/// What the current event says besides the facts, and the model of the session.
#[derive(Debug, Default)]
struct Realtime {
    /// As the path names it, and as the server does.
    requested: String,
    model: String,
    kind: String,
    response_id: String,
    status: String,
    reason: String,
    calls_tool: bool,
}

impl Decoder for Realtime {
    fn request_head(&mut self, head: &RequestHead<'_>, _captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.many = true;
        let model = query(head.target, "model").or_else(|| query(head.target, "deployment"));
        self.requested = model.unwrap_or_default();
    }

    fn begin(&mut self, _event: &Event<'_>, _calls: &mut OpenCalls) {
        for text in [&mut self.kind, &mut self.response_id, &mut self.status, &mut self.reason] {
            text.clear();
        }
        self.calls_tool = false;
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, _calls: &mut OpenCalls) {
        match field {
            TYPE => read(value, &mut self.kind),
            RESPONSE_ID => read(value, &mut self.response_id),
            SESSION_MODEL => read(value, &mut self.model),
            STATUS => read(value, &mut self.status),
            REASON => read(value, &mut self.reason),
            _ => self.calls_tool |= value.as_str().is_some_and(|kind| kind.is("function_call")),
        }
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        match self.kind.as_str() {
            "response.created" => {
                let event = calls.take_event();
                let key = event.response.id.clone();
                let call = calls.open(key, self.call());
                call.absorb(event);
                return;
            }
            "response.done" => self.done(whole, calls),
            kind if kind.ends_with(".delta") => {
                let token = calls.current.response.first_token;
                let call = match self.response_id.as_str() {
                    "" => calls.newest(),
                    id => calls.get(id),
                };
                if let Some(call) = call {
                    call.response.first_token = call.response.first_token.or(token);
                }
            }
            _ => {}
        }
        calls.take_event();
    }
}

impl Realtime {
    fn call(&self) -> Facts {
        let mut call = Facts::default();
        call.request.model.clone_from(&self.requested);
        call.response.model.clone_from(&self.model);
        call.response.streamed = true;
        call.response.is_recognised = true;
        call
    }

    fn done(&self, whole: bool, calls: &mut OpenCalls) {
        let event = calls.take_event();
        let key = event.response.id.clone();
        if calls.get(&key).is_none() {
            // Its beginning was not seen: how long it took is not known.
            let mut call = self.call();
            call.response.gapped = true;
            calls.open(key.clone(), call);
        }
        let Some(call) = calls.get(&key) else { return };
        call.absorb(event);
        call.response.gapped |= !whole;
        if !self.status.is_empty() {
            call.set(Extra::ResponseStatus, self.status.as_str());
        }
        let reason = match (self.status.as_str(), self.reason.as_str()) {
            ("completed", _) if self.calls_tool => "tool_call",
            // The call of a tool may have been lost.
            ("completed", _) if call.response.gapped => "",
            ("completed", _) => "stop",
            ("incomplete", "max_output_tokens") => "length",
            ("incomplete", reason) => reason,
            ("failed", _) => "error",
            _ => "",
        };
        if !reason.is_empty() {
            call.response.choice(0, reason);
        }
        call.response.failure.seen |= self.status == "failed";
        calls.close(&key);
    }
}
