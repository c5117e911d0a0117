//! The metrics of one process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use opentelemetry_proto::tonic::{
    common::v1::InstrumentationScope,
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource as OtlpResource,
};
use tokentap_genai::{Measurements, Resource, SpanKind, semconv};

use super::{
    instruments::{Instrument, SCOPES},
    labels::{Label, Labels},
    series::{AllSeries, Example, Span},
};
use crate::{
    config::{MetricsConfig, SemconvMetrics, Temporality},
    otlp::message::otlp_resource,
    record::{RESOURCE_SCHEMA_URL, SCOPE_VERSION},
};

/// What measures the calls of one process.
#[derive(Debug)]
pub(super) struct Observed {
    resource: OtlpResource,
    config: MetricsConfig,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Descriptions of the process, all alike: when nobody else has one, the process has ended and its spans are gone. A weak
    /// reference keeps the address from being used again.
    resources: Vec<Weak<Resource>>,
    series: AllSeries,
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
        let kept = Kept {
            resources: vec![Arc::downgrade(resource)],
            series: AllSeries::new(config.max_series, now),
        };
        Self { resource: otlp_resource(resource), config, kept: Mutex::new(kept) }
    }

    /// Takes in another description of the same process.
    pub(super) fn add_resource(&self, resource: &Arc<Resource>) {
        self.kept().resources.push(Arc::downgrade(resource));
    }

    /// Whether nothing can be measured any more.
    pub(super) fn has_ended(&self) -> bool {
        self.kept().resources.iter().all(|resource| resource.strong_count() == 0)
    }

    /// How many series it has.
    pub(super) fn series(&self) -> u64 {
        self.kept().series.len()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, call: &Call<'_>) {
        let series = &mut self.kept().series;
        let mut recorder = Recorder { series, call, generations: self.config.semconv };
        if call.measurements.mcp_method.is_some() {
            recorder.mcp();
        } else if call.kind == SpanKind::Client {
            recorder.client();
        } else {
            recorder.server();
        }
        recorder.http();
    }

    /// Everything that was measured, in OTLP. `None`: nothing.
    pub(super) fn collect(&self, now: u64) -> Option<ResourceMetrics> {
        let span = Span { delta: self.config.temporality != Temporality::Cumulative, until: now };
        let mut scopes = SCOPES.map(|scope| {
            let (name, schema) = scope.identity();
            ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: name.to_owned(),
                    version: SCOPE_VERSION.to_owned(),
                    ..InstrumentationScope::default()
                }),
                metrics: Vec::new(),
                schema_url: schema.to_owned(),
            }
        });
        for (definition, metric) in self.kept().series.collect(span) {
            scopes[definition.scope as usize].metrics.push(metric);
        }
        let scope_metrics: Vec<_> = scopes.into_iter().filter(|scope| !scope.metrics.is_empty()).collect();
        (!scope_metrics.is_empty()).then(|| ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics,
            schema_url: RESOURCE_SCHEMA_URL.to_owned(),
        })
    }
}

/// Records one call.
struct Recorder<'a, 'c> {
    series: &'a mut AllSeries,
    call: &'a Call<'c>,
    generations: SemconvMetrics,
}

