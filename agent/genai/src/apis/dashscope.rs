//! DashScope, Alibaba Cloud's own API for Qwen and others: generation of text, speech and images, applications,
//! embeddings and reranking.
//!
//! Events of a stream count all tokens so far. Unless the request asks for pieces, they also repeat all of the text so far.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};
use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use crate::{
    api::{
        self, ApiSpec, Field, Wanted, content, counted, extra, once, own, own_presence, request, response,
    },
    content::{Content, Part, Sent, choice_index},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, RequestFacts, RequestField, ResponseField, UsageRule, count, read},
    provider,
    route::{Captures, Route},
};

const FINISH_REASON: u8 = 0;
const TEXT: u8 = 1;
const CODE: u8 = 2;
const SPOKEN_TEXT: u8 = 3;
const MODEL: u8 = 4;
const INPUT_TOKENS: u8 = 5;
const OUTPUT_TOKENS: u8 = 6;

const CUMULATIVE: UsageRule = UsageRule { cumulative: true, ..UsageRule::PLAIN };

const PARAMETERS: &[Wanted] = &[
    request("max_tokens", RequestField::MaxTokens),
    request("n", RequestField::Choices),
    request("temperature", RequestField::Temperature),
    request("top_p", RequestField::TopP),
    request("top_k", RequestField::TopK),
    request("seed", RequestField::Seed),
    request("stop", RequestField::Stop),
    request("stop[]", RequestField::Stop),
    request("presence_penalty", RequestField::PresencePenalty),
    request("frequency_penalty", RequestField::FrequencyPenalty),
    request("response_format.type", RequestField::FormatName),
];

/// What every document may have at its top.
const TOP: &[Wanted] = &[
    once("request_id", ResponseField::Id),
    own("code", CODE),
    response("usage", ResponseField::Usage),
    counted("usage.total_tokens", Count::Total),
    counted("usage.input_tokens", Count::Input),
];

pub(crate) static CHAT: ApiSpec = ApiSpec {
    usage: CUMULATIVE,
    decoder: || Box::<DashScope>::default(),
    is_request: RequestFacts::has_evidence,
    content: Some(read_chat),
    ..ApiSpec::new("dashscope", provider::ALIBABA_CLOUD, CHAT_ROUTES, &CHAT_REQUEST, &CHAT_RESPONSE)
};

const CHAT_ROUTES: &[Route] = &[
    Route::post("/services/aigc/text-generation/generation", "chat"),
    Route::post("/services/aigc/multimodal-generation/generation", "chat"),
];

static CHAT_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                request("model", RequestField::Model),
                request("input.messages", RequestField::Evidence),
                request("input.messages[].role", RequestField::MessageRole),
                request("input.messages[].tool_call_id", RequestField::ToolResultId),
                request("input.prompt", RequestField::Evidence),
                own_presence("input.text", SPOKEN_TEXT),
            ],
        ),
        ("parameters", PARAMETERS),
    ])
});

static CHAT_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", TOP),
        (
            "usage",
            &[
                counted("output_tokens", Count::Output),
                counted("cached_tokens", Count::CacheRead),
                counted("prompt_tokens_details.cached_tokens", Count::CacheRead),
                counted("prompt_tokens_details.cache_creation_input_tokens", Count::CacheWrite),
                counted("input_tokens_details.text_tokens", Count::TextInput),
                counted("input_tokens_details.image_tokens", Count::ImageInput),
                counted("input_tokens_details.audio_tokens", Count::AudioInput),
                counted("output_tokens_details.reasoning_tokens", Count::Reasoning),
                counted("output_tokens_details.text_tokens", Count::TextOutput),
                counted("output_tokens_details.audio_tokens", Count::AudioOutput),
            ],
        ),
        (
            "output",
            &[
                // Where the request asks for text instead of messages.
                own_presence("text", TEXT),
                own("finish_reason", FINISH_REASON),
                content("audio.data"),
                response("choices[]", ResponseField::Choice),
                response("choices[].index", ResponseField::ChoiceIndex),
                own("choices[].finish_reason", FINISH_REASON),
            ],
        ),
        (
            "output.choices[].message",
            &[
                own_presence("content", TEXT),
                own_presence("content[].text", TEXT),
                content("reasoning_content"),
                response("tool_calls[].id", ResponseField::ToolCallId),
                response("tool_calls[].function.name", ResponseField::ToolCallName),
                content("tool_calls[].function.arguments"),
            ],
        ),
    ])
});

