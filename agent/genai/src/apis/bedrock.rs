//! AWS Bedrock: Converse and ConverseStream, InvokeModel and InvokeModelWithResponseStream with the bodies of every model
//! family, and agents.
//!
//! The model is in the path. Streams are event streams; InvokeModel's hold the model's own events as base64. Counts of
//! tokens stand in the body, in the last event (`amazon-bedrock-invocationMetrics`: what is billed) or in header fields.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead, ResponseHead,
    json::{Schema, Value},
};

use super::{
    anthropic::{EVENT, KINDS, MESSAGE, REQUEST_FIELDS},
    openai_chat::TOP,
};
use crate::{
    api::{self, ApiSpec, Field, Wanted, content, counted, extra, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, Event, OpenCalls},
    facts::{Count, Extra, RequestFacts, RequestField, ResponseField, UsageRule},
    provider,
    route::{Captures, Framing, Route},
};

/// The input does not include what was read from or written to the cache.
const RULE: UsageRule = UsageRule { cache_apart: true, ..UsageRule::PLAIN };

pub(crate) static CONVERSE: ApiSpec = ApiSpec {
    usage: RULE,
    decoder: || Box::<Bedrock>::default(),
    is_request: RequestFacts::has_evidence,
    content: Some(read_converse),
    ..ApiSpec::new(
        "bedrock-converse",
        provider::BEDROCK,
        CONVERSE_ROUTES,
        &CONVERSE_REQUEST,
        &CONVERSE_RESPONSE,
    )
};

const CONVERSE_ROUTES: &[Route] = &[
    Route::post("/model/{model+}/converse", "chat"),
    Route::post("/model/{model+}/converse-stream", "chat").response(Framing::EventStream),
];

const INFERENCE_CONFIG: &[Wanted] = &[
    request("maxTokens", RequestField::MaxTokens),
    request("max_new_tokens", RequestField::MaxTokens),
    request("temperature", RequestField::Temperature),
    request("topP", RequestField::TopP),
    request("top_p", RequestField::TopP),
    request("topK", RequestField::TopK),
    request("top_k", RequestField::TopK),
    request("stopSequences[]", RequestField::Stop),
];

static CONVERSE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                request("messages", RequestField::Evidence),
                request("messages[].role", RequestField::MessageRole),
                request("messages[].content[].toolResult.toolUseId", RequestField::ToolResultId),
                request("additionalModelRequestFields.top_k", RequestField::TopK),
                request("additionalModelRequestFields.inferenceConfig.topK", RequestField::TopK),
                request("outputConfig.effort", RequestField::ReasoningLevel),
                request("outputConfig.textFormat", RequestField::FormatSchema),
                extra("guardrailConfig.guardrailIdentifier", Extra::GuardrailId),
            ],
        ),
        ("inferenceConfig", INFERENCE_CONFIG),
    ])
});

/// Converse's own names; Nova's InvokeModel has other ones for the cache.
const CONVERSE_USAGE: &[Wanted] = &[
    response("", ResponseField::Usage),
    counted("inputTokens", Count::Input),
    counted("outputTokens", Count::Output),
    counted("totalTokens", Count::Total),
    counted("cacheReadInputTokens", Count::CacheRead),
    counted("cacheReadInputTokenCount", Count::CacheRead),
    counted("cacheWriteInputTokens", Count::CacheWrite),
    counted("cacheWriteInputTokenCount", Count::CacheWrite),
];

/// A response, or the payload of an event.
const CONVERSE_EVENT: &[Wanted] = &[
    response("output.message", ResponseField::Evidence),
    response("role", ResponseField::Evidence),
    response("contentBlockIndex", ResponseField::Evidence),
    response("stopReason", ResponseField::FinishReason),
    content("delta.text"),
    content("delta.toolUse.input"),
    content("delta.reasoningContent.text"),
    response("output.message.content[].toolUse.toolUseId", ResponseField::ToolCallId),
    response("output.message.content[].toolUse.name", ResponseField::ToolCallName),
    response("start.toolUse.toolUseId", ResponseField::ToolCallId),
    response("start.toolUse.name", ResponseField::ToolCallName),
];

