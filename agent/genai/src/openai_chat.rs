//! OpenAI Chat Completions (`POST …/chat/completions`) and its dialects: Azure, vLLM, SGLang, llama.cpp, Ollama,
//! Groq, DeepSeek, xAI, Mistral, Perplexity, Together, OpenRouter and whoever else speaks it.
//!
//! Where dialects differ, all forms are read: usage at the top level, under `x_groq` or under a choice, or only
//! llama.cpp's `timings`; cached tokens under `prompt_tokens_details`, as `prompt_cache_hit_tokens` (DeepSeek)
//! or `cached_tokens` (Together); reasoning inside or outside of the completion tokens.

use std::sync::LazyLock;

use tokentap_wire::{
    Headers,
    json::{Schema, Value, WantedField},
};

use crate::{
    family::{ApiFamily, ApiInfo, Confidence},
    provider,
    request_facts::{RequestFacts, RequestField},
    response_facts::{ResponseFacts, Usage, count, read, read_first},
};

/// The state of the response that is read.
#[derive(Debug, Default)]
pub(crate) struct OpenAiChat {
    /// The deployment in an Azure path: it is the model, whatever the field `model` says.
    deployment: String,
    choice: CurrentChoice,
    /// The usage object that is read.
    current_counts: Counts,
    /// The last complete usage object.
    counts: Option<Counts>,
    /// The timings object that is read.
    current_timings: Timings,
    /// The last complete timings object.
    timings: Timings,
    /// A field that vLLM sends, and others may send too, was seen.
    vllm_mark: bool,
}

/// Azure allows 64 characters.
const LONGEST_DEPLOYMENT: usize = 256;

/// The choice that is read. Its `index` may come after its other fields.
#[derive(Debug, Default)]
struct CurrentChoice {
    open: bool,
    index: u32,
    reason: String,
}

/// A usage object as sent.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    prompt: Option<i64>,
    completion: Option<i64>,
    total: Option<i64>,
    usage: Usage,
}

