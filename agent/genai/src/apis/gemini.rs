//! Gemini (`…/models/{model}:generateContent`, `:streamGenerateContent`, `:embedContent`, `:batchEmbedContents`), at AI
//! Studio and at Vertex AI, and `:predict` of Vertex AI for embeddings and images.
//!
//! A stream is server-sent events (`alt=sse`) or one JSON array whose items come one by one. Usage is cumulative and in
//! nearly every chunk; the count of candidates does not include thoughts. With `enum-encoding=int`, enums are numbers.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, Wanted, content, counted, extra, own, own_presence, request, response},
    content::{Content, Sent, choice_index},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, Reasoning, RequestFacts, RequestField, ResponseField, UsageRule},
    provider,
    route::{Captures, Confidence, Route},
};

pub(crate) static GENERATE: ApiSpec = ApiSpec {
    usage: UsageRule { reasoning: Reasoning::Apart, cumulative: true, ..UsageRule::PLAIN },
    decoder: || Box::<Gemini>::default(),
    is_request: RequestFacts::has_evidence,
    by_bodies: true,
    content: Some(read_content),
    ..ApiSpec::new("gemini", provider::GEMINI, GENERATE_ROUTES, &GENERATE_REQUEST, &GENERATE_RESPONSE)
};

const GENERATE_ROUTES: &[Route] = &[
    Route::post("/{kind}/{model}:generateContent", "generate_content"),
    Route::post("/{kind}/{model}:streamGenerateContent", "generate_content"),
];

/// `generationConfig`, in both spellings of proto3-JSON.
pub(super) const CONFIG: &[Wanted] = &[
    request("temperature", RequestField::Temperature),
    request("topP", RequestField::TopP),
    request("top_p", RequestField::TopP),
    request("topK", RequestField::TopK),
    request("top_k", RequestField::TopK),
    request("candidateCount", RequestField::Choices),
    request("candidate_count", RequestField::Choices),
    request("maxOutputTokens", RequestField::MaxTokens),
    request("max_output_tokens", RequestField::MaxTokens),
    request("stopSequences[]", RequestField::Stop),
    request("stop_sequences[]", RequestField::Stop),
    request("seed", RequestField::Seed),
    request("presencePenalty", RequestField::PresencePenalty),
    request("presence_penalty", RequestField::PresencePenalty),
    request("frequencyPenalty", RequestField::FrequencyPenalty),
    request("frequency_penalty", RequestField::FrequencyPenalty),
    request("responseMimeType", RequestField::FormatMediaType),
    request("response_mime_type", RequestField::FormatMediaType),
    request("responseModalities[]", RequestField::Modality),
    request("response_modalities[]", RequestField::Modality),
    request("thinkingConfig.thinkingLevel", RequestField::ReasoningLevel),
    request("thinking_config.thinking_level", RequestField::ReasoningLevel),
];

static GENERATE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", &[request("contents", RequestField::Evidence)]),
        ("generationConfig", CONFIG),
        ("generation_config", CONFIG),
    ])
});

const FINISH_REASON: u8 = 0;
const BLOCK_REASON: u8 = 1;
const PROMPT_DETAIL: u8 = 2;
const OUTPUT_DETAIL: u8 = 3;
const MODALITY: u8 = 4;
const TOKENS: u8 = 5;

/// `usageMetadata`; the Live API says `response` where others say `candidates`.
pub(super) const USAGE: &[Wanted] = &[
    response("", ResponseField::Usage),
    counted("promptTokenCount", Count::Input),
    counted("candidatesTokenCount", Count::Output),
    counted("responseTokenCount", Count::Output),
    counted("totalTokenCount", Count::Total),
    counted("thoughtsTokenCount", Count::Reasoning),
    counted("cachedContentTokenCount", Count::CacheRead),
    own("promptTokensDetails[]", PROMPT_DETAIL),
    own("promptTokensDetails[].modality", MODALITY),
    own("promptTokensDetails[].tokenCount", TOKENS),
    own("candidatesTokensDetails[]", OUTPUT_DETAIL),
    own("candidatesTokensDetails[].modality", MODALITY),
    own("candidatesTokensDetails[].tokenCount", TOKENS),
    own("responseTokensDetails[]", OUTPUT_DETAIL),
    own("responseTokensDetails[].modality", MODALITY),
    own("responseTokensDetails[].tokenCount", TOKENS),
];

