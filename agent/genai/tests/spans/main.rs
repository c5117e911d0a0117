//! Captured bytes in, spans out: through the whole of `wire` and `genai`.

mod anthropic;
mod apis;
mod body;
mod cassettes;
mod content;
#[path = "../../../wire/tests/counting/mod.rs"]
mod counting;
mod dialects;
mod exchange;
mod formats;
mod identity;
mod incomplete;
mod losses;
mod measurements;
mod openai_chat;
mod other_services;
mod properties;
mod recordings;
mod relations;
mod sessions;
mod spans;
