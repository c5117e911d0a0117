//! The APIs, one file for each family.

pub(crate) mod anthropic;
pub(crate) mod bedrock;
pub(crate) mod gemini;
pub(crate) mod gemini_interactions;
pub(crate) mod openai_assistants;
pub(crate) mod openai_chat;
pub(crate) mod openai_completions;
pub(crate) mod openai_embeddings;
pub(crate) mod openai_media;
pub(crate) mod openai_responses;
