//! Why there is no configuration.

use tokentap_genai::PatternError;

/// Why there is no configuration; each says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nowhere to send spans to.
    #[error(
        "nowhere to send spans: pass --otlp-endpoint URL, --file FILE or --console, or set OTEL_EXPORTER_OTLP_ENDPOINT \
         (standard output is not a terminal, so nothing is printed by default)"
    )]
    NoExporter,
    /// A command that observes nothing.
    #[error("there is nothing to observe")]
    NothingToDo,
    /// An endpoint that is none.
    #[error("{setting}: {why}")]
    Endpoint {
        /// The flag or variable.
        setting: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Protocols do not pair up with endpoints.
    #[error(
        "--otlp-protocol was given {protocols} times for {endpoints} endpoints: give it once, or once for \
         each --otlp-endpoint"
    )]
    Protocols {
        /// How many protocols.
        protocols: usize,
        /// How many endpoints.
        endpoints: usize,
    },
    /// A sampler, or its argument, that is none.
    #[error("{flag}: {why}")]
    Sampler {
        /// The flag.
        flag: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A pattern to mask content by that is none.
    #[error("--redact '{pattern}': {why}")]
    Redact {
        /// What was given.
        pattern: String,
        /// What is wrong.
        why: PatternError,
    },
    /// A certificate without its key, or the other way round.
    #[error("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY go together: set both")]
    HalfClientCertificate,
}
