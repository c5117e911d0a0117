//! What a response says, in terms that all APIs share. Nothing here holds a completion.

use tokentap_wire::{Nanos, json::Value};

/// What a response says.
#[derive(Debug, Default)]
pub(crate) struct ResponseFacts {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) usage: Usage,
    pub(crate) service_tier: String,
    pub(crate) fingerprint: String,
    /// The software that answered, where its dialect gives it away.
    pub(crate) server: Option<&'static str>,
    pub(crate) failure: Failure,
    /// It has what every response of this API has.
    pub(crate) is_recognised: bool,
    /// The API's own end of stream was seen.
    pub(crate) done: bool,
    /// Bytes of it were lost.
    pub(crate) gapped: bool,
    /// It is a stream of events.
    pub(crate) streamed: bool,
    /// When the first generated content came.
    pub(crate) first_token: Option<Nanos>,
    /// When the bytes at hand were captured.
    pub(crate) now: Nanos,
    choices: Vec<Choice>,
}

impl ResponseFacts {
    /// Generated content is in the bytes at hand.
    #[inline]
    pub(crate) fn content(&mut self) {
        if self.first_token.is_none() {
            self.first_token = Some(self.now);
        }
    }

    /// A choice exists, and ended for `reason` unless that is empty.
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

    /// A choice exists that did not say why it ended.
    pub(crate) fn has_unfinished_choice(&self) -> bool {
        self.choices.iter().any(|choice| choice.reason.is_empty())
    }

    /// Every choice said why it ended.
    pub(crate) fn is_finished(&self) -> bool {
        !self.choices.is_empty() && !self.has_unfinished_choice()
    }

    /// Why each choice ended, by index, with `unknown` for those that did not say. Empty when that is `None`
    /// and one did not, or when no choice was seen.
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

/// An error as a body tells it.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    /// It says that there is one, whatever the status code.
    pub(crate) seen: bool,
    pub(crate) code: String,
    pub(crate) kind: String,
}

impl Failure {
    /// The provider's name of the error: its code, else its type. A code that is only a number is not a name.
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

/// As [`read`], once: for what every chunk of a stream repeats.
#[inline]
pub(crate) fn read_first(value: Value<'_>, into: &mut String) {
    if into.is_empty() {
        read(value, into);
    }
}

/// A token count; a negative one is none.
pub(crate) fn count(value: Value<'_>) -> Option<i64> {
    value.as_i64().filter(|&n| n >= 0)
}
