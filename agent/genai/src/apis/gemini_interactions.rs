//! Gemini Interactions (`POST …/interactions`): a model or an agent, plain, streamed and in the background.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use super::gemini::ERROR;
use crate::{
    api::{self, ApiSpec, Field, Kind, Wanted, content, counted, extra, kind, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, Reasoning, RequestField, ResponseField, UsageRule, read},
    provider,
    route::{Captures, Route, query},
};

pub(crate) static API: ApiSpec = ApiSpec {
    kinds: &[
        ("step.delta", Kind::Evidence),
        ("content.delta", Kind::Evidence),
        ("interaction.start", Kind::OneChoice),
        ("interaction.created", Kind::OneChoice),
        ("interaction.completed", Kind::Last),
        ("interaction.complete", Kind::Last),
        // Not only this API has such documents.
        ("error", Kind::Failure),
    ],
    usage: UsageRule { reasoning: Reasoning::Apart, ..UsageRule::PLAIN },
    decoder: || Box::<Interaction>::default(),
    content: Some(read_content),
    chained: true,
    ..ApiSpec::new("gemini-interactions", provider::GEMINI, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/interactions", "chat").likely(),
    Route::get("/interactions/{id}", "fetch_response").likely(),
];

const AGENT: u8 = 0;
const STATUS: u8 = 1;
const OBJECT: u8 = 2;
const ANSWERED_BY: u8 = 3;

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
    own("object", OBJECT),
    own("agent", ANSWERED_BY),
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
                content("delta.text"),
                content("delta.thought"),
                content("delta.name"),
                content("delta.data"),
            ],
        ),
    ])
});

/// Services that keep contacts with customers have interactions, too, with a status and errors. One of a model has the model
/// or agent, or its usage.
#[derive(Debug, Default)]
struct Interaction {
    status: String,
    /// The request names an agent.
    agent: bool,
    is_interaction: bool,
    answered_by_agent: bool,
    /// The id of the stored interaction that is fetched.
    fetched: Option<String>,
}

impl Decoder for Interaction {
    fn request_head(&mut self, head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        self.fetched = captures.get("id");
        if self.fetched.is_some()
            && let Some(after) = query(head.target, "last_event_id")
        {
            calls.current.set(Extra::StreamCursor, after);
        }
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let Value::Str(text) = value else { return };
        match field {
            AGENT => {
                calls.current.operation = Some("invoke_agent");
                calls.current.read(Extra::AgentName, value);
                self.agent = true;
            }
            OBJECT => self.is_interaction = text.is("interaction"),
            ANSWERED_BY => self.answered_by_agent = !text.is_empty(),
            _ => read(value, &mut self.status),
        }
    }

    fn end(&mut self, _whole: bool, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        let answered = self.answered_by_agent || !response.model.is_empty();
        response.is_recognised |= self.is_interaction && answered || response.has_usage();
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        call.response.is_recognised |=
            call.response.failure.seen && self.agent && call.request.has_evidence();
        let reason = match self.status.as_str() {
            "completed" => "stop",
            "requires_action" => "tool_call",
            "failed" | "cancelled" => "error",
            _ => "",
        };
        if !reason.is_empty() {
            call.response.choice(0, reason);
        }
        if !self.status.is_empty() {
            call.set(Extra::ResponseStatus, self.status.as_str());
        }
        if let Some(id) = self.fetched.take() {
            call.response.fetched(id, self.status == "failed");
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
    let number = sent.number("index");
    content.text(0, number, sent.at("/delta/text"));
    content.reasoning(0, number, sent.at("/delta/thought"));
    let outputs = sent.get("outputs").or_else(|| sent.at("/interaction/outputs"));
    if let Some(outputs) = outputs.filter(|outputs| outputs.as_array().is_some_and(|list| !list.is_empty())) {
        content.restart_output();
        content.message(0, Some(outputs));
    }
}
