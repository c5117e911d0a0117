//! Every API, one line each.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::LazyLock,
};

use crate::{
    api::ApiSpec,
    apis,
    route::{Confidence, Framing, Route},
};

/// Tried in this order where several claim a request.
static APIS: [&ApiSpec; 76] = [
    &apis::openai_chat::API,
    &apis::anthropic::API,
    &apis::anthropic_complete::API,
    &apis::openai_responses::API,
    // Before what has the end of its path.
    &apis::mistral_conversations::AGENTS,
    &apis::openai_completions::API,
    &apis::openai_embeddings::API,
    &apis::voyage_jina::VOYAGE,
    &apis::voyage_jina::JINA,
    &apis::openai_media::IMAGES,
    &apis::openai_media::SPEECH,
    &apis::openai_media::TRANSCRIPTION,
    &apis::openai_media::MODERATIONS,
    &apis::openai_assistants::ASSISTANTS,
    &apis::openai_assistants::RUNS,
    &apis::openai_assistants::SEARCH,
    &apis::gemini::GENERATE,
    &apis::gemini::EMBED,
    &apis::gemini::PREDICT,
    &apis::gemini_interactions::API,
    &apis::bedrock::CONVERSE,
    &apis::bedrock::INVOKE,
    &apis::bedrock::AGENT,
    &apis::bedrock_knowledge::RETRIEVE,
    &apis::bedrock_knowledge::ANSWER,
    &apis::bedrock_flows::API,
    &apis::bedrock_inline_agents::API,
    &apis::cohere::CHAT,
    &apis::cohere::CHAT_V1,
    &apis::cohere::GENERATE,
    &apis::cohere::EMBED,
    &apis::rerank::API,
    &apis::ollama::GENERATE,
    &apis::ollama::EMBED,
    &apis::llama_cpp::API,
    &apis::sglang::API,
    &apis::tgi::API,
    &apis::hugging_face::API,
    &apis::sagemaker::CHAT,
    &apis::tei::API,
    &apis::tei::GRPC,
    &apis::triton::API,
    &apis::kserve::HTTP,
    &apis::kserve::GRPC,
    &apis::kserve::GRPC_STREAM,
    &apis::roboflow::API,
    &apis::replicate::API,
    &apis::watsonx::API,
    &apis::dashscope::CHAT,
    &apis::dashscope::APPLICATION,
    &apis::dashscope::EMBED,
    &apis::dashscope::RERANK,
    &apis::dashscope::IMAGES,
    &apis::snowflake_cortex::COMPLETE,
    &apis::snowflake_cortex::EMBED,
    &apis::snowflake_agents::AGENT,
    &apis::snowflake_agents::SEARCH,
    &apis::mistral_conversations::API,
    &apis::vector_stores::QDRANT,
    &apis::vector_stores::CHROMA,
    &apis::vector_stores::MILVUS,
    &apis::vector_stores::PINECONE,
    &apis::vector_stores::PINECONE_EMBED,
    &apis::vector_stores_grpc::QDRANT,
    &apis::vector_stores_grpc::MILVUS,
    &apis::vector_stores_grpc::WEAVIATE,
    &apis::vector_stores_grpc::PINECONE,
    &apis::weaviate::API,
    &apis::openai_realtime::API,
    &apis::openai_responses_websocket::API,
    &apis::gemini_live::API,
    &apis::mcp::API,
    &apis::grpc::GEMINI,
    &apis::grpc::VERTEX,
    &apis::grpc::XAI,
    &apis::grpc::XAI_CHUNKS,
];

