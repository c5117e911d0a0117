//! Responses as servers send them, cut off.

use std::sync::LazyLock;

use serde_json::Value as Json;

use super::{Schema, Status, WantedField, extract_of, walk_of};

/// A response and the paths that are wanted of it.
pub(super) struct Sample {
    pub(super) text: &'static str,
    paths: &'static [&'static str],
    pub(super) schema: Schema<&'static str>,
}

impl Sample {
    fn new(text: &'static str, paths: &'static [&'static str]) -> Self {
        let wants: Vec<WantedField<&str>> = paths.iter().map(|path| WantedField::new(path, *path)).collect();
        Self { text, paths, schema: Schema::new(&wants) }
    }

    /// What a whole parser finds, sorted.
    fn truth(&self) -> Vec<String> {
        let document: Json = serde_json::from_str(self.text).expect("a sample is JSON");
        let mut all = Vec::new();
        walk_of(self.paths, &document, "", &mut Vec::new(), &mut all);
        all.sort();
        all
    }
}

/// With tool calls that speak of usage, strings that do, and all kinds of escapes.
pub(super) static SAMPLES: LazyLock<[Sample; 3]> = LazyLock::new(|| {
    [
        Sample::new(
            r#"{
  "id": "chatcmpl-1", "object": "chat.completion", "created": 1718345013, "model": "gpt-4o-2024-08-06",
  "choices": [{"index": 0, "message": {"role": "assistant", "content": "He said \"usage\": {\"prompt_tokens\": 7} \\",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"usage\":{\"prompt_tokens\":8,\"model\":\"no\"}}"}}],
    "refusal": null, "annotations": [{"usage": {"prompt_tokens": 9, "total_tokens": 99}, "id": "no", "model": "no"}]},
    "logprobs": null, "finish_reason": "tool_calls"}, {"index": 1, "message": {"content": "\u00e9\ud83d\ude00"}, "finish_reason": "stop"}],
  "usage": {"prompt_tokens": 1234, "completion_tokens": 567, "total_tokens": 1801, "prompt_tokens_details": {"cached_tokens": 1024}},
  "service_tier": "default", "system_fingerprint": "fp_1"
}
"#,
            &[
                "id",
                "model",
                "choices[]",
                "choices[].index",
                "choices[].finish_reason",
                "usage",
                "usage.prompt_tokens",
                "usage.completion_tokens",
                "usage.total_tokens",
                "usage.prompt_tokens_details.cached_tokens",
                "service_tier",
                "system_fingerprint",
            ],
        ),
        Sample::new(
            r#"{"model":"claude-x-1","id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"\"usage\":{\"input_tokens\":7}"},{"type":"tool_use","id":"toolu_1","name":"f","input":{"usage":{"input_tokens":8,"output_tokens":9},"model":"no","content":[{"usage":{"input_tokens":10}}]}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":2095,"cache_creation_input_tokens":188,"cache_read_input_tokens":4096,"cache_creation":{"ephemeral_5m_input_tokens":188},"output_tokens":503,"service_tier":"standard"}}"#,
            &[
                "model",
                "id",
                "type",
                "stop_reason",
                "usage",
                "usage.input_tokens",
                "usage.output_tokens",
                "usage.cache_read_input_tokens",
                "usage.cache_creation.ephemeral_5m_input_tokens",
            ],
        ),
        Sample::new(
            r#"{"candidates":[{"content":{"parts":[{"text":"\"usageMetadata\":{\"promptTokenCount\":7}\n"},{"functionCall":{"name":"f","args":{"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":9},"modelVersion":"no"}}}],"role":"model"},"finishReason":"STOP","avgLogprobs":-0.12345e-1,"index":0}],"usageMetadata":{"promptTokenCount":11,"candidatesTokenCount":22,"totalTokenCount":133,"thoughtsTokenCount":100,"promptTokensDetails":[{"modality":"TEXT","tokenCount":11}]},"modelVersion":"gemini-x","responseId":"r-1"}"#,
            &[
                "candidates[].finishReason",
                "candidates[].index",
                "usageMetadata",
                "usageMetadata.promptTokenCount",
                "usageMetadata.candidatesTokenCount",
                "usageMetadata.thoughtsTokenCount",
                "usageMetadata.promptTokensDetails[].tokenCount",
                "modelVersion",
                "responseId",
            ],
        ),
    ]
});

#[test]
fn a_response_cut_anywhere_tells_all_that_came_before_the_cut_and_nothing_else() {
    for sample in SAMPLES.iter() {
        let whole = sample.text.as_bytes();
        let (all, _) = extract_of(&sample.schema, &[whole]);
        let mut sorted = all.clone();
        sorted.sort();
        assert_eq!(sorted, sample.truth());
        let end = sample.text.trim_end().len();
        let mut told = 0;
        for cut in 0..=whole.len() {
            let (found, status) = extract_of(&sample.schema, &[&whole[..cut]]);
            assert_eq!(found, all[..found.len()], "cut {cut}");
            assert!(found.len() >= told, "cut {cut}");
            told = found.len();
            let expected = match cut {
                0 => Status::Empty,
                _ if cut < end => Status::Partial,
                _ => Status::Complete,
            };
            assert_eq!(status, expected, "cut {cut}");
        }
        assert_eq!(told, all.len());
    }
}

#[test]
fn a_value_is_told_with_the_first_byte_that_shows_it_to_be_whole() {
    let document = r#"{"id":"abc","model":12,"type":null,"usage":{"input_tokens":5}}"#;
    let schema = &SAMPLES[1].schema;
    for (value, with) in [
        (r#"id [] "abc""#, r#"{"id":"abc""#),
        ("model [] Some(12.0)", r#"{"id":"abc","model":12,"#),
        ("type [] Null", r#"{"id":"abc","model":12,"type":null,"#),
        ("usage [] Object", r#"{"id":"abc","model":12,"type":null,"usage":{"#),
        (
            "usage.input_tokens [] Some(5.0)",
            r#"{"id":"abc","model":12,"type":null,"usage":{"input_tokens":5}"#,
        ),
    ] {
        for cut in 0..=document.len() {
            let (found, _) = extract_of(schema, &[&document.as_bytes()[..cut]]);
            assert_eq!(found.contains(&value.to_owned()), cut >= with.len(), "{value}, cut {cut}");
        }
    }
}