/// The `timings` of llama.cpp, which it sends where the request did not ask for usage.
#[derive(Clone, Copy, Debug, Default)]
struct Timings {
    prompt: Option<i64>,
    cached: Option<i64>,
    predicted: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ResponseField {
    Object,
    Id,
    Model,
    ServiceTier,
    Fingerprint,
    Choice,
    ChoiceIndex,
    FinishReason,
    Content,
    Usage,
    Prompt,
    Completion,
    Total,
    CacheRead,
    CacheWrite,
    Reasoning,
    TextInput,
    TextOutput,
    ImageInput,
    ImageOutput,
    AudioInput,
    AudioOutput,
    Timings,
    TimingsPrompt,
    TimingsCached,
    TimingsPredicted,
    Error,
    ErrorCode,
    ErrorType,
    VllmMark,
    Mark(&'static str),
}

static REQUEST: LazyLock<Schema<RequestField>> = LazyLock::new(|| {
    let wants = [
        WantedField::new("messages", RequestField::Messages),
        WantedField::new("model", RequestField::Model),
        WantedField::new("stream", RequestField::Stream),
        WantedField::new("max_tokens", RequestField::MaxTokens),
        WantedField::new("max_completion_tokens", RequestField::MaxCompletionTokens),
        WantedField::new("n", RequestField::Choices),
        WantedField::new("temperature", RequestField::Temperature),
        WantedField::new("top_p", RequestField::TopP),
        WantedField::new("top_k", RequestField::TopK),
        WantedField::new("frequency_penalty", RequestField::FrequencyPenalty),
        WantedField::new("presence_penalty", RequestField::PresencePenalty),
        WantedField::new("seed", RequestField::Seed),
        WantedField::new("random_seed", RequestField::Seed),
        WantedField::new("stop", RequestField::Stop),
        WantedField::new("stop[]", RequestField::Stop),
        WantedField::new("reasoning_effort", RequestField::ReasoningLevel),
        WantedField::new("reasoning.effort", RequestField::ReasoningLevel),
        WantedField::new("response_format.type", RequestField::FormatName),
        WantedField::new("modalities[]", RequestField::Modality),
        WantedField::new("service_tier", RequestField::ServiceTier),
    ];
    Schema::new(&wants)
});

/// The fields of a usage object wherever it is.
macro_rules! usage {
    ($at:literal) => {
        [
            WantedField::new($at, ResponseField::Usage),
            WantedField::new(concat!($at, ".prompt_tokens"), ResponseField::Prompt),
            WantedField::new(concat!($at, ".completion_tokens"), ResponseField::Completion),
            WantedField::new(concat!($at, ".total_tokens"), ResponseField::Total),
            WantedField::new(concat!($at, ".cached_tokens"), ResponseField::CacheRead),
            WantedField::new(concat!($at, ".prompt_cache_hit_tokens"), ResponseField::CacheRead),
            WantedField::new(concat!($at, ".reasoning_tokens"), ResponseField::Reasoning),
            WantedField::new(concat!($at, ".prompt_tokens_details.cached_tokens"), ResponseField::CacheRead),
            WantedField::new(
                concat!($at, ".prompt_tokens_details.cache_write_tokens"),
                ResponseField::CacheWrite,
            ),
            WantedField::new(concat!($at, ".prompt_tokens_details.text_tokens"), ResponseField::TextInput),
            WantedField::new(concat!($at, ".prompt_tokens_details.image_tokens"), ResponseField::ImageInput),
            WantedField::new(concat!($at, ".prompt_tokens_details.audio_tokens"), ResponseField::AudioInput),
            WantedField::new(
                concat!($at, ".completion_tokens_details.reasoning_tokens"),
                ResponseField::Reasoning,
            ),
            WantedField::new(
                concat!($at, ".completion_tokens_details.text_tokens"),
                ResponseField::TextOutput,
            ),
            WantedField::new(
                concat!($at, ".completion_tokens_details.image_tokens"),
                ResponseField::ImageOutput,
            ),
            WantedField::new(
                concat!($at, ".completion_tokens_details.audio_tokens"),
                ResponseField::AudioOutput,
            ),
        ]
    };
}

static RESPONSE: LazyLock<Schema<ResponseField>> = LazyLock::new(|| {
    let mut wants = vec![
        WantedField::new("object", ResponseField::Object),
        WantedField::new("id", ResponseField::Id),
        WantedField::new("model", ResponseField::Model),
        WantedField::new("service_tier", ResponseField::ServiceTier),
        WantedField::new("system_fingerprint", ResponseField::Fingerprint),
        WantedField::new("choices[]", ResponseField::Choice),
        WantedField::new("choices[].index", ResponseField::ChoiceIndex),
        WantedField::new("choices[].finish_reason", ResponseField::FinishReason),
        WantedField::presence("choices[].delta.content", ResponseField::Content),
        WantedField::presence("choices[].delta.reasoning_content", ResponseField::Content),
        WantedField::presence("choices[].delta.reasoning", ResponseField::Content),
        WantedField::presence("choices[].delta.refusal", ResponseField::Content),
        WantedField::presence("choices[].delta.audio.data", ResponseField::Content),
        WantedField::presence("choices[].delta.audio.transcript", ResponseField::Content),
        WantedField::presence("choices[].delta.function_call.name", ResponseField::Content),
        WantedField::presence("choices[].delta.function_call.arguments", ResponseField::Content),
        WantedField::presence("choices[].delta.tool_calls[].function.name", ResponseField::Content),
        WantedField::presence("choices[].delta.tool_calls[].function.arguments", ResponseField::Content),
        WantedField::presence("choices[].delta.tool_calls[].custom.name", ResponseField::Content),
        WantedField::presence("choices[].delta.tool_calls[].custom.input", ResponseField::Content),
        WantedField::new("timings.prompt_n", ResponseField::TimingsPrompt),
        WantedField::new("timings.cache_n", ResponseField::TimingsCached),
        WantedField::new("timings.predicted_n", ResponseField::TimingsPredicted),
        WantedField::new("timings", ResponseField::Timings),
        WantedField::new("x_groq", ResponseField::Mark("groq")),
        WantedField::presence("choices[].matched_stop", ResponseField::Mark(provider::SGLANG)),
        WantedField::new("sglext", ResponseField::Mark(provider::SGLANG)),
        WantedField::presence("choices[].stop_reason", ResponseField::VllmMark),
        WantedField::new("kv_transfer_params", ResponseField::VllmMark),
        WantedField::presence("error", ResponseField::Error),
        WantedField::new("error.code", ResponseField::ErrorCode),
        WantedField::new("error.type", ResponseField::ErrorType),
        // xAI, Mistral and older vLLM put them at the top, TGI has its own name.
        WantedField::new("code", ResponseField::ErrorCode),
        WantedField::new("type", ResponseField::ErrorType),
        WantedField::new("error_type", ResponseField::ErrorType),
    ];
    wants.extend(usage!("usage"));
    wants.extend(usage!("x_groq.usage"));
    wants.extend(usage!("choices[].usage"));
    Schema::new(&wants)
});

impl ApiFamily for OpenAiChat {
    type ResponseField = ResponseField;

    const API_INFO: ApiInfo =
        ApiInfo { operation: "chat", provider: "openai", openai_api_type: Some("chat_completions") };

    fn match_path(path: &str, _headers: &Headers<'_>) -> Option<Confidence> {
        path.ends_with("/chat/completions").then_some(Confidence::Certain)
    }

    fn path(&mut self, path: &str) {
        let mut segments = path.split('/').skip_while(|&segment| segment != "deployments");
        if let (Some(_), Some(deployment)) = (segments.next(), segments.next()) {
            deployment[..deployment.floor_char_boundary(LONGEST_DEPLOYMENT)].clone_into(&mut self.deployment);
        }
    }

    fn request_schema() -> &'static Schema<RequestField> {
        &REQUEST
    }

    fn response_schema() -> &'static Schema<ResponseField> {
        &RESPONSE
    }

