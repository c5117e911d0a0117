//! Agents of AWS Bedrock that the request defines: `InvokeInlineAgent`.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, extra, own, own_presence, request},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Extra, RequestField},
    provider,
    route::{Captures, Confidence, Framing, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    decoder: || Box::new(InlineAgent),
    content: Some(read_content),
    ..ApiSpec::new("bedrock-inline-agent", provider::BEDROCK, ROUTES, &REQUEST, &RESPONSE)
};

/// Every service may have agents: the request has to name a model and to instruct it.
const ROUTES: &[Route] = &[Route::post("/agents/{session}", "invoke_agent")
    .confidence(Confidence::ByBodies)
    .response(Framing::EventStream)];

const BYTES: u8 = 0;
const OTHER: u8 = 1;

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("foundationModel", RequestField::Model),
            request("instruction", RequestField::Evidence),
            extra("agentName", Extra::AgentName),
            extra("guardrailConfiguration.guardrailIdentifier", Extra::GuardrailId),
        ],
    )])
});

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[own_presence("bytes", BYTES), own("trace", OTHER), own("invocationId", OTHER), own("files", OTHER)],
    )])
});

/// Takes the session from the path.
#[derive(Debug)]
struct InlineAgent;

impl Decoder for InlineAgent {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        if let Some(session) = captures.get("session") {
            calls.current.set(Extra::ConversationId, session);
        }
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        call.response.is_recognised |= call.request.is_recognised();
        if let (BYTES, Value::Str(text)) = (field, value)
            && !text.is_empty()
        {
            call.response.content();
        }
    }
}

/// The answer is bytes in base64, which are not read.
fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("instruction"));
        content.prompt(sent.get("inputText"));
    }
}