/// An LLM API.
#[derive(Clone, Copy)]
pub struct Api(&'static ApiSpec);

impl Api {
    /// Every API.
    pub fn all() -> impl Iterator<Item = Self> {
        APIS.iter().map(|spec| Self(spec))
    }

    /// Its name in options: `openai-chat`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// `gen_ai.provider.name` where neither the host nor the response tells the provider; empty where calls have none.
    #[must_use]
    pub const fn provider(self) -> &'static str {
        self.0.provider
    }

    /// Whether its prompts and completions can be captured.
    #[must_use]
    pub const fn captures_content(self) -> bool {
        self.0.content.is_some()
    }

    /// Which requests are its own, for pages of documentation.
    pub fn routes(self) -> impl Iterator<Item = DocumentedRoute> {
        self.0.routes.iter().map(|route| DocumentedRoute {
            method: route.method,
            path: route.path,
            operation: route.operation,
            recognized_by: match route.confidence {
                Confidence::Certain => "path",
                Confidence::Likely => "path, and host or bodies",
                Confidence::ByBodies => "path and bodies",
                Confidence::WithHeader(_) => "path and header field",
                Confidence::At(_) => "path and host",
            },
            response: match route.response {
                Framing::Detect => "document or events",
                Framing::Lines => "document or lines",
                Framing::EventStream | Framing::EventStreamBase64 | Framing::EventStreamOfEvents => {
                    "event stream"
                }
                Framing::Multipart => "form",
                Framing::WebSocket => "WebSocket",
                Framing::Grpc => "gRPC",
                Framing::Opaque => "document, events or media",
            },
        })
    }

    pub(crate) const fn spec(self) -> &'static ApiSpec {
        self.0
    }

    /// The APIs and their routes that a path (without query) may belong to. What this costs does not grow with the
    /// number of APIs.
    pub(crate) fn claiming(path: &str) -> impl Iterator<Item = (Self, &'static Route)> {
        let mut segments = path.rsplit('/');
        let mut next = || segments.next().unwrap_or_default();
        let last = if path.is_empty() { "/" } else { next() };
        let verb = last.rfind(':').map_or("", |colon| &last[colon..]);
        let found = [(last, 0), (verb, 0), (next(), 1), (next(), 2)].map(|(key, depth)| {
            let found = if key.is_empty() || key.len() > LONGEST_KEY { None } else { ROUTES[depth].get(key) };
            found.map(Vec::as_slice).unwrap_or_default()
        });
        found.into_iter().flatten().copied()
    }
}

type RoutesByKey = HashMap<&'static str, Vec<(Api, &'static Route)>, BuildHasherDefault<Fnv>>;

/// Longer than any key.
const LONGEST_KEY: usize = 80;

/// FNV-1a: the keys are constants of the program, and what is looked up cannot make them collide.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A kind of request that is a call.
#[derive(Clone, Copy, Debug)]
pub struct DocumentedRoute {
    /// The method.
    pub method: &'static str,
    /// The end of the path.
    pub path: &'static str,
    /// `gen_ai.operation.name`, where the bodies do not decide that.
    pub operation: &'static str,
    /// What makes an exchange a call.
    pub recognized_by: &'static str,
    /// How the response may come.
    pub response: &'static str,
}

/// Routes by [`Route::key`]: its literal, and how many segments stand behind it.
static ROUTES: LazyLock<[RoutesByKey; 3]> = LazyLock::new(|| {
    let mut routes: [RoutesByKey; 3] = Default::default();
    for api in Api::all() {
        for route in api.0.routes {
            let (key, depth) = route.key();
            let same_key: &mut Vec<_> = routes[depth].entry(key).or_default();
            same_key.push((api, route));
        }
    }
    routes
});

impl PartialEq for Api {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Api {}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_routes_have_keys() {
        let names: HashSet<&str> = Api::all().map(Api::name).collect();
        assert_eq!(names.len(), APIS.len());
        for api in Api::all() {
            // Compiles the tables, which panics where a path is wrong.
            let _ = (&**api.0.request, &**api.0.response);
            for route in api.0.routes {
                assert!(!route.key().0.is_empty() && route.key().1 < 3, "{api:?} {}", route.path);
                assert!(route.key().0.len() <= LONGEST_KEY, "{api:?} {}", route.path);
                assert!(route.path.starts_with('/'), "{api:?} {}", route.path);
            }
        }
    }
}
