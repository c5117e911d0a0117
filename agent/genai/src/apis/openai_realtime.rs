//! OpenAI Realtime over a WebSocket (`GET …/realtime?model=…`), also at Azure and xAI. One connection holds many calls: each
//! is one response of the model, from `response.created` to `response.done`, or one transcription of what the user said, by
//! a model of its own, from the commit of the audio.

use std::sync::LazyLock;

use tokentap_wire::{
    Nanos, RequestHead, Role,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, Wanted, content, counted, extra, own, response},
    content::{Content, Sent},
    decoder::{Decoder, Event, OpenCalls},
    facts::{Count, Extra, Facts, ResponseField, read},
    provider,
    route::{Captures, Framing, Route, query},
};

pub(crate) static API: ApiSpec = ApiSpec {
    openai_api_type: Some("realtime"),
    decoder: || Box::<Realtime>::default(),
    is_request: |_| false,
    content: Some(read_content),
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
const ITEM_ID: u8 = 6;
const TRANSCRIBER: u8 = 7;

const USAGE: &[Wanted] = &[
    response("", ResponseField::Usage),
    counted("input_tokens", Count::Input),
    counted("output_tokens", Count::Output),
    counted("total_tokens", Count::Total),
    counted("input_token_details.cached_tokens", Count::CacheRead),
    counted("input_token_details.text_tokens", Count::TextInput),
    counted("input_token_details.audio_tokens", Count::AudioInput),
    counted("input_token_details.image_tokens", Count::ImageInput),
    counted("output_token_details.text_tokens", Count::TextOutput),
    counted("output_token_details.audio_tokens", Count::AudioOutput),
    counted("output_token_details.reasoning_tokens", Count::Reasoning),
];

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
                own("session.audio.input.transcription.model", TRANSCRIBER),
                own("session.input_audio_transcription.model", TRANSCRIBER),
                own("item_id", ITEM_ID),
                content("delta"),
                response("error", ResponseField::Error),
                response("error.code", ResponseField::ErrorCode),
                response("error.type", ResponseField::ErrorType),
            ],
        ),
        // Of a transcription; xAI's responses have it here, too.
        ("usage", USAGE),
        ("response.usage", USAGE),
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
            ],
        ),
    ])
});

/// What the current event says besides the facts, and what the session has said.
#[derive(Debug, Default)]
struct Realtime {
    /// The model that the path or else the client names.
    requested: String,
    in_path: bool,
    /// As the server names it.
    model: String,
    /// The model that transcribes what the user says.
    transcriber: String,
    pending: PendingItems,
    from_client: bool,
    kind: String,
    response_id: String,
    item_id: String,
    status: String,
    reason: String,
    calls_tool: bool,
}

impl Decoder for Realtime {
    fn request_head(&mut self, head: &RequestHead<'_>, _captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.many = true;
        let model = query(head.target, "model").or_else(|| query(head.target, "deployment"));
        self.requested = model.unwrap_or_default();
        self.in_path = !self.requested.is_empty();
    }

    fn begin(&mut self, event: &Event<'_>, calls: &mut OpenCalls) {
        let Self { kind, response_id, item_id, status, reason, .. } = self;
        for text in [kind, response_id, item_id, status, reason] {
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
            RESPONSE_ID => read(value, &mut self.response_id),
            SESSION_MODEL if !self.from_client => read(value, &mut self.model),
            SESSION_MODEL if !self.in_path => read(value, &mut self.requested),
            SESSION_MODEL => {}
            STATUS => read(value, &mut self.status),
            REASON => read(value, &mut self.reason),
            ITEM_ID => read(value, &mut self.item_id),
            TRANSCRIBER => read(value, &mut self.transcriber),
            _ => self.calls_tool |= value.as_str().is_some_and(|kind| kind.is("function_call")),
        }
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        const TRANSCRIPTION: &str = "conversation.item.input_audio_transcription.";
        match self.kind.as_str() {
            "response.created" => {
                let event = calls.take_event();
                let key = event.response.id.clone();
                // Nothing can be told to belong to a call whose id was lost: it is reported when it ends.
                if whole || !key.is_empty() {
                    calls.open(key, self.call()).absorb(event);
                }
                return;
            }
            "response.done" => self.done(whole, calls),
            "input_audio_buffer.committed" => self.pending.committed(&self.item_id, calls.now),
            kind => match kind.strip_prefix(TRANSCRIPTION) {
                Some("delta") => self.pending.first_text(&self.item_id, calls.current.response.first_token),
                Some("completed" | "failed") => self.transcribed(whole, calls),
                None if kind.starts_with("response.") && kind.ends_with(".delta") => self.delta(calls),
                _ => {}
            },
        }
        calls.take_event();
    }
}

