//! OpenAI Completions (`POST …/completions`), and fill-in-the-middle at Mistral.

use std::sync::LazyLock;

use tokentap_wire::json::Schema;

use super::openai_chat::{FAILURE, OpenAiChat, SAMPLING, SOFTWARE, TOP, USAGE};
use crate::{
    api::{self, ApiSpec, Field, Kind, content, request},
    content::{Content, Sent, choice_index},
    facts::{Reasoning, RequestField, UsageRule},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    kinds: &[
        ("text_completion", Kind::Evidence),
        // Some servers say so of completions, too.
        ("chat.completion.chunk", Kind::Evidence),
        ("error", Kind::Failure),
    ],
    usage: UsageRule { reasoning: Reasoning::ByTotal, ..UsageRule::PLAIN },
    decoder: || Box::<OpenAiChat>::default(),
    content: Some(read_content),
    ..ApiSpec::new("openai-completions", provider::OPENAI, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/deployments/{model}/completions", "text_completion").likely(),
    Route::post("/v1/fim/completions", "text_completion"),
    Route::post("/completions", "text_completion").likely(),
];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", api::IDENTITY), ("", SAMPLING), ("", &[request("prompt", RequestField::Evidence)])])
});

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", TOP),
        ("choices[]", &[content("text"), content("delta.content")]),
        ("", SOFTWARE),
        ("", FAILURE),
        ("usage", USAGE),
        ("choices[].usage", USAGE),
    ])
});

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("prompt"));
    }
    for (position, choice) in (0..).zip(sent.list("choices")) {
        let index = choice_index(choice, position);
        // Where a middle is filled in, the answer has the form of a chat.
        let places = ["/text", "/message/content", "/delta/content"].into_iter();
        let text = places.filter_map(|place| choice.pointer(place)).find(|text| text.is_string());
        content.text(index, 0, text);
    }
}
