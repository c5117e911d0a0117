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
    ask::{Ask, Asked},
    family::{Claim, Family, Info},
    provider,
    reply::{Reply, Usage, count, read, read_first},
};

/// Reads both bodies of one call.
#[derive(Debug, Default)]
pub(crate) struct OpenAiChat {
    /// The deployment that an Azure path names: it decides, whatever `model` says.
    deployment: String,
    choice: Choice,
    /// The usage object being read.
    counting: Counts,
    /// The last whole one.
    counts: Option<Counts>,
    timings: Timings,
    /// The timings object being read.
    timing: Timings,
    vllm_mark: bool,
}

/// Azure allows 64 characters.
const LONGEST_DEPLOYMENT: usize = 256;

/// The choice being read: `index` may come after what it is the index of.
#[derive(Debug, Default)]
struct Choice {
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

/// llama.cpp's `timings`, which it sends where usage was not asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Timings {
    prompt: Option<i64>,
    cached: Option<i64>,
    predicted: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
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

static REQUEST: LazyLock<Schema<Asked>> = LazyLock::new(|| {
    let wants = [
        WantedField::new("messages", Asked::Messages),
        WantedField::new("model", Asked::Model),
        WantedField::new("stream", Asked::Stream),
        WantedField::new("max_tokens", Asked::MaxTokens),
        WantedField::new("max_completion_tokens", Asked::MaxCompletionTokens),
        WantedField::new("n", Asked::Choices),
        WantedField::new("temperature", Asked::Temperature),
        WantedField::new("top_p", Asked::TopP),
        WantedField::new("top_k", Asked::TopK),
        WantedField::new("frequency_penalty", Asked::FrequencyPenalty),
        WantedField::new("presence_penalty", Asked::PresencePenalty),
        WantedField::new("seed", Asked::Seed),
        WantedField::new("random_seed", Asked::Seed),
        WantedField::new("stop", Asked::Stop),
        WantedField::new("stop[]", Asked::Stop),
        WantedField::new("reasoning_effort", Asked::ReasoningLevel),
        WantedField::new("reasoning.effort", Asked::ReasoningLevel),
        WantedField::new("response_format.type", Asked::FormatName),
        WantedField::new("modalities[]", Asked::Modality),
        WantedField::new("service_tier", Asked::ServiceTier),
    ];
    Schema::new(&wants)
});

/// The fields of a usage object wherever it is.
macro_rules! usage {
    ($at:literal) => {
        [
            WantedField::new($at, Said::Usage),
            WantedField::new(concat!($at, ".prompt_tokens"), Said::Prompt),
            WantedField::new(concat!($at, ".completion_tokens"), Said::Completion),
            WantedField::new(concat!($at, ".total_tokens"), Said::Total),
            WantedField::new(concat!($at, ".cached_tokens"), Said::CacheRead),
            WantedField::new(concat!($at, ".prompt_cache_hit_tokens"), Said::CacheRead),
            WantedField::new(concat!($at, ".reasoning_tokens"), Said::Reasoning),
            WantedField::new(concat!($at, ".prompt_tokens_details.cached_tokens"), Said::CacheRead),
            WantedField::new(concat!($at, ".prompt_tokens_details.cache_write_tokens"), Said::CacheWrite),
            WantedField::new(concat!($at, ".prompt_tokens_details.text_tokens"), Said::TextInput),
            WantedField::new(concat!($at, ".prompt_tokens_details.image_tokens"), Said::ImageInput),
            WantedField::new(concat!($at, ".prompt_tokens_details.audio_tokens"), Said::AudioInput),
            WantedField::new(concat!($at, ".completion_tokens_details.reasoning_tokens"), Said::Reasoning),
            WantedField::new(concat!($at, ".completion_tokens_details.text_tokens"), Said::TextOutput),
            WantedField::new(concat!($at, ".completion_tokens_details.image_tokens"), Said::ImageOutput),
            WantedField::new(concat!($at, ".completion_tokens_details.audio_tokens"), Said::AudioOutput),
        ]
    };
}

static RESPONSE: LazyLock<Schema<Said>> = LazyLock::new(|| {
    let mut wants = vec![
        WantedField::new("object", Said::Object),
        WantedField::new("id", Said::Id),
        WantedField::new("model", Said::Model),
        WantedField::new("service_tier", Said::ServiceTier),
        WantedField::new("system_fingerprint", Said::Fingerprint),
        WantedField::new("choices[]", Said::Choice),
        WantedField::new("choices[].index", Said::ChoiceIndex),
        WantedField::new("choices[].finish_reason", Said::FinishReason),
        WantedField::presence("choices[].delta.content", Said::Content),
        WantedField::presence("choices[].delta.reasoning_content", Said::Content),
        WantedField::presence("choices[].delta.reasoning", Said::Content),
        WantedField::presence("choices[].delta.refusal", Said::Content),
        WantedField::presence("choices[].delta.audio.data", Said::Content),
        WantedField::presence("choices[].delta.audio.transcript", Said::Content),
        WantedField::presence("choices[].delta.function_call.name", Said::Content),
        WantedField::presence("choices[].delta.function_call.arguments", Said::Content),
        WantedField::presence("choices[].delta.tool_calls[].function.name", Said::Content),
        WantedField::presence("choices[].delta.tool_calls[].function.arguments", Said::Content),
        WantedField::presence("choices[].delta.tool_calls[].custom.name", Said::Content),
        WantedField::presence("choices[].delta.tool_calls[].custom.input", Said::Content),
        WantedField::new("timings.prompt_n", Said::TimingsPrompt),
        WantedField::new("timings.cache_n", Said::TimingsCached),
        WantedField::new("timings.predicted_n", Said::TimingsPredicted),
        WantedField::new("timings", Said::Timings),
        WantedField::new("x_groq", Said::Mark("groq")),
        WantedField::presence("choices[].matched_stop", Said::Mark(provider::SGLANG)),
        WantedField::new("sglext", Said::Mark(provider::SGLANG)),
        WantedField::presence("choices[].stop_reason", Said::VllmMark),
        WantedField::new("kv_transfer_params", Said::VllmMark),
        WantedField::presence("error", Said::Error),
        WantedField::new("error.code", Said::ErrorCode),
        WantedField::new("error.type", Said::ErrorType),
        // xAI, Mistral and older vLLM put them at the top, TGI has its own name.
        WantedField::new("code", Said::ErrorCode),
        WantedField::new("type", Said::ErrorType),
        WantedField::new("error_type", Said::ErrorType),
    ];
    wants.extend(usage!("usage"));
    wants.extend(usage!("x_groq.usage"));
    wants.extend(usage!("choices[].usage"));
    Schema::new(&wants)
});

impl Family for OpenAiChat {
    type Said = Said;

