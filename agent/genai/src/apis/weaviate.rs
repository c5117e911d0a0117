//! Searches in Weaviate by GraphQL. Over gRPC: `vector_stores_grpc.rs`.

use std::sync::LazyLock;

use serde_json::Value as Json;
use tokentap_wire::json::{Schema, Value};

use crate::{
    api::{self, ApiSpec, Field, own, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Extra, ResponseField},
    provider,
    route::{Confidence, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    decoder: || Box::<Weaviate>::default(),
    is_request: |_| false,
    content: Some(read_content),
    ..ApiSpec::new("weaviate", provider::WEAVIATE, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[Route::post("/v1/graphql", "retrieval").confidence(Confidence::ByBodies)];

const QUERY: u8 = 0;
const FOUND: u8 = 1;

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| api::schema(&[("", &[own("query", QUERY)])]));

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", &[own("data.Get", FOUND), response("errors[]", ResponseField::Error)])])
});

/// Every GraphQL server may have such a path: a search of Weaviate asks for what only Weaviate has.
#[derive(Debug, Default)]
struct Weaviate {
    searched: bool,
    found: bool,
}

impl Decoder for Weaviate {
    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        match (field, value) {
            (QUERY, Value::Str(query)) => {
                let query = query.decode();
                let Some(search) = Search::of(&query) else { return };
                self.searched = true;
                calls.current.subject = Some(search.collection.to_owned());
                calls.current.set(Extra::DataSourceId, search.collection);
                if let Some(limit) = search.limit {
                    calls.current.set(Extra::RetrievalTopK, limit);
                }
            }
            (FOUND, Value::Object | Value::Null) => self.found = true,
            _ => {}
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        response.is_recognised |= self.searched && (self.found || response.failure.seen);
    }
}

/// A search in a GraphQL query.
struct Search<'q> {
    collection: &'q str,
    limit: Option<i64>,
    /// What stands inside of the operator, up to the end of the query.
    operator: &'q str,
}

impl<'q> Search<'q> {
    /// `{ Get { Article(limit: 3, nearText: {concepts: ["x"]}) { … } } }`, of which the end may be missing.
    fn of(query: &'q str) -> Option<Self> {
        const OPERATORS: [&str; 8] =
            ["nearText", "nearVector", "nearObject", "nearImage", "nearAudio", "nearVideo", "hybrid", "bm25"];
        let get = query.match_indices("Get").find_map(|(at, get)| {
            let inside = query[at + get.len()..].trim_start().strip_prefix('{')?;
            (!query[..at].ends_with(is_name)).then_some(inside)
        });
        let get = get?.trim_start();
        let end = get.find(|c| !is_name(c)).filter(|&end| end > 0)?;
        let (collection, rest) = get.split_at(end);
        let arguments = rest.trim_start().strip_prefix('(')?;
        let operator = OPERATORS.iter().find_map(|name| argument(arguments, name)?.strip_prefix('{'))?;
        let limit = argument(arguments, "limit").and_then(|value| {
            let digits = value.find(|c: char| !c.is_ascii_digit())?;
            value[..digits].parse().ok()
        });
        Some(Self { collection, limit, operator })
    }

    /// The text that is searched for.
    fn text(&self) -> Option<Json> {
        let value = argument(self.operator, "query").or_else(|| argument(self.operator, "concepts"))?;
        let value = value.strip_prefix('[').unwrap_or(value).trim_start();
        let mut texts = serde_json::Deserializer::from_str(value).into_iter::<Json>();
        texts.next()?.ok().filter(Json::is_string)
    }
}

const fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The value of an argument, and what follows it: not of one inside of another's value.
fn argument<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.checked_sub(1)?,
            b':' if depth == 0 => {
                let before = text[..at].trim_end().strip_suffix(name);
                if before.is_some_and(|before| !before.ends_with(is_name)) {
                    return Some(text[at + 1..].trim_start());
                }
            }
            _ => {}
        }
    }
    None
}

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        let search = sent.get("query").and_then(Json::as_str).and_then(Search::of);
        content.query(search.and_then(|search| search.text()).as_ref());
        return;
    }
    let collections = sent.at("/data/Get").and_then(Json::as_object).into_iter().flatten();
    for found in collections.filter_map(|(_, found)| found.as_array()).flatten() {
        let extra = &found["_additional"];
        let score = ["certainty", "score"].into_iter().find_map(|name| extra.get(name));
        if extra.get("id").is_some() || score.is_some() {
            content.document(extra.get("id"), score);
        }
    }
}