pub(crate) static APPLICATION: ApiSpec = ApiSpec {
    usage: CUMULATIVE,
    decoder: || Box::<DashScope>::default(),
    is_request: |_| false,
    content: Some(read_application),
    ..ApiSpec::new(
        "dashscope-application",
        provider::ALIBABA_CLOUD,
        APPLICATION_ROUTES,
        &APPLICATION_REQUEST,
        &APPLICATION_RESPONSE,
    )
};

const APPLICATION_ROUTES: &[Route] = &[Route::post("/apps/{app}/completion", "invoke_agent").likely()];

static APPLICATION_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                request("input.prompt", RequestField::Evidence),
                request("input.messages", RequestField::Evidence),
                extra("input.session_id", Extra::ConversationId),
            ],
        ),
        ("parameters", PARAMETERS),
    ])
});

static APPLICATION_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", TOP),
        (
            "",
            &[
                own_presence("output.text", TEXT),
                own("output.finish_reason", FINISH_REASON),
                extra("output.session_id", Extra::ConversationId),
                own("usage.models[].model_id", MODEL),
                own("usage.models[].input_tokens", INPUT_TOKENS),
                own("usage.models[].output_tokens", OUTPUT_TOKENS),
            ],
        ),
    ])
});

pub(crate) static EMBED: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    decoder: || Box::<DashScope>::default(),
    is_request: RequestFacts::has_evidence,
    ..ApiSpec::new("dashscope-embed", provider::ALIBABA_CLOUD, EMBED_ROUTES, &EMBED_REQUEST, &EMBED_RESPONSE)
};

const EMBED_ROUTES: &[Route] = &[
    Route::post("/services/embeddings/text-embedding/text-embedding", "embeddings"),
    Route::post("/services/embeddings/multimodal-embedding/multimodal-embedding", "embeddings"),
];

static EMBED_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("model", RequestField::Model),
            request("input.texts", RequestField::Evidence),
            request("input.contents", RequestField::Evidence),
            extra("parameters.dimension", Extra::EmbeddingsDimensions),
        ],
    )])
});

static EMBED_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", TOP),
        (
            "",
            &[
                response("output.embeddings", ResponseField::Evidence),
                response("output.task_id", ResponseField::Evidence),
            ],
        ),
    ])
});

/// Images are made by a task that runs on: the call only begins it.
pub(crate) static IMAGES: ApiSpec = ApiSpec {
    output_type: Some("image"),
    decoder: || Box::<DashScope>::default(),
    is_request: RequestFacts::has_evidence,
    content: Some(read_chat),
    ..ApiSpec::new("dashscope-images", provider::ALIBABA_CLOUD, IMAGE_ROUTES, &CHAT_REQUEST, &IMAGE_RESPONSE)
};

const IMAGE_ROUTES: &[Route] = &[
    Route::post("/services/aigc/text2image/image-synthesis", "generate_content"),
    Route::post("/services/aigc/image2image/image-synthesis", "generate_content"),
    Route::post("/services/aigc/image-generation/generation", "generate_content"),
];

static IMAGE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", TOP),
        (
            "output",
            &[
                response("task_id", ResponseField::Evidence),
                extra("task_status", Extra::ResponseStatus),
                response("results", ResponseField::Evidence),
                response("choices", ResponseField::Evidence),
            ],
        ),
    ])
});

pub(crate) static RERANK: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    decoder: || Box::<DashScope>::default(),
    is_request: RequestFacts::has_evidence,
    content: Some(read_rerank),
    ..ApiSpec::new(
        "dashscope-rerank",
        provider::ALIBABA_CLOUD,
        RERANK_ROUTES,
        &RERANK_REQUEST,
        &RERANK_RESPONSE,
    )
};

const RERANK_ROUTES: &[Route] = &[Route::post("/services/rerank/text-rerank/text-rerank", "rerank")];

static RERANK_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("model", RequestField::Model),
            request("input.query", RequestField::Evidence),
            extra("parameters.top_n", Extra::RetrievalTopK),
        ],
    )])
});

static RERANK_RESPONSE: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", TOP), ("", &[response("output.results", ResponseField::Evidence)])]));

/// Reads what has a form of its own: `"null"` for a reason that is not there yet, a code at the top of a failure, and the
/// counts of each model that an application uses.
#[derive(Debug, Default)]
struct DashScope {
    /// The application that is asked.
    application: bool,
    answered: bool,
    model: String,
    several_models: bool,
}

