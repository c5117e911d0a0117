//! Text Embeddings Inference: `/embed` and its variants, where a header field counts the tokens, and the same over gRPC.

use std::sync::LazyLock;

use tokentap_wire::{
    Headers, ResponseHead,
    json::{Schema, Value},
    protobuf,
};

use super::{
    grpc::{NO_JSON, status},
    openai_chat::FAILURE,
};
use crate::{
    api::{self, ApiSpec, Field, extra, own, request, response},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, RequestFacts, RequestField, ResponseField, UsageRule, count},
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

pub(crate) static GRPC: ApiSpec = ApiSpec {
    protobuf: Some([&GRPC_REQUEST, &GRPC_RESPONSE]),
    usage: UsageRule::INPUT_ONLY,
    decoder: || Box::<Status>::default(),
    is_request: RequestFacts::has_evidence,
    ..ApiSpec::new("tei-grpc", provider::TEI, GRPC_ROUTES, &NO_JSON, &NO_JSON)
};

/// A stream is one call, and each of its messages counts tokens of its own.
const GRPC_ROUTES: &[Route] = &[
    Route::grpc("/tei.v1.Embed/Embed", "embeddings"),
    Route::grpc("/tei.v1.Embed/EmbedStream", "embeddings"),
    Route::grpc("/tei.v1.Embed/EmbedRaw", "embeddings"),
    Route::grpc("/tei.v1.Embed/EmbedRawStream", "embeddings"),
    Route::grpc("/tei.v1.Embed/EmbedSparse", "embeddings"),
    Route::grpc("/tei.v1.Embed/EmbedSparseStream", "embeddings"),
    Route::grpc("/tei.v1.Embed/EmbedAll", "embeddings"),
    Route::grpc("/tei.v1.Embed/EmbedAllStream", "embeddings"),
    Route::grpc("/tei.v1.Rerank/Rerank", "rerank"),
    Route::grpc("/tei.v1.Rerank/RerankStream", "rerank"),
];

/// The text or the query.
static GRPC_REQUEST: LazyLock<protobuf::Schema<Field>> =
    LazyLock::new(|| protobuf::Schema::new(&[request("1", RequestField::Evidence)]));

/// Vectors or ranks, and `Metadata`.
static GRPC_RESPONSE: LazyLock<protobuf::Schema<Field>> =
    LazyLock::new(|| protobuf::Schema::new(&[response("1", ResponseField::Evidence), own("2.2", TOKENS)]));

const TOKENS: u8 = 0;

#[derive(Debug, Default)]
struct Status {
    /// Of all messages so far.
    tokens: Option<i64>,
}

impl Decoder for Status {
    fn response_head(&mut self, head: &ResponseHead<'_>, calls: &mut OpenCalls) {
        status(head.headers, calls);
    }

    fn field(&mut self, _field: u8, _indices: &[u32], value: Value<'_>, _calls: &mut OpenCalls) {
        if let Some(tokens) = count(value) {
            self.tokens = Some(self.tokens.unwrap_or(0).saturating_add(tokens));
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        // What was lost may have counted more.
        if let Some(tokens) = self.tokens.filter(|_| !response.gapped) {
            response.set_count_if_absent(Count::Input, tokens, GRPC.usage);
        }
    }

    fn trailers(&mut self, fields: Headers<'_>, calls: &mut OpenCalls) {
        status(fields, calls);
    }
}