static CONVERSE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", CONVERSE_EVENT),
        ("", &[response("trace.promptRouter.invokedModelId", ResponseField::Model)]),
        ("usage", CONVERSE_USAGE),
    ])
});

pub(crate) static INVOKE: ApiSpec = ApiSpec {
    kinds: KINDS,
    usage: UsageRule { merge: true, flat: true, ..RULE },
    decoder: || Box::<Bedrock>::default(),
    is_request: RequestFacts::has_evidence,
    content: Some(read_invoke),
    ..ApiSpec::new("bedrock-invoke", provider::BEDROCK, INVOKE_ROUTES, &INVOKE_REQUEST, &INVOKE_RESPONSE)
};

const INVOKE_ROUTES: &[Route] = &[
    Route::post("/model/{model+}/invoke", "chat"),
    Route::post("/model/{model+}/invoke-with-response-stream", "chat").response(Framing::EventStreamBase64),
];

const PROMPT: u8 = 0;
const MESSAGES: u8 = 1;
const EMBEDDING: u8 = 2;
const METRICS: u8 = 3;
/// What only requests for embeddings have, and only those for ranks.
const EMBEDDED: u8 = 4;
const RANKED: u8 = 5;
const RANK: u8 = 6;

static INVOKE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", REQUEST_FIELDS),
        ("inferenceConfig", INFERENCE_CONFIG),
        (
            "",
            &[
                own("messages", MESSAGES),
                own("prompt", PROMPT),
                own("inputText", PROMPT),
                own("message", MESSAGES),
                own("texts", EMBEDDED),
                own("singleEmbeddingParams", EMBEDDED),
                own("embeddingConfig", EMBEDDED),
                own("embeddingTypes", EMBEDDED),
                own("query", RANKED),
                // Titan.
                request("textGenerationConfig.maxTokenCount", RequestField::MaxTokens),
                request("textGenerationConfig.temperature", RequestField::Temperature),
                request("textGenerationConfig.topP", RequestField::TopP),
                request("textGenerationConfig.stopSequences[]", RequestField::Stop),
                // Llama, old Claude, AI21, Cohere.
                request("max_gen_len", RequestField::MaxTokens),
                request("max_tokens_to_sample", RequestField::MaxTokens),
                request("maxTokens", RequestField::MaxTokens),
                request("max_completion_tokens", RequestField::MaxCompletionTokens),
                request("topP", RequestField::TopP),
                request("p", RequestField::TopP),
                request("k", RequestField::TopK),
                request("stop[]", RequestField::Stop),
                request("stopSequences[]", RequestField::Stop),
                request("reasoning_effort", RequestField::ReasoningLevel),
                extra("dimensions", Extra::EmbeddingsDimensions),
                extra("embeddingConfig.outputEmbeddingLength", Extra::EmbeddingsDimensions),
            ],
        ),
    ])
});

static INVOKE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", CONVERSE_EVENT),
        (
            "contentBlockDelta",
            &[content("delta.text"), response("contentBlockIndex", ResponseField::Evidence)],
        ),
        ("messageStop", &[response("stopReason", ResponseField::FinishReason)]),
        ("metadata.usage", CONVERSE_USAGE),
        // Chat Completions of open models.
        ("", TOP),
        ("choices[]", &[content("delta.content"), content("text")]),
        // Without cached tokens: they are included in the input here, and not in that of other families.
        ("usage", &[counted("prompt_tokens", Count::Input), counted("completion_tokens", Count::Output)]),
        ("usage", CONVERSE_USAGE),
        ("", EVENT),
        ("", MESSAGE),
        ("message", MESSAGE),
        (
            "",
            &[
                // Titan.
                counted("inputTextTokenCount", Count::Input),
                response("inputTextTokenCount", ResponseField::Count(Count::Input)),
                counted("results[].tokenCount", Count::Output),
                response("results[].completionReason", ResponseField::FinishReason),
                response("results[].outputText", ResponseField::Evidence),
                counted("totalOutputTextTokenCount", Count::Output),
                response("completionReason", ResponseField::FinishReason),
                content("outputText"),
                // Llama.
                counted("prompt_token_count", Count::Input),
                counted("generation_token_count", Count::Output),
                content("generation"),
                // Mistral, old Claude, Cohere, AI21.
                response("outputs[].stop_reason", ResponseField::FinishReason),
                content("outputs[].text"),
                content("completion"),
                response("finish_reason", ResponseField::FinishReason),
                response("generations[].finish_reason", ResponseField::FinishReason),
                content("generations[].text"),
                content("text"),
                response("completions[].finishReason.reason", ResponseField::FinishReason),
                // Embeddings and ranks.
                own("embedding", EMBEDDING),
                own("embeddings", EMBEDDING),
                own("embeddingsByType", EMBEDDING),
                own("results[].relevance_score", RANK),
            ],
        ),
        (
            "amazon-bedrock-invocationMetrics",
            &[
                response("", ResponseField::Usage),
                counted("inputTokenCount", Count::Input),
                counted("outputTokenCount", Count::Output),
                counted("cacheReadInputTokenCount", Count::CacheRead),
                counted("cacheWriteInputTokenCount", Count::CacheWrite),
                own("invocationLatency", METRICS),
            ],
        ),
    ])
});

