//! What flags about prompts and completions take.

use std::str::FromStr;

use tokentap_genai::{Destination, Hidden};

/// Where content goes, or that it is not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureContent(pub Option<Destination>);

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
pub struct Hide(pub usize);

/// A name, and what it switches.
pub(crate) type Switch = (&'static str, fn(&mut Hidden) -> &mut bool);

/// The switches by name, which are also those of the environment (`FI_HIDE_INPUT_TEXT`).
pub(crate) const SWITCHES: [Switch; 7] = [
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