/// `error` of all Google APIs: the status is a name, the code a number.
pub(super) const ERROR: &[Wanted] = &[
    Wanted::presence("error", Field::Response(ResponseField::Error)),
    response("error.status", ResponseField::ErrorType),
    response("error.code", ResponseField::ErrorCode),
];

const CHUNK: &[Wanted] = &[
    response("responseId", ResponseField::Id),
    response("modelVersion", ResponseField::Model),
    response("candidates[]", ResponseField::Choice),
    response("candidates[].index", ResponseField::ChoiceIndex),
    own("candidates[].finishReason", FINISH_REASON),
    content("candidates[].content.parts[].text"),
    response("candidates[].content.parts[].functionCall.id", ResponseField::ToolCallId),
    response("candidates[].content.parts[].functionCall.name", ResponseField::ToolCallName),
    content("candidates[].content.parts[].inlineData"),
    content("candidates[].content.parts[].executableCode"),
    own("promptFeedback.blockReason", BLOCK_REASON),
];

static GENERATE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", CHUNK),
        ("", ERROR),
        ("usageMetadata", USAGE),
        ("[]", &[Wanted::new("", Field::Item)]),
        ("[]", CHUNK),
        ("[]", ERROR),
        ("[].usageMetadata", USAGE),
    ])
});

/// Reads enums as names or numbers, and the counts of each modality.
#[derive(Debug, Default)]
pub(super) struct Gemini {
    detail: Detail,
}

/// An item of `promptTokensDetails` or `candidatesTokensDetails`.
#[derive(Debug, Default)]
struct Detail {
    modality: Option<Modality>,
    tokens: i64,
}

#[derive(Clone, Copy, Debug)]
enum Modality {
    Text,
    Image,
    Audio,
}

/// Names of the finish reason with this number.
pub(super) fn finish_reason(number: i64) -> Option<&'static str> {
    usize::try_from(number).ok().and_then(|n| FINISH_REASONS.get(n)).copied().filter(|name| !name.is_empty())
}

/// `FinishReason` of google.ai.generativelanguage.v1beta, by number.
const FINISH_REASONS: [&str; 16] = [
    "",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
    "IMAGE_SAFETY",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_OTHER",
];

impl Decoder for Gemini {
    fn request_head(&mut self, head: &RequestHead<'_>, _captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.current.request.stream |= has_verb(head.target, b":streamGenerateContent");
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        match field {
            FINISH_REASON => match value {
                Value::Str(text) if !text.is("FINISH_REASON_UNSPECIFIED") => {
                    response.finish_reason(&text.decode());
                }
                Value::Number(number) => {
                    if let Some(name) = number.as_i64().and_then(finish_reason) {
                        response.finish_reason(name);
                    }
                }
                _ => {}
            },
            BLOCK_REASON => {
                if let Value::Str(text) = value {
                    response.is_recognised = true;
                    response.choice(0, &text.decode());
                }
            }
            MODALITY => self.detail.modality = modality(value),
            TOKENS => self.detail.tokens = value.as_i64().unwrap_or(0),
            _ => self.detail(field == PROMPT_DETAIL, value, calls),
        }
    }
}

impl Gemini {
    fn detail(&mut self, prompt: bool, value: Value<'_>, calls: &mut OpenCalls) {
        match value {
            Value::Object => self.detail = Detail::default(),
            Value::End => {
                let which = match (self.detail.modality, prompt) {
                    (Some(Modality::Text), true) => Count::TextInput,
                    (Some(Modality::Text), false) => Count::TextOutput,
                    (Some(Modality::Image), true) => Count::ImageInput,
                    (Some(Modality::Image), false) => Count::ImageOutput,
                    (Some(Modality::Audio), true) => Count::AudioInput,
                    (Some(Modality::Audio), false) => Count::AudioOutput,
                    (None, _) => return,
                };
                calls.current.response.add_count(which, self.detail.tokens);
            }
            _ => {}
        }
    }
}

