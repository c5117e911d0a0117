//! Gemini Live over a WebSocket (`BidiGenerateContent`), at AI Studio and Vertex AI. One connection holds many calls: each
//! is one turn, from what the client sends, or else the first that the model sends, to `turnComplete`.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead, Role,
    json::{Schema, Value},
};

use super::gemini::{Gemini, USAGE};
use crate::{
    api::{self, ApiSpec, Field, Wanted, content, own, own_presence},
    decoder::{Decoder, Event, OpenCalls},
    facts::{Facts, Reasoning, UsageRule, read},
    provider,
    route::{Captures, Framing, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule { reasoning: Reasoning::Apart, cumulative: true, ..UsageRule::PLAIN },
    decoder: || Box::<Live>::default(),
    is_request: |_| false,
    ..ApiSpec::new("gemini-live", provider::GEMINI, ROUTES, &REQUEST, &RESPONSE)
};

const fn live(path: &'static str) -> Route {
    Route::get(path, "generate_content").request(Framing::WebSocket).response(Framing::WebSocket)
}

const ROUTES: &[Route] = &[
    live("/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContent"),
    live("/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"),
    live("/google.ai.generativelanguage.v1.GenerativeService.BidiGenerateContent"),
    live("/BidiGenerateContent"),
];

// The numbers below are those of `Gemini`.
const MODEL: u8 = 10;
const INPUT: u8 = 11;
const TURN_COMPLETE: u8 = 12;
const OUTPUT: u8 = 13;

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            own("setup.model", MODEL),
            own("clientContent", INPUT),
            own("client_content", INPUT),
            own("realtimeInput", INPUT),
            own("realtime_input", INPUT),
            own("toolResponse", INPUT),
            own("tool_response", INPUT),
        ],
    )])
});

const SERVER_CONTENT: &[Wanted] = &[
    own("modelTurn", OUTPUT),
    own_presence("outputTranscription.text", OUTPUT),
    own("turnComplete", TURN_COMPLETE),
    own("interrupted", TURN_COMPLETE),
    content("modelTurn.parts[].text"),
    content("modelTurn.parts[].inlineData"),
    content("outputTranscription.text"),
];

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("serverContent", SERVER_CONTENT),
        ("server_content", SERVER_CONTENT),
        ("toolCall", &[own("functionCalls", OUTPUT), content("functionCalls[].name")]),
        ("usageMetadata", USAGE),
    ])
});

/// What the current event says besides the facts, and the model of the session.
#[derive(Debug, Default)]
struct Live {
    model: String,
    from_client: bool,
    input: bool,
    output: bool,
    turn_complete: bool,
    counts: Gemini,
}

const TURN: &str = "turn";

impl Decoder for Live {
    fn request_head(&mut self, _head: &RequestHead<'_>, _captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.many = true;
    }

    fn begin(&mut self, event: &Event<'_>, _calls: &mut OpenCalls) {
        self.from_client = event.from == Role::Client;
        (self.input, self.output, self.turn_complete) = (false, false, false);
    }

    fn field(&mut self, field: u8, indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        match field {
            MODEL => read(value, &mut self.model),
            INPUT => self.input = true,
            OUTPUT => self.output |= !matches!(value, Value::Null),
            TURN_COMPLETE => self.turn_complete |= value.as_bool() == Some(true),
            _ => self.counts.field(field, indices, value, calls),
        }
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        let event = calls.take_event();
        if calls.get(TURN).is_none() {
            if !(self.input && self.from_client || self.output) {
                return;
            }
            let mut call = Facts::default();
            // `models/gemini-2.0-flash-live-001`, or with project and location at Vertex AI.
            self.model.rsplit('/').next().unwrap_or_default().clone_into(&mut call.request.model);
            call.response.streamed = true;
            call.response.is_recognised = true;
            calls.open(TURN.to_owned(), call);
        }
        if self.from_client {
            return;
        }
        let Some(call) = calls.get(TURN) else { return };
        call.absorb(event);
        call.response.gapped |= !whole;
        if self.turn_complete {
            calls.close(TURN);
        }
    }
}