    const INFO: Info =
        Info { operation: "chat", provider: "openai", openai_api_type: Some("chat_completions") };

    fn claim(path: &str, _headers: &Headers<'_>) -> Option<Claim> {
        path.ends_with("/chat/completions").then_some(Claim::Certain)
    }

    fn path(&mut self, path: &str) {
        let mut segments = path.split('/').skip_while(|&segment| segment != "deployments");
        if let (Some(_), Some(deployment)) = (segments.next(), segments.next()) {
            deployment[..deployment.floor_char_boundary(LONGEST_DEPLOYMENT)].clone_into(&mut self.deployment);
        }
    }

    fn request_schema() -> &'static Schema<Asked> {
        &REQUEST
    }

    fn response_schema() -> &'static Schema<Said> {
        &RESPONSE
    }

    #[inline]
    fn said(&mut self, reply: &mut Reply, field: Said, indices: &[u32], value: Value<'_>) {
        match field {
            Said::Object => self.object(reply, value),
            Said::Id => read_first(value, &mut reply.id),
            Said::Model => read_first(value, &mut reply.model),
            Said::ServiceTier => read_first(value, &mut reply.service_tier),
            Said::Fingerprint => read_first(value, &mut reply.fingerprint),
            Said::Choice => match value {
                Value::Object => {
                    reply.fits = true;
                    self.choice.open = true;
                    self.choice.index = indices.first().copied().unwrap_or_default();
                    self.choice.reason.clear();
                }
                Value::End => self.end_choice(reply),
                _ => {}
            },
            Said::ChoiceIndex => {
                self.choice.index =
                    value.as_i64().and_then(|n| n.try_into().ok()).unwrap_or(self.choice.index);
            }
            Said::FinishReason => read(value, &mut self.choice.reason),
            Said::Content => match value {
                Value::Str(text) if !text.is_empty() => reply.content(),
                // Mistral's content may be a list of parts.
                Value::Object | Value::Array => reply.content(),
                _ => {}
            },
            Said::Error => reply.failure.seen |= matches!(value, Value::Object | Value::Str(_)),
            Said::ErrorCode => reply.failure.read_code(value),
            Said::ErrorType => read(value, &mut reply.failure.kind),
            Said::VllmMark => self.vllm_mark = true,
            Said::Mark(server) => reply.server = reply.server.or(Some(server)),
            Said::Timings => {
                reply.server = reply.server.or(Some(provider::LLAMA_CPP));
                match value {
                    Value::Object => self.timing = Timings::default(),
                    Value::End => self.timings = self.timing,
                    _ => {}
                }
            }
            Said::TimingsPrompt => self.timing.prompt = count(value),
            Said::TimingsCached => self.timing.cached = count(value),
            Said::TimingsPredicted => self.timing.predicted = count(value),
            Said::Usage => match value {
                Value::Object => self.counting = Counts::default(),
                Value::End if self.counting.says_something() => self.counts = Some(self.counting),
                _ => {}
            },
            _ => self.counting.read(field, value),
        }
    }

    fn begin(&mut self) {
        self.choice.open = false;
    }

    fn end(&mut self, reply: &mut Reply) {
        if self.choice.open {
            self.end_choice(reply);
        }
    }

    fn conclude(&mut self, ask: &mut Ask, reply: &mut Reply) {
        if !self.deployment.is_empty() {
            ask.model = std::mem::take(&mut self.deployment);
        }
        reply.usage = match self.counts {
            Some(counts) => counts.settle(self.timings),
            None => self.timings.settle(),
        };
        reply.server = reply.server.or_else(|| provider::by_fingerprint(&reply.fingerprint));
        if reply.server.is_none() && self.vllm_mark {
            reply.server = Some(provider::VLLM);
        }
    }
}

