//! The command line. It only says what was typed; [`crate::config`] makes a validated configuration of it
//! and of the environment.

mod content;
mod export;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, builder::NonEmptyStringValueParser};
use tokentap_genai::{Dialect, IdentitySource, Include, Propagator, Rule};

use crate::{kernel::RingSize, targets::Glob};
pub(crate) use content::SWITCHES;
pub use content::{CaptureContent, Hide};
pub use export::{Export, Sampling};

const EXAMPLES: &str = "\
Examples:
  Observe one process and its children, print its LLM calls here:
      sudo tokentap run --pid 4242 --console
  Observe every python, also those that start later; send spans to a collector:
      sudo tokentap run --exe 'python*' --otlp-endpoint http://collector:4317
  Two collectors and one JSON line per call on standard output:
      sudo tokentap run --all --otlp-endpoint http://a:4317 --otlp-endpoint https://b --console=json
  Record the traffic of a process, replay it elsewhere without root:
      sudo tokentap record --pid 4242 --out bug.tape
      tokentap replay bug.tape --console

Exit status: 0 everything was delivered, 1 failure, 2 wrong usage, 3 something was lost (the last log lines say what).";

const ENVIRONMENT: &str = "\
Environment (a flag wins over OTEL_EXPORTER_OTLP_TRACES_*, that over OTEL_EXPORTER_OTLP_*):
  OTEL_EXPORTER_OTLP_ENDPOINT     base URL of a collector; /v1/traces is appended for HTTP
  OTEL_EXPORTER_OTLP_PROTOCOL     grpc, http/protobuf or http/json (default: grpc on port 4317, else http/protobuf)
  OTEL_EXPORTER_OTLP_HEADERS      k=v,k=v with percent-encoded values
  OTEL_EXPORTER_OTLP_TIMEOUT      milliseconds for one attempt to send a batch (10000)
  OTEL_EXPORTER_OTLP_COMPRESSION  gzip, zstd or none (none)
  OTEL_EXPORTER_OTLP_CERTIFICATE  PEM file of the authorities to trust, instead of the system's;
                                  _CLIENT_CERTIFICATE and _CLIENT_KEY for mutual TLS
  OTEL_EXPORTER_OTLP_INSECURE     true: an endpoint without a scheme is http, not https
  OTEL_EXPORTER_OTLP_LOGS_*       the same for events with content, which have an endpoint of their own (/v1/logs)
  OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT
                                  as --capture-content: NO_CONTENT, SPAN_ONLY, EVENT_ONLY or SPAN_AND_EVENT
  FI_HIDE_INPUTS and others       true: as --hide
  OTEL_LOGS_EXPORTER              none: no events
  OTEL_TRACES_EXPORTER            otlp, console, none, or a list
  OTEL_METRICS_EXPORTER           otlp or none; by default metrics go to every base URL that spans go to
  OTEL_EXPORTER_OTLP_METRICS_*    the same for metrics (/v1/metrics)
  OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE
                                  cumulative, delta or lowmemory (cumulative)
  OTEL_METRIC_EXPORT_INTERVAL     milliseconds between two exports of metrics (10000)
  OTEL_METRICS_EXEMPLAR_FILTER    trace_based, always_on or always_off (trace_based)
  OTEL_TRACES_SAMPLER             as --sampler; OTEL_TRACES_SAMPLER_ARG: as --sampler-arg
  OTEL_PROPAGATORS                as --propagators; baggage is read where --session-from or --user-from say so
  OTEL_BSP_SCHEDULE_DELAY         longest time in milliseconds that a span waits for its batch to fill (500)
  OTEL_BSP_MAX_QUEUE_SIZE         spans waiting per exporter (2048)
  OTEL_BSP_MAX_EXPORT_BATCH_SIZE  spans per batch (512)
  OTEL_BSP_EXPORT_TIMEOUT         upper bound of OTEL_EXPORTER_OTLP_TIMEOUT (30000)
  OTEL_LOG_LEVEL                  as --log-level
  TOKENTAP_CONFIG                 as --config
  OTEL_EXPORTER_ENDPOINT, OTEL_EXPORTER_PROTOCOL, OTEL_METRIC_EXPORTER_ENDPOINT, OTEL_SAMPLING_RATE,
  OTEL_TRACE_EXPORT_INTERVAL_MS, OTEL_METRIC_EXPORT_INTERVAL_MS, OTEL_METRICS_ENABLED
                                  other names for the above, where those are not set
  OTEL_SDK_DISABLED               true: do nothing
  HTTPS_PROXY, HTTP_PROXY,        proxy to collectors, by the scheme of the endpoint; NO_PROXY: hosts that are reached
  ALL_PROXY, NO_PROXY             without one. Also in lower case
  NO_COLOR                        no colours";

