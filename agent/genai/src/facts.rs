//! The record of one call: what its exchange said, in terms that all APIs share. Nothing here holds a prompt or a
//! completion. Decoders write it, renderers read it.

mod extra;
mod request;
mod response;
mod tool_calls;
mod usage;

use tokentap_wire::{Nanos, json::Value};

use crate::{TraceContext, content::Content};

pub(crate) use extra::{Extra, ExtraValue};
pub(crate) use request::{RequestFacts, RequestField};
pub(crate) use response::{ResponseFacts, ResponseField};
pub(crate) use tool_calls::ToolCalls;
pub(crate) use usage::{Count, Reasoning, Usage, UsageRule};

/// One call.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The operation, where it is not the one of the route.
    pub(crate) operation: Option<&'static str>,
    pub(crate) request: RequestFacts,
    pub(crate) response: ResponseFacts,
    /// The name of the span, where it is not operation and model.
    pub(crate) name: Option<String>,
    /// What the span's name says after the operation, where that is neither the requested model nor the agent's name.
    pub(crate) subject: Option<String>,
    /// The first byte of the call, where that is not the first byte of its exchange.
    pub(crate) start: Option<Nanos>,
    /// The last byte of the call, where that is not the last byte of its exchange.
    pub(crate) end: Option<Nanos>,
    /// The trace context that the body carries.
    pub(crate) parent: Option<TraceContext>,
    /// The span is INTERNAL where the observed process is the server: it runs the tool of the call.
    pub(crate) runs_tool: bool,
    /// Prompts and completions, where they are captured.
    pub(crate) content: Option<Box<Content>>,
    extras: Vec<(Extra, ExtraValue)>,
}

impl Facts {
    /// Sets a fact that few calls have; the last value counts.
    pub(crate) fn set(&mut self, extra: Extra, value: impl Into<ExtraValue>) {
        let value = value.into();
        match self.extras.iter_mut().find(|(known, _)| *known == extra) {
            Some((_, known)) => *known = value,
            None => self.extras.push((extra, value)),
        }
    }

    /// Whether the call has a fact that few calls have.
    pub(crate) fn has(&self, extra: Extra) -> bool {
        self.extras.iter().any(|(known, _)| *known == extra)
    }

    /// As [`Facts::set`], of text that every event of a stream may repeat.
    pub(crate) fn set_text(&mut self, extra: Extra, text: &str) {
        match self.extras.iter_mut().find(|(known, _)| *known == extra) {
            Some((_, ExtraValue::Text(known))) => text.clone_into(known),
            _ => self.set(extra, text),
        }
    }

    /// As [`Facts::set`], from a value of a body: strings that are not empty, integers and booleans. A list of strings
    /// grows by each string, up to 16.
    pub(crate) fn read(&mut self, extra: Extra, value: Value<'_>) {
        const MOST: usize = 16;
        match value {
            Value::Str(text) if !text.is_empty() && extra.is_list() => {
                if let Some((_, ExtraValue::List(list))) =
                    self.extras.iter_mut().find(|(known, _)| *known == extra)
                {
                    if list.len() < MOST {
                        list.push(text.decode());
                    }
                } else {
                    self.set(extra, ExtraValue::List(vec![text.decode()]));
                }
            }
            Value::Str(text) if !text.is_empty() => {
                if let Some((_, ExtraValue::Text(known))) =
                    self.extras.iter_mut().find(|(known, _)| *known == extra)
                {
                    text.read_into(known);
                } else {
                    self.set(extra, text.decode());
                }
            }
            Value::Number(number) => {
                if let Some(number) = number.as_i64() {
                    self.set(extra, number);
                }
            }
            Value::Bool(value) => self.set(extra, value),
            _ => {}
        }
    }

    /// Takes what a later part of the same call says.
    pub(crate) fn absorb(&mut self, mut newer: Self) {
        for (extra, value) in newer.take_extras() {
            self.set(extra, value);
        }
        self.response.absorb(newer.response);
        if let Some(newer) = newer.content {
            self.content.get_or_insert_default().absorb(*newer);
        }
    }

    pub(crate) fn take_extras(&mut self) -> Vec<(Extra, ExtraValue)> {
        std::mem::take(&mut self.extras)
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
