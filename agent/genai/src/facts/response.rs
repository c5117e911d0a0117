//! The facts of a response, in terms that all APIs share. Nothing here holds a completion.

use std::fmt::Write as _;

use tokentap_wire::{Nanos, json::Value};

use crate::ChunkTimes;

use super::{
    ToolCalls, Usage, UsageRule, read, read_first,
    usage::{Count, UsageReader},
};

/// Fields of responses, and of the events of streamed responses. Every API has its own paths for them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ResponseField {
    /// What every response of the API has, and few others.
    Evidence,
    Id,
    Model,
    ServiceTier,
    Fingerprint,
    /// One of the alternatives that the request asked for.
    Choice,
    /// As [`Self::Choice`], by a name that other APIs have, too: evidence only with an index or a finish reason.
    CommonChoice,
    ChoiceIndex,
    /// Why the choice that is read ended; outside of choices: why the only one did.
    FinishReason,
    /// Generated content, of which nothing is kept.
    Content,
    /// The id of a call of a tool that the model asks for.
    ToolCallId,
    /// The name of its tool; generated content.
    ToolCallName,
    /// The object with the counts.
    Usage,
    Count(Count),
    /// What says that the call failed: text, or an object that says anything. Gateways add empty ones to good answers.
    Error,
    ErrorCode,
    ErrorType,
    /// Text that an error object has; tables get it with [`Self::Error`].
    ErrorText,
}

/// The facts of a response. Empty strings and `None`: the response does not have the field.
#[derive(Debug, Default)]
pub(crate) struct ResponseFacts {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) service_tier: String,
    pub(crate) fingerprint: String,
    /// The server software, where its dialect shows it.
    pub(crate) server: Option<&'static str>,
    pub(crate) failure: Failure,
    /// The body has what every response of this API has.
    pub(crate) is_recognised: bool,
    /// The last event of the API's own stream was seen.
    pub(crate) done: bool,
    /// It is being read.
    pub(crate) in_last_event: bool,
    /// Bytes of the body were lost.
    pub(crate) gapped: bool,
    /// The body is a stream of events.
    pub(crate) streamed: bool,
    /// An earlier call made the response, and this one has fetched it: how that one ended is not how this one did.
    pub(crate) fetched: bool,
    /// When the first document, event or byte of audio came.
    pub(crate) first_chunk: Option<Nanos>,
    /// When the first generated content came.
    pub(crate) first_token: Option<Nanos>,
    /// When the current bytes were captured.
    pub(crate) now: Nanos,
    /// When the last chunk came.
    last_chunk: Nanos,
    /// Times between chunks, from the second one on.
    pub(crate) chunks: Option<Box<ChunkTimes>>,
    choices: Vec<Choice>,
    choice: CurrentChoice,
    pub(crate) tool_calls: ToolCalls,
    pub(super) usage: UsageReader,
    /// The usage that something else than the usage object says.
    pub(crate) other_usage: Option<Box<Usage>>,
}

/// The choice that is read. Its `index` may come after its other fields.
#[derive(Debug, Default)]
struct CurrentChoice {
    open: bool,
    index: u32,
    reason: String,
}

impl ResponseFacts {
    /// Takes a field of the body.
    #[inline]
    pub(crate) fn read(&mut self, field: ResponseField, indices: &[u32], value: Value<'_>, rule: UsageRule) {
        match field {
            ResponseField::Evidence => self.is_recognised |= !matches!(value, Value::Null),
            ResponseField::Id => read_first(value, &mut self.id),
            ResponseField::Model => read_first(value, &mut self.model),
            ResponseField::ServiceTier => read(value, &mut self.service_tier),
            ResponseField::Fingerprint => read_first(value, &mut self.fingerprint),
            ResponseField::Choice | ResponseField::CommonChoice => match value {
                Value::Object => {
                    self.is_recognised |= matches!(field, ResponseField::Choice);
                    self.choice.open = true;
                    self.choice.index = indices.last().copied().unwrap_or_default();
                    self.choice.reason.clear();
                }
                Value::End => self.end_choice(),
                _ => {}
            },
            ResponseField::ChoiceIndex => {
                self.is_recognised |= self.choice.open;
                self.choice.index =
                    value.as_i64().and_then(|n| n.try_into().ok()).unwrap_or(self.choice.index);
            }
            ResponseField::FinishReason if self.choice.open => {
                if let Value::Str(text) = value
                    && !text.is_empty()
                {
                    text.read_into(&mut self.choice.reason);
                    self.is_recognised = true;
                }
            }
            ResponseField::FinishReason => {
                if let Value::Str(text) = value {
                    text.read_into(&mut self.choice.reason);
                    self.choice.index = 0;
                    self.end_choice();
                }
            }
            ResponseField::Content => match value {
                Value::Str(text) if !text.is_empty() => self.content(),
                // Mistral's content may be a list of parts.
                Value::Object | Value::Array => self.content(),
                _ => {}
            },
            ResponseField::ToolCallId => self.tool_calls.id(indices, value),
            ResponseField::ToolCallName => {
                if let Value::Str(text) = value
                    && !text.is_empty()
                {
                    self.content();
                    self.tool_calls.name(indices, value);
                }
            }
            ResponseField::Usage => self.usage.object(value, rule),
            ResponseField::Count(which) => self.usage.count(which, value),
            ResponseField::Error => match value {
                Value::Object => self.failure.inside = true,
                Value::End => self.failure.inside = false,
                Value::Str(text) => self.failure.seen |= !text.is_empty(),
                Value::Bool(failed) => self.failure.seen |= failed,
                _ => {}
            },
            ResponseField::ErrorCode => self.failure.read_code(value),
            ResponseField::ErrorType => self.failure.read_type(value),
            ResponseField::ErrorText => match value {
                Value::Str(text) => self.failure.seen |= !text.is_empty(),
                Value::Object | Value::Array => self.failure.seen = true,
                _ => {}
            },
        }
    }

