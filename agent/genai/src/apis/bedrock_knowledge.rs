//! Knowledge bases of AWS Bedrock: Retrieve searches in one, RetrieveAndGenerate also lets a model answer.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead, ResponseHead,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, Wanted, extra, own_presence, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Extra, RequestFacts, RequestField, ResponseField},
    provider,
    route::{Captures, Framing, Route},
};

pub(crate) static RETRIEVE: ApiSpec = ApiSpec {
    decoder: || Box::new(KnowledgeBase),
    is_request: RequestFacts::has_evidence,
    content: Some(read_retrieve),
    ..ApiSpec::new(
        "bedrock-retrieve",
        provider::BEDROCK,
        RETRIEVE_ROUTES,
        &RETRIEVE_REQUEST,
        &RETRIEVE_RESPONSE,
    )
};

const RETRIEVE_ROUTES: &[Route] = &[Route::post("/knowledgebases/{id}/retrieve", "retrieval")];

static RETRIEVE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("retrievalQuery", RequestField::Evidence),
            extra("retrievalConfiguration.vectorSearchConfiguration.numberOfResults", Extra::RetrievalTopK),
        ],
    )])
});

static RETRIEVE_RESPONSE: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", &[response("retrievalResults", ResponseField::Evidence)])]));

/// Takes the knowledge base from the path.
#[derive(Debug)]
struct KnowledgeBase;

impl Decoder for KnowledgeBase {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        if let Some(id) = captures.get("id") {
            calls.current.subject = Some(id.clone());
            calls.current.set(Extra::DataSourceId, id.as_str());
            calls.current.set(Extra::KnowledgeBaseId, id);
        }
    }
}

pub(crate) static ANSWER: ApiSpec = ApiSpec {
    decoder: || Box::new(Answer),
    is_request: RequestFacts::has_evidence,
    content: Some(read_answer),
    ..ApiSpec::new(
        "bedrock-retrieve-and-generate",
        provider::BEDROCK,
        ANSWER_ROUTES,
        &ANSWER_REQUEST,
        &ANSWER_RESPONSE,
    )
};

const ANSWER_ROUTES: &[Route] = &[
    Route::post("/retrieveAndGenerate", "invoke_agent"),
    Route::post("/retrieveAndGenerateStream", "invoke_agent").response(Framing::EventStream),
];

/// Of a knowledge base, or of documents in the request.
const GENERATION: &[Wanted] = &[
    request("modelArn", RequestField::Model),
    extra("generationConfiguration.guardrailConfiguration.guardrailId", Extra::GuardrailId),
    request("generationConfiguration.inferenceConfig.textInferenceConfig.maxTokens", RequestField::MaxTokens),
    request(
        "generationConfiguration.inferenceConfig.textInferenceConfig.temperature",
        RequestField::Temperature,
    ),
    request("generationConfiguration.inferenceConfig.textInferenceConfig.topP", RequestField::TopP),
    request(
        "generationConfiguration.inferenceConfig.textInferenceConfig.stopSequences[]",
        RequestField::Stop,
    ),
];

static ANSWER_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", &[request("input.text", RequestField::Evidence)]),
        ("retrieveAndGenerateConfiguration.knowledgeBaseConfiguration", GENERATION),
        ("retrieveAndGenerateConfiguration.externalSourcesConfiguration", GENERATION),
        (
            "retrieveAndGenerateConfiguration.knowledgeBaseConfiguration",
            &[
                extra("knowledgeBaseId", Extra::KnowledgeBaseId),
                extra(
                    "retrievalConfiguration.vectorSearchConfiguration.numberOfResults",
                    Extra::RetrievalTopK,
                ),
            ],
        ),
    ])
});

static ANSWER_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            extra("sessionId", Extra::ConversationId),
            Wanted::presence("output.text", Field::Response(ResponseField::Evidence)),
            response("citations", ResponseField::Evidence),
            // Events of a stream.
            own_presence("text", TEXT),
            response("citation", ResponseField::Evidence),
        ],
    )])
});

const TEXT: u8 = 0;

/// Takes the session from the header field that a stream has it in, and the pieces of the answer.
#[derive(Debug)]
struct Answer;

impl Decoder for Answer {
    fn response_head(&mut self, head: &ResponseHead<'_>, calls: &mut OpenCalls) {
        let session = head.headers.get("x-amzn-bedrock-knowledge-base-session-id");
        if let Some(session) = session.and_then(|session| str::from_utf8(session).ok()) {
            calls.current.set(Extra::ConversationId, session);
        }
    }

    fn field(&mut self, _field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        if let Value::Str(text) = value {
            calls.current.response.is_recognised = true;
            if !text.is_empty() {
                calls.current.response.content();
            }
        }
    }
}

fn read_answer(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.at("/input/text"));
        return;
    }
    content.text(0, 0, sent.at("/output/text").or_else(|| sent.get("text")));
}

fn read_retrieve(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.query(sent.at("/retrievalQuery/text"));
    }
    for found in sent.list("retrievalResults") {
        let location = found.pointer("/location/s3Location/uri");
        content.document(location, found.get("score"));
    }
}