fn modality(value: Value<'_>) -> Option<Modality> {
    let is = |name: &str, number: i64| match value {
        Value::Str(text) => text.is(name),
        value => value.as_i64() == Some(number),
    };
    let known = [("TEXT", 1, Modality::Text), ("IMAGE", 2, Modality::Image), ("AUDIO", 4, Modality::Audio)];
    known.into_iter().find(|(name, number, _)| is(name, *number)).map(|(.., modality)| modality)
}

fn has_verb(target: &[u8], verb: &[u8]) -> bool {
    target.windows(verb.len()).any(|window| window == verb)
}

pub(crate) static EMBED: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    is_request: RequestFacts::has_evidence,
    ..ApiSpec::new("gemini-embed", provider::GEMINI, EMBED_ROUTES, &EMBED_REQUEST, &EMBED_RESPONSE)
};

const EMBED_ROUTES: &[Route] = &[
    Route::post("/{kind}/{model}:embedContent", "embeddings"),
    Route::post("/{kind}/{model}:batchEmbedContents", "embeddings"),
    Route::post("/{kind}/{model}:asyncBatchEmbedContent", "embeddings"),
];

static EMBED_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("content", RequestField::Evidence),
            request("requests", RequestField::Evidence),
            extra("outputDimensionality", Extra::EmbeddingsDimensions),
            extra("output_dimensionality", Extra::EmbeddingsDimensions),
            extra("requests[].outputDimensionality", Extra::EmbeddingsDimensions),
        ],
    )])
});

static EMBED_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", ERROR),
        (
            "",
            &[
                response("embedding", ResponseField::Evidence),
                response("embeddings", ResponseField::Evidence),
                response("usageMetadata", ResponseField::Usage),
                counted("usageMetadata.promptTokenCount", Count::Input),
                counted("usageMetadata.totalTokenCount", Count::Total),
            ],
        ),
    ])
});

/// Whether a prediction is an embedding, an image or something else is in the response only.
pub(crate) static PREDICT: ApiSpec = ApiSpec {
    usage: UsageRule { flat: true, ..UsageRule::INPUT_ONLY },
    decoder: || Box::new(Predict),
    is_request: |_| false,
    ..ApiSpec::new("vertex-predict", provider::VERTEX, PREDICT_ROUTES, &PREDICT_REQUEST, &PREDICT_RESPONSE)
};

const PREDICT_ROUTES: &[Route] =
    &[Route::post("/{kind}/{model}:predict", "embeddings").confidence(Confidence::ByBodies)];

static PREDICT_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("parameters.sampleCount", RequestField::Choices),
            extra("parameters.outputDimensionality", Extra::EmbeddingsDimensions),
        ],
    )])
});

const EMBEDDED: u8 = 0;
const EMBEDDED_TOKENS: u8 = 1;
const IMAGE: u8 = 2;

static PREDICT_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", ERROR),
        (
            "",
            &[
                own("predictions[].embeddings.values", EMBEDDED),
                own("predictions[].embeddings.statistics.token_count", EMBEDDED_TOKENS),
                own_presence("predictions[].bytesBase64Encoded", IMAGE),
            ],
        ),
    ])
});

#[derive(Debug)]
struct Predict;

impl Decoder for Predict {
    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        call.response.is_recognised = true;
        match field {
            EMBEDDED_TOKENS => call.response.add_count(Count::Input, value.as_i64().unwrap_or(0)),
            IMAGE => {
                call.operation = Some("generate_content");
                call.request.modality = Some("image");
            }
            _ => {}
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        // A sum of which a part is missing.
        if calls.current.response.gapped {
            calls.current.response.forget_usage();
        }
    }
}

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("systemInstruction").or_else(|| sent.get("system_instruction")));
        content.input(sent.get("contents"));
        content.tools(sent.get("tools"));
        return;
    }
    // A stream may be one array of documents.
    let documents = sent.json.as_array().map_or_else(|| std::slice::from_ref(sent.json), Vec::as_slice);
    for document in documents {
        let candidates = document.get("candidates").and_then(serde_json::Value::as_array);
        for (position, candidate) in (0..).zip(candidates.into_iter().flatten()) {
            let index = choice_index(candidate, position);
            if let Some(parts) = candidate.pointer("/content/parts") {
                content.follow(index, parts);
            }
        }
    }
}