/// Observes the LLM calls of running processes and exports one OpenTelemetry GenAI span per call.
///
/// Nothing in the observed processes is changed: probes on their TLS libraries and sockets copy plaintext
/// out, the calls are rebuilt from it.
#[derive(Debug, Parser)]
#[command(name = "tokentap", version, after_help = EXAMPLES, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Level of the log on standard error: off, error, warn, info, debug or trace. Content, headers and keys are
    /// never logged.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<tracing::level_filters::LevelFilter>,
    /// Read settings from this YAML file: flags written down, as `exe: ['python*']`. What the command line or the environment
    /// says wins. Default: what TOKENTAP_CONFIG names, else /etc/tokentap/config.yaml where it is there.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach to processes and export their LLM calls until SIGTERM or Ctrl-C.
    #[command(after_help = EXAMPLES, after_long_help = long_help())]
    Run(Run),
    /// Attach to processes and write their traffic to a tape file, with secrets and content redacted.
    Record(Record),
    /// Process a tape as if it were live traffic. Needs no root.
    Replay(Replay),
    /// Check a configuration file, or print what may be in one.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// `tokentap config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting with where it comes from, secrets masked, or all that is wrong.
    Check {
        /// The file. Default: what TOKENTAP_CONFIG names, else /etc/tokentap/config.yaml.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Print a JSON schema of the file.
    Schema,
}

/// `tokentap run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Which processes.
    #[command(flatten)]
    pub select: Select,
    /// Which calls.
    #[command(flatten)]
    pub rules: Rules,
    /// What of prompts and completions.
    #[command(flatten)]
    pub content: Content,
    /// Which spans.
    #[command(flatten)]
    pub sampling: Sampling,
    /// Where to.
    #[command(flatten)]
    pub export: Export,
    /// Answer about the agent itself under this address: /metrics for Prometheus, /healthz, /readyz. `none`: nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464", help_heading = "Export")]
    pub admin_address: AdminAddress,
}

/// An address to listen on, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminAddress(pub Option<SocketAddr>);

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let port_only = text.strip_prefix(':').map(|port| format!("0.0.0.0:{port}"));
        let text = port_only.as_deref().unwrap_or(text);
        // Names are not looked up: this is an address of this machine.
        let text = text
            .strip_prefix("localhost:")
            .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse()
            .map(|address| Self(Some(address)))
            .map_err(|_| "write it as 127.0.0.1:9464, [::]:9464, or none".into())
    }
}

/// `tokentap record`.
#[derive(Debug, Args)]
pub struct Record {
    /// The tape to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Keep header values, prompts, completions and tool arguments in the tape. The file then holds
    /// credentials: keep it as you keep those.
    #[arg(long)]
    pub with_content: bool,
    /// Which processes.
    #[command(flatten)]
    pub select: Select,
}

/// `tokentap replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The tape to read.
    #[arg(value_name = "TAPE")]
    pub tape: PathBuf,
    /// Which calls.
    #[command(flatten)]
    pub rules: Rules,
    /// What of prompts and completions.
    #[command(flatten)]
    pub content: Content,
    /// Which spans.
    #[command(flatten)]
    pub sampling: Sampling,
    /// Where to.
    #[command(flatten)]
    pub export: Export,
}

