//! How calls are measured.

use std::{fmt, str::FromStr, time::Duration};

/// How metrics are collected, for every receiver of them alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Time between two collections.
    pub interval: Duration,
    /// Whether numbers count from the start of the process, or from the last collection.
    pub temporality: Temporality,
    /// Which generation of the conventions' metrics.
    pub semconv: SemconvMetrics,
    /// Most series of one instrument of one process; what is beyond them goes to the overflow series.
    pub max_series: usize,
    /// Which measurements leave an example.
    pub exemplars: ExemplarFilter,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            temporality: Temporality::Cumulative,
            semconv: SemconvMetrics::Both,
            max_series: 200,
            exemplars: ExemplarFilter::TraceBased,
        }
    }
}

/// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// Everything counts from the start.
    #[default]
    Cumulative,
    /// Everything that the specification lets count from the last collection does.
    Delta,
    /// As delta: we have no asynchronous counters.
    LowMemory,
}

impl FromStr for Temporality {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.to_ascii_lowercase().as_str() {
            "cumulative" => Ok(Self::Cumulative),
            "delta" => Ok(Self::Delta),
            "lowmemory" => Ok(Self::LowMemory),
            _ => Err("use cumulative, delta or lowmemory"),
        }
    }
}

impl fmt::Display for Temporality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cumulative => "cumulative",
            Self::Delta => "delta",
            Self::LowMemory => "lowmemory",
        })
    }
}

/// Generations of the conventions' client metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SemconvMetrics {
    /// Those of today and those that boards know.
    #[default]
    Both,
    /// `gen_ai.client.inference.*` only.
    New,
    /// `gen_ai.client.token.usage` and `gen_ai.client.operation.*` only.
    Old,
}

impl SemconvMetrics {
    /// Whether metrics of the newer generation are made.
    #[must_use]
    pub const fn has_new(self) -> bool {
        matches!(self, Self::Both | Self::New)
    }

    /// Whether metrics of the older generation are made.
    #[must_use]
    pub const fn has_old(self) -> bool {
        matches!(self, Self::Both | Self::Old)
    }
}

impl FromStr for SemconvMetrics {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "both" => Ok(Self::Both),
            "new" => Ok(Self::New),
            "old" => Ok(Self::Old),
            _ => Err("use both, new or old"),
        }
    }
}

impl fmt::Display for SemconvMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both",
            Self::New => "new",
            Self::Old => "old",
        })
    }
}

/// `OTEL_METRICS_EXEMPLAR_FILTER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExemplarFilter {
    /// Calls whose span is exported.
    #[default]
    TraceBased,
    /// Every call.
    AlwaysOn,
    /// None.
    AlwaysOff,
}

impl FromStr for ExemplarFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "trace_based" => Ok(Self::TraceBased),
            "always_on" => Ok(Self::AlwaysOn),
            "always_off" => Ok(Self::AlwaysOff),
            _ => Err("use trace_based, always_on or always_off"),
        }
    }
}

impl fmt::Display for ExemplarFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TraceBased => "trace_based",
            Self::AlwaysOn => "always_on",
            Self::AlwaysOff => "always_off",
        })
    }
}
