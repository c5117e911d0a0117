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
    /// What stands in the operator, up to the end of the query.
    operator: &'q str,
}

impl<'q> Search<'q> {
    /// `{ Get { Article(limit: 3, nearText: {concepts: ["x"]}) { … } } }`
    fn of(query: &'q str) -> Option<Self> {
        const OPERATORS: [&str; 8] =
            ["nearText", "nearVector", "nearObject", "nearImage", "nearAudio", "nearVideo", "hybrid", "bm25"];
        let (_, after) = query.split_once("Get")?;
        let after = after.trim_start().strip_prefix('{')?.trim_start();
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|&end| end > 0)?;
        let (collection, rest) = after.split_at(end);
        let arguments = rest.trim_start().strip_prefix('(')?;
        let operators = OPERATORS.iter().filter_map(|name| argument(arguments, name));
        let operator = operators.min_by_key(|rest| arguments.len() - rest.len())?;
        operator.starts_with('{').then_some(())?;
        let limit = argument(arguments, "limit").and_then(|rest| {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..digits].parse().ok()
        });
        Some(Self { collection, limit, operator })
    }

    /// The text that is searched for.
    fn text(&self) -> Option<Json> {
        let inside = &self.operator[..self.operator.find('}').unwrap_or(self.operator.len())];
        let value = argument(inside, "query").or_else(|| argument(inside, "concepts"))?;
        let value = value.strip_prefix('[').unwrap_or(value).trim_start();
        let mut texts = serde_json::Deserializer::from_str(value).into_iter::<Json>();
        texts.next()?.ok().filter(Json::is_string)
    }
}

/// What stands behind the name of an argument and its colon.
fn argument<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.match_indices(name).find_map(|(at, _)| {
        let begins = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let value = text[at + name.len()..].trim_start().strip_prefix(':')?;
        begins.then(|| value.trim_start())
    })
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
