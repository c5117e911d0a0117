//! OpenAI Chat Completions (`POST …/chat/completions`) and its dialects: Azure, vLLM, SGLang, llama.cpp, Ollama,
//! Groq, DeepSeek, xAI, Mistral, Perplexity, Together, OpenRouter and whoever else speaks it.
//!
//! Where dialects differ, all forms are read: usage at the top level, under `x_groq` or under a choice, or only
//! llama.cpp's `timings`; cached tokens under `prompt_tokens_details`, as `prompt_cache_hit_tokens` (DeepSeek)
//! or `cached_tokens` (Together); reasoning inside or outside of the completion tokens.

use std::sync::LazyLock;

use tokentap_wire::json::{Schema, Value};

use crate::{
    api::{
        self, ApiSpec, Field, Kind, Wanted, content, counted, extra, kind, once, own, own_presence, request,
        response,
    },
    content::{Content, Sent, choice_index},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, Reasoning, RequestField, ResponseField, Usage, UsageRule, count},
    provider,
    route::{Confidence, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    openai_api_type: Some("chat_completions"),
    kinds: KINDS,
    usage: PARTS_OF_THE_TOTAL,
    decoder: || Box::<OpenAiChat>::default(),
    by_bodies: true,
    content: Some(read_content),
    ..ApiSpec::new("openai-chat", provider::OPENAI, ROUTES, &REQUEST, &RESPONSE)
};

pub(super) const KINDS: &[(&str, Kind)] = &[
    ("chat.completion.chunk", Kind::Evidence),
    ("chat.completion", Kind::Evidence),
    ("error", Kind::Failure),
];

pub(super) const PARTS_OF_THE_TOTAL: UsageRule =
    UsageRule { reasoning: Reasoning::ByTotal, ..UsageRule::PLAIN };

const ROUTES: &[Route] = &[
    // The deployment is the model, whatever the field `model` says.
    Route::post("/deployments/{model}/chat/completions", "chat"),
    Route::post("/chat/completions", "chat"),
    // Writer.
    Route::post("/v1/chat", "chat").likely(),
    // Mistral and others at Vertex AI.
    Route::post("/models/{model}:rawPredict", "chat").confidence(Confidence::ByBodies),
    Route::post("/models/{model}:streamRawPredict", "chat").confidence(Confidence::ByBodies),
];

/// Request fields that all OpenAI formats of generated text have.
pub(super) const SAMPLING: &[Wanted] = &[
    request("model", RequestField::Model),
    request("stream", RequestField::Stream),
    request("max_tokens", RequestField::MaxTokens),
    request("n", RequestField::Choices),
    request("temperature", RequestField::Temperature),
    request("top_p", RequestField::TopP),
    request("top_k", RequestField::TopK),
    request("frequency_penalty", RequestField::FrequencyPenalty),
    request("presence_penalty", RequestField::PresencePenalty),
    request("seed", RequestField::Seed),
    request("random_seed", RequestField::Seed),
    request("stop", RequestField::Stop),
    request("stop[]", RequestField::Stop),
    request("service_tier", RequestField::ServiceTier),
];

pub(super) static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", SAMPLING),
        ("", api::IDENTITY),
        (
            "",
            &[
                request("messages", RequestField::Evidence),
                request("messages[].role", RequestField::MessageRole),
                request("messages[].tool_call_id", RequestField::ToolResultId),
                request("max_completion_tokens", RequestField::MaxCompletionTokens),
                request("reasoning_effort", RequestField::ReasoningLevel),
                request("reasoning.effort", RequestField::ReasoningLevel),
                request("response_format.type", RequestField::FormatName),
                request("modalities[]", RequestField::Modality),
                // Mistral's agents.
                extra("agent_id", Extra::AgentId),
            ],
        ),
    ])
});

/// A usage object, wherever it is.
pub(super) const USAGE: &[Wanted] = &[
    response("", ResponseField::Usage),
    counted("prompt_tokens", Count::Input),
    counted("completion_tokens", Count::Output),
    counted("total_tokens", Count::Total),
    counted("cached_tokens", Count::CacheRead),
    counted("prompt_cache_hit_tokens", Count::CacheRead),
    counted("reasoning_tokens", Count::Reasoning),
    counted("prompt_tokens_details.cached_tokens", Count::CacheRead),
    counted("prompt_tokens_details.cache_write_tokens", Count::CacheWrite),
    counted("prompt_tokens_details.text_tokens", Count::TextInput),
    counted("prompt_tokens_details.image_tokens", Count::ImageInput),
    counted("prompt_tokens_details.audio_tokens", Count::AudioInput),
    counted("completion_tokens_details.reasoning_tokens", Count::Reasoning),
    counted("completion_tokens_details.text_tokens", Count::TextOutput),
    counted("completion_tokens_details.image_tokens", Count::ImageOutput),
    counted("completion_tokens_details.audio_tokens", Count::AudioOutput),
];

/// What says that a call failed, in all forms: xAI, Mistral and older vLLM put code and type at the top, TGI has its own
/// name.
pub(super) const FAILURE: &[Wanted] = &[
    Wanted::presence("error", Field::Response(ResponseField::Error)),
    response("error.code", ResponseField::ErrorCode),
    response("error.type", ResponseField::ErrorType),
    response("code", ResponseField::ErrorCode),
    response("type", ResponseField::ErrorType),
    response("error_type", ResponseField::ErrorType),
];

