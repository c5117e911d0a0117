//! The APIs, one file for each family.

pub(crate) mod anthropic;
pub(crate) mod bedrock;
pub(crate) mod cohere;
pub(crate) mod gemini;
pub(crate) mod gemini_interactions;
pub(crate) mod gemini_live;
pub(crate) mod grpc;
pub(crate) mod llama_cpp;
pub(crate) mod mcp;
pub(crate) mod ollama;
pub(crate) mod openai_assistants;
pub(crate) mod openai_chat;
pub(crate) mod openai_completions;
pub(crate) mod openai_embeddings;
pub(crate) mod openai_media;
pub(crate) mod openai_realtime;
pub(crate) mod openai_responses;
pub(crate) mod openai_responses_websocket;
pub(crate) mod replicate;
pub(crate) mod rerank;
pub(crate) mod sglang;
pub(crate) mod tei;
pub(crate) mod tgi;
pub(crate) mod triton;
pub(crate) mod vector_stores;
pub(crate) mod watsonx;
