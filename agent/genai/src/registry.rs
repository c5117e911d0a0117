//! Every API, one line each.

use std::{collections::HashMap, fmt, sync::LazyLock};

use crate::{api::ApiSpec, apis, route::Route};

/// Tried in this order where several claim a request.
static APIS: [&ApiSpec; 20] = [
    &apis::openai_chat::API,
    &apis::anthropic::API,
    &apis::openai_responses::API,
    &apis::openai_completions::API,
    &apis::openai_embeddings::API,
    &apis::openai_media::IMAGES,
    &apis::openai_media::SPEECH,
    &apis::openai_media::TRANSCRIPTION,
    &apis::openai_media::MODERATIONS,
    &apis::openai_assistants::ASSISTANTS,
    &apis::openai_assistants::RUNS,
    &apis::openai_assistants::SEARCH,
    &apis::gemini::GENERATE,
    &apis::gemini::EMBED,
    &apis::gemini::PREDICT,
    &apis::gemini_interactions::API,
    &apis::bedrock::CONVERSE,
    &apis::bedrock::INVOKE,
    &apis::bedrock::AGENT,
    &apis::bedrock::RETRIEVE,
];

/// An LLM API.
#[derive(Clone, Copy)]
pub struct Api(&'static ApiSpec);

impl Api {
    /// Every API.
    pub fn all() -> impl Iterator<Item = Self> {
        APIS.iter().map(|spec| Self(spec))
    }

    /// Its name in options: `openai-chat`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    pub(crate) const fn spec(self) -> &'static ApiSpec {
        self.0
    }

    /// The APIs and their routes that a path (without query) may belong to. What this costs does not grow with the
    /// number of APIs.
    pub(crate) fn claiming(path: &str) -> impl Iterator<Item = (Self, &'static Route)> {
        let (before, last) = path.rsplit_once('/').unwrap_or_default();
        let parent = before.rsplit_once('/').map_or(before, |(_, parent)| parent);
        let verb = last.rfind(':').map_or("", |colon| &last[colon..]);
        let find = |key: &str, parent: bool| {
            let found = if key.is_empty() { None } else { ROUTES[usize::from(parent)].get(key) };
            found.map(Vec::as_slice).unwrap_or_default()
        };
        [find(last, false), find(verb, false), find(parent, true)].into_iter().flatten().copied()
    }
}

/// Routes by [`Route::key`]: those of the last segment, and those of the one before.
static ROUTES: LazyLock<[HashMap<&'static str, Vec<(Api, &'static Route)>>; 2]> = LazyLock::new(|| {
    let mut routes = [HashMap::new(), HashMap::new()];
    for api in Api::all() {
        for route in api.0.routes {
            let (key, parent) = route.key();
            let same_key: &mut Vec<_> = routes[usize::from(parent)].entry(key).or_default();
            same_key.push((api, route));
        }
    }
    routes
});

impl PartialEq for Api {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Api {}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_routes_have_keys() {
        let names: HashSet<&str> = Api::all().map(Api::name).collect();
        assert_eq!(names.len(), APIS.len());
        for api in Api::all() {
            // Compiles the tables, which panics where a path is wrong.
            let _ = (&**api.0.request, &**api.0.response);
            for route in api.0.routes {
                assert!(!route.key().0.is_empty(), "{api:?} {}", route.path);
                assert!(route.path.starts_with('/'), "{api:?} {}", route.path);
            }
        }
    }
}
