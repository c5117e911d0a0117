//! Attribute keys: OpenTelemetry's GenAI conventions as of 2026-09 (schema `gen-ai-dev/1.42.0-dev` with the
//! renames since), and our own under `tokentap.`.

/// What is done: `chat`.
pub const OPERATION_NAME: &str = "gen_ai.operation.name";
/// Whose dialect of an API it is: a well-known value of the conventions, or `openai` and `anthropic` for servers that only
/// speak theirs.
pub const PROVIDER_NAME: &str = "gen_ai.provider.name";

/// Model that the request names.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// Limit of generated tokens.
pub const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
/// Number of choices asked for, when it is not 1.
pub const REQUEST_CHOICE_COUNT: &str = "gen_ai.request.choice.count";
/// Sampling temperature.
pub const REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
/// Top-k sampling (not `top_logprobs`).
pub const REQUEST_TOP_K: &str = "gen_ai.request.top_k";
/// Nucleus sampling.
pub const REQUEST_TOP_P: &str = "gen_ai.request.top_p";
/// Texts that end generation.
pub const REQUEST_STOP_SEQUENCES: &str = "gen_ai.request.stop_sequences";
/// Frequency penalty.
pub const REQUEST_FREQUENCY_PENALTY: &str = "gen_ai.request.frequency_penalty";
/// Presence penalty.
pub const REQUEST_PRESENCE_PENALTY: &str = "gen_ai.request.presence_penalty";
/// Sampling seed.
pub const REQUEST_SEED: &str = "gen_ai.request.seed";
/// True when a stream was asked for; never false.
pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
/// How much to reason: the provider's own word.
pub const REQUEST_REASONING_LEVEL: &str = "gen_ai.request.reasoning.level";
/// `text`, `json`, `image` or `speech`, when the request says so.
pub const OUTPUT_TYPE: &str = "gen_ai.output.type";

/// Id that the provider gave the response.
pub const RESPONSE_ID: &str = "gen_ai.response.id";
/// Model that answered.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Why each choice ended: the provider's own words, by choice index.
pub const RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Seconds from the first byte of the request to the first byte of a streamed response's body.
pub const RESPONSE_TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";

/// Input tokens, cached ones included.
pub const USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Output tokens, reasoning included.
pub const USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Input tokens read from the provider's cache.
pub const USAGE_CACHE_READ_INPUT_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Input tokens written to the provider's cache.
pub const USAGE_CACHE_WRITE_INPUT_TOKENS: &str = "gen_ai.usage.cache_write.input_tokens";
/// Output tokens spent on reasoning.
pub const USAGE_REASONING_OUTPUT_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
/// Input tokens that were text.
pub const USAGE_TEXT_INPUT_TOKENS: &str = "gen_ai.usage.text.input_tokens";
/// Output tokens that were text.
pub const USAGE_TEXT_OUTPUT_TOKENS: &str = "gen_ai.usage.text.output_tokens";
/// Input tokens that were images.
pub const USAGE_IMAGE_INPUT_TOKENS: &str = "gen_ai.usage.image.input_tokens";
/// Output tokens that were images.
pub const USAGE_IMAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.image.output_tokens";
/// Input tokens that were audio.
pub const USAGE_AUDIO_INPUT_TOKENS: &str = "gen_ai.usage.audio.input_tokens";
/// Output tokens that were audio.
pub const USAGE_AUDIO_OUTPUT_TOKENS: &str = "gen_ai.usage.audio.output_tokens";

