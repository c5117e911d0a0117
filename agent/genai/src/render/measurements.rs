//! What is measured of a call, from its facts.

use std::time::Duration;

use tokentap_wire::Nanos;

use crate::{
    HttpMeasurements, IncompleteReason, Measurements, TokenUsage,
    context::ExchangeContext,
    facts::{Extra, ExtraValue, RequestFacts, ResponseFacts, Usage},
    outcome::CallError,
    provider,
    reader::Reader,
};

/// What is known of a call besides its bodies.
pub(super) struct Measured<'a> {
    pub(super) exchange: &'a ExchangeContext,
    pub(super) reader: &'a Reader,
    pub(super) operation: &'static str,
    pub(super) provider: &'static str,
    pub(super) error: Option<&'a CallError>,
    pub(super) incomplete: Option<IncompleteReason>,
    pub(super) extras: &'a [(Extra, ExtraValue)],
}

/// `times`: of the first byte of the request and the last byte of the response.
pub(super) fn measurements(
    call: &Measured<'_>,
    request: &RequestFacts,
    response: &mut ResponseFacts,
    times: [Nanos; 2],
) -> Measurements {
    let Measured { exchange, reader, .. } = call;
    let [start, end] = times;
    let since_start = |at: Nanos| Duration::from_nanos(at.0.saturating_sub(start.0));
    let text = |wanted: Extra| {
        call.extras.iter().find_map(|(extra, value)| match value {
            ExtraValue::Text(text) if *extra == wanted => Some(text.clone()),
            _ => None,
        })
    };
    let mcp_method = text(Extra::McpMethod);
    let destination = &exchange.destination;
    Measurements {
        operation: call.operation.into(),
        provider: if reader.api.provider.is_empty() { "" } else { call.provider }.into(),
        request_model: request.model.clone(),
        response_model: response.model.clone(),
        service_tier: if call.provider == provider::OPENAI {
            response.service_tier.clone()
        } else {
            String::new()
        },
        tool: text(Extra::ToolName).filter(|_| mcp_method.is_some()),
        mcp_method,
        server: (!destination.host.is_empty()).then(|| (destination.host.clone(), destination.port)),
        error: call.error.map(|error| error.name.clone()),
        http: (!reader.calls.many).then_some(HttpMeasurements { status: exchange.status, ..exchange.http }),
        duration: (!matches!(call.incomplete, Some(IncompleteReason::AgentStop | IncompleteReason::Stale)))
            .then(|| since_start(end)),
        streamed: response.streamed,
        time_to_first_chunk: response.first_chunk.filter(|_| response.streamed).map(since_start),
        time_to_first_token: response.first_token.filter(|_| response.streamed).map(since_start),
        chunks: response.chunks.take().filter(|_| response.streamed),
        usage: response.usage(reader.api.usage).into(),
    }
}

impl From<Usage> for TokenUsage {
    fn from(usage: Usage) -> Self {
        let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        Self {
            input: count(usage.input),
            output: count(usage.output),
            cache_read: count(usage.cache_read),
            cache_write: count(usage.cache_write),
            reasoning: count(usage.reasoning),
            input_by_modality: [usage.text_input, usage.image_input, usage.audio_input].map(count),
            output_by_modality: [usage.text_output, usage.image_output, usage.audio_output].map(count),
        }
    }
}