/// Which processes are observed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Processes")]
#[command(group(ArgGroup::new("processes").required(true).multiple(true).args(["pids", "exes", "all"])))]
pub struct Select {
    /// A process id; may be repeated.
    #[arg(long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub pids: Vec<u32>,
    /// Every process, now or later, whose executable matches: the file name, or the whole path when the
    /// pattern has a slash. `*` and `?` match as in a shell; may be repeated.
    #[arg(long = "exe", value_name = "GLOB")]
    pub exes: Vec<Glob>,
    /// Every process on the machine.
    #[arg(long, conflicts_with_all = ["pids", "exes"])]
    pub all: bool,
    /// Do not observe children of the selected processes.
    #[arg(long)]
    pub no_follow: bool,
    /// Size of the ring buffer between kernel and agent: a power of two of at least 4K, as 64K or 16MiB.
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub ring_size: RingSize,
    /// `service.name` of every observed process, instead of the one that the process itself states.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub service_name: Option<String>,
}

/// Which requests count as LLM calls beyond what is recognised without being told. In patterns, `*` stands for
/// any run of characters.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Calls")]
pub struct Rules {
    /// Treat requests to this host as LLM calls, as llm.example.com, *.corp:8080/ask or, when the API cannot
    /// be told from the bodies, openai-chat=llm.example.com; may be repeated.
    #[arg(long, value_name = "[API=]HOST[:PORT][/PATH]")]
    pub host_include: Vec<Include>,
    /// Never report requests to this host; may be repeated, wins over the includes.
    #[arg(long, value_name = "HOST[:PORT][/PATH]")]
    pub host_exclude: Vec<Rule>,
    /// Treat requests to this path, at any host, as LLM calls; may be repeated.
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub path_include: Vec<Rule>,
    /// Never report requests to this path, at any host; may be repeated, wins over the includes.
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub path_exclude: Vec<Rule>,
    /// Write attributes in these dialects: otel (the default), openinference, openllmetry or fi; a list or repeated.
    #[arg(long, value_name = "DIALECT", value_delimiter = ',')]
    pub dialect: Vec<Dialect>,
    /// Take `session.id` from here, as header:x-session-id, baggage:session.id or body:metadata.session_id; may be repeated,
    /// the first that is there counts.
    #[arg(long, value_name = "SOURCE")]
    pub session_from: Vec<IdentitySource>,
    /// Take `user.id` from here, as body:user, body:metadata.user_id, baggage:user.id or header:x-user; may be repeated, the
    /// first that is there counts.
    #[arg(long, value_name = "SOURCE")]
    pub user_from: Vec<IdentitySource>,
    /// Read the trace context of requests from these formats of headers, the first with a valid one counts: tracecontext (the
    /// default), b3, b3multi, datadog, jaeger or derisk; a list or repeated.
    #[arg(long, value_name = "FORMAT", value_delimiter = ',')]
    pub propagators: Vec<Propagator>,
    /// Report a call as incomplete after this time without traffic, as 10m.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub stale_after: Duration,
}

/// Prompts, completions, tools, their arguments and results. None of it is exported unless you ask for it here.
#[derive(Debug, Args)]
#[command(next_help_heading = "Content")]
pub struct Content {
    /// Export content: on spans as JSON text (`span`), on the event gen_ai.client.inference.operation.details, which goes
    /// to OTLP receivers of logs (`event`), on both (`both`), or not at all (`none`, the default).
    #[arg(long, value_name = "WHERE")]
    pub capture_content: Option<CaptureContent>,
    /// Truncate each attribute of content to this many bytes; it stays valid JSON.
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    pub content_max_bytes: usize,
    /// Leave out or mask inputs, outputs, input-messages, output-messages, input-text, output-text or input-images; may
    /// be repeated, or a list.
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub hide: Vec<Hide>,
    /// Mask what this regular expression matches in content, besides keys, tokens, passwords, e-mail addresses, cards,
    /// SSNs, telephone numbers and IP addresses; may be repeated.
    #[arg(long, value_name = "REGEX")]
    pub redact: Vec<String>,
    /// Export content as it is, with the secrets that are in it.
    #[arg(long, conflicts_with = "redact")]
    pub no_redaction: bool,
}

fn path(text: &str) -> Result<Rule, String> {
    if text.starts_with(['/', '*']) && !text.contains('?') {
        Ok(Rule { host: String::new(), path: text.to_owned() })
    } else {
        Err("write it as /v1/chat or */chat, without a query".into())
    }
}

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{ENVIRONMENT}")
}
