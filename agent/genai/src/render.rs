//! From the facts of a call to its span: the OpenTelemetry GenAI dialect. Nothing else knows an attribute's name.

mod dialects;
mod measurements;
mod relations;
pub mod semconv;

use std::{borrow::Cow, time::Duration};

use tokentap_wire::Nanos;

use serde_json::Value as Json;

pub use dialects::Dialect;

use measurements::Measured;

use crate::{
    Attribute, Destination, IncompleteReason, Span, SpanKind, SpanStatus, Value,
    api::ApiSpec,
    content,
    context::ExchangeContext,
    facts::{Extra, ExtraValue, Facts, RequestFacts, ResponseFacts, UsageRule},
    outcome::Outcome,
    provider,
    reader::Reader,
};

/// The span of a call that has ended. `end`: the last byte of its exchange.
pub(crate) fn span(
    exchange: &ExchangeContext,
    reader: &Reader,
    mut facts: Facts,
    outcome: Outcome,
    end: Nanos,
) -> Span {
    let Outcome { incomplete, error } = outcome;
    let (api, operation) = (reader.api, facts.operation.unwrap_or(reader.operation));
    let start = facts.start.unwrap_or(exchange.start);
    let extras = facts.take_extras();
    let own_name = facts.name.take();
    let relations = relations::relations(&mut facts, &extras, api.chained);
    let content = facts.content.take().zip(exchange.options.content.as_ref());
    // Of an agent that has no name, its span has none either: the model is not what is created or invoked.
    let names_agent = matches!(operation, "create_agent" | "invoke_agent");
    let agent = extras.iter().find_map(|(extra, value)| match (extra, value) {
        (Extra::AgentName, ExtraValue::Text(name)) if names_agent => Some(name.clone()),
        _ => None,
    });
    let subject = facts.subject.take().or(agent);
    let parent = facts.parent.take().or_else(|| exchange.parent.clone());
    let end = facts.end.unwrap_or(end).max(start);
    let Facts { request, response, .. } = &mut facts;
    let status =
        error.as_ref().map_or(SpanStatus::Unset, |error| SpanStatus::Error(error.description.clone()));
    let mut attributes = Attributes(Vec::with_capacity(32));
    let name = match (own_name, subject) {
        (Some(name), _) => name,
        (None, Some(subject)) => format!("{operation} {subject}"),
        (None, None) if request.model.is_empty() || names_agent => operation.to_owned(),
        (None, None) => format!("{operation} {}", request.model),
    };
    let provider = exchange.provider.or(response.server).unwrap_or(api.provider);
    // Of the Model Context Protocol, only a call of a tool is an operation, and nobody is its provider.
    if !operation.is_empty() {
        attributes.put(semconv::OPERATION_NAME, operation);
    }
    if !api.provider.is_empty() {
        attributes.put(semconv::PROVIDER_NAME, provider);
    }
    let measurements = measurements::measurements(
        &Measured {
            exchange,
            reader,
            operation,
            provider,
            error: error.as_ref(),
            incomplete,
            extras: &extras,
        },
        request,
        response,
        [start, end],
    );
    // Where the call failed, the error is the finish reason of a choice without one.
    let unknown = error.as_ref().filter(|_| exchange.status < 400 && !exchange.response_gap).map(|_| "error");
    attributes.provider(provider, api, request, response);
    let requested_choices = request.choices.and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
    if api.openai_api_type == Some("responses") {
        // Tools that the provider runs have names only.
        response.tool_calls.only_with_ids();
    }
    let content = content.map(|(content, options)| {
        let finish_reason =
            |index| response.finish_reason_of(index).or(unknown).unwrap_or_default().to_owned();
        (content::render(*content, options, &finish_reason), options.destination)
    });
    attributes.request(request, response.streamed, api.output_type);
    // Choices that a gap has swallowed would be missing in the list.
    let choices_known = !response.gapped || response.count_choices() >= requested_choices;
    attributes.response(response, api.usage, unknown, choices_known);
    attributes.times(response, start);
    for (extra, value) in extras {
        attributes.put(key(extra), value);
    }
    if let Some(identity) = &exchange.identity {
        let [session, user] = identity.resolve(request.identity());
        attributes.put_some(semconv::SESSION_ID, session);
        attributes.put_some(semconv::USER_ID, user);
    }
    if !exchange.destination.host.is_empty() {
        attributes.put(semconv::SERVER_ADDRESS, exchange.destination.host.clone());
        attributes.put(semconv::SERVER_PORT, i64::from(exchange.destination.port));
    }
    if exchange.status != 0 {
        attributes.put(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(exchange.status));
    }
    for (key, id) in &exchange.response_ids {
        attributes.put(key, vec![id.clone()]);
    }
    if let Some(error) = error {
        attributes.put(semconv::ERROR_TYPE, error.name);
    }
    let forced = exchange.forced && parent.is_none();
    if forced {
        attributes.put(semconv::SAMPLING_FORCED, true);
    }
    if let Some(reason) = incomplete {
        attributes.put(semconv::INCOMPLETE, true);
        attributes.put(semconv::INCOMPLETE_REASON, reason.text());
        if reason == IncompleteReason::AgentStop {
            attributes.put(semconv::SPAN_LEAKED, true);
        }
    }
    let event_content = attributes.content(content, &exchange.options.dialects);
    let kind = match exchange.kind {
        SpanKind::Server if facts.runs_tool => SpanKind::Internal,
        kind => kind,
    };
    Span {
        name,
        kind,
        forced,
        parent,
        start,
        end,
        status,
        attributes: attributes.0,
        incomplete,
        event_content,
        relations,
        measurements,
    }
}

