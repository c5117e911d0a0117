//! The measurements of one process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::InstrumentationScope,
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics},
};
use opentelemetry_sdk::metrics::data::ResourceMetrics as SdkMetrics;
use tokentap_genai::{Measurements, Resource, SpanKind, TokenUsage, semconv};

use super::{
    chunks::{self, ChunkHistograms},
    exemplars::{Example, Exemplars},
    instruments::{Instrument, Instruments, Scope},
    provider::Provider,
};
use crate::{
    config::{MetricsConfig, Temporality},
    record::SCOPE_VERSION,
};

/// The metrics of times between chunks, of the newer and the older generation.
pub(super) const CHUNK_METRICS: [(&str, Scope); 2] = [
    ("gen_ai.client.inference.time_per_output_chunk", Scope::GenAi),
    ("gen_ai.client.operation.time_per_output_chunk", Scope::OldGenAi),
];

/// What measures the calls of one process.
#[derive(Debug)]
pub(super) struct Observed {
    provider: Provider,
    instruments: Instruments,
    config: MetricsConfig,
    kept: Mutex<Kept>,
}

/// What the SDK does not keep for us.
#[derive(Debug)]
struct Kept {
    /// Descriptions of the process, all alike: when none is left, the process has ended and its spans are gone.
    resources: Vec<Weak<Resource>>,
    chunks: ChunkHistograms,
    exemplars: Exemplars,
}

/// What one call is measured by besides itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) kind: SpanKind,
    pub(super) measurements: &'a Measurements,
    /// Its span, where the call may be an example of what is measured.
    pub(super) example: Option<Example>,
}

impl Observed {
    pub(super) fn new(resource: &Arc<Resource>, config: MetricsConfig, now: u64) -> Self {
        let provider = Provider::new(resource, &config);
        let instruments = Instruments::new(&provider.sdk);
        let kept = Kept {
            resources: vec![Arc::downgrade(resource)],
            chunks: ChunkHistograms::new(config.max_series, now),
            exemplars: Exemplars::default(),
        };
        Self { provider, instruments, config, kept: Mutex::new(kept) }
    }

    /// Takes in another description of the same process.
    pub(super) fn add_resource(&self, resource: &Arc<Resource>) {
        self.kept().resources.push(Arc::downgrade(resource));
    }

    /// Whether nothing can be measured any more.
    pub(super) fn has_ended(&self) -> bool {
        let mut kept = self.kept();
        kept.resources.retain(|resource| resource.strong_count() > 0);
        kept.resources.is_empty()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, call: &Call<'_>) {
        let measured = call.measurements;
        if measured.mcp_method.is_some() {
            self.mcp(call);
        } else if call.kind == SpanKind::Client {
            self.client(call);
        } else {
            self.server(call);
        }
        self.http(call);
    }

    fn client(&self, call: &Call<'_>) {
        let measured = call.measurements;
        let attributes = operation_attributes(measured);
        let timed = with_error(&attributes, measured);
        let usage = measured.usage;
        let generations = self.config.semconv;
        match measured.operation.as_ref() {
            "chat" | "text_completion" | "generate_content" => {
                if generations.has_new() {
                    let mut of_duration = timed.clone();
                    push_text(
                        &mut of_duration,
                        semconv::OPENAI_RESPONSE_SERVICE_TIER,
                        &measured.service_tier,
                    );
                    self.duration(Instrument::Duration, call, &of_duration);
                    if let Some(time) = measured.time_to_first_chunk {
                        self.time(Instrument::TimeToFirstChunk, time.as_secs_f64(), call, &attributes);
                    }
                    self.tokens(&usage, &attributes);
                    self.instruments.number(
                        Instrument::OperationInputTokens,
                        usage.input.unwrap_or(0),
                        &timed,
                    );
                    self.instruments.number(
                        Instrument::OperationOutputTokens,
                        usage.output.unwrap_or(0),
                        &timed,
                    );
                }
                if let Some(times) = &measured.chunks {
                    self.kept().chunks.record(times, &attributes);
                }
            }
            "embeddings" if generations.has_new() => {
                self.duration(Instrument::EmbeddingsDuration, call, &timed);
                self.instruments.number(Instrument::EmbeddingsInputTokens, usage.input.unwrap_or(0), &timed);
            }
            "embeddings" => {}
            // The older metric is the only one of these.
            _ if !generations.has_old() => self.duration(Instrument::OldDuration, call, &timed),
            _ => {}
        }
        if generations.has_old() {
            self.duration(Instrument::OldDuration, call, &timed);
            if let Some(time) = measured.time_to_first_chunk {
                self.time(Instrument::OldTimeToFirstChunk, time.as_secs_f64(), call, &attributes);
            }
            for (kind, tokens) in [("input", usage.input), ("output", usage.output)] {
                if let Some(tokens) = tokens {
                    let mut attributes = attributes.clone();
                    attributes.push(KeyValue::new("gen_ai.token.type", kind));
                    self.instruments.number(Instrument::OldTokenUsage, tokens, &attributes);
                }
            }
        }
    }

