//! What an API is: data, and the little code that only it needs.

use std::{fmt, sync::LazyLock};

use tokentap_wire::{
    json::{Schema, WantedField},
    protobuf,
};

use crate::{
    IdentityField,
    content::ReadContent,
    decoder::{Decoder, tables_only},
    facts::{Count, Extra, RequestFacts, RequestField, ResponseField, UsageRule},
    route::Route,
};

/// An API.
pub(crate) struct ApiSpec {
    /// Its name in options and in the table of APIs.
    pub(crate) name: &'static str,
    /// `gen_ai.provider.name` where neither the host nor the response tells the provider.
    pub(crate) provider: &'static str,
    /// `openai.api.type`
    pub(crate) openai_api_type: Option<&'static str>,
    /// The longer templates first.
    pub(crate) routes: &'static [Route],
    /// Fields of request bodies.
    pub(crate) request: &'static LazyLock<Schema<Field>>,
    /// Fields of response bodies, and of the events of streamed ones.
    pub(crate) response: &'static LazyLock<Schema<Field>>,
    /// The same for messages of Protocol Buffers, of requests and responses.
    pub(crate) protobuf: Option<[&'static LazyLock<protobuf::Schema<Field>>; 2]>,
    /// What the values of [`Field::Kind`] say.
    pub(crate) kinds: &'static [(&'static str, Kind)],
    pub(crate) usage: UsageRule,
    /// Code for what the tables cannot say.
    pub(crate) decoder: fn() -> Box<dyn Decoder>,
    /// An exchange whose target is not known may be a call of this API: its bodies tell.
    pub(crate) by_bodies: bool,
    /// Whether a request body alone shows that the exchange is a call.
    pub(crate) is_request: fn(&RequestFacts) -> bool,
    /// `gen_ai.output.type` of all calls.
    pub(crate) output_type: Option<&'static str>,
    /// A request may name the id of an earlier response.
    pub(crate) chained: bool,
    /// Reads prompts and completions, where they are captured.
    pub(crate) content: Option<ReadContent>,
}

impl ApiSpec {
    /// An API of which tables say everything, with one usage object in the conventions' terms.
    pub(crate) const fn new(
        name: &'static str,
        provider: &'static str,
        routes: &'static [Route],
        request: &'static LazyLock<Schema<Field>>,
        response: &'static LazyLock<Schema<Field>>,
    ) -> Self {
        Self {
            name,
            provider,
            openai_api_type: None,
            routes,
            request,
            response,
            protobuf: None,
            kinds: &[],
            usage: UsageRule::PLAIN,
            decoder: tables_only,
            by_bodies: false,
            is_request: RequestFacts::is_recognised,
            output_type: None,
            chained: false,
            content: None,
        }
    }
}

/// What a value in a body means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    Request(RequestField),
    Response(ResponseField),
    /// As [`Self::Response`], of a value that all events of a stream repeat.
    Once(ResponseField),
    /// A fact that few calls have.
    Extra(Extra),
    /// The kind of a document or event: [`ApiSpec::kinds`] says what it means.
    Kind,
    /// An item of an array of documents: begins and ends as an event does.
    Item,
    /// A field that only the decoder of the API knows.
    Own(u8),
}

/// What the kind of a document or event says of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only this API has such documents.
    Evidence,
    /// As [`Self::Evidence`]; there is one choice, number 0.
    OneChoice,
    /// Others have such documents, too; in one of this API there is one choice, number 0.
    Choice,
    /// The last event of a stream.
    Last,
    /// The call failed: many APIs have such documents.
    Failure,
    /// The call failed: no other API answers a request of this one so.
    OwnFailure,
}

pub(crate) type Wanted = WantedField<Field>;

/// Compiles tables, each mounted at the path before it.
pub(crate) fn schema(tables: &[(&'static str, &[Wanted])]) -> Schema<Field> {
    let errors = tables
        .iter()
        .flat_map(|(prefix, wants)| wants.iter().map(move |want| (*prefix, want)))
        .filter(|(_, want)| matches!(want.field, Field::Response(ResponseField::Error)))
        .map(|(prefix, want)| ([prefix, want.path], ERROR_TEXT));
    let tables = tables.iter().map(|(prefix, wants)| ([*prefix, ""], *wants));
    Schema::mounted(errors.chain(tables)).once(|field| matches!(field, Field::Once(_) | Field::Kind))
}

/// What error objects have where the tables of an API do not say more.
const ERROR_TEXT: &[Wanted] = &[
    Wanted::presence("message", Field::Response(ResponseField::ErrorText)),
    Wanted::presence("detail", Field::Response(ResponseField::ErrorText)),
    Wanted::presence("details", Field::Response(ResponseField::ErrorText)),
    Wanted::presence("status", Field::Response(ResponseField::ErrorText)),
];

/// What bodies of many APIs say of who made the call.
pub(crate) const IDENTITY: &[Wanted] = &[
    request("user", RequestField::Identity(IdentityField::User)),
    request("safety_identifier", RequestField::Identity(IdentityField::SafetyIdentifier)),
    request("prompt_cache_key", RequestField::Identity(IdentityField::PromptCacheKey)),
    request("metadata.user_id", RequestField::Identity(IdentityField::MetadataUserId)),
    request("metadata.session_id", RequestField::Identity(IdentityField::MetadataSessionId)),
];

pub(crate) const fn request(path: &'static str, field: RequestField) -> Wanted {
    Wanted::new(path, Field::Request(field))
}

pub(crate) const fn response(path: &'static str, field: ResponseField) -> Wanted {
    Wanted::new(path, Field::Response(field))
}

/// A value that all events of a stream repeat.
pub(crate) const fn once(path: &'static str, field: ResponseField) -> Wanted {
    Wanted::new(path, Field::Once(field))
}

/// Generated content, of which nothing is kept.
pub(crate) const fn content(path: &'static str) -> Wanted {
    Wanted::presence(path, Field::Response(ResponseField::Content))
}

pub(crate) const fn counted(path: &'static str, count: Count) -> Wanted {
    response(path, ResponseField::Count(count))
}

pub(crate) const fn extra(path: &'static str, extra: Extra) -> Wanted {
    Wanted::new(path, Field::Extra(extra))
}

pub(crate) const fn kind(path: &'static str) -> Wanted {
    Wanted::new(path, Field::Kind)
}

pub(crate) const fn own(path: &'static str, field: u8) -> Wanted {
    Wanted::new(path, Field::Own(field))
}

/// Of a string only whether it is empty.
pub(crate) const fn own_presence(path: &'static str, field: u8) -> Wanted {
    Wanted::presence(path, Field::Own(field))
}

impl fmt::Debug for ApiSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
