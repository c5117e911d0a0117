//! Future AGI's dialect: the conventions' names, and its own for what they do not have.

use super::translation::Translation;
use crate::render::semconv;

/// What has the same name in both.
const SAME: &[&str] = &[
    semconv::OPERATION_NAME,
    semconv::PROVIDER_NAME,
    semconv::REQUEST_MODEL,
    semconv::REQUEST_TEMPERATURE,
    semconv::REQUEST_TOP_P,
    semconv::REQUEST_TOP_K,
    semconv::REQUEST_MAX_TOKENS,
    semconv::REQUEST_FREQUENCY_PENALTY,
    semconv::REQUEST_PRESENCE_PENALTY,
    semconv::REQUEST_STOP_SEQUENCES,
    semconv::REQUEST_SEED,
    semconv::REQUEST_ENCODING_FORMATS,
    semconv::RESPONSE_MODEL,
    semconv::RESPONSE_ID,
    semconv::RESPONSE_FINISH_REASONS,
    semconv::OUTPUT_TYPE,
    semconv::USAGE_INPUT_TOKENS,
    semconv::USAGE_OUTPUT_TOKENS,
    semconv::SYSTEM_INSTRUCTIONS,
    semconv::INPUT_MESSAGES,
    semconv::OUTPUT_MESSAGES,
    semconv::TOOL_DEFINITIONS,
    semconv::TOOL_NAME,
    semconv::TOOL_CALL_ARGUMENTS,
    semconv::TOOL_CALL_RESULT,
    semconv::CONVERSATION_ID,
    semconv::PROMPT_NAME,
    semconv::AGENT_ID,
    semconv::AGENT_NAME,
    semconv::EMBEDDINGS_DIMENSION_COUNT,
];

const NAMES: &[(&str, &str)] = &[
    (semconv::USAGE_CACHE_READ_INPUT_TOKENS, "gen_ai.usage.cache_read_tokens"),
    (semconv::USAGE_CACHE_WRITE_INPUT_TOKENS, "gen_ai.usage.cache_write_tokens"),
    (semconv::USAGE_REASONING_OUTPUT_TOKENS, "gen_ai.usage.output_tokens.reasoning"),
    (semconv::USAGE_AUDIO_INPUT_TOKENS, "gen_ai.usage.input_tokens.audio"),
    (semconv::USAGE_AUDIO_OUTPUT_TOKENS, "gen_ai.usage.output_tokens.audio"),
    (semconv::CONVERSATION_ID, "session.id"),
];

pub(super) fn translate(span: &mut Translation<'_>) {
    let kind = span.kind();
    span.put("gen_ai.span.kind", kind);
    for key in SAME {
        span.rename(&[(key, key)]);
    }
    span.rename(NAMES);
    span.put_total("gen_ai.usage.total_tokens");
    if let Some(parameters) = span.parameters() {
        span.put("gen_ai.request.parameters", parameters.to_string());
    }
    span.put_values();
}
