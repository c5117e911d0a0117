//! The instruments of calls: names, units and buckets of the conventions.

use crate::record::{RESOURCE_SCHEMA_URL, SCHEMA_URL, SCOPE_NAME};

/// The conventions of the older generation of client metrics.
const OLD_SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.41.0";
/// The scope of that generation.
const OLD_SCOPE_NAME: &str = "tokentap.v1_41";

/// An instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Instrument {
    Duration,
    TimeToFirstChunk,
    TimePerChunk,
    InputTokens,
    OutputTokens,
    CacheReadTokens,
    CacheWriteTokens,
    ReasoningTokens,
    OperationInputTokens,
    OperationOutputTokens,
    EmbeddingsDuration,
    EmbeddingsInputTokens,
    OldDuration,
    OldTimeToFirstChunk,
    OldTimePerChunk,
    OldTokenUsage,
    ServerDuration,
    ServerTimeToFirstToken,
    ServerTimePerOutputToken,
    McpClientDuration,
    McpServerDuration,
    HttpClientDuration,
    HttpServerDuration,
    InferCount,
    InferDuration,
    InferErrors,
}

/// Scopes have one schema each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Scope {
    GenAi,
    OldGenAi,
    Http,
}

/// All, in the order of [`Scope`].
pub(crate) const SCOPES: [Scope; 3] = [Scope::GenAi, Scope::OldGenAi, Scope::Http];

impl Scope {
    /// Its name and its schema.
    pub(crate) const fn identity(self) -> (&'static str, &'static str) {
        match self {
            Self::GenAi => (SCOPE_NAME, SCHEMA_URL),
            Self::OldGenAi => (OLD_SCOPE_NAME, OLD_SCHEMA_URL),
            Self::Http => ("tokentap.http", RESOURCE_SCHEMA_URL),
        }
    }
}

/// What is recorded with an instrument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// A histogram of seconds.
    Seconds(&'static [f64]),
    /// A histogram of numbers of things.
    Numbers(&'static [f64]),
    /// A sum of things.
    Sum,
}

/// What an instrument is called outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Definition {
    pub(crate) instrument: Instrument,
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) description: &'static str,
    pub(crate) scope: Scope,
    pub(crate) form: Form,
}

const LONG: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const FIRST_TOKEN: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const PER_TOKEN: &[f64] = &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
const MCP: &[f64] = &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const HTTP: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

macro_rules! definitions {
    ($($instrument:ident $name:literal $scope:ident $form:expr, $description:literal;)*) => {
        /// Every instrument, in the order of [`Instrument`].
        pub(crate) const DEFINITIONS: &[Definition] = &[$(Definition {
            instrument: Instrument::$instrument,
            name: $name,
            unit: match $form {
                Form::Seconds(_) => "s",
                _ => unit($name),
            },
            description: $description,
            scope: Scope::$scope,
            form: $form,
        }),*];
    };
}

/// The unit of what is counted.
const fn unit(name: &str) -> &'static str {
    // All others count tokens.
    match name.as_bytes() {
        b"inference.model.infer.count" => "{inference}",
        b"inference.errors" => "{error}",
        _ => "{token}",
    }
}