    #[inline]
    fn response_field(
        &mut self,
        response: &mut ResponseFacts,
        field: ResponseField,
        indices: &[u32],
        value: Value<'_>,
    ) {
        match field {
            ResponseField::Object => self.object(response, value),
            ResponseField::Id => read_first(value, &mut response.id),
            ResponseField::Model => read_first(value, &mut response.model),
            ResponseField::ServiceTier => read_first(value, &mut response.service_tier),
            ResponseField::Fingerprint => read_first(value, &mut response.fingerprint),
            ResponseField::Choice => match value {
                Value::Object => {
                    response.is_recognised = true;
                    self.choice.open = true;
                    self.choice.index = indices.first().copied().unwrap_or_default();
                    self.choice.reason.clear();
                }
                Value::End => self.end_choice(response),
                _ => {}
            },
            ResponseField::ChoiceIndex => {
                self.choice.index =
                    value.as_i64().and_then(|n| n.try_into().ok()).unwrap_or(self.choice.index);
            }
            ResponseField::FinishReason => read(value, &mut self.choice.reason),
            ResponseField::Content => match value {
                Value::Str(text) if !text.is_empty() => response.content(),
                // Mistral's content may be a list of parts.
                Value::Object | Value::Array => response.content(),
                _ => {}
            },
            ResponseField::Error => response.failure.seen |= matches!(value, Value::Object | Value::Str(_)),
            ResponseField::ErrorCode => response.failure.read_code(value),
            ResponseField::ErrorType => read(value, &mut response.failure.kind),
            ResponseField::VllmMark => self.vllm_mark = true,
            ResponseField::Mark(server) => response.server = response.server.or(Some(server)),
            ResponseField::Timings => {
                response.server = response.server.or(Some(provider::LLAMA_CPP));
                match value {
                    Value::Object => self.current_timings = Timings::default(),
                    Value::End => self.timings = self.current_timings,
                    _ => {}
                }
            }
            ResponseField::TimingsPrompt => self.current_timings.prompt = count(value),
            ResponseField::TimingsCached => self.current_timings.cached = count(value),
            ResponseField::TimingsPredicted => self.current_timings.predicted = count(value),
            ResponseField::Usage => match value {
                Value::Object => self.current_counts = Counts::default(),
                Value::End if self.current_counts.has_counts() => self.counts = Some(self.current_counts),
                _ => {}
            },
            _ => self.current_counts.read(field, value),
        }
    }