    /// Counts tokens by modality. What has none, or is not broken down, is `unknown`: the sum of all is what was sent.
    fn tokens(&self, usage: &TokenUsage, attributes: &[KeyValue]) {
        const MODALITIES: [&str; 3] = ["text", "image", "audio"];
        let add = |instrument, tokens, modality: &'static str| {
            let mut attributes = attributes.to_vec();
            attributes.push(KeyValue::new("gen_ai.token.modality", modality));
            self.instruments.number(instrument, tokens, &attributes);
        };
        for (instrument, total, parts) in [
            (Instrument::InputTokens, usage.input, usage.input_by_modality),
            (Instrument::OutputTokens, usage.output, usage.output_by_modality),
        ] {
            let mut rest = total.unwrap_or(0);
            for (modality, part) in MODALITIES.into_iter().zip(parts) {
                // Parts that are more than the whole are no parts of it.
                if let Some(part) = part.filter(|&part| part > 0 && part <= rest) {
                    add(instrument, part, modality);
                    rest -= part;
                }
            }
            if rest > 0 || total.is_none_or(|total| total == 0) {
                add(instrument, rest, "unknown");
            }
        }
        for (instrument, tokens) in [
            (Instrument::CacheReadTokens, usage.cache_read),
            (Instrument::CacheWriteTokens, usage.cache_write),
            (Instrument::ReasoningTokens, usage.reasoning),
        ] {
            if let Some(tokens) = tokens {
                add(instrument, tokens, "unknown");
            }
        }
    }

    fn server(&self, call: &Call<'_>) {
        let measured = call.measurements;
        let attributes = operation_attributes(measured);
        let timed = with_error(&attributes, measured);
        self.duration(Instrument::ServerDuration, call, &timed);
        if let (None, Some(first)) = (&measured.error, measured.time_to_first_token) {
            self.time(Instrument::ServerTimeToFirstToken, first.as_secs_f64(), call, &attributes);
            if let (Some(whole), Some(tokens @ 2..)) = (measured.duration, measured.usage.output) {
                let each = whole.saturating_sub(first).as_secs_f64() / (tokens - 1) as f64;
                self.time(Instrument::ServerTimePerOutputToken, each, call, &attributes);
            }
        }
        let model =
            [&measured.request_model, &measured.response_model].into_iter().find(|model| !model.is_empty());
        if let Some(model) = model {
            let model = [KeyValue::new("model.id", model.clone())];
            self.instruments.number(Instrument::InferCount, 1, &model);
            self.duration(Instrument::InferDuration, call, &model);
        }
        if let Some(error) = &measured.error {
            self.instruments.number(
                Instrument::InferErrors,
                1,
                &[KeyValue::new(semconv::ERROR_TYPE, error.clone())],
            );
        }
    }

    fn mcp(&self, call: &Call<'_>) {
        let measured = call.measurements;
        let is_client = call.kind == SpanKind::Client;
        let mut attributes = Vec::with_capacity(8);
        push_text(
            &mut attributes,
            semconv::MCP_METHOD_NAME,
            measured.mcp_method.as_deref().unwrap_or_default(),
        );
        push_text(&mut attributes, semconv::TOOL_NAME, measured.tool.as_deref().unwrap_or_default());
        push_text(&mut attributes, semconv::OPERATION_NAME, &measured.operation);
        attributes.push(KeyValue::new("network.transport", "tcp"));
        if is_client {
            push_server(&mut attributes, measured);
        }
        let attributes = with_error(&attributes, measured);
        let instrument =
            if is_client { Instrument::McpClientDuration } else { Instrument::McpServerDuration };
        self.duration(instrument, call, &attributes);
    }

    fn http(&self, call: &Call<'_>) {
        let measured = call.measurements;
        let Some(http) = measured.http else { return };
        let is_client = call.kind == SpanKind::Client;
        let mut attributes = vec![
            KeyValue::new("http.request.method", http.method),
            KeyValue::new(semconv::NETWORK_PROTOCOL_VERSION, if http.http2 { "2" } else { "1.1" }),
            KeyValue::new("url.scheme", if http.tls { "https" } else { "http" }),
        ];
        if http.status != 0 {
            attributes.push(KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(http.status)));
        }
        // What failed in the body of a good response did not fail as HTTP.
        let lowest_error = if is_client { 400 } else { 500 };
        if http.status >= lowest_error {
            attributes.push(KeyValue::new(semconv::ERROR_TYPE, http.status.to_string()));
        } else if let Some(error) = measured.error.as_ref().filter(|_| http.status == 0) {
            attributes.push(KeyValue::new(semconv::ERROR_TYPE, error.clone()));
        }
        if is_client {
            push_server(&mut attributes, measured);
        }
        let instrument =
            if is_client { Instrument::HttpClientDuration } else { Instrument::HttpServerDuration };
        self.duration(instrument, call, &attributes);
    }

    fn duration(&self, instrument: Instrument, call: &Call<'_>, attributes: &[KeyValue]) {
        if let Some(duration) = call.measurements.duration {
            self.time(instrument, duration.as_secs_f64(), call, attributes);
        }
    }

    fn time(&self, instrument: Instrument, seconds: f64, call: &Call<'_>, attributes: &[KeyValue]) {
        self.instruments.seconds(instrument, seconds, attributes);
        if let Some(example) = call.example {
            self.kept().exemplars.add(instrument, attributes, seconds, example, self.config.max_series);
        }
    }

    /// Everything that was measured, in OTLP. `None`: nothing.
    pub(super) fn collect(&self, now: u64) -> Option<ResourceMetrics> {
        let mut metrics = SdkMetrics::default();
        if let Err(why) = self.provider.collect(&mut metrics) {
            tracing::warn!("cannot collect metrics: {why}");
            return None;
        }
        let request = ExportMetricsServiceRequest::from(&metrics);
        let mut metrics = request.resource_metrics.into_iter().next()?;
        let delta = self.config.temporality != Temporality::Cumulative;
        let generations = self.config.semconv;
        let mut kept = self.kept();
        let Kept { chunks, exemplars, .. } = &mut *kept;
        let points = chunks.collect(delta, now);
        let wanted = [generations.has_new(), generations.has_old()];
        for ((name, scope), wanted) in CHUNK_METRICS.into_iter().zip(wanted) {
            if wanted && !points.is_empty() {
                put(&mut metrics, scope, chunks::metric(name, delta, points.clone()));
            }
        }
        exemplars.attach(&mut metrics);
        metrics.scope_metrics.iter().any(|scope| !scope.metrics.is_empty()).then_some(metrics)
    }
}

