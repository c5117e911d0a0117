//! Other dialects of the same span: what platforms read that do not follow OpenTelemetry's GenAI conventions yet. Each is
//! made of the attributes and the content that the conventions' dialect has.

mod fi;
mod messages;
mod openinference;
mod openllmetry;
mod translation;

use std::{fmt, str::FromStr};

use serde_json::Value as Json;

use crate::Attribute;
use translation::Translation;

/// A dialect of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenTelemetry's GenAI conventions.
    OpenTelemetry,
    /// Arize's OpenInference (openinference-semantic-conventions 0.1.42).
    OpenInference,
    /// Traceloop's OpenLLMetry (opentelemetry-semantic-conventions-ai 0.5.1).
    OpenLlmetry,
    /// Future AGI's (fi-instrumentation-otel 1.1.0).
    Fi,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 4] = [Self::OpenTelemetry, Self::OpenInference, Self::OpenLlmetry, Self::Fi];
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenTelemetry => "otel",
            Self::OpenInference => "openinference",
            Self::OpenLlmetry => "openllmetry",
            Self::Fi => "fi",
        })
    }
}

impl FromStr for Dialect {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|dialect| dialect.to_string() == text);
        // What Future AGI's own switch calls it.
        let known = known.or_else(|| (text == "otel_genai").then_some(Self::OpenTelemetry));
        known.ok_or("use otel, openinference, openllmetry or fi")
    }
}

/// Makes the attributes of a span those of these dialects; none: the conventions'. `content`: what of it is on the span.
pub(crate) fn translate(
    attributes: &mut Vec<Attribute>,
    content: &[(&'static str, Json)],
    dialects: &[Dialect],
) {
    if dialects.is_empty() || dialects == [Dialect::OpenTelemetry] {
        return;
    }
    let mut translation = Translation::new(attributes, content);
    for dialect in dialects {
        match dialect {
            Dialect::OpenTelemetry => {}
            Dialect::OpenInference => openinference::translate(&mut translation),
            Dialect::OpenLlmetry => openllmetry::translate(&mut translation),
            Dialect::Fi => fi::translate(&mut translation),
        }
    }
    let translated = translation.attributes;
    if !dialects.contains(&Dialect::OpenTelemetry) {
        attributes.retain(|attribute| {
            !attribute.key.starts_with("gen_ai.") && !attribute.key.starts_with("openai.")
        });
    }
    for attribute in translated {
        if !attributes.iter().any(|known| known.key == attribute.key) {
            attributes.push(attribute);
        }
    }
}
