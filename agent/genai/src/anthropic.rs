//! Anthropic Messages (`POST …/v1/messages`), at Anthropic and at all servers of the same format.

use std::sync::LazyLock;

use tokentap_wire::{
    Headers,
    json::{Schema, Value, WantedField},
};

use crate::{
    family::{ApiFamily, ApiInfo, Confidence},
    request_facts::{RequestFacts, RequestField},
    response_facts::{ResponseFacts, Usage, count, read},
};

/// The state of the response that is read.
#[derive(Debug, Default)]
pub(crate) struct Anthropic {
    counts: Counts,
    /// The usage object that is read.
    current: Counts,
}

/// `usage` as sent. In a stream, `message_delta` overrides `message_start` field by field; nothing is added.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    input: Option<i64>,
    output: Option<i64>,
    /// Of `message_start`: a few tokens, not the final count.
    output_at_start: Option<i64>,
    cache_read: Option<i64>,
    cache_write: Option<i64>,
    cache_write_5m: Option<i64>,
    cache_write_1h: Option<i64>,
    thinking: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ResponseField {
    Type,
    Id,
    Model,
    StopReason,
    Content,
    Usage,
    Input,
    Output,
    OutputAtStart,
    CacheRead,
    CacheWrite,
    CacheWrite5m,
    CacheWrite1h,
    Thinking,
    Error,
    ErrorCode,
    ErrorType,
}

static REQUEST: LazyLock<Schema<RequestField>> = LazyLock::new(|| {
    let wants = [
        WantedField::new("messages", RequestField::Messages),
        WantedField::new("model", RequestField::Model),
        WantedField::new("stream", RequestField::Stream),
        WantedField::new("max_tokens", RequestField::MaxTokens),
        WantedField::new("temperature", RequestField::Temperature),
        WantedField::new("top_p", RequestField::TopP),
        WantedField::new("top_k", RequestField::TopK),
        WantedField::new("stop_sequences[]", RequestField::Stop),
        WantedField::new("output_config.effort", RequestField::ReasoningLevel),
        WantedField::new("output_config.format", RequestField::FormatSchema),
        WantedField::new("output_format", RequestField::FormatSchema),
    ];
    Schema::new(&wants)
});

static RESPONSE: LazyLock<Schema<ResponseField>> = LazyLock::new(|| {
    let mut wants = vec![
        WantedField::new("type", ResponseField::Type),
        WantedField::new("message.usage.output_tokens", ResponseField::OutputAtStart),
        WantedField::new("usage.output_tokens", ResponseField::Output),
        WantedField::new("delta.stop_reason", ResponseField::StopReason),
        WantedField::presence("delta.text", ResponseField::Content),
        WantedField::presence("delta.thinking", ResponseField::Content),
        WantedField::presence("delta.partial_json", ResponseField::Content),
        WantedField::presence("content_block.text", ResponseField::Content),
        WantedField::presence("content_block.name", ResponseField::Content),
        WantedField::presence("error", ResponseField::Error),
        WantedField::new("error.code", ResponseField::ErrorCode),
        WantedField::new("error.type", ResponseField::ErrorType),
    ];
    /// A message: at the top of a plain response, inside `message_start` of a streamed one.
    macro_rules! message {
        ($at:literal) => {
            [
                WantedField::new(concat!($at, "id"), ResponseField::Id),
                WantedField::new(concat!($at, "model"), ResponseField::Model),
                WantedField::new(concat!($at, "stop_reason"), ResponseField::StopReason),
                WantedField::new(concat!($at, "usage"), ResponseField::Usage),
                WantedField::new(concat!($at, "usage.input_tokens"), ResponseField::Input),
                WantedField::new(concat!($at, "usage.cache_read_input_tokens"), ResponseField::CacheRead),
                WantedField::new(
                    concat!($at, "usage.cache_creation_input_tokens"),
                    ResponseField::CacheWrite,
                ),
                WantedField::new(
                    concat!($at, "usage.cache_creation.ephemeral_5m_input_tokens"),
                    ResponseField::CacheWrite5m,
                ),
                WantedField::new(
                    concat!($at, "usage.cache_creation.ephemeral_1h_input_tokens"),
                    ResponseField::CacheWrite1h,
                ),
                WantedField::new(
                    concat!($at, "usage.output_tokens_details.thinking_tokens"),
                    ResponseField::Thinking,
                ),
            ]
        };
    }
    wants.extend(message!(""));
    wants.extend(message!("message."));
    Schema::new(&wants)
});

