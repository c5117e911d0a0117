//! The registry of LLM APIs.

use tokentap_wire::Headers;

use crate::{
    anthropic::Anthropic,
    family::{ApiFamily as _, BodyReader, Confidence, FamilyReader},
    openai_chat::OpenAiChat,
};

/// An LLM API whose calls become spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI Chat Completions and everything that speaks its dialect.
    OpenAiChat,
    /// Anthropic Messages.
    Anthropic,
}

impl Api {
    /// Every API.
    pub const ALL: [Self; 2] = [Self::OpenAiChat, Self::Anthropic];

    /// Its name in options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::Anthropic => "anthropic",
        }
    }

    /// Whether a POST to this path (without query) is a call.
    pub(crate) fn match_path(self, path: &str, headers: &Headers<'_>) -> Option<Confidence> {
        match self {
            Self::OpenAiChat => OpenAiChat::match_path(path, headers),
            Self::Anthropic => Anthropic::match_path(path, headers),
        }
    }

    /// A reader for the bodies of a call to this path.
    pub(crate) fn reader(self, path: &str) -> Box<dyn BodyReader> {
        match self {
            Self::OpenAiChat => Box::new(FamilyReader::<OpenAiChat>::new(path)),
            Self::Anthropic => Box::new(FamilyReader::<Anthropic>::new(path)),
        }
    }
}
