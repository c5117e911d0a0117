//! OpenAI Images (`…/images/…`), Audio (`…/audio/…`) and Moderations (`…/moderations`).
//!
//! Services that edit images, transcribe or moderate have these paths, too. A request with a model is a call. Without one,
//! which some servers do not ask for, the response has to show the API.

use std::sync::LazyLock;

use tokentap_wire::json::{Schema, Value};

use super::openai_chat::FAILURE;
use crate::{
    api::{self, ApiSpec, Field, Kind, Wanted, content, counted, kind, own, own_presence, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, RequestField, ResponseField},
    provider,
    route::{Framing, Route},
};

pub(crate) static IMAGES: ApiSpec = ApiSpec {
    kinds: &[
        ("image_generation.partial_image", Kind::Evidence),
        ("image_edit.partial_image", Kind::Evidence),
        ("image_generation.completed", Kind::Last),
        ("image_edit.completed", Kind::Last),
        ("error", Kind::Failure),
    ],
    decoder: || Box::<Images>::default(),
    output_type: Some("image"),
    content: Some(read_prompt),
    ..ApiSpec::new("openai-images", provider::OPENAI, IMAGE_ROUTES, &IMAGE_REQUEST, &IMAGE_RESPONSE)
};

const IMAGE_ROUTES: &[Route] = &[
    Route::post("/deployments/{model}/images/generations", "generate_content").likely(),
    Route::post("/deployments/{model}/images/edits", "generate_content").request(Framing::Multipart).likely(),
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

const CREATED: u8 = 0;
const URL: u8 = 1;

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
                own("created", CREATED),
                own_presence("data[].url", URL),
                content("b64_json"),
            ],
        ),
        ("usage", USAGE),
    ])
});

/// Many services answer with URLs: one is an image of this API only if the time of its creation, or the request, says so.
#[derive(Debug, Default)]
struct Images {
    created: bool,
    url: bool,
}

impl Decoder for Images {
    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, _calls: &mut OpenCalls) {
        match (field, value) {
            (CREATED, value) => self.created |= matches!(value, Value::Number(_)),
            (_, value) => self.url |= matches!(value, Value::Str(_)),
        }
    }

    fn end(&mut self, _whole: bool, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        call.response.is_recognised |= self.url && (self.created || call.request.is_recognised());
    }
}

pub(crate) static SPEECH: ApiSpec = ApiSpec {
    kinds: &[
        ("speech.audio.delta", Kind::Evidence),
        ("speech.audio.done", Kind::Last),
        ("error", Kind::Failure),
    ],
    output_type: Some("speech"),
    content: Some(read_prompt),
    ..ApiSpec::new("openai-speech", provider::OPENAI, SPEECH_ROUTES, &SPEECH_REQUEST, &SPEECH_RESPONSE)
};

const SPEECH_ROUTES: &[Route] = &[
    Route::post("/deployments/{model}/audio/speech", "generate_content").response(Framing::Opaque).likely(),
    Route::post("/audio/speech", "generate_content").response(Framing::Opaque).likely(),
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
        // Mistral's.
        ("transcription.language", Kind::Evidence),
        ("transcription.text.delta", Kind::Evidence),
        ("transcription.segment", Kind::Evidence),
        ("transcription.done", Kind::Last),
        ("error", Kind::Failure),
    ],
    decoder: || Box::<Transcription>::default(),
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
    Route::post(path, "transcription").request(Framing::Multipart).response(Framing::Opaque).likely()
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
            // Mistral.
            request("file_id", RequestField::Evidence),
            request("file_url", RequestField::Evidence),
            request("model", RequestField::Model),
            request("stream", RequestField::Stream),
            request("temperature", RequestField::Temperature),
        ],
    )])
});

const TEXT: u8 = 0;

const MISTRAL_USAGE: &[Wanted] = &[
    counted("prompt_tokens", Count::Input),
    counted("completion_tokens", Count::Output),
    counted("prompt_tokens_details.cached_tokens", Count::CacheRead),
    counted("prompt_tokens_details.audio_tokens", Count::AudioInput),
];

static TRANSCRIPTION_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        (
            "",
            &[
                kind("type"),
                own_presence("text", TEXT),
                content("delta"),
                response("model", ResponseField::Model),
            ],
        ),
        ("usage", USAGE),
        ("usage", MISTRAL_USAGE),
    ])
});

/// A text is a transcript only if it answers a request with something to transcribe: chats answer with texts, too.
#[derive(Debug, Default)]
struct Transcription {
    text: bool,
}

impl Decoder for Transcription {
    fn field(&mut self, _field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let Value::Str(text) = value else { return };
        self.text = true;
        // In Mistral's events, a piece of the transcript.
        if calls.current.response.streamed && !text.is_empty() {
            calls.current.response.content();
        }
    }

    fn end(&mut self, _whole: bool, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        let named = !call.request.model.is_empty() && !call.request.model_in_path;
        let asked = call.request.has_evidence() || named;
        call.response.is_recognised |= self.text && asked;
    }
}

pub(crate) static MODERATIONS: ApiSpec = ApiSpec {
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
        "transcript.text.done" | "transcription.done" | "transcription.segment" => {}
        _ => content.text(0, 0, sent.get("text")),
    }
}
