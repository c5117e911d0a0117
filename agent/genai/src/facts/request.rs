//! The facts of a request, in terms that all APIs share. Nothing here holds a prompt.

use tokentap_wire::json::{Str, Value};

use super::{count, read};
use crate::IdentityField;

/// Fields of request bodies. Every API has its own paths for them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestField {
    /// What every request of the API has, and few others: an array, an object or text.
    Evidence,
    Model,
    Stream,
    MaxTokens,
    /// The newer name of `MaxTokens`, which takes precedence.
    MaxCompletionTokens,
    Choices,
    Temperature,
    TopP,
    TopK,
    FrequencyPenalty,
    PresencePenalty,
    Seed,
    /// One stop sequence.
    Stop,
    ReasoningLevel,
    /// The name of an output format: `text`, or a kind of JSON.
    FormatName,
    /// An object that describes a JSON output format.
    FormatSchema,
    /// The media type of the output: `text/plain`, or a kind of JSON.
    FormatMediaType,
    /// A kind of output besides text.
    Modality,
    ServiceTier,
    /// What says who made the call.
    Identity(IdentityField),
    /// The role of a message; its first index is the position of the message.
    MessageRole,
    /// The id of the call of a tool whose result a message has.
    ToolResultId,
}

/// The facts of a request. Empty strings and `None`: the request does not have the field.
#[derive(Debug, Default)]
pub(crate) struct RequestFacts {
    pub(crate) model: String,
    /// The path names the model, whatever the body says.
    pub(crate) model_in_path: bool,
    pub(crate) stream: bool,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    pub(crate) choices: Option<i64>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<i64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Vec<String>,
    /// `text` or `json`.
    pub(crate) format: Option<&'static str>,
    /// `speech` or `image`.
    pub(crate) modality: Option<&'static str>,
    pub(crate) reasoning_level: String,
    pub(crate) service_tier: String,
    /// The body has what every request of the API has.
    pub(crate) evidence: bool,
    /// The position of the last message of the model.
    answer: Option<u32>,
    /// Most requests have none of it.
    rare: Option<Box<RareFacts>>,
}

#[derive(Debug, Default)]
struct RareFacts {
    /// The id of the call whose result is the last one among the messages, and the position of its message.
    tool_result: (String, u32),
    /// What the body says of who made the call.
    identity: Vec<(IdentityField, String)>,
}

impl RequestFacts {
    /// Takes a field of the body.
    pub(crate) fn read(&mut self, field: RequestField, indices: &[u32], value: Value<'_>) {
        match field {
            RequestField::Evidence => {
                self.evidence |= match value {
                    Value::Array | Value::Object => true,
                    Value::Str(text) => !text.is_empty(),
                    _ => false,
                };
            }
            RequestField::Model if self.model_in_path => {}
            RequestField::Model => read(value, &mut self.model),
            RequestField::Stream => self.stream = value.as_bool() == Some(true),
            RequestField::MaxTokens => self.max_tokens = count(value),
            RequestField::MaxCompletionTokens => self.max_completion_tokens = count(value),
            RequestField::Choices => self.choices = count(value),
            RequestField::Temperature => self.temperature = value.as_f64(),
            RequestField::TopP => self.top_p = value.as_f64(),
            RequestField::TopK => self.top_k = value.as_i64(),
            RequestField::FrequencyPenalty => self.frequency_penalty = value.as_f64(),
            RequestField::PresencePenalty => self.presence_penalty = value.as_f64(),
            RequestField::Seed => self.seed = value.as_i64(),
            RequestField::Stop => self.push_stop(value.as_str()),
            RequestField::ReasoningLevel => read(value, &mut self.reasoning_level),
            RequestField::FormatName => {
                self.format = match value {
                    Value::Str(name) if name.is("text") => Some("text"),
                    Value::Str(name) if name.is_empty() => None,
                    // Ollama takes a schema in the place of a name.
                    Value::Str(_) | Value::Object => Some("json"),
                    Value::End => self.format,
                    _ => None,
                };
            }
            RequestField::FormatSchema if matches!(value, Value::Object) => self.format = Some("json"),
            RequestField::FormatSchema => {}
            RequestField::FormatMediaType => {
                self.format = value.as_str().map(|name| if name.is("text/plain") { "text" } else { "json" });
            }
            RequestField::Modality => {
                let named =
                    |name: &str| value.as_str().is_some_and(|text| text.decode().eq_ignore_ascii_case(name));
                let known =
                    [("audio", "speech"), ("image", "image")].into_iter().find(|(name, _)| named(name));
                self.modality = known.map(|(_, kind)| kind).or(self.modality);
            }
            RequestField::ServiceTier => read(value, &mut self.service_tier),
            RequestField::Identity(field) => {
                if let Value::Str(text) = value
                    && !text.is_empty()
                {
                    let identity = &mut self.rare.get_or_insert_default().identity;
                    if !identity.iter().any(|(known, _)| *known == field) {
                        identity.push((field, text.decode()));
                    }
                }
            }
            RequestField::MessageRole => {
                if value.as_str().is_some_and(|role| role.is("assistant")) {
                    self.answer = indices.first().copied();
                }
            }
            RequestField::ToolResultId => {
                let (id, position) = &mut self.rare.get_or_insert_default().tool_result;
                read(value, id);
                *position = indices.first().copied().unwrap_or_default();
            }
        }
    }

    /// What the body says of who made the call.
    pub(crate) fn identity(&self) -> &[(IdentityField, String)] {
        self.rare.as_ref().map(|rare| rare.identity.as_slice()).unwrap_or_default()
    }

    /// The id of the call of a tool whose result the model has not answered yet.
    pub(crate) fn tool_result(&self) -> Option<&str> {
        let (id, position) = &self.rare.as_ref()?.tool_result;
        (!id.is_empty() && self.answer.is_none_or(|answer| answer < *position)).then_some(id)
    }

    /// Whether the body has what every request of the API has: for [`crate::api::ApiSpec::is_request`].
    pub(crate) const fn has_evidence(&self) -> bool {
        self.evidence
    }

    /// Whether the body is a request to a model.
    pub(crate) fn is_recognised(&self) -> bool {
        self.evidence && (!self.model.is_empty() || self.max_tokens().is_some())
    }

    pub(crate) fn max_tokens(&self) -> Option<i64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// `gen_ai.output.type`
    pub(crate) fn output_type(&self) -> Option<&'static str> {
        self.modality.or(self.format)
    }

    fn push_stop(&mut self, text: Option<Str<'_>>) {
        const MOST: usize = 16;
        if let Some(text) = text
            && self.stop.len() < MOST
            && !text.is_empty()
        {
            self.stop.push(text.decode());
        }
    }
}