/// Reads header fields, and tells the operation from the body.
#[derive(Debug, Default)]
struct Bedrock {
    /// What the header fields count: input, output, read from the cache, written to the cache.
    counts: [Option<i64>; 4],
    request_id: Option<String>,
    /// The event that is read is the last one of a stream.
    last: bool,
    /// What is billed is in the event that is read, and was seen.
    bills: bool,
    billed: bool,
}

const COUNTS: [(&str, Count); 4] = [
    ("x-amzn-bedrock-input-token-count", Count::Input),
    ("x-amzn-bedrock-output-token-count", Count::Output),
    ("x-amzn-bedrock-cache-read-input-token-count", Count::CacheRead),
    ("x-amzn-bedrock-cache-write-input-token-count", Count::CacheWrite),
];

impl Decoder for Bedrock {
    fn request_head(&mut self, head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        let model = captures.raw("model").unwrap_or_default();
        if model.contains("embed") {
            call.operation = Some("embeddings");
        } else if model.contains("rerank") {
            call.operation = Some("rerank");
        }
        call.request.stream |= head.target.ends_with(b"-stream");
        if let Some(guardrail) = text(head.headers.get("x-amzn-bedrock-guardrailidentifier")) {
            call.set(Extra::GuardrailId, guardrail);
        }
    }

    fn response_head(&mut self, head: &ResponseHead<'_>, calls: &mut OpenCalls) {
        for (count, (name, _)) in self.counts.iter_mut().zip(COUNTS) {
            *count = text(head.headers.get(name)).and_then(|value| value.parse().ok());
        }
        self.request_id = text(head.headers.get("x-amzn-requestid")).map(str::to_owned);
        if let Some(kind) = text(head.headers.get("x-amzn-errortype")) {
            let name = kind.split([':', '#']).next().unwrap_or_default();
            calls.current.response.failure.kind = name.chars().take(64).collect();
        }
    }

