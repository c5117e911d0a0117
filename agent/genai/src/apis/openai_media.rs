//! OpenAI Images (`…/images/…`), Audio (`…/audio/…`) and Moderations (`…/moderations`).

use std::sync::LazyLock;

use tokentap_wire::json::Schema;

use super::openai_chat::FAILURE;
use crate::{
    api::{self, ApiSpec, Field, Kind, Wanted, content, counted, kind, request, response},
    content::{Content, Sent},
    facts::{Count, RequestFacts, RequestField, ResponseField},
    provider,
    route::{Framing, Route},
};

pub(crate) static IMAGES: ApiSpec = ApiSpec {
    kinds: &[
        ("image_generation.partial_image", Kind::Evidence),
        ("image_edit.partial_image", Kind::Evidence),
        ("image_generation.completed", Kind::Last),
        ("image_edit.completed", Kind::Last),
        ("error", Kind::OwnFailure),
    ],
    is_request: RequestFacts::has_evidence,
    output_type: Some("image"),
    content: Some(read_prompt),
    ..ApiSpec::new("openai-images", provider::OPENAI, IMAGE_ROUTES, &IMAGE_REQUEST, &IMAGE_RESPONSE)
};

const IMAGE_ROUTES: &[Route] = &[
    Route::post("/deployments/{model}/images/generations", "generate_content"),
    Route::post("/deployments/{model}/images/edits", "generate_content").request(Framing::Multipart),
    Route::post("/images/generations", "generate_content").likely(),
    Route::post("/images/edits", "generate_content").request(Framing::Multipart).likely(),
    Route::post("/images/variations", "generate_content").request(Framing::Multipart).likely(),
];

static IMAGE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("prompt", RequestField::Evidence),
            request("image", RequestField::Evidence),
            request("model", RequestField::Model),
            request("n", RequestField::Choices),
            request("stream", RequestField::Stream),
        ],
    )])
});

/// The usage object of images and audio.
const USAGE: &[Wanted] = &[
    response("", ResponseField::Usage),
    counted("input_tokens", Count::Input),
    counted("output_tokens", Count::Output),
    counted("total_tokens", Count::Total),
    counted("input_tokens_details.text_tokens", Count::TextInput),
    counted("input_tokens_details.image_tokens", Count::ImageInput),
    counted("input_tokens_details.cached_tokens", Count::CacheRead),
    counted("output_tokens_details.text_tokens", Count::TextOutput),
    counted("output_tokens_details.image_tokens", Count::ImageOutput),
    counted("input_token_details.text_tokens", Count::TextInput),
    counted("input_token_details.audio_tokens", Count::AudioInput),
];

static IMAGE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        (
            "",
            &[
                kind("type"),
                Wanted::presence("data[].b64_json", Field::Response(ResponseField::Evidence)),
                Wanted::presence("data[].url", Field::Response(ResponseField::Evidence)),
                content("b64_json"),
            ],
        ),
        ("usage", USAGE),
    ])
});

pub(crate) static SPEECH: ApiSpec = ApiSpec {
    kinds: &[
        ("speech.audio.delta", Kind::Evidence),
        ("speech.audio.done", Kind::Last),
        ("error", Kind::OwnFailure),
    ],
    output_type: Some("speech"),
    content: Some(read_prompt),
    ..ApiSpec::new("openai-speech", provider::OPENAI, SPEECH_ROUTES, &SPEECH_REQUEST, &SPEECH_RESPONSE)
};

const SPEECH_ROUTES: &[Route] = &[
    Route::post("/deployments/{model}/audio/speech", "generate_content").response(Framing::Opaque),
    Route::post("/audio/speech", "generate_content").response(Framing::Opaque),
];

static SPEECH_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", &[request("input", RequestField::Evidence), request("model", RequestField::Model)])])
});

static SPEECH_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", FAILURE), ("", &[kind("type"), content("audio")]), ("usage", USAGE)])
});

pub(crate) static TRANSCRIPTION: ApiSpec = ApiSpec {
    kinds: &[
        ("transcript.text.delta", Kind::Evidence),
        ("transcript.text.segment", Kind::Evidence),
        ("transcript.text.done", Kind::Last),
        ("error", Kind::OwnFailure),
    ],
    is_request: RequestFacts::has_evidence,
    content: Some(read_transcript),
    ..ApiSpec::new(
        "openai-transcription",
        provider::OPENAI,
        TRANSCRIPTION_ROUTES,
        &TRANSCRIPTION_REQUEST,
        &TRANSCRIPTION_RESPONSE,
    )
};

/// A form in; out comes JSON, events, or text of several kinds.
const fn transcription(path: &'static str) -> Route {
    Route::post(path, "transcription").request(Framing::Multipart).response(Framing::Opaque)
}

const TRANSCRIPTION_ROUTES: &[Route] = &[
    transcription("/deployments/{model}/audio/transcriptions"),
    transcription("/deployments/{model}/audio/translations"),
    transcription("/audio/transcriptions"),
    transcription("/audio/translations"),
];

static TRANSCRIPTION_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("file", RequestField::Evidence),
            request("model", RequestField::Model),
            request("stream", RequestField::Stream),
            request("temperature", RequestField::Temperature),
        ],
    )])
});

static TRANSCRIPTION_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        (
            "",
            &[
                kind("type"),
                Wanted::presence("text", Field::Response(ResponseField::Evidence)),
                content("delta"),
                response("model", ResponseField::Model),
            ],
        ),
        ("usage", USAGE),
    ])
});

pub(crate) static MODERATIONS: ApiSpec = ApiSpec {
    is_request: RequestFacts::has_evidence,
    content: Some(read_prompt),
    ..ApiSpec::new(
        "openai-moderations",
        provider::OPENAI,
        MODERATION_ROUTES,
        &MODERATION_REQUEST,
        &MODERATION_RESPONSE,
    )
};

const MODERATION_ROUTES: &[Route] = &[Route::post("/moderations", "moderation").likely()];

static MODERATION_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", &[request("input", RequestField::Evidence), request("model", RequestField::Model)])])
});

static MODERATION_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        (
            "",
            &[
                response("id", ResponseField::Id),
                response("model", ResponseField::Model),
                response("results[].categories", ResponseField::Evidence),
            ],
        ),
    ])
});

fn read_prompt(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("prompt").or_else(|| sent.get("input")));
    }
}

fn read_transcript(sent: &Sent<'_>, content: &mut Content) {
    match sent.kind() {
        "transcript.text.delta" => content.text(0, 0, sent.get("delta")),
        // The whole of what came in pieces.
        "transcript.text.done" => {}
        _ => content.text(0, 0, sent.get("text")),
    }
}