/// Id of the conversation, session or thread that the call belongs to.
pub const CONVERSATION_ID: &str = "gen_ai.conversation.id";
/// Id of the response that the request continues.
pub const REQUEST_PREVIOUS_RESPONSE_ID: &str = "gen_ai.request.previous_response.id";
/// Event after which a stream is taken up again.
pub const REQUEST_STREAM_CURSOR: &str = "gen_ai.request.stream_cursor";
/// Status of the response: the provider's own word.
pub const RESPONSE_STATUS: &str = "gen_ai.response.status";
/// Encodings of embeddings that were asked for.
pub const REQUEST_ENCODING_FORMATS: &str = "gen_ai.request.encoding_formats";
/// Dimensions of embeddings that were asked for.
pub const EMBEDDINGS_DIMENSION_COUNT: &str = "gen_ai.embeddings.dimension.count";
/// Most documents that were asked for.
pub const RETRIEVAL_TOP_K: &str = "gen_ai.retrieval.top_k";
/// Id of what was searched: a vector store, a collection, an index.
pub const DATA_SOURCE_ID: &str = "gen_ai.data_source.id";
/// Id of the agent.
pub const AGENT_ID: &str = "gen_ai.agent.id";
/// Name of the agent.
pub const AGENT_NAME: &str = "gen_ai.agent.name";
/// Name or id of the prompt that the provider keeps.
pub const PROMPT_NAME: &str = "gen_ai.prompt.name";
/// Its version.
pub const PROMPT_VERSION: &str = "gen_ai.prompt.version";
/// Name of the tool that is run.
pub const TOOL_NAME: &str = "gen_ai.tool.name";

/// Instructions of the request that are no part of its messages. Like all content only where it is captured: JSON, on spans
/// as text.
pub const SYSTEM_INSTRUCTIONS: &str = "gen_ai.system_instructions";
/// Messages of the request.
pub const INPUT_MESSAGES: &str = "gen_ai.input.messages";
/// Messages of the response, one for each choice.
pub const OUTPUT_MESSAGES: &str = "gen_ai.output.messages";
/// Tools that the request offers.
pub const TOOL_DEFINITIONS: &str = "gen_ai.tool.definitions";
/// Arguments of the tool that is run.
pub const TOOL_CALL_ARGUMENTS: &str = "gen_ai.tool.call.arguments";
/// What the tool gave.
pub const TOOL_CALL_RESULT: &str = "gen_ai.tool.call.result";
/// What is searched for.
pub const RETRIEVAL_QUERY_TEXT: &str = "gen_ai.retrieval.query.text";
/// What was found.
pub const RETRIEVAL_DOCUMENTS: &str = "gen_ai.retrieval.documents";

/// Session of the application, where `--session-from` says where it is.
pub const SESSION_ID: &str = "session.id";
/// User of the application, where `--user-from` says where it is.
pub const USER_ID: &str = "user.id";

/// Method of the Model Context Protocol.
pub const MCP_METHOD_NAME: &str = "mcp.method.name";
/// Version of the Model Context Protocol.
pub const MCP_PROTOCOL_VERSION: &str = "mcp.protocol.version";
/// Resource that is read, subscribed to or updated.
pub const MCP_RESOURCE_URI: &str = "mcp.resource.uri";
/// Session of the Model Context Protocol.
pub const MCP_SESSION_ID: &str = "mcp.session.id";
/// Id of the JSON-RPC request.
pub const JSONRPC_REQUEST_ID: &str = "jsonrpc.request.id";
/// Error code of the JSON-RPC or gRPC response.
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";

/// Guardrail of AWS Bedrock that was applied.
pub const AWS_BEDROCK_GUARDRAIL_ID: &str = "aws.bedrock.guardrail.id";
/// Knowledge base of AWS Bedrock that was searched.
pub const AWS_BEDROCK_KNOWLEDGE_BASE_ID: &str = "aws.bedrock.knowledge_base.id";

/// Which OpenAI API; like every `openai.` attribute only where the provider is `openai`.
pub const OPENAI_API_TYPE: &str = "openai.api.type";
/// Service tier that was asked for, when it is not `auto`.
pub const OPENAI_REQUEST_SERVICE_TIER: &str = "openai.request.service_tier";
/// Service tier that was used.
pub const OPENAI_RESPONSE_SERVICE_TIER: &str = "openai.response.service_tier";
/// Backend configuration that was used.
pub const OPENAI_RESPONSE_SYSTEM_FINGERPRINT: &str = "openai.response.system_fingerprint";
/// `Microsoft.CognitiveServices` where the provider is `azure.ai.inference`.
pub const AZURE_RESOURCE_PROVIDER_NAMESPACE: &str = "azure.resource_provider.namespace";

/// True when the request asked for its trace to be kept and has no parent; never false.
pub const SAMPLING_FORCED: &str = "sampling.forced";

