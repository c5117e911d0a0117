//! Which spans are exported, and where they and the metrics go.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokentap_export::config::{ConsoleFormat, HeaderSetting, Protocol, SamplingRule, SemconvMetrics};

/// Which spans are exported. Metrics count every call.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub struct Sampling {
    /// Decide by this sampler: always_on, always_off, traceidratio, or one of them with parentbased_ before it, which
    /// follows the trace context of the request. Default: parentbased_always_on.
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// The share of traces that a sampler with a ratio keeps: 0 to 1 (the default).
    #[arg(long, value_name = "RATIO")]
    pub sampler_arg: Option<f64>,
    /// Keep a share of some calls, as ratio=0.1,provider=openai,service=web-*; the keys are ratio, service, provider,
    /// operation, error (true or false), min_duration and min_tokens. May be repeated: the first that matches decides,
    /// where no parent does.
    #[arg(long, value_name = "RULE")]
    pub sampling_rule: Vec<SamplingRule>,
    /// Keep every call that failed or is incomplete, unless its parent was dropped.
    #[arg(long)]
    pub keep_errors: bool,
    /// Keep calls without a parent whose request has `true` in this header, and mark them with sampling.forced; `none`
    /// turns it off.
    #[arg(long, value_name = "HEADER", default_value = "x-force-trace")]
    pub force_header: String,
}

/// Where spans go. Several at once are fine; none of them waits for another.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Export")]
pub struct Export {
    /// An OTLP receiver of spans and metrics, as http://collector:4317 or unix:///run/otel.sock; may be repeated.
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Vec<String>,
    /// grpc, http/protobuf or http/json. Once for all endpoints, or once for each in the same order. Default: grpc for
    /// port 4317, else http/protobuf.
    #[arg(long, value_name = "PROTOCOL")]
    pub otlp_protocol: Vec<Protocol>,
    /// A header for every OTLP request, as authorization=Bearer…; may be repeated.
    #[arg(long, value_name = "K=V")]
    pub otlp_header: Vec<HeaderSetting>,
    /// Print spans on standard output: `pretty` (when no format is given), a line for people, or `json`, an
    /// object per line.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "pretty")]
    pub console: Option<ConsoleFormat>,
    /// Append spans, and events with content, to this file as OTLP JSON lines, as the Collector's otlpjsonfile receiver reads
    /// them. At 100 MiB, or after a day, it is renamed; ten such files are kept.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Which generations of the conventions' metrics of clients are exported: `both`, `new` (gen_ai.client.inference.*) or
    /// `old` (gen_ai.client.token.usage and gen_ai.client.operation.*).
    #[arg(long, value_name = "WHICH", default_value = "both")]
    pub semconv_metrics: SemconvMetrics,
    /// Time between two exports of metrics, as 10s.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub metric_interval: Option<Duration>,
    /// Longest time to deliver what is in flight when the agent is stopped, as 20s.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    #[arg(env = "TOKENTAP_DRAIN_TIMEOUT")]
    pub drain_timeout: Duration,
}