impl OpenAiChat {
    fn object(&mut self, reply: &mut Reply, value: Value<'_>) {
        if let Value::Str(text) = value {
            if text.is("chat.completion.chunk") || text.is("chat.completion") {
                reply.fits = true;
            } else {
                reply.failure.seen |= text.is("error");
            }
        }
    }

    fn end_choice(&mut self, reply: &mut Reply) {
        self.choice.open = false;
        reply.choice(self.choice.index, &self.choice.reason);
    }
}

impl Counts {
    const fn says_something(&self) -> bool {
        self.prompt.is_some() || self.completion.is_some()
    }

    fn read(&mut self, field: Said, value: Value<'_>) {
        let slot = match field {
            Said::Prompt => &mut self.prompt,
            Said::Completion => &mut self.completion,
            Said::Total => &mut self.total,
            Said::CacheRead => &mut self.usage.cache_read,
            Said::CacheWrite => &mut self.usage.cache_write,
            Said::Reasoning => &mut self.usage.reasoning,
            Said::TextInput => &mut self.usage.text_input,
            Said::TextOutput => &mut self.usage.text_output,
            Said::ImageInput => &mut self.usage.image_input,
            Said::ImageOutput => &mut self.usage.image_output,
            Said::AudioInput => &mut self.usage.audio_input,
            Said::AudioOutput => &mut self.usage.audio_output,
            _ => return,
        };
        *slot = count(value).or(*slot);
    }

    /// Brings the counts to the convention's terms. Most servers already count cached tokens as input and
    /// reasoning as output; where they do not (xAI's reasoning, Azure's Grok), only the total tells.
    fn settle(self, timings: Timings) -> Usage {
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
    fn settle(self) -> Usage {
        let input = self.prompt.map(|n| n.saturating_add(self.cached.unwrap_or(0)));
        Usage { input, output: self.predicted, cache_read: self.cached, ..Usage::default() }
    }
}
