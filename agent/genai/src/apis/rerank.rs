//! Reranking: Cohere, Voyage, Jina, NIM (`/v1/ranking`), vLLM, llama.cpp and TEI.

use std::sync::LazyLock;

use tokentap_wire::{
    ResponseHead,
    json::{Schema, Value},
};

use super::{cohere::USAGE as BILLED, openai_chat::FAILURE};
use crate::{
    api::{self, ApiSpec, Field, counted, extra, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, RequestField, ResponseField, UsageRule},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    decoder: || Box::<Rerank>::default(),
    content: Some(read_content),
    ..ApiSpec::new("rerank", provider::COHERE, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/rerank", "rerank").likely(),
    Route::post("/reranking", "rerank").likely(),
    Route::post("/v1/ranking", "rerank").likely(),
];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("query", RequestField::Evidence),
            own("texts", TEXTS),
            request("model", RequestField::Model),
            extra("top_n", Extra::RetrievalTopK),
            extra("top_k", Extra::RetrievalTopK),
        ],
    )])
});

const TEXTS: u8 = 0;
/// NIM's score.
const LOGIT: u8 = 1;
/// TEI's score.
const SCORE: u8 = 2;

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        ("meta", BILLED),
        (
            "",
            &[
                response("id", ResponseField::Id),
                response("model", ResponseField::Model),
                response("results[].relevance_score", ResponseField::Evidence),
                response("data[].relevance_score", ResponseField::Evidence),
                own("rankings[].logit", LOGIT),
                own("[].score", SCORE),
                response("usage", ResponseField::Usage),
                counted("usage.prompt_tokens", Count::Input),
                counted("usage.total_tokens", Count::Total),
            ],
        ),
    ])
});

/// Reads what TEI says in a header field.
#[derive(Debug, Default)]
struct Rerank {
    tokens: Option<i64>,
    /// The request has texts, as one to TEI does.
    texts: bool,
}

impl Decoder for Rerank {
    fn response_head(&mut self, head: &ResponseHead<'_>, _calls: &mut OpenCalls) {
        self.tokens = super::tei::computed_tokens(head);
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        match field {
            TEXTS => self.texts |= matches!(value, Value::Array),
            LOGIT => {
                call.response.is_recognised = true;
                call.response.server = Some(provider::NVIDIA);
            }
            // Every search has scores.
            _ => {
                let asked = self.tokens.is_some() || self.texts && call.request.has_evidence();
                call.response.is_recognised |= asked;
            }
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        if let Some(tokens) = self.tokens {
            calls.current.response.set_count_if_absent(Count::Input, tokens, API.usage);
            calls.current.response.server = Some(provider::TEI);
        }
    }
}

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.query(sent.get("query"));
        return;
    }
    let list = sent.json.as_array().or_else(|| sent.get("results").or_else(|| sent.get("data"))?.as_array());
    for found in list.into_iter().flatten() {
        content.document(found.get("index"), found.get("relevance_score").or_else(|| found.get("score")));
    }
}
