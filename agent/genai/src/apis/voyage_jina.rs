//! Embeddings of Voyage and Jina at paths of their own: of text with images, of chunks in their context, of several vectors for
//! a text. Their bodies are those of `openai_embeddings.rs`, as are all of their other embeddings.

use super::openai_embeddings::{REQUEST, RESPONSE};
use crate::{api::ApiSpec, facts::UsageRule, provider, route::Route};

pub(crate) static VOYAGE: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    ..ApiSpec::new("voyage-embeddings", provider::VOYAGE, VOYAGE_ROUTES, &REQUEST, &RESPONSE)
};

const VOYAGE_ROUTES: &[Route] = &[
    Route::post("/v1/multimodalembeddings", "embeddings").likely(),
    Route::post("/v1/contextualizedembeddings", "embeddings").likely(),
];

pub(crate) static JINA: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    ..ApiSpec::new("jina-multi-vector", provider::JINA, JINA_ROUTES, &REQUEST, &RESPONSE)
};

const JINA_ROUTES: &[Route] = &[Route::post("/v1/multi-vector", "embeddings").likely()];