impl ApiFamily for Anthropic {
    type ResponseField = ResponseField;

    const API_INFO: ApiInfo = ApiInfo { operation: "chat", provider: "anthropic", openai_api_type: None };

    fn match_path(path: &str, headers: &Headers<'_>) -> Option<Confidence> {
        // Other services have a `/v1/messages` of their own.
        if path.ends_with("/messages") && headers.get("anthropic-version").is_some() {
            Some(Confidence::Certain)
        } else {
            path.ends_with("/v1/messages").then_some(Confidence::Likely)
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
        _indices: &[u32],
        value: Value<'_>,
    ) {
        let counts = &mut self.current;
        let slot = match field {
            ResponseField::Type => return read_type(response, value),
            ResponseField::Id => return read(value, &mut response.id),
            ResponseField::Model => return read(value, &mut response.model),
            ResponseField::StopReason => return read_stop_reason(response, value),
            ResponseField::Content => {
                if value.as_str().is_some_and(|text| !text.is_empty()) {
                    response.content();
                }
                return;
            }
            ResponseField::Error => {
                response.failure.seen |= matches!(value, Value::Object | Value::Str(_));
                return;
            }
            ResponseField::ErrorCode => return response.failure.read_code(value),
            ResponseField::ErrorType => return read(value, &mut response.failure.kind),
            ResponseField::Usage => {
                match value {
                    Value::Object => *counts = Counts::default(),
                    // An incomplete object may lack the cached tokens, and would give a wrong sum.
                    Value::End => self.counts.update(std::mem::take(counts)),
                    _ => {}
                }
                return;
            }
            ResponseField::Input => &mut counts.input,
            ResponseField::Output => &mut counts.output,
            ResponseField::OutputAtStart => &mut counts.output_at_start,
            ResponseField::CacheRead => &mut counts.cache_read,
            ResponseField::CacheWrite => &mut counts.cache_write,
            ResponseField::CacheWrite5m => &mut counts.cache_write_5m,
            ResponseField::CacheWrite1h => &mut counts.cache_write_1h,
            ResponseField::Thinking => &mut counts.thinking,
        };
        *slot = count(value).or(*slot);
    }

    fn conclude(&mut self, _request: &mut RequestFacts, response: &mut ResponseFacts) {
        response.usage = self.counts.into_usage(response.done && !response.gapped);
    }
}

fn read_type(response: &mut ResponseFacts, value: Value<'_>) {
    let Value::Str(text) = value else { return };
    if text.is("message") || text.is("message_start") {
        response.is_recognised = true;
        response.choice(0, "");
    } else if text.is("message_stop") {
        response.done = true;
    } else if text.is("error") {
        response.is_recognised = true;
        response.failure.seen = true;
    }
}

fn read_stop_reason(response: &mut ResponseFacts, value: Value<'_>) {
    if let Value::Str(text) = value {
        response.choice(0, &text.decode());
    }
}

impl Counts {
    /// Takes the counts of a later usage object.
    fn update(&mut self, newer: Self) {
        *self = Self {
            input: newer.input.or(self.input),
            output: newer.output.or(self.output),
            output_at_start: newer.output_at_start.or(self.output_at_start),
            cache_read: newer.cache_read.or(self.cache_read),
            cache_write: newer.cache_write.or(self.cache_write),
            cache_write_5m: newer.cache_write_5m.or(self.cache_write_5m),
            cache_write_1h: newer.cache_write_1h.or(self.cache_write_1h),
            thinking: newer.thinking.or(self.thinking),
        };
    }

    /// The usage in the convention's terms: `input_tokens` excludes what was read from or written to the cache, the
    /// convention includes both.
    ///
    /// `complete`: all events came, so that a count of `message_start` is final where no other one followed.
    fn into_usage(self, complete: bool) -> Usage {
        let by_age =
            [self.cache_write_5m, self.cache_write_1h].into_iter().flatten().reduce(i64::saturating_add);
        let cache_write = self.cache_write.or(by_age);
        let cached = self.cache_read.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
        Usage {
            input: self.input.map(|n| n.saturating_add(cached)),
            output: self.output.or_else(|| self.output_at_start.filter(|_| complete)),
            cache_read: self.cache_read,
            cache_write,
            reasoning: self.thinking,
            ..Usage::default()
        }
    }
}