definitions! {
    Duration "gen_ai.client.inference.duration" GenAi Form::Seconds(LONG),
        "Duration of inference operations, as their client sees it";
    TimeToFirstChunk "gen_ai.client.inference.time_to_first_chunk" GenAi Form::Seconds(LONG),
        "Time from the request to the first chunk of a streamed response";
    TimePerChunk "gen_ai.client.inference.time_per_output_chunk" GenAi Form::Seconds(LONG),
        "Time from chunk to chunk of streamed responses";
    InputTokens "gen_ai.client.inference.usage.input_tokens" GenAi Form::Sum,
        "Input tokens used, cached ones included";
    OutputTokens "gen_ai.client.inference.usage.output_tokens" GenAi Form::Sum,
        "Output tokens used, reasoning included";
    CacheReadTokens "gen_ai.client.inference.usage.cache_read.input_tokens" GenAi Form::Sum,
        "Input tokens read from the provider's cache";
    CacheWriteTokens "gen_ai.client.inference.usage.cache_write.input_tokens" GenAi Form::Sum,
        "Input tokens written to the provider's cache";
    ReasoningTokens "gen_ai.client.inference.usage.reasoning.output_tokens" GenAi Form::Sum,
        "Output tokens used for reasoning";
    OperationInputTokens "gen_ai.client.inference.operation.input_tokens" GenAi Form::Numbers(TOKENS),
        "Input tokens of each inference operation";
    OperationOutputTokens "gen_ai.client.inference.operation.output_tokens" GenAi Form::Numbers(TOKENS),
        "Output tokens of each inference operation";
    EmbeddingsDuration "gen_ai.client.embeddings.duration" GenAi Form::Seconds(LONG),
        "Duration of embeddings operations, as their client sees it";
    EmbeddingsInputTokens "gen_ai.client.embeddings.operation.input_tokens" GenAi Form::Numbers(TOKENS),
        "Input tokens of each embeddings operation";
    OldDuration "gen_ai.client.operation.duration" OldGenAi Form::Seconds(LONG),
        "Duration of operations, as their client sees it";
    OldTimeToFirstChunk "gen_ai.client.operation.time_to_first_chunk" OldGenAi Form::Seconds(LONG),
        "Time from the request to the first chunk of a streamed response";
    OldTimePerChunk "gen_ai.client.operation.time_per_output_chunk" OldGenAi Form::Seconds(LONG),
        "Time from chunk to chunk of streamed responses";
    OldTokenUsage "gen_ai.client.token.usage" OldGenAi Form::Numbers(TOKENS),
        "Input and output tokens of each operation";
    ServerDuration "gen_ai.server.request.duration" GenAi Form::Seconds(LONG),
        "Duration of requests, as their server sees it";
    ServerTimeToFirstToken "gen_ai.server.time_to_first_token" GenAi Form::Seconds(FIRST_TOKEN),
        "Time from the request to the first token of a successful streamed response";
    ServerTimePerOutputToken "gen_ai.server.time_per_output_token" GenAi Form::Seconds(PER_TOKEN),
        "Time per output token after the first one, of successful streamed responses";
    McpClientDuration "mcp.client.operation.duration" GenAi Form::Seconds(MCP),
        "Duration of requests of the Model Context Protocol, as their sender sees it";
    McpServerDuration "mcp.server.operation.duration" GenAi Form::Seconds(MCP),
        "Duration of requests of the Model Context Protocol, as their receiver sees it";
    HttpClientDuration "http.client.request.duration" Http Form::Seconds(HTTP),
        "Duration of HTTP requests that are LLM calls, as their client sees it";
    HttpServerDuration "http.server.request.duration" Http Form::Seconds(HTTP),
        "Duration of HTTP requests that are LLM calls, as their server sees it";
    InferCount "inference.model.infer.count" GenAi Form::Sum,
        "Inferences of each model of a server";
    InferDuration "inference.model.infer.duration" GenAi Form::Seconds(LONG),
        "Duration of inferences of each model of a server";
    InferErrors "inference.errors" GenAi Form::Sum,
        "Inferences of a server that failed";
}

impl Definition {
    /// Upper bounds of its buckets; empty for a sum.
    pub(crate) const fn bounds(&self) -> &'static [f64] {
        match self.form {
            Form::Seconds(bounds) | Form::Numbers(bounds) => bounds,
            Form::Sum => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metrics of the conventions, from the table in the repository.
    const TABLE: &str = include_str!("../../../conventions.tsv");

    #[test]
    fn instruments_are_those_of_the_conventions() {
        assert!(DEFINITIONS.iter().enumerate().all(|(i, definition)| definition.instrument as usize == i));
        for definition in DEFINITIONS.iter().filter(|definition| !definition.name.starts_with("inference.")) {
            let row = TABLE.lines().find_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
                ["metric", name, kind, unit, ..] if name == definition.name => Some((kind, unit)),
                _ => None,
            });
            let (kind, unit) = row.unwrap_or_else(|| panic!("{} is no metric", definition.name));
            let want = match definition.form {
                Form::Seconds(_) => ["histogram/double", "histogram/-"],
                Form::Numbers(_) => ["histogram/int", "histogram/int"],
                Form::Sum => ["counter/int", "counter/int"],
            };
            assert!(want.contains(&kind), "{}: {kind}", definition.name);
            assert_eq!(unit, definition.unit, "{}", definition.name);
        }
    }
}