/// Puts a metric into a scope of a Resource.
fn put(metrics: &mut ResourceMetrics, scope: Scope, metric: Metric) {
    let (name, schema) = scope.identity();
    let is_it = |known: &&mut ScopeMetrics| known.scope.as_ref().is_some_and(|scope| scope.name == name);
    match metrics.scope_metrics.iter_mut().find(is_it) {
        Some(known) => known.metrics.push(metric),
        None => metrics.scope_metrics.push(ScopeMetrics {
            scope: Some(InstrumentationScope {
                name: name.to_owned(),
                version: SCOPE_VERSION.to_owned(),
                ..InstrumentationScope::default()
            }),
            metrics: vec![metric],
            schema_url: schema.to_owned(),
        }),
    }
}

fn operation_attributes(measured: &Measurements) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(8);
    push_text(&mut attributes, semconv::OPERATION_NAME, &measured.operation);
    push_text(&mut attributes, semconv::PROVIDER_NAME, &measured.provider);
    push_text(&mut attributes, semconv::REQUEST_MODEL, &measured.request_model);
    push_text(&mut attributes, semconv::RESPONSE_MODEL, &measured.response_model);
    push_server(&mut attributes, measured);
    attributes
}

fn push_text(attributes: &mut Vec<KeyValue>, key: &'static str, text: &str) {
    if !text.is_empty() {
        attributes.push(KeyValue::new(key, text.to_owned()));
    }
}

fn push_server(attributes: &mut Vec<KeyValue>, measured: &Measurements) {
    if let Some((host, port)) = &measured.server {
        attributes.push(KeyValue::new(semconv::SERVER_ADDRESS, host.clone()));
        attributes.push(KeyValue::new(semconv::SERVER_PORT, i64::from(*port)));
    }
}

fn with_error(attributes: &[KeyValue], measured: &Measurements) -> Vec<KeyValue> {
    let mut attributes = attributes.to_vec();
    if let Some(error) = &measured.error {
        attributes.push(KeyValue::new(semconv::ERROR_TYPE, error.clone()));
    }
    attributes
}