struct Attributes(Vec<Attribute>);

impl Attributes {
    fn put(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.push(Attribute { key: Cow::Borrowed(key), value: value.into() });
    }

    fn put_some(&mut self, key: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn put_text(&mut self, key: &'static str, text: &mut String) {
        if !text.is_empty() {
            self.put(key, std::mem::take(text));
        }
    }

    /// Attributes that the conventions of one provider add.
    fn provider(
        &mut self,
        provider: &str,
        api: &ApiSpec,
        request: &mut RequestFacts,
        response: &mut ResponseFacts,
    ) {
        match provider {
            provider::OPENAI => {
                self.put_some(semconv::OPENAI_API_TYPE, api.openai_api_type);
                if request.service_tier != "auto" {
                    self.put_text(semconv::OPENAI_REQUEST_SERVICE_TIER, &mut request.service_tier);
                }
                self.put_text(semconv::OPENAI_RESPONSE_SERVICE_TIER, &mut response.service_tier);
                self.put_text(semconv::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, &mut response.fingerprint);
            }
            provider::AZURE_INFERENCE => {
                self.put(semconv::AZURE_RESOURCE_PROVIDER_NAMESPACE, "Microsoft.CognitiveServices");
            }
            _ => {}
        }
    }

    fn request(&mut self, request: &mut RequestFacts, streamed: bool, output: Option<&'static str>) {
        self.put_text(semconv::REQUEST_MODEL, &mut request.model);
        self.put_some(semconv::REQUEST_MAX_TOKENS, request.max_tokens());
        self.put_some(semconv::REQUEST_CHOICE_COUNT, request.choices.filter(|&n| n != 1));
        self.put_some(semconv::REQUEST_TEMPERATURE, request.temperature);
        self.put_some(semconv::REQUEST_TOP_P, request.top_p);
        self.put_some(semconv::REQUEST_TOP_K, request.top_k);
        self.put_some(semconv::REQUEST_FREQUENCY_PENALTY, request.frequency_penalty);
        self.put_some(semconv::REQUEST_PRESENCE_PENALTY, request.presence_penalty);
        self.put_some(semconv::REQUEST_SEED, request.seed);
        if !request.stop.is_empty() {
            self.put(semconv::REQUEST_STOP_SEQUENCES, std::mem::take(&mut request.stop));
        }
        if request.stream || streamed {
            self.put(semconv::REQUEST_STREAM, true);
        }
        self.put_text(semconv::REQUEST_REASONING_LEVEL, &mut request.reasoning_level);
        self.put_some(semconv::OUTPUT_TYPE, request.output_type().or(output));
    }

    fn response(
        &mut self,
        response: &mut ResponseFacts,
        rule: UsageRule,
        unknown: Option<&str>,
        choices_known: bool,
    ) {
        self.put_text(semconv::RESPONSE_ID, &mut response.id);
        self.put_text(semconv::RESPONSE_MODEL, &mut response.model);
        let reasons = response.finish_reasons(unknown);
        if !reasons.is_empty() && choices_known {
            self.put(semconv::RESPONSE_FINISH_REASONS, reasons);
        }
        let [ids, names] = response.tool_calls.take();
        for (key, list) in [(semconv::TOOL_CALL_IDS, ids), (semconv::TOOL_CALL_NAMES, names)] {
            if !list.is_empty() {
                self.put(key, list);
            }
        }
        let usage = response.usage(rule);
        for (key, tokens) in [
            (semconv::USAGE_INPUT_TOKENS, usage.input),
            (semconv::USAGE_OUTPUT_TOKENS, usage.output),
            (semconv::USAGE_CACHE_READ_INPUT_TOKENS, usage.cache_read),
            (semconv::USAGE_CACHE_WRITE_INPUT_TOKENS, usage.cache_write),
            (semconv::USAGE_REASONING_OUTPUT_TOKENS, usage.reasoning),
        ] {
            self.put_some(key, tokens);
        }
        // Servers send zeros for modalities that the call did not use.
        for (key, tokens) in [
            (semconv::USAGE_TEXT_INPUT_TOKENS, usage.text_input),
            (semconv::USAGE_TEXT_OUTPUT_TOKENS, usage.text_output),
            (semconv::USAGE_IMAGE_INPUT_TOKENS, usage.image_input),
            (semconv::USAGE_IMAGE_OUTPUT_TOKENS, usage.image_output),
            (semconv::USAGE_AUDIO_INPUT_TOKENS, usage.audio_input),
            (semconv::USAGE_AUDIO_OUTPUT_TOKENS, usage.audio_output),
        ] {
            self.put_some(key, tokens.filter(|&n| n > 0));
        }
    }

    /// Puts content on the span where it belongs there, and says all in the dialects that are asked for; gives what
    /// belongs on the event.
    fn content(
        &mut self,
        content: Option<(Vec<(&'static str, Json)>, Destination)>,
        dialects: &[Dialect],
    ) -> Vec<(&'static str, Json)> {
        let (content, destination) = content.unwrap_or((Vec::new(), Destination::Span));
        let on_span = if destination.has_span() { content.as_slice() } else { &[] };
        for (key, json) in on_span {
            // Text is no JSON on a span.
            self.put(key, json.as_str().map_or_else(|| json.to_string(), str::to_owned));
        }
        dialects::translate(&mut self.0, on_span, dialects);
        if destination.has_event() { content } else { Vec::new() }
    }

    fn times(&mut self, response: &ResponseFacts, start: Nanos) {
        let since_start = |at: Nanos| Duration::from_nanos(at.0.saturating_sub(start.0)).as_secs_f64();
        if response.streamed {
            self.put_some(semconv::RESPONSE_TIME_TO_FIRST_CHUNK, response.first_chunk.map(since_start));
            self.put_some(semconv::TIME_TO_FIRST_TOKEN, response.first_token.map(since_start));
        }
    }
}

/// What the conventions call a fact that few calls have.
const fn key(extra: Extra) -> &'static str {
    match extra {
        Extra::AgentId => semconv::AGENT_ID,
        Extra::AgentName => semconv::AGENT_NAME,
        Extra::ConversationId => semconv::CONVERSATION_ID,
        Extra::DataSourceId => semconv::DATA_SOURCE_ID,
        Extra::EmbeddingsDimensions => semconv::EMBEDDINGS_DIMENSION_COUNT,
        Extra::EncodingFormats => semconv::REQUEST_ENCODING_FORMATS,
        Extra::GuardrailId => semconv::AWS_BEDROCK_GUARDRAIL_ID,
        Extra::JsonRpcRequestId => semconv::JSONRPC_REQUEST_ID,
        Extra::KnowledgeBaseId => semconv::AWS_BEDROCK_KNOWLEDGE_BASE_ID,
        Extra::McpMethod => semconv::MCP_METHOD_NAME,
        Extra::McpProtocolVersion => semconv::MCP_PROTOCOL_VERSION,
        Extra::McpResourceUri => semconv::MCP_RESOURCE_URI,
        Extra::McpSessionId => semconv::MCP_SESSION_ID,
        Extra::NetworkProtocol => semconv::NETWORK_PROTOCOL_NAME,
        Extra::NetworkProtocolVersion => semconv::NETWORK_PROTOCOL_VERSION,
        Extra::PreviousResponseId => semconv::REQUEST_PREVIOUS_RESPONSE_ID,
        Extra::PromptName => semconv::PROMPT_NAME,
        Extra::PromptVersion => semconv::PROMPT_VERSION,
        Extra::ResponseStatus => semconv::RESPONSE_STATUS,
        Extra::RetrievalTopK => semconv::RETRIEVAL_TOP_K,
        Extra::RpcStatusCode => semconv::RPC_RESPONSE_STATUS_CODE,
        Extra::StreamCursor => semconv::REQUEST_STREAM_CURSOR,
        Extra::ToolName => semconv::TOOL_NAME,
    }
}

impl From<ExtraValue> for Value {
    fn from(value: ExtraValue) -> Self {
        match value {
            ExtraValue::Text(text) => text.into(),
            ExtraValue::Int(value) => value.into(),
            ExtraValue::Bool(value) => value.into(),
            ExtraValue::List(list) => list.into(),
        }
    }
}
