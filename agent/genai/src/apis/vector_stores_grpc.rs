//! Searches in vector stores over gRPC: Qdrant, Milvus, Weaviate, Pinecone.

use std::sync::LazyLock;

use tokentap_wire::{Headers, RequestHead, ResponseHead, json::Value, protobuf::Schema};

use super::grpc::{NO_JSON, status};
use crate::{
    api::{ApiSpec, Field, own, request, response},
    decoder::{Decoder, OpenCalls},
    facts::{Extra, RequestFacts, RequestField, ResponseField},
    provider, recognition,
    route::{Captures, Confidence, Route},
};

const fn search(
    name: &'static str,
    provider: &'static str,
    routes: &'static [Route],
    protobuf: [&'static LazyLock<Schema<Field>>; 2],
) -> ApiSpec {
    ApiSpec {
        protobuf: Some(protobuf),
        decoder: || Box::<Search>::default(),
        is_request: RequestFacts::has_evidence,
        ..ApiSpec::new(name, provider, routes, &NO_JSON, &NO_JSON)
    }
}

const COLLECTION: u8 = 0;
const TOP_K: u8 = 1;
/// The limit of Qdrant's `SearchPoints`, which is something else in `QueryPoints`, and the reverse.
const TOP_K_OF_SEARCH: u8 = 2;
const TOP_K_OF_QUERY: u8 = 3;
/// Of Milvus' pairs of parameters.
const KEY: u8 = 4;
const VALUE: u8 = 5;
/// What Milvus says of a search that failed, in a message that arrived.
const FAILED: u8 = 6;
const RESULT: u8 = 7;

pub(crate) static QDRANT: ApiSpec =
    search("qdrant-grpc", provider::QDRANT, QDRANT_ROUTES, [&QDRANT_REQUEST, &QDRANT_RESPONSE]);

const QDRANT_ROUTES: &[Route] =
    &[Route::grpc("/qdrant.Points/Search", "retrieval"), Route::grpc("/qdrant.Points/Query", "retrieval")];

static QDRANT_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[
        own("1", COLLECTION),
        request("2", RequestField::Evidence),
        request("3", RequestField::Evidence),
        own("4", TOP_K_OF_SEARCH),
        own("8", TOP_K_OF_QUERY),
    ])
});

/// The points, and how long it took.
static QDRANT_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[response("1", ResponseField::Evidence), response("2", ResponseField::Evidence)])
});

pub(crate) static MILVUS: ApiSpec =
    search("milvus-grpc", provider::MILVUS, MILVUS_ROUTES, [&MILVUS_REQUEST, &MILVUS_RESPONSE]);

const MILVUS_ROUTES: &[Route] = &[
    Route::grpc("/milvus.proto.milvus.MilvusService/Search", "retrieval"),
    Route::grpc("/milvus.proto.milvus.MilvusService/HybridSearch", "retrieval"),
];

/// A search has its parameters in field 9, and a hybrid one in field 6, where the other has vectors, in messages of one
/// field.
static MILVUS_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[
        own("3", COLLECTION),
        own("6.1", KEY),
        own("6.2", VALUE),
        own("9.1", KEY),
        own("9.2", VALUE),
    ])
});

/// The status (its older and its newer code), and the results.
static MILVUS_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[own("1.1", FAILED), own("1.3", FAILED), response("2", ResponseField::Evidence)])
});

pub(crate) static WEAVIATE: ApiSpec =
    search("weaviate-grpc", provider::WEAVIATE, WEAVIATE_ROUTES, [&WEAVIATE_REQUEST, &WEAVIATE_RESPONSE]);

/// The method also lists objects, which is no search.
const WEAVIATE_ROUTES: &[Route] =
    &[Route::grpc("/weaviate.v1.Weaviate/Search", "retrieval").confidence(Confidence::ByBodies)];

/// What is searched by: both, keywords, vectors, and what the server makes vectors of.
static WEAVIATE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[
        own("1", COLLECTION),
        own("30", TOP_K),
        request("41", RequestField::Evidence),
        request("42", RequestField::Evidence),
        request("43", RequestField::Evidence),
        request("44", RequestField::Evidence),
        request("45", RequestField::Evidence),
        request("46", RequestField::Evidence),
        request("47", RequestField::Evidence),
        request("48", RequestField::Evidence),
        request("49", RequestField::Evidence),
        request("50", RequestField::Evidence),
        request("51", RequestField::Evidence),
    ])
});

/// No field shows a search.
static WEAVIATE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| Schema::new(&[own("2", RESULT)]));

pub(crate) static PINECONE: ApiSpec =
    search("pinecone-grpc", provider::PINECONE, PINECONE_ROUTES, [&PINECONE_REQUEST, &PINECONE_RESPONSE]);

const PINECONE_ROUTES: &[Route] =
    &[Route::grpc("/VectorService/Query", "retrieval").confidence(Confidence::At(&[".pinecone.io"]))];

static PINECONE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[own("1", COLLECTION), own("2", TOP_K), request("6", RequestField::Evidence)])
});

static PINECONE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[
        response("2", ResponseField::Evidence),
        response("3", ResponseField::Evidence),
        response("4", ResponseField::Evidence),
    ])
});

/// Takes the collection and the limit, and what the status says.
#[derive(Debug, Default)]
struct Search {
    /// A method named `Query`.
    query: bool,
    /// The key of the pair that is read is the one of the limit.
    is_top_k: bool,
}

impl Decoder for Search {
    fn request_head(&mut self, head: &RequestHead<'_>, _captures: &Captures<'_>, _calls: &mut OpenCalls) {
        self.query = recognition::path(head.target).ends_with("/Query");
    }

    fn response_head(&mut self, head: &ResponseHead<'_>, calls: &mut OpenCalls) {
        status(head.headers, calls);
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        match (field, value) {
            (COLLECTION, Value::Str(name)) if !name.is_empty() => {
                let name = name.decode();
                call.subject = Some(name.clone());
                call.set(Extra::DataSourceId, name);
            }
            // Zero is the server's default.
            (TOP_K | TOP_K_OF_SEARCH | TOP_K_OF_QUERY, value) if value.as_i64() == Some(0) => {}
            (TOP_K, value) => call.read(Extra::RetrievalTopK, value),
            (TOP_K_OF_SEARCH, Value::Number(_)) if !self.query => call.read(Extra::RetrievalTopK, value),
            (TOP_K_OF_QUERY, Value::Number(_)) if self.query => call.read(Extra::RetrievalTopK, value),
            (KEY, Value::Str(key)) => self.is_top_k = key.is("topk") || key.is("limit"),
            (VALUE, Value::Str(text)) if self.is_top_k => {
                if let Ok(most) = text.decode().parse::<i64>() {
                    call.set(Extra::RetrievalTopK, most);
                }
            }
            (FAILED, value) => {
                call.response.is_recognised = true;
                if value.as_i64().is_some_and(|code| code != 0) {
                    call.response.failure.read_code(value);
                    call.response.failure.seen = true;
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        call.response.is_recognised |= call.request.has_evidence() && call.has(Extra::RpcStatusCode);
    }

    fn trailers(&mut self, fields: Headers<'_>, calls: &mut OpenCalls) {
        status(fields, calls);
    }
}