impl Decoder for DashScope {
    fn request_head(&mut self, head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        let streamed = head.headers.get("x-dashscope-sse").is_some_and(|value| value == b"enable");
        calls.current.request.stream |= streamed;
        if let Some(application) = captures.get("app") {
            self.application = true;
            calls.current.set(Extra::AgentId, application);
        }
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        match field {
            FINISH_REASON => {
                if let Value::Str(reason) = value {
                    if reason.is("null") || reason.is_empty() {
                        call.response.finish_reason("");
                    } else {
                        call.response.finish_reason(&reason.decode());
                    }
                }
            }
            TEXT => {
                if let Value::Str(text) = value {
                    self.answered = true;
                    if !text.is_empty() {
                        call.response.content();
                    }
                }
            }
            CODE => {
                if let Value::Str(code) = value
                    && !code.is_empty()
                {
                    call.response.failure.read_code(value);
                    call.response.failure.seen = true;
                }
            }
            SPOKEN_TEXT => {
                call.operation = Some("generate_content");
                call.request.modality = Some("speech");
            }
            MODEL => {
                if let Value::Str(model) = value {
                    self.several_models |= !self.model.is_empty() && !model.is(&self.model);
                    read(value, &mut self.model);
                }
            }
            _ => {
                let which = if field == INPUT_TOKENS { Count::Input } else { Count::Output };
                if let Some(n) = count(value) {
                    call.response.add_count(which, n);
                }
            }
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        // The paths of applications are not only DashScope's.
        let answered = self.answered && !call.response.id.is_empty();
        call.response.is_recognised |= answered && (!self.application || call.request.has_evidence());
        if !self.several_models && !call.response.gapped && call.response.model.is_empty() {
            call.response.model = std::mem::take(&mut self.model);
        }
    }
}

fn read_chat(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.in_pieces = sent.at("/parameters/incremental_output") == Some(&Json::Bool(true));
        let messages = sent.at("/input/messages").and_then(Json::as_array);
        for message in messages.into_iter().flatten() {
            content.input(Some(&with_typed_parts(message)));
        }
        content.prompt(sent.at("/input/prompt"));
        content.tools(sent.at("/parameters/tools"));
        return;
    }
    text(0, TEXT_PART, sent.at("/output/text"), content);
    let choices = sent.at("/output/choices").and_then(Json::as_array);
    for (position, choice) in (0..).zip(choices.into_iter().flatten()) {
        let (index, message) = (choice_index(choice, position), &choice["message"]);
        if let Some(thought) = message["reasoning_content"].as_str().filter(|text| !text.is_empty()) {
            content.piece_or_all(index, REASONING, Part::reasoning(thought));
        }
        match &message["content"] {
            Json::Array(parts) => {
                parts.iter().for_each(|part| text(index, TEXT_PART, part.get("text"), content))
            }
            said => text(index, TEXT_PART, Some(said), content),
        }
        let calls = message["tool_calls"].as_array();
        for (position, call) in (0..).zip(calls.into_iter().flatten()) {
            let number = call["index"].as_u64().unwrap_or(position);
            content.tool_call_or_all(index, TOOLS.saturating_add(number), call);
        }
    }
}

fn text(choice: u32, number: u64, json: Option<&Json>, content: &mut Content) {
    if let Some(text) = json.and_then(Json::as_str).filter(|text| !text.is_empty()) {
        content.piece_or_all(choice, number, Part::text(text));
    }
}

/// Numbers of the parts of a choice.
const REASONING: u64 = 0;
const TEXT_PART: u64 = 1;
const TOOLS: u64 = 2;

/// A message whose media are named by type: here, the only field of a part is the type, and its value a URL.
fn with_typed_parts(message: &Json) -> Json {
    let mut message = message.clone();
    for part in message["content"].as_array_mut().into_iter().flatten() {
        let media =
            ["image", "audio", "video"].into_iter().find_map(|kind| Some((kind, part.get(kind)?.as_str()?)));
        if let Some((kind, url)) = media {
            *part = json!({ "type": kind, kind: { "url": url } });
        }
    }
    message
}

fn read_application(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.in_pieces = sent.at("/parameters/incremental_output") == Some(&Json::Bool(true));
        content.input(sent.at("/input/messages"));
        content.prompt(sent.at("/input/prompt"));
        return;
    }
    text(0, TEXT_PART, sent.at("/output/text"), content);
}

fn read_rerank(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.query(sent.at("/input/query"));
        return;
    }
    for found in sent.at("/output/results").and_then(Json::as_array).into_iter().flatten() {
        content.document(found.get("index"), found.get("relevance_score"));
    }
}
