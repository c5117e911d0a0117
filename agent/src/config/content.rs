//! What of prompts and completions is exported: flags, then the environment.

use std::str::FromStr;

use tokentap_genai::{ContentOptions, Destination, Hidden, Redaction};

use super::{env::Env, error::ConfigError};
use crate::cli;

/// The conventions' variable.
const CAPTURE: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";

/// Where content goes, or that it is not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureContent(Option<Destination>);

impl FromStr for CaptureContent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text.to_ascii_lowercase().as_str() {
            "none" | "no_content" | "false" => None,
            // What older instrumentations took.
            "span" | "span_only" | "true" => Some(Destination::Span),
            "event" | "event_only" => Some(Destination::Event),
            "both" | "span_and_event" => Some(Destination::SpanAndEvent),
            _ => return Err("use none, span, event or both"),
        }))
    }
}

/// What is left out of content: the index of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hide(usize);

/// By name.
const SWITCHES: [(&str, fn(&mut Hidden) -> &mut bool); 7] = [
    ("inputs", |hidden| &mut hidden.inputs),
    ("outputs", |hidden| &mut hidden.outputs),
    ("input-messages", |hidden| &mut hidden.input_messages),
    ("output-messages", |hidden| &mut hidden.output_messages),
    ("input-text", |hidden| &mut hidden.input_text),
    ("output-text", |hidden| &mut hidden.output_text),
    ("input-images", |hidden| &mut hidden.input_images),
];

impl FromStr for Hide {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = SWITCHES.iter().position(|(name, _)| *name == text);
        let names = || SWITCHES.map(|(name, _)| name).join(", ");
        known.map(Self).ok_or_else(|| format!("use one of {}", names()))
    }
}

/// `None`: no content is captured.
pub(super) fn resolve(
    flags: &cli::Content,
    env: &mut Env<'_>,
) -> Result<Option<ContentOptions>, ConfigError> {
    let capture = flags.capture_content.or_else(|| env.parsed(&[CAPTURE]));
    let Some(CaptureContent(Some(destination))) = capture else { return Ok(None) };
    let mut hidden = Hidden::default();
    for (name, switch) in &SWITCHES {
        let variable = format!("FI_HIDE_{}", name.replace('-', "_").to_ascii_uppercase());
        *switch(&mut hidden) = env.flag(&[&variable]).unwrap_or(false);
    }
    for Hide(index) in &flags.hide {
        *SWITCHES[*index].1(&mut hidden) = true;
    }
    let mut redaction = Redaction::default();
    for pattern in &flags.redact {
        redaction.add(pattern).map_err(|why| ConfigError::Redact { pattern: pattern.clone(), why })?;
    }
    Ok(Some(ContentOptions {
        destination,
        max_bytes: flags.content_max_bytes,
        hidden,
        redaction: (!flags.no_redaction).then_some(redaction),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_conventions_and_of_older_instrumentations_are_taken() {
        for (text, expected) in [
            ("NO_CONTENT", None),
            ("false", None),
            ("SPAN_ONLY", Some(Destination::Span)),
            ("true", Some(Destination::Span)),
            ("event", Some(Destination::Event)),
            ("Span_And_Event", Some(Destination::SpanAndEvent)),
        ] {
            assert_eq!(text.parse(), Ok(CaptureContent(expected)), "{text}");
        }
        assert!("yes".parse::<CaptureContent>().is_err());
        assert!("prompts".parse::<Hide>().is_err_and(|why| why.contains("input-text")));
    }
}