impl Realtime {
    fn call(&self) -> Facts {
        let mut call = Facts::default();
        let requested = if self.requested.is_empty() { &self.model } else { &self.requested };
        call.request.model.clone_from(requested);
        call.response.model.clone_from(&self.model);
        call.response.streamed = true;
        call.response.is_recognised = true;
        call
    }

    fn delta(&self, calls: &mut OpenCalls) {
        let (now, token) = (calls.now, calls.current.response.first_token);
        let call = match self.response_id.as_str() {
            "" => calls.newest(),
            id => calls.get(id),
        };
        let Some(call) = call else { return };
        call.response.first_token = call.response.first_token.or(token);
        // A loss has not ended it.
        call.end = call.end.map(|_| now);
    }

    fn done(&self, whole: bool, calls: &mut OpenCalls) {
        let event = calls.take_event();
        // Without id, it may be of any call: of none that is open.
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

    /// The transcription of an item has ended. It is a call where another model than that of the responses did it, which
    /// the session names or which is paid for by itself.
    fn transcribed(&mut self, whole: bool, calls: &mut OpenCalls) {
        let event = calls.take_event();
        let item = self.pending.take(&self.item_id);
        if self.transcriber.is_empty() && !event.response.has_usage() {
            return;
        }
        let mut call = Facts::default();
        call.operation = Some("transcription");
        call.request.model.clone_from(&self.transcriber);
        call.absorb(event);
        call.response.is_recognised = true;
        call.response.failure.seen |= self.kind.ends_with("failed");
        // Without its beginning, how long it took is not known.
        call.response.gapped |= !whole || item.is_none();
        call.start = item.as_ref().map(|item| item.committed);
        call.response.first_token = item.as_ref().and_then(|item| item.first_text);
        call.response.first_chunk = call.response.first_token;
        call.response.streamed = call.response.first_token.is_some();
        let key = format!("{}/{}", self.item_id, self.kind);
        calls.open(key.clone(), call);
        calls.close(&key);
    }
}

/// What the user said and no transcription has ended of. Keeps the memory of its texts.
#[derive(Debug, Default)]
struct PendingItems {
    items: Vec<PendingItem>,
}

#[derive(Clone, Debug)]
struct PendingItem {
    id: String,
    committed: Nanos,
    /// When the first text of the transcription came.
    first_text: Option<Nanos>,
}

impl PendingItems {
    /// Of sessions without transcription, no item ever ends.
    const MOST: usize = 8;

    fn committed(&mut self, id: &str, at: Nanos) {
        if self.items.len() < Self::MOST {
            self.items.push(PendingItem { id: id.to_owned(), committed: at, first_text: None });
            return;
        }
        self.items.rotate_left(1);
        if let Some(oldest) = self.items.last_mut() {
            id.clone_into(&mut oldest.id);
            (oldest.committed, oldest.first_text) = (at, None);
        }
    }

    fn first_text(&mut self, id: &str, at: Option<Nanos>) {
        if let Some(item) = self.items.iter_mut().find(|item| item.id == id) {
            item.first_text = item.first_text.or(at);
        }
    }

    fn take(&mut self, id: &str) -> Option<PendingItem> {
        let at = self.items.iter().position(|item| item.id == id)?;
        Some(self.items.remove(at))
    }
}

/// What goes in is said in many events before the call, and is not kept.
fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() || sent.kind() != "response.done" {
        return;
    }
    for item in sent.at("/response/output").and_then(serde_json::Value::as_array).into_iter().flatten() {
        content.message(0, Some(item));
    }
}