    /// A document begins.
    #[inline]
    pub(crate) fn begin_document(&mut self) {
        self.tool_calls.begin_document();
        self.choice.open = false;
    }

    /// A document ends, or is cut here.
    #[inline]
    pub(crate) fn end_document(&mut self) {
        if self.choice.open {
            self.end_choice();
        }
    }

    fn end_choice(&mut self) {
        self.choice.open = false;
        let reason = std::mem::take(&mut self.choice.reason);
        self.choice(self.choice.index, &reason);
        self.choice.reason = reason;
    }

    /// A chunk begins. `begun`: when its first bytes came, where that was before.
    #[inline]
    pub(crate) fn chunk(&mut self, begun: Option<Nanos>, now: Nanos) {
        if self.first_chunk.is_none() {
            self.first_chunk = Some(begun.unwrap_or(now));
        } else {
            let time = Nanos(now.0.saturating_sub(self.last_chunk.0));
            self.chunks.get_or_insert_default().add(time);
        }
        self.last_chunk = now;
    }

    /// Sets a count unless bodies say it.
    pub(crate) fn set_count_if_absent(&mut self, which: Count, n: i64, rule: UsageRule) {
        self.usage.set_if_absent(which, n, rule);
    }

    /// Adds to a count of the usage object that is read.
    pub(crate) fn add_count(&mut self, which: Count, n: i64) {
        let known = self.usage.get_current(which).unwrap_or(0);
        self.usage.set_current(which, known.saturating_add(n));
    }

    /// Sets why the choice that is read ended, or the only one.
    pub(crate) fn finish_reason(&mut self, reason: &str) {
        reason.clone_into(&mut self.choice.reason);
        if !self.choice.open {
            self.choice.index = 0;
            self.end_choice();
        }
    }

    /// Bytes of the body are missing.
    pub(crate) const fn gap(&mut self) {
        self.gapped = true;
        self.usage.gap();
    }

    /// Whether a usage object with numbers was seen.
    pub(crate) fn has_usage(&self) -> bool {
        self.usage.counts(UsageRule::PLAIN).is_some()
    }

    /// Whether a choice was seen.
    pub(crate) const fn has_choices(&self) -> bool {
        !self.choices.is_empty()
    }

    pub(crate) const fn count_choices(&self) -> usize {
        self.choices.len()
    }

    /// Takes what a later part of the same call says.
    pub(crate) fn absorb(&mut self, newer: Self) {
        for (known, new) in [
            (&mut self.id, newer.id),
            (&mut self.model, newer.model),
            (&mut self.service_tier, newer.service_tier),
            (&mut self.failure.code, newer.failure.code),
            (&mut self.failure.kind, newer.failure.kind),
        ] {
            if !new.is_empty() {
                *known = new;
            }
        }
        self.failure.seen |= newer.failure.seen;
        self.is_recognised |= newer.is_recognised;
        self.gapped |= newer.gapped;
        self.streamed |= newer.streamed;
        self.first_token = self.first_token.or(newer.first_token);
        self.first_chunk = self.first_chunk.or(newer.first_chunk);
        self.usage.absorb(&newer.usage);
        self.tool_calls.absorb(newer.tool_calls);
        for choice in newer.choices {
            self.choice(choice.index, &choice.reason);
        }
    }

