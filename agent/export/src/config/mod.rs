//! Where spans go, and how: checked values. What makes them of flags and variables is the agent's.

mod file;
mod metrics;
mod otlp;
mod sampling;
mod spool;

use std::{fmt, str::FromStr, time::Duration};

pub use file::FileConfig;
pub use metrics::{ExemplarFilter, MetricsConfig, SemconvMetrics, Temporality};
pub use otlp::{Compression, HeaderSetting, OtlpConfig, Protocol, Proxy, Signal, TlsFiles};
pub use sampling::{Sampler, SamplingConfig, SamplingRule};
pub use spool::SpoolConfig;

/// Where spans go.
#[derive(Clone, Debug, Default)]
pub struct ExportConfig {
    /// Each with its own queue.
    pub exporters: Vec<ExporterConfig>,
    /// How spans are queued and gathered.
    pub batch: BatchConfig,
    /// Which spans are exported.
    pub sampling: SamplingConfig,
    /// How calls are measured.
    pub metrics: MetricsConfig,
    /// Where what cannot be delivered yet is kept on disk; `None`: in memory only.
    pub spool: Option<SpoolConfig>,
}

/// One destination.
#[derive(Clone, Debug)]
pub enum ExporterConfig {
    /// An OTLP receiver.
    Otlp(Box<OtlpConfig>),
    /// Standard output.
    Console {
        /// How spans are printed.
        format: ConsoleFormat,
        /// With colours: it is a terminal, and `NO_COLOR` is not set.
        color: bool,
    },
    /// A file of OTLP JSON lines.
    File(FileConfig),
}

impl ExporterConfig {
    /// Kind and destination: the exporter's name in logs and counters.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Otlp(otlp) => otlp.name(),
            Self::Console { format, .. } => format!("console/{format}"),
            Self::File(file) => file.to_string(),
        }
    }

    /// What is sent there.
    pub(crate) fn signal(&self) -> Signal {
        match self {
            Self::Otlp(otlp) => otlp.signal,
            Self::Console { .. } | Self::File(_) => Signal::Traces,
        }
    }

    /// Whether it takes every call, or only those with an event.
    pub(crate) fn takes_all(&self) -> bool {
        self.signal() != Signal::Logs
    }
}

/// What is used, for people; secrets are masked.
impl fmt::Display for ExporterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Otlp(otlp) => otlp.fmt(f),
            Self::Console { .. } | Self::File(_) => f.write_str(&self.name()),
        }
    }
}

/// How spans are queued and gathered, for every exporter alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// Longest that a span waits for company. The specification's default is 5 s; ours keeps the promise
    /// that a span is handed on within a second of its call's end.
    pub schedule_delay: Duration,
    /// Most spans that wait.
    pub max_queue_size: usize,
    /// Most bytes that wait, as [`crate::Record::size`] counts them.
    pub max_queue_bytes: usize,
    /// Most spans in a batch.
    pub max_export_batch_size: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            schedule_delay: Duration::from_millis(500),
            max_queue_size: 2048,
            max_queue_bytes: 8 << 20,
            max_export_batch_size: 512,
        }
    }
}

/// How spans are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleFormat {
    /// A line for people.
    Pretty,
    /// A JSON object per line.
    Json,
}

impl FromStr for ConsoleFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err("use pretty or json".into()),
        }
    }
}

impl fmt::Display for ConsoleFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        })
    }
}