/// What every document of the format may have at its top.
pub(super) const TOP: &[Wanted] = &[
    kind("object"),
    once("id", ResponseField::Id),
    once("model", ResponseField::Model),
    once("service_tier", ResponseField::ServiceTier),
    once("system_fingerprint", ResponseField::Fingerprint),
    response("choices[]", ResponseField::CommonChoice),
    response("choices[].index", ResponseField::ChoiceIndex),
    response("choices[].finish_reason", ResponseField::FinishReason),
];

const TIMINGS: u8 = 0;
const TIMINGS_PROMPT: u8 = 1;
const TIMINGS_CACHED: u8 = 2;
const TIMINGS_PREDICTED: u8 = 3;
const VLLM: u8 = 4;
const GROQ: u8 = 5;
const SGLANG: u8 = 6;

/// What shows the software of the server.
pub(super) const SOFTWARE: &[Wanted] = &[
    own("timings.prompt_n", TIMINGS_PROMPT),
    own("timings.cache_n", TIMINGS_CACHED),
    own("timings.predicted_n", TIMINGS_PREDICTED),
    own("timings", TIMINGS),
    own("x_groq", GROQ),
    own_presence("choices[].matched_stop", SGLANG),
    own("sglext", SGLANG),
    own_presence("choices[].stop_reason", VLLM),
    own("kv_transfer_params", VLLM),
];

pub(super) static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", TOP),
        (
            "choices[].delta",
            &[
                content("content"),
                content("reasoning_content"),
                content("reasoning"),
                content("refusal"),
                content("audio.data"),
                content("audio.transcript"),
                content("function_call.name"),
                content("function_call.arguments"),
                response("tool_calls[].id", ResponseField::ToolCallId),
                response("tool_calls[].function.name", ResponseField::ToolCallName),
                content("tool_calls[].function.arguments"),
                response("tool_calls[].custom.name", ResponseField::ToolCallName),
                content("tool_calls[].custom.input"),
            ],
        ),
        (
            "choices[].message",
            &[
                response("tool_calls[].id", ResponseField::ToolCallId),
                response("tool_calls[].function.name", ResponseField::ToolCallName),
                response("tool_calls[].custom.name", ResponseField::ToolCallName),
            ],
        ),
        ("", SOFTWARE),
        ("", FAILURE),
        ("usage", USAGE),
        ("x_groq.usage", USAGE),
        ("choices[].usage", USAGE),
    ])
});

/// Finds the software of the server; reads llama.cpp's timings.
#[derive(Debug, Default)]
pub(super) struct OpenAiChat {
    /// The timings object that is read, and the last complete one.
    current_timings: Timings,
    timings: Timings,
    /// A field that vLLM sends, and others may send too, was seen.
    vllm_mark: bool,
}

/// The `timings` of llama.cpp, which it sends where the request did not ask for usage.
#[derive(Clone, Copy, Debug, Default)]
struct Timings {
    prompt: Option<i64>,
    cached: Option<i64>,
    predicted: Option<i64>,
}

impl Decoder for OpenAiChat {
    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        match field {
            TIMINGS => {
                response.server = response.server.or(Some(provider::LLAMA_CPP));
                match value {
                    Value::Object => self.current_timings = Timings::default(),
                    Value::End => self.timings = self.current_timings,
                    _ => {}
                }
            }
            TIMINGS_PROMPT => self.current_timings.prompt = count(value),
            TIMINGS_CACHED => self.current_timings.cached = count(value),
            TIMINGS_PREDICTED => self.current_timings.predicted = count(value),
            GROQ => response.server = response.server.or(Some(provider::GROQ)),
            SGLANG => response.server = response.server.or(Some(provider::SGLANG)),
            _ => self.vllm_mark = true,
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        response.other_usage = Some(Box::new(self.timings.into_usage()));
        response.server = response.server.or_else(|| provider::by_fingerprint(&response.fingerprint));
        if response.server.is_none() && self.vllm_mark {
            response.server = Some(provider::VLLM);
        }
    }
}

impl Timings {
    fn into_usage(self) -> Usage {
        let input = self.prompt.map(|n| n.saturating_add(self.cached.unwrap_or(0)));
        Usage { input, output: self.predicted, cache_read: self.cached, ..Usage::default() }
    }
}

/// Also of the formats that have the same messages.
pub(super) fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.input(sent.get("messages"));
        content.tools(sent.get("tools").or_else(|| sent.get("functions")));
        return;
    }
    for (position, choice) in (0..).zip(sent.list("choices")) {
        let index = choice_index(choice, position);
        content.message(index, choice.get("message").filter(|message| message.is_object()));
        let Some(delta) = choice.get("delta") else { continue };
        for key in ["reasoning_content", "reasoning"] {
            content.reasoning(index, REASONING, delta.get(key));
        }
        match delta.get("content") {
            Some(parts @ serde_json::Value::Array(_)) => content.pieces(index, TEXT, parts),
            text => content.text(index, TEXT, text),
        }
        content.text(index, TEXT, delta.get("refusal"));
        content.text(index, TEXT, delta.pointer("/audio/transcript"));
        let calls = delta.get("tool_calls").and_then(serde_json::Value::as_array);
        for (position, call) in (0..).zip(calls.into_iter().flatten()) {
            let number = call.get("index").and_then(serde_json::Value::as_u64).unwrap_or(position);
            content.tool_call(index, TOOLS.saturating_add(number), call);
        }
        if let Some(call) = delta.get("function_call") {
            content.tool_call(index, TOOLS, call);
        }
    }
}

/// Numbers of the parts of a choice.
const REASONING: u64 = 0;
const TEXT: u64 = 1;
const TOOLS: u64 = 2;