    fn begin(&mut self, event: &Event<'_>, calls: &mut OpenCalls) {
        self.last = event.name == b"metadata";
        if event.name == b"messageStart" {
            calls.current.response.choice(0, "");
        }
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        calls.current.response.done |= self.last && whole;
        self.billed |= std::mem::take(&mut self.bills) && whole;
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        match field {
            // The model may be an inference profile, of which the name says nothing.
            EMBEDDING if !matches!(value, Value::Null) => {
                call.response.is_recognised = true;
                call.operation = Some("embeddings");
            }
            RANK => {
                call.response.is_recognised = true;
                call.operation = Some("rerank");
            }
            METRICS => self.bills = true,
            EMBEDDED | RANKED => {
                call.request.read(RequestField::Evidence, &[], value);
                call.operation = Some(if field == EMBEDDED { "embeddings" } else { "rerank" });
            }
            EMBEDDING => {}
            _ => {
                call.request.read(RequestField::Evidence, &[], value);
                if field == PROMPT && call.operation.is_none() {
                    call.operation = Some("text_completion");
                } else if field == MESSAGES && call.operation == Some("text_completion") {
                    call.operation = None;
                }
            }
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        // The model's own count may be another one than what the last event bills, where that was not seen.
        let last_seen = call.response.done && !call.response.gapped;
        if call.response.streamed && !self.billed && !last_seen {
            call.response.forget_usage();
        }
        // What the body would have said goes before what the fields say: its own id, and cached tokens.
        if call.response.gapped {
            return;
        }
        for (count, (_, which)) in self.counts.into_iter().zip(COUNTS) {
            let output_of_embedding = which == Count::Output && call.operation == Some("embeddings");
            if let Some(n) = count.filter(|_| !output_of_embedding) {
                call.response.set_count_if_absent(which, n, INVOKE.usage);
                call.response.is_recognised = true;
            }
        }
        let response = &mut call.response;
        response.is_recognised |= response.has_choices();
        if response.id.is_empty()
            && let Some(id) = self.request_id.take()
            && response.is_recognised
        {
            response.id = id;
        }
    }
}

fn text(value: Option<&[u8]>) -> Option<&str> {
    str::from_utf8(value?).ok().map(str::trim).filter(|text| !text.is_empty() && text.len() <= 256)
}

pub(crate) static AGENT: ApiSpec = ApiSpec {
    decoder: || Box::new(Agent),
    is_request: RequestFacts::has_evidence,
    content: Some(read_agent),
    ..ApiSpec::new("bedrock-agent", provider::BEDROCK, AGENT_ROUTES, &AGENT_REQUEST, &AGENT_RESPONSE)
};

const AGENT_ROUTES: &[Route] =
    &[Route::post("/agents/{agent}/agentAliases/{alias}/sessions/{session}/text", "invoke_agent")
        .response(Framing::EventStream)];

static AGENT_REQUEST: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", &[request("inputText", RequestField::Evidence)])]));

static AGENT_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            Wanted::presence("bytes", Field::Response(ResponseField::Evidence)),
            content("bytes"),
            response("sessionId", ResponseField::Evidence),
            response("trace", ResponseField::Evidence),
        ],
    )])
});

/// Takes agent and session from the path.
#[derive(Debug)]
struct Agent;

impl Decoder for Agent {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        for (name, extra) in [("agent", Extra::AgentId), ("session", Extra::ConversationId)] {
            if let Some(value) = captures.get(name) {
                calls.current.set(extra, value);
            }
        }
    }

    fn end(&mut self, _whole: bool, calls: &mut OpenCalls) {
        calls.current.response.is_recognised |= calls.current.response.first_token.is_some();
    }
}

fn read_converse(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("system"));
        content.input(sent.get("messages"));
        content.tools(sent.at("/toolConfig/tools"));
        return;
    }
    content.message(0, sent.at("/output/message"));
    // Events of a stream have the name of their kind outside of the document.
    let number = sent.number("contentBlockIndex");
    if let Some(start) = sent.get("start") {
        content.pieces(0, number, start);
    }
    content.text(0, number, sent.at("/delta/text"));
    content.reasoning(0, number, sent.at("/delta/reasoningContent/text"));
    content.tool_arguments(0, number, sent.at("/delta/toolUse/input"));
}

/// Bodies are those of the model: Anthropic's, those of Converse, or a text.
fn read_invoke(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("prompt").or_else(|| sent.get("inputText")));
        content.tools(sent.at("/toolConfig/tools"));
        return super::anthropic::read_content(sent, content);
    }
    super::anthropic::read_content(sent, content);
    if sent.kind().is_empty() {
        read_converse(sent, content);
        super::openai_chat::read_content(sent, content);
        for key in ["generation", "outputText", "completion"] {
            content.text(0, 0, sent.get(key));
        }
        for (index, result) in (0..).zip(sent.list("results")) {
            content.text(index, 0, result.get("outputText"));
        }
        for (index, output) in (0..).zip(sent.list("outputs")) {
            content.text(index, 0, output.get("text"));
        }
    }
}

fn read_agent(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("inputText"));
    }
}