    fn begin(&mut self) {
        self.choice.open = false;
    }

    fn end(&mut self, response: &mut ResponseFacts) {
        if self.choice.open {
            self.end_choice(response);
        }
    }

    fn conclude(&mut self, request: &mut RequestFacts, response: &mut ResponseFacts) {
        if !self.deployment.is_empty() {
            request.model = std::mem::take(&mut self.deployment);
        }
        response.usage = match self.counts {
            Some(counts) => counts.into_usage(self.timings),
            None => self.timings.into_usage(),
        };
        response.server = response.server.or_else(|| provider::by_fingerprint(&response.fingerprint));
        if response.server.is_none() && self.vllm_mark {
            response.server = Some(provider::VLLM);
        }
    }
}

impl OpenAiChat {
    fn object(&mut self, response: &mut ResponseFacts, value: Value<'_>) {
        if let Value::Str(text) = value {
            if text.is("chat.completion.chunk") || text.is("chat.completion") {
                response.is_recognised = true;
            } else {
                response.failure.seen |= text.is("error");
            }
        }
    }

    fn end_choice(&mut self, response: &mut ResponseFacts) {
        self.choice.open = false;
        response.choice(self.choice.index, &self.choice.reason);
    }
}

impl Counts {
    const fn has_counts(&self) -> bool {
        self.prompt.is_some() || self.completion.is_some()
    }

    fn read(&mut self, field: ResponseField, value: Value<'_>) {
        let slot = match field {
            ResponseField::Prompt => &mut self.prompt,
            ResponseField::Completion => &mut self.completion,
            ResponseField::Total => &mut self.total,
            ResponseField::CacheRead => &mut self.usage.cache_read,
            ResponseField::CacheWrite => &mut self.usage.cache_write,
            ResponseField::Reasoning => &mut self.usage.reasoning,
            ResponseField::TextInput => &mut self.usage.text_input,
            ResponseField::TextOutput => &mut self.usage.text_output,
            ResponseField::ImageInput => &mut self.usage.image_input,
            ResponseField::ImageOutput => &mut self.usage.image_output,
            ResponseField::AudioInput => &mut self.usage.audio_input,
            ResponseField::AudioOutput => &mut self.usage.audio_output,
            _ => return,
        };
        *slot = count(value).or(*slot);
    }

    /// The usage in the convention's terms. Most servers count cached tokens as input and reasoning as output; where
    /// they do not (xAI's reasoning, Azure's Grok), only the total shows it.
    fn into_usage(self, timings: Timings) -> Usage {
        let (mut input, mut output, mut usage) = (self.prompt, self.completion, self.usage);
        if let (Some(prompt), Some(completion), Some(total)) = (self.prompt, self.completion, self.total) {
            let (reasoning, cached) = (usage.reasoning.unwrap_or(0), usage.cache_read.unwrap_or(0));
            let apart = total.saturating_sub(prompt).saturating_sub(completion);
            if apart > 0 {
                let (reasoning_apart, cached_apart) = match apart {
                    n if n == reasoning => (true, false),
                    n if n == cached => (false, true),
                    n => (n == reasoning.saturating_add(cached), n == reasoning.saturating_add(cached)),
                };
                output = Some(completion.saturating_add(if reasoning_apart { reasoning } else { 0 }));
                input = Some(prompt.saturating_add(if cached_apart { cached } else { 0 }));
            }
        }
        usage.cache_read = usage.cache_read.or(timings.cached);
        Usage { input, output, ..usage }
    }
}

impl Timings {
    fn into_usage(self) -> Usage {
        let input = self.prompt.map(|n| n.saturating_add(self.cached.unwrap_or(0)));
        Usage { input, output: self.predicted, cache_read: self.cached, ..Usage::default() }
    }
}
