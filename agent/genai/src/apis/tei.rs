//! Text Embeddings Inference: `/embed` and its variants. A header field counts the tokens.

use std::sync::LazyLock;

use tokentap_wire::{
    ResponseHead,
    json::{Schema, Value},
};

use super::openai_chat::FAILURE;
use crate::{
    api::{self, ApiSpec, Field, extra, own, request},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, RequestField, UsageRule},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    decoder: || Box::<Tei>::default(),
    is_request: |_| false,
    ..ApiSpec::new("tei", provider::TEI, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/embed", "embeddings").likely(),
    Route::post("/embed_all", "embeddings").likely(),
    Route::post("/embed_sparse", "embeddings").likely(),
];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[request("inputs", RequestField::Evidence), extra("dimensions", Extra::EmbeddingsDimensions)],
    )])
});

const VECTOR: u8 = 0;

static RESPONSE: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", FAILURE), ("[][]", &[own("", VECTOR)])]));

#[derive(Debug, Default)]
struct Tei {
    tokens: Option<i64>,
    /// A vector was seen.
    vector: bool,
}

impl Decoder for Tei {
    fn response_head(&mut self, head: &ResponseHead<'_>, _calls: &mut OpenCalls) {
        self.tokens = computed_tokens(head);
    }

    fn field(&mut self, _field: u8, _indices: &[u32], value: Value<'_>, _calls: &mut OpenCalls) {
        self.vector |= matches!(value, Value::Number(_) | Value::Array | Value::Object);
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        call.response.is_recognised |= self.vector && (self.tokens.is_some() || call.request.has_evidence());
        if let Some(tokens) = self.tokens {
            call.response.set_count_if_absent(Count::Input, tokens, API.usage);
        }
    }
}

/// `x-compute-tokens`
pub(super) fn computed_tokens(head: &ResponseHead<'_>) -> Option<i64> {
    let value = head.headers.get("x-compute-tokens")?;
    str::from_utf8(value).ok()?.trim().parse().ok().filter(|&n| n >= 0)
}