/// Host of the server without port.
pub const SERVER_ADDRESS: &str = "server.address";
/// Port of the server.
pub const SERVER_PORT: &str = "server.port";
/// `http`, of calls of the Model Context Protocol, which has other transports, too.
pub const NETWORK_PROTOCOL_NAME: &str = "network.protocol.name";
/// Its version: `1.1` or `2`.
pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";
/// HTTP status code.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// `x-request-id` of the response.
pub const RESPONSE_X_REQUEST_ID: &str = "http.response.header.x-request-id";
/// `request-id` of the response (Anthropic).
pub const RESPONSE_REQUEST_ID: &str = "http.response.header.request-id";
/// `x-trace-id` of the response.
pub const RESPONSE_X_TRACE_ID: &str = "http.response.header.x-trace-id";
/// `apim-request-id` of the response (Azure).
pub const RESPONSE_APIM_REQUEST_ID: &str = "http.response.header.apim-request-id";
/// How the call failed: what the API calls the error, else the HTTP status, else `cancelled`, `connection_closed`,
/// `process_exit` or `malformed_response`.
pub const ERROR_TYPE: &str = "error.type";

/// Ids of the calls of tools that the model asked for.
pub const TOOL_CALL_IDS: &str = "tokentap.response.tool_call.ids";
/// Names of their tools, in the same order where each has both.
pub const TOOL_CALL_NAMES: &str = "tokentap.response.tool_call.names";
/// True when part of the call was not seen; never false.
pub const INCOMPLETE: &str = "tokentap.incomplete";
/// Why: one of the reasons for incomplete calls.
pub const INCOMPLETE_REASON: &str = "tokentap.incomplete.reason";
/// True when the agent stopped during the call; never false. The name is Future AGI's.
pub const SPAN_LEAKED: &str = "gen_ai.span.leaked";
/// Seconds from the first byte of the request to the first piece of a streamed response that holds generated
/// content (text, reasoning, refusal, audio or a tool call); role announcements and keep-alives do not count.
pub const TIME_TO_FIRST_TOKEN: &str = "tokentap.time_to_first_token";

/// Headers of responses that are kept.
pub(crate) const RESPONSE_HEADERS: [&str; 4] =
    [RESPONSE_X_REQUEST_ID, RESPONSE_REQUEST_ID, RESPONSE_X_TRACE_ID, RESPONSE_APIM_REQUEST_ID];

/// Every key above, with what it is, for pages of documentation: read from this very file, so that none can be forgotten.
pub fn documented() -> impl Iterator<Item = (&'static str, String)> {
    let source = include_str!("semconv.rs");
    let mut what = String::new();
    source.lines().filter_map(move |line| {
        if let Some(text) = line.strip_prefix("/// ") {
            what = if what.is_empty() { text.to_owned() } else { format!("{what} {text}") };
            return None;
        }
        let said = std::mem::take(&mut what);
        let key = line.strip_prefix("pub const ").and_then(|line| line.split('"').nth(1))?;
        Some((key, said))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::documented;

    /// Attributes of the conventions, from the table in the repository.
    const TABLE: &str = include_str!("../../../conventions.tsv");

    fn keys() -> Vec<&'static str> {
        documented().map(|(key, _)| key).collect()
    }

    #[test]
    fn conventional_keys_exist_and_are_current() {
        let current: HashSet<&str> = TABLE
            .lines()
            .filter_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
                ["attribute", name, _, _, "current", _] => Some(name),
                _ => None,
            })
            .collect();
        let keys = keys();
        assert!(keys.len() > 30, "keys are found in the source: {keys:?}");
        for key in keys.iter().filter(|key| {
            let is_conventional =
                ["gen_ai.", "openai.", "mcp.", "jsonrpc.", "aws."].iter().any(|own| key.starts_with(own));
            is_conventional && **key != super::SPAN_LEAKED
        }) {
            assert!(current.contains(key), "{key} is not a current attribute");
        }
    }

    #[test]
    fn every_key_is_documented() {
        assert!(documented().all(|(_, what)| what.len() > 5), "{:?}", documented().collect::<Vec<_>>());
    }

    #[test]
    fn every_key_is_there_once() {
        let keys = keys();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    }
}
