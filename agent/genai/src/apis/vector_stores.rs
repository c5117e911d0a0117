//! Searches in vector stores: Qdrant, Chroma, Milvus, Pinecone.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, counted, extra, own, request, response},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, RequestField, ResponseField, UsageRule},
    provider,
    route::{Captures, Confidence, Route},
};

const fn search(
    name: &'static str,
    provider: &'static str,
    routes: &'static [Route],
    request: &'static LazyLock<Schema<Field>>,
    response: &'static LazyLock<Schema<Field>>,
) -> ApiSpec {
    ApiSpec {
        decoder: || Box::new(Search),
        is_request: |_| false,
        ..ApiSpec::new(name, provider, routes, request, response)
    }
}

const COLLECTION: u8 = 0;

pub(crate) static QDRANT: ApiSpec =
    search("qdrant", provider::QDRANT, QDRANT_ROUTES, &QDRANT_REQUEST, &QDRANT_RESPONSE);

const QDRANT_ROUTES: &[Route] = &[
    Route::post("/collections/{collection}/points/search", "retrieval").likely(),
    Route::post("/collections/{collection}/points/query", "retrieval").likely(),
    Route::post("/collections/{collection}/points/search/groups", "retrieval").likely(),
    Route::post("/collections/{collection}/points/query/groups", "retrieval").likely(),
    Route::post("/collections/{collection}/points/recommend", "retrieval").likely(),
];

static QDRANT_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("vector", RequestField::Evidence),
            request("query", RequestField::Evidence),
            extra("limit", Extra::RetrievalTopK),
        ],
    )])
});

static QDRANT_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            response("result[].score", ResponseField::Evidence),
            response("result.points", ResponseField::Evidence),
            response("result.groups[].hits", ResponseField::Evidence),
            response("status.error", ResponseField::Error),
        ],
    )])
});

pub(crate) static CHROMA: ApiSpec =
    search("chroma", provider::CHROMA, CHROMA_ROUTES, &CHROMA_REQUEST, &CHROMA_RESPONSE);

const CHROMA_ROUTES: &[Route] = &[Route::post("/collections/{collection}/query", "retrieval").likely()];

static CHROMA_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[request("query_embeddings", RequestField::Evidence), extra("n_results", Extra::RetrievalTopK)],
    )])
});

static CHROMA_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[response("distances", ResponseField::Evidence), response("error", ResponseField::Error)],
    )])
});

pub(crate) static MILVUS: ApiSpec =
    search("milvus", provider::MILVUS, MILVUS_ROUTES, &MILVUS_REQUEST, &MILVUS_RESPONSE);

const MILVUS_ROUTES: &[Route] = &[
    Route::post("/v2/vectordb/entities/search", "retrieval"),
    Route::post("/v2/vectordb/entities/hybrid_search", "retrieval"),
];

static MILVUS_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", &[own("collectionName", COLLECTION), extra("limit", Extra::RetrievalTopK)])])
});

static MILVUS_RESPONSE: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", &[response("data", ResponseField::Evidence)])]));

pub(crate) static PINECONE: ApiSpec =
    search("pinecone", provider::PINECONE, PINECONE_ROUTES, &PINECONE_REQUEST, &PINECONE_RESPONSE);

const PINECONE_ROUTES: &[Route] = &[
    Route::post("/query", "retrieval").confidence(Confidence::At(&[".pinecone.io"])),
    Route::post("/records/namespaces/{collection}/search", "retrieval").likely(),
];

static PINECONE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            own("namespace", COLLECTION),
            extra("topK", Extra::RetrievalTopK),
            extra("query.top_k", Extra::RetrievalTopK),
        ],
    )])
});

static PINECONE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[response("namespace", ResponseField::Evidence), response("result.hits", ResponseField::Evidence)],
    )])
});

/// Embeddings by a model that Pinecone runs.
pub(crate) static PINECONE_EMBED: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    ..ApiSpec::new(
        "pinecone-embed",
        provider::PINECONE,
        PINECONE_EMBED_ROUTES,
        &PINECONE_EMBED_REQUEST,
        &PINECONE_EMBED_RESPONSE,
    )
};

const PINECONE_EMBED_ROUTES: &[Route] =
    &[Route::post("/embed", "embeddings").confidence(Confidence::At(&["api.pinecone.io"]))];

static PINECONE_EMBED_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("model", RequestField::Model),
            request("inputs", RequestField::Evidence),
            extra("parameters.dimension", Extra::EmbeddingsDimensions),
        ],
    )])
});

static PINECONE_EMBED_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            response("model", ResponseField::Model),
            response("data", ResponseField::Evidence),
            response("usage", ResponseField::Usage),
            counted("usage.total_tokens", Count::Total),
            response("error", ResponseField::Error),
            response("error.code", ResponseField::ErrorCode),
        ],
    )])
});

/// Takes the collection from the path or the body.
#[derive(Debug)]
struct Search;

impl Search {
    fn collection(name: String, calls: &mut OpenCalls) {
        calls.current.subject = Some(name.clone());
        calls.current.set(Extra::DataSourceId, name);
    }
}

impl Decoder for Search {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        if let Some(name) = captures.get("collection") {
            Self::collection(name, calls);
        }
    }

    fn field(&mut self, _field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        if let Value::Str(text) = value
            && !text.is_empty()
        {
            Self::collection(text.decode(), calls);
        }
    }
}
