//! OpenAI Embeddings (`POST …/embeddings`), also at Azure, Mistral, Voyage, Jina, NIM and self-hosted servers.

use std::sync::LazyLock;

use tokentap_wire::json::Schema;

use super::openai_chat::FAILURE;
use crate::{
    api::{self, ApiSpec, Field, Wanted, counted, extra, request, response},
    facts::{Count, Extra, RequestField, ResponseField, UsageRule},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    openai_api_type: Some("embeddings"),
    usage: UsageRule::INPUT_ONLY,
    ..ApiSpec::new("openai-embeddings", provider::OPENAI, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/deployments/{model}/embeddings", "embeddings").likely(),
    Route::post("/embeddings", "embeddings").likely(),
];

pub(super) static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", api::IDENTITY),
        (
            "",
            &[
                request("input", RequestField::Evidence),
                request("inputs", RequestField::Evidence),
                request("model", RequestField::Model),
                extra("dimensions", Extra::EmbeddingsDimensions),
                extra("output_dimension", Extra::EmbeddingsDimensions),
                extra("encoding_format", Extra::EncodingFormats),
                extra("output_dtype", Extra::EncodingFormats),
                extra("embedding_type", Extra::EncodingFormats),
                extra("embedding_type[]", Extra::EncodingFormats),
            ],
        ),
    ])
});

pub(super) static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                response("id", ResponseField::Id),
                response("model", ResponseField::Model),
                Wanted::presence("data[].embedding", Field::Response(ResponseField::Evidence)),
                Wanted::presence("data[].embeddings", Field::Response(ResponseField::Evidence)),
                // Of chunks in their context.
                Wanted::presence("data[].data[].embedding", Field::Response(ResponseField::Evidence)),
                response("usage", ResponseField::Usage),
                counted("usage.text_tokens", Count::TextInput),
                counted("usage.prompt_tokens", Count::Input),
                counted("usage.total_tokens", Count::Total),
            ],
        ),
        ("", FAILURE),
    ])
});
