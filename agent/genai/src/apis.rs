//! The APIs, one file each.

pub(crate) mod anthropic;
pub(crate) mod openai_chat;
