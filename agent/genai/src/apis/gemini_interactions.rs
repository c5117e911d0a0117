//! Gemini Interactions (`POST …/interactions`): a model or an agent, plain, streamed and in the background.

use std::sync::LazyLock;

use tokentap_wire::json::{Schema, Value};

use super::gemini::ERROR;
use crate::{
    api::{self, ApiSpec, Field, Kind, Wanted, content, counted, extra, kind, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, Reasoning, RequestField, ResponseField, UsageRule, read},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    kinds: &[
        ("interaction", Kind::Evidence),
        ("interaction.start", Kind::OneChoice),
        ("interaction.created", Kind::OneChoice),
        ("interaction.completed", Kind::Last),
        ("interaction.complete", Kind::Last),
        ("error", Kind::OwnFailure),
    ],
    usage: UsageRule { reasoning: Reasoning::Apart, ..UsageRule::PLAIN },
    decoder: || Box::<Interaction>::default(),
    content: Some(read_content),
    ..ApiSpec::new("gemini-interactions", provider::GEMINI, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/interactions", "chat").likely(),
    Route::get("/interactions/{id}", "fetch_response").likely(),
];

const AGENT: u8 = 0;
const STATUS: u8 = 1;

/// The configuration of generation has one spelling here.
const CONFIG: &[Wanted] = &[
    request("temperature", RequestField::Temperature),
    request("top_p", RequestField::TopP),
    request("seed", RequestField::Seed),
    request("max_output_tokens", RequestField::MaxTokens),
    request("stop_sequences[]", RequestField::Stop),
    request("thinking_level", RequestField::ReasoningLevel),
];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                request("input", RequestField::Evidence),
                request("model", RequestField::Model),
                request("stream", RequestField::Stream),
                own("agent", AGENT),
                extra("previous_interaction_id", Extra::PreviousResponseId),
            ],
        ),
        ("generation_config", CONFIG),
    ])
});

const INTERACTION: &[Wanted] = &[
    response("id", ResponseField::Id),
    response("model", ResponseField::Model),
    own("status", STATUS),
    response("usage", ResponseField::Usage),
    counted("usage.total_input_tokens", Count::Input),
    counted("usage.total_output_tokens", Count::Output),
    counted("usage.total_tokens", Count::Total),
    counted("usage.total_thought_tokens", Count::Reasoning),
    counted("usage.total_reasoning_tokens", Count::Reasoning),
    counted("usage.total_cached_tokens", Count::CacheRead),
];

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", INTERACTION),
        ("interaction", INTERACTION),
        ("", ERROR),
        (
            "",
            &[
                kind("event_type"),
                kind("object"),
                content("delta.text"),
                content("delta.thought"),
                content("delta.name"),
                content("delta.data"),
            ],
        ),
    ])
});

#[derive(Debug, Default)]
struct Interaction {
    status: String,
}

impl Decoder for Interaction {
    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let Value::Str(text) = value else { return };
        match field {
            AGENT => {
                let agent = text.decode();
                calls.current.operation = Some("invoke_agent");
                calls.current.subject = Some(agent.clone());
                calls.current.set(Extra::AgentName, agent);
            }
            _ => {
                read(value, &mut self.status);
                calls.current.response.is_recognised = true;
            }
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let reason = match self.status.as_str() {
            "completed" => "stop",
            "requires_action" => "tool_call",
            "failed" | "cancelled" => "error",
            _ => "",
        };
        if !reason.is_empty() {
            calls.current.response.choice(0, reason);
        }
        if !self.status.is_empty() {
            calls.current.set(Extra::ResponseStatus, self.status.as_str());
        }
    }
}

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("system_instruction"));
        content.input(sent.get("input"));
        content.tools(sent.get("tools"));
        return;
    }
    let number = sent.get("index").and_then(serde_json::Value::as_u64).unwrap_or(0);
    content.text(0, number, sent.at("/delta/text"));
    content.reasoning(0, number, sent.at("/delta/thought"));
    let outputs = sent.get("outputs").or_else(|| sent.at("/interaction/outputs"));
    if let Some(outputs) = outputs.filter(|outputs| outputs.as_array().is_some_and(|list| !list.is_empty())) {
        content.restart_output();
        content.message(0, Some(outputs));
    }
}