    /// The body is a response that an earlier call made: this call has not failed, whatever that one did, and used no
    /// token. `id`: what it was asked for by.
    pub(crate) fn fetched(&mut self, id: String, failed: bool) {
        self.fetched = true;
        self.forget_usage();
        if self.id.is_empty() {
            self.id = id;
        }
        if failed {
            self.failure = Failure::default();
        }
    }

    /// Reports no usage.
    pub(crate) fn forget_usage(&mut self) {
        self.usage = UsageReader::default();
    }

    /// Token counts in the conventions' terms.
    pub(crate) fn usage(&self, rule: UsageRule) -> Usage {
        let complete = self.done && !self.gapped;
        let sent = self.usage.counts(rule).map(|counts| counts.into_usage(rule, complete));
        let other = self.other_usage.as_deref().copied();
        let mut usage = sent.or(other).unwrap_or_default();
        usage.cache_read = usage.cache_read.or_else(|| other.and_then(|other| other.cache_read));
        usage
    }

    /// There is generated content in the current bytes.
    #[inline]
    pub(crate) fn content(&mut self) {
        if self.first_token.is_none() {
            self.first_token = Some(self.now);
        }
    }

    /// A choice was seen, with a finish reason unless `reason` is empty.
    pub(crate) fn choice(&mut self, index: u32, reason: &str) {
        // `n` is at most 128 at OpenAI.
        const MOST: usize = 128;
        let at = self.choices.iter().position(|choice| choice.index == index);
        let at = at.unwrap_or_else(|| {
            if self.choices.len() < MOST {
                self.choices.push(Choice { index, reason: String::new() });
            }
            self.choices.len() - 1
        });
        let choice = &mut self.choices[at];
        if choice.index == index && !reason.is_empty() {
            reason.clone_into(&mut choice.reason);
        }
    }

    /// Whether a choice has no finish reason.
    pub(crate) fn has_unfinished_choice(&self) -> bool {
        self.choices.iter().any(|choice| choice.reason.is_empty())
    }

    /// Why a choice ended, where that is known.
    pub(crate) fn finish_reason_of(&self, index: u32) -> Option<&str> {
        let choice = self.choices.iter().find(|choice| choice.index == index);
        choice.map(|choice| choice.reason.as_str()).filter(|reason| !reason.is_empty())
    }

    pub(crate) fn has_finish_reason(&self, reason: &str) -> bool {
        self.choices.iter().any(|choice| choice.reason == reason)
    }

    /// Whether there are choices, and all have a finish reason.
    pub(crate) fn is_finished(&self) -> bool {
        !self.choices.is_empty() && !self.has_unfinished_choice()
    }

    /// The finish reasons of all choices by index, with `unknown` for those that have none. Empty where one has none
    /// and `unknown` is `None`, or where no choice was seen.
    pub(crate) fn finish_reasons(&mut self, unknown: Option<&str>) -> Vec<String> {
        let mut choices = std::mem::take(&mut self.choices);
        choices.sort_by_key(|choice| choice.index);
        let reasons = choices.into_iter().map(|choice| match (choice.reason.is_empty(), unknown) {
            (false, _) => Some(choice.reason),
            (true, unknown) => unknown.map(str::to_owned),
        });
        reasons.collect::<Option<_>>().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Choice {
    index: u32,
    reason: String,
}

/// The error that a body reports.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    /// The body reports an error, whatever the status code is.
    pub(crate) seen: bool,
    pub(crate) code: String,
    pub(crate) kind: String,
    /// The error object is being read.
    inside: bool,
}

impl Failure {
    /// The provider's name of the error: its code, else its type. A code of digits is not a name, and neither is what
    /// serializers write for nothing.
    pub(crate) fn name(&self) -> Option<&str> {
        let is_name = |name: &&str| {
            let nothing = ["none", "null", "nil", "undefined", "unknown"];
            !name.is_empty()
                && !name.bytes().all(|b| b.is_ascii_digit())
                && !nothing.iter().any(|nothing| name.eq_ignore_ascii_case(nothing))
        };
        [&self.code, &self.kind].into_iter().map(String::as_str).find(is_name)
    }

    /// Takes `error.code`, which may be a number.
    pub(crate) fn read_code(&mut self, value: Value<'_>) {
        match value {
            Value::Str(text) if !text.is_empty() => {
                text.read_into(&mut self.code);
                self.seen |= self.inside;
            }
            Value::Number(number) => {
                if let Some(code) = number.as_i64().filter(|&code| code != 0) {
                    self.code.clear();
                    // Writing to a string cannot fail.
                    let _ = write!(self.code, "{code}");
                    self.seen |= self.inside;
                }
            }
            _ => {}
        }
    }

    /// Takes `error.type`.
    fn read_type(&mut self, value: Value<'_>) {
        read(value, &mut self.kind);
        self.seen |= self.inside && !self.kind.is_empty();
    }
}
