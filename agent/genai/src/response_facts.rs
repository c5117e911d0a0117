//! The facts of a response, in terms that all APIs share. Nothing here holds a completion.

use tokentap_wire::{Nanos, json::Value};

/// The facts of a response. Empty strings and `None`: the response does not have the field.
#[derive(Debug, Default)]
pub(crate) struct ResponseFacts {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) usage: Usage,
    pub(crate) service_tier: String,
    pub(crate) fingerprint: String,
    /// The server software, where its dialect shows it.
    pub(crate) server: Option<&'static str>,
    pub(crate) failure: Failure,
    /// The body has what every response of this API has.
    pub(crate) is_recognised: bool,
    /// The last event of the API's own stream was seen.
    pub(crate) done: bool,
    /// Bytes of the body were lost.
    pub(crate) gapped: bool,
    /// The body is a stream of events.
    pub(crate) streamed: bool,
    /// When the first generated content came.
    pub(crate) first_token: Option<Nanos>,
    /// When the current bytes were captured.
    pub(crate) now: Nanos,
    choices: Vec<Choice>,
}

impl ResponseFacts {
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

/// Token counts, in the convention's terms: input includes what was cached, output includes reasoning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) input: Option<i64>,
    pub(crate) output: Option<i64>,
    pub(crate) cache_read: Option<i64>,
    pub(crate) cache_write: Option<i64>,
    pub(crate) reasoning: Option<i64>,
    pub(crate) text_input: Option<i64>,
    pub(crate) text_output: Option<i64>,
    pub(crate) image_input: Option<i64>,
    pub(crate) image_output: Option<i64>,
    pub(crate) audio_input: Option<i64>,
    pub(crate) audio_output: Option<i64>,
}

/// The error that a body reports.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    /// The body reports an error, whatever the status code is.
    pub(crate) seen: bool,
    pub(crate) code: String,
    pub(crate) kind: String,
}

impl Failure {
    /// The provider's name of the error: its code, else its type. A code of digits is not a name.
    pub(crate) fn name(&self) -> Option<&str> {
        [&self.code, &self.kind]
            .into_iter()
            .map(String::as_str)
            .find(|name| !name.is_empty() && !name.bytes().all(|b| b.is_ascii_digit()))
    }

    /// Takes `error.code`, which may be a number.
    pub(crate) fn read_code(&mut self, value: Value<'_>) {
        match value {
            Value::Str(text) => {
                text.read_into(&mut self.code);
            }
            Value::Number(number) => {
                if let Some(code) = number.as_i64() {
                    self.code = code.to_string();
                }
            }
            _ => {}
        }
    }
}

/// Replaces `into` by a string value that is not empty.
pub(crate) fn read(value: Value<'_>, into: &mut String) {
    if let Value::Str(text) = value
        && !text.is_empty()
    {
        text.read_into(into);
    }
}

/// As [`read`], for a value that every chunk of a stream repeats: the first one counts.
#[inline]
pub(crate) fn read_first(value: Value<'_>, into: &mut String) {
    if into.is_empty() {
        read(value, into);
    }
}

/// A token count; negative ones are ignored.
pub(crate) fn count(value: Value<'_>) -> Option<i64> {
    value.as_i64().filter(|&n| n >= 0)
}