impl<'c> Recorder<'_, 'c> {
    fn client(&mut self) {
        let measured = self.call.measurements;
        let labels = of_operation(measured);
        let timed = with_error(&labels, measured);
        let usage = measured.usage;
        let (has_new, has_old) = (self.generations.has_new(), self.generations.has_old());
        match measured.operation.as_ref() {
            "chat" | "text_completion" | "generate_content" if has_new => {
                let by_tier = timed.with(semconv::OPENAI_RESPONSE_SERVICE_TIER, &measured.service_tier);
                self.duration(Instrument::Duration, &by_tier);
                self.stream([Instrument::TimeToFirstChunk, Instrument::TimePerChunk], &labels);
                self.tokens(&labels);
                for (instrument, tokens) in [
                    (Instrument::OperationInputTokens, usage.input),
                    (Instrument::OperationOutputTokens, usage.output),
                ] {
                    self.series.record(instrument, tokens.unwrap_or(0) as f64, None, &timed);
                }
            }
            "chat" | "text_completion" | "generate_content" => {}
            "embeddings" if has_new => {
                self.duration(Instrument::EmbeddingsDuration, &timed);
                let tokens = usage.input.unwrap_or(0) as f64;
                self.series.record(Instrument::EmbeddingsInputTokens, tokens, None, &timed);
            }
            "embeddings" => {}
            // The older metric is the only one of these.
            _ if !has_old => self.duration(Instrument::OldDuration, &timed),
            _ => {}
        }
        if has_old {
            self.duration(Instrument::OldDuration, &timed);
            self.stream([Instrument::OldTimeToFirstChunk, Instrument::OldTimePerChunk], &labels);
            for (kind, tokens) in [("input", usage.input), ("output", usage.output)] {
                if let Some(tokens) = tokens {
                    let labels = labels.with("gen_ai.token.type", kind);
                    self.series.record(Instrument::OldTokenUsage, tokens as f64, None, &labels);
                }
            }
        }
    }

    /// Counts tokens by modality. What has none, or is not broken down, is `unknown`: the sum of all is what was sent.
    fn tokens(&mut self, labels: &Labels<'c>) {
        const MODALITIES: [&str; 3] = ["text", "image", "audio"];
        let usage = self.call.measurements.usage;
        let unknown = labels.with("gen_ai.token.modality", "unknown");
        for (instrument, total, parts) in [
            (Instrument::InputTokens, usage.input, usage.input_by_modality),
            (Instrument::OutputTokens, usage.output, usage.output_by_modality),
        ] {
            let mut rest = total.unwrap_or(0);
            for (modality, part) in MODALITIES.into_iter().zip(parts) {
                // Parts that are more than the whole are no parts of it.
                if let Some(part) = part.filter(|&part| part > 0 && part <= rest) {
                    self.series.add(instrument, part, &labels.with("gen_ai.token.modality", modality));
                    rest -= part;
                }
            }
            if rest > 0 || total.is_none_or(|total| total == 0) {
                self.series.add(instrument, rest, &unknown);
            }
        }
        for (instrument, tokens) in [
            (Instrument::CacheReadTokens, usage.cache_read),
            (Instrument::CacheWriteTokens, usage.cache_write),
            (Instrument::ReasoningTokens, usage.reasoning),
        ] {
            if let Some(tokens) = tokens {
                self.series.add(instrument, tokens, &unknown);
            }
        }
    }

    fn server(&mut self) {
        let measured = self.call.measurements;
        let labels = of_operation(measured);
        self.duration(Instrument::ServerDuration, &with_error(&labels, measured));
        if let (None, Some(first)) = (&measured.error, measured.time_to_first_token) {
            self.time(Instrument::ServerTimeToFirstToken, first.as_secs_f64(), &labels);
            if let (Some(whole), Some(tokens @ 2..)) = (measured.duration, measured.usage.output) {
                let each = whole.saturating_sub(first).as_secs_f64() / (tokens - 1) as f64;
                self.time(Instrument::ServerTimePerOutputToken, each, &labels);
            }
        }
        let models = [&measured.request_model, &measured.response_model];
        if let Some(model) = models.into_iter().find(|model| !model.is_empty()) {
            let labels = Labels::default().with("model.id", model);
            self.series.add(Instrument::InferCount, 1, &labels);
            self.duration(Instrument::InferDuration, &labels);
        }
        if measured.error.is_some() {
            self.series.add(Instrument::InferErrors, 1, &with_error(&Labels::default(), measured));
        }
    }

    fn mcp(&mut self) {
        let measured = self.call.measurements;
        let is_client = self.call.kind == SpanKind::Client;
        let mut labels = Labels::default();
        labels.add_text(semconv::MCP_METHOD_NAME, measured.mcp_method.as_deref().unwrap_or_default());
        labels.add_text(semconv::TOOL_NAME, measured.tool.as_deref().unwrap_or_default());
        labels.add_text(semconv::OPERATION_NAME, &measured.operation);
        labels.add_text("network.transport", "tcp");
        if is_client {
            add_server(&mut labels, measured);
        }
        let instrument =
            if is_client { Instrument::McpClientDuration } else { Instrument::McpServerDuration };
        self.duration(instrument, &with_error(&labels, measured));
    }

    fn http(&mut self) {
        let measured = self.call.measurements;
        let Some(http) = measured.http else { return };
        let is_client = self.call.kind == SpanKind::Client;
        // What failed in the body of a good response did not fail as HTTP.
        let lowest_error = if is_client { 400 } else { 500 };
        let failed = (http.status >= lowest_error).then(|| http.status.to_string());
        let mut labels = Labels::default();
        labels.add_text("http.request.method", http.method);
        labels.add_text(semconv::NETWORK_PROTOCOL_VERSION, if http.http2 { "2" } else { "1.1" });
        labels.add_text("url.scheme", if http.tls { "https" } else { "http" });
        if http.status != 0 {
            labels.add(semconv::HTTP_RESPONSE_STATUS_CODE, Label::Number(http.status.into()));
        } else if let Some(error) = &measured.error {
            labels.add_text(semconv::ERROR_TYPE, error);
        }
        if is_client {
            add_server(&mut labels, measured);
        }
        let labels = labels.with(semconv::ERROR_TYPE, failed.as_deref().unwrap_or_default());
        let instrument =
            if is_client { Instrument::HttpClientDuration } else { Instrument::HttpServerDuration };
        self.duration(instrument, &labels);
    }

    /// Times of a streamed response: to its first chunk, and between chunks.
    fn stream(&mut self, [to_first, between]: [Instrument; 2], labels: &Labels<'_>) {
        if let Some(time) = self.call.measurements.time_to_first_chunk {
            self.time(to_first, time.as_secs_f64(), labels);
        }
        if let Some(times) = &self.call.measurements.chunks {
            self.series.record_chunks(between, times, labels);
        }
    }

    fn duration(&mut self, instrument: Instrument, labels: &Labels<'_>) {
        if let Some(duration) = self.call.measurements.duration {
            self.time(instrument, duration.as_secs_f64(), labels);
        }
    }

    fn time(&mut self, instrument: Instrument, seconds: f64, labels: &Labels<'_>) {
        self.series.record(instrument, seconds, self.call.example, labels);
    }
}

fn of_operation(measured: &Measurements) -> Labels<'_> {
    let mut labels = Labels::default();
    labels.add_text(semconv::OPERATION_NAME, &measured.operation);
    labels.add_text(semconv::PROVIDER_NAME, &measured.provider);
    labels.add_text(semconv::REQUEST_MODEL, &measured.request_model);
    labels.add_text(semconv::RESPONSE_MODEL, &measured.response_model);
    add_server(&mut labels, measured);
    labels
}

fn add_server<'a>(labels: &mut Labels<'a>, measured: &'a Measurements) {
    if let Some((host, port)) = &measured.server {
        labels.add_text(semconv::SERVER_ADDRESS, host);
        labels.add(semconv::SERVER_PORT, Label::Number((*port).into()));
    }
}

fn with_error<'a>(labels: &Labels<'a>, measured: &'a Measurements) -> Labels<'a> {
    labels.with(semconv::ERROR_TYPE, measured.error.as_deref().unwrap_or_default())
}
