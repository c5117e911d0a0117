//! Anthropic Messages (`POST …/v1/messages`), at Anthropic and at everyone who serves the same format.

use std::sync::LazyLock;

use tokentap_wire::{
    Headers,
    json::{Schema, Value, WantedField},
};

use crate::{
    ask::{Ask, Asked},
    family::{Claim, Family, Info},
    reply::{Reply, Usage, count, read},
};

/// Reads both bodies of one call.
#[derive(Debug, Default)]
pub(crate) struct Anthropic {
    counts: Counts,
    /// The usage object being read.
    counting: Counts,
}

/// `usage` as sent. In a stream, `message_delta` overrides `message_start` field by field; nothing is added.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    input: Option<i64>,
    output: Option<i64>,
    /// What `message_start` says: a few tokens, not the final count.
    output_at_start: Option<i64>,
    cache_read: Option<i64>,
    cache_write: Option<i64>,
    cache_write_5m: Option<i64>,
    cache_write_1h: Option<i64>,
    thinking: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
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

static REQUEST: LazyLock<Schema<Asked>> = LazyLock::new(|| {
    let wants = [
        WantedField::new("messages", Asked::Messages),
        WantedField::new("model", Asked::Model),
        WantedField::new("stream", Asked::Stream),
        WantedField::new("max_tokens", Asked::MaxTokens),
        WantedField::new("temperature", Asked::Temperature),
        WantedField::new("top_p", Asked::TopP),
        WantedField::new("top_k", Asked::TopK),
        WantedField::new("stop_sequences[]", Asked::Stop),
        WantedField::new("output_config.effort", Asked::ReasoningLevel),
        WantedField::new("output_config.format", Asked::FormatSchema),
        WantedField::new("output_format", Asked::FormatSchema),
    ];
    Schema::new(&wants)
});

static RESPONSE: LazyLock<Schema<Said>> = LazyLock::new(|| {
    let mut wants = vec![
        WantedField::new("type", Said::Type),
        WantedField::new("message.usage.output_tokens", Said::OutputAtStart),
        WantedField::new("usage.output_tokens", Said::Output),
        WantedField::new("delta.stop_reason", Said::StopReason),
        WantedField::presence("delta.text", Said::Content),
        WantedField::presence("delta.thinking", Said::Content),
        WantedField::presence("delta.partial_json", Said::Content),
        WantedField::presence("content_block.text", Said::Content),
        WantedField::presence("content_block.name", Said::Content),
        WantedField::presence("error", Said::Error),
        WantedField::new("error.code", Said::ErrorCode),
        WantedField::new("error.type", Said::ErrorType),
    ];
    /// A message: at the top of a plain response, inside `message_start` of a streamed one.
    macro_rules! message {
        ($at:literal) => {
            [
                WantedField::new(concat!($at, "id"), Said::Id),
                WantedField::new(concat!($at, "model"), Said::Model),
                WantedField::new(concat!($at, "stop_reason"), Said::StopReason),
                WantedField::new(concat!($at, "usage"), Said::Usage),
                WantedField::new(concat!($at, "usage.input_tokens"), Said::Input),
                WantedField::new(concat!($at, "usage.cache_read_input_tokens"), Said::CacheRead),
                WantedField::new(concat!($at, "usage.cache_creation_input_tokens"), Said::CacheWrite),
                WantedField::new(
                    concat!($at, "usage.cache_creation.ephemeral_5m_input_tokens"),
                    Said::CacheWrite5m,
                ),
                WantedField::new(
                    concat!($at, "usage.cache_creation.ephemeral_1h_input_tokens"),
                    Said::CacheWrite1h,
                ),
                WantedField::new(concat!($at, "usage.output_tokens_details.thinking_tokens"), Said::Thinking),
            ]
        };
    }
    wants.extend(message!(""));
    wants.extend(message!("message."));
    Schema::new(&wants)
});

impl Family for Anthropic {
    type Said = Said;

    const INFO: Info = Info { operation: "chat", provider: "anthropic", openai_api_type: None };

    fn claim(path: &str, headers: &Headers<'_>) -> Option<Claim> {
        // Messages are not only sent to models: `/v1/messages` is also what other APIs call theirs.
        if path.ends_with("/messages") && headers.get("anthropic-version").is_some() {
            Some(Claim::Certain)
        } else {
            path.ends_with("/v1/messages").then_some(Claim::Likely)
        }
    }

    fn request_schema() -> &'static Schema<Asked> {
        &REQUEST
    }

    fn response_schema() -> &'static Schema<Said> {
        &RESPONSE
    }

    #[inline]
    fn said(&mut self, reply: &mut Reply, field: Said, _indices: &[u32], value: Value<'_>) {
        let counts = &mut self.counting;
        let slot = match field {
            Said::Type => return kind(reply, value),
            Said::Id => return read(value, &mut reply.id),
            Said::Model => return read(value, &mut reply.model),
            Said::StopReason => return stop_reason(reply, value),
            Said::Content => {
                if value.as_str().is_some_and(|text| !text.is_empty()) {
                    reply.content();
                }
                return;
            }
            Said::Error => {
                reply.failure.seen |= matches!(value, Value::Object | Value::Str(_));
                return;
            }
            Said::ErrorCode => return reply.failure.read_code(value),
            Said::ErrorType => return read(value, &mut reply.failure.kind),
            Said::Usage => {
                match value {
                    Value::Object => *counts = Counts::default(),
                    // One that is cut may lack what was cached, and mean something else.
                    Value::End => self.counts.update(std::mem::take(counts)),
                    _ => {}
                }
                return;
            }
            Said::Input => &mut counts.input,
            Said::Output => &mut counts.output,
            Said::OutputAtStart => &mut counts.output_at_start,
            Said::CacheRead => &mut counts.cache_read,
            Said::CacheWrite => &mut counts.cache_write,
            Said::CacheWrite5m => &mut counts.cache_write_5m,
            Said::CacheWrite1h => &mut counts.cache_write_1h,
            Said::Thinking => &mut counts.thinking,
        };
        *slot = count(value).or(*slot);
    }

    fn conclude(&mut self, _ask: &mut Ask, reply: &mut Reply) {
        reply.usage = self.counts.settle(reply.done && !reply.gapped);
    }
}

fn kind(reply: &mut Reply, value: Value<'_>) {
    let Value::Str(text) = value else { return };
    if text.is("message") || text.is("message_start") {
        reply.fits = true;
        reply.choice(0, "");
    } else if text.is("message_stop") {
        reply.done = true;
    } else if text.is("error") {
        reply.fits = true;
        reply.failure.seen = true;
    }
}

fn stop_reason(reply: &mut Reply, value: Value<'_>) {
    if let Value::Str(text) = value {
        reply.choice(0, &text.decode());
    }
}

impl Counts {
    /// Takes what a later usage object says.
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

    /// `input_tokens` leaves out what was read from or written to the cache; the convention includes both.
    ///
    /// `whole`: all events came, so that those of the start are the last word where no others followed.
    fn settle(self, whole: bool) -> Usage {
        let by_age =
            [self.cache_write_5m, self.cache_write_1h].into_iter().flatten().reduce(i64::saturating_add);
        let cache_write = self.cache_write.or(by_age);
        let cached = self.cache_read.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
        Usage {
            input: self.input.map(|n| n.saturating_add(cached)),
            output: self.output.or_else(|| self.output_at_start.filter(|_| whole)),
            cache_read: self.cache_read,
            cache_write,
            reasoning: self.thinking,
            ..Usage::default()
        }
    }
}
