//! Ids that a call gives and a later one names.

use serde_json::{Value as Json, json};
use tokentap_genai::Relations;

use crate::exchange::Exchange;

fn relations(target: &str, request: &Json, response: &Json) -> Relations {
    Exchange::new("gateway.example", target, request, 200, response.to_string()).span().relations
}

const CALL: &str = "call_0123456789";

fn asked(messages: &Json) -> Relations {
    let answer = json!({"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message": {}}]});
    relations("/v1/chat/completions", &json!({"model": "m", "messages": messages}), &answer)
}

fn gave(id: &str) -> Relations {
    let call = json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let choice = json!({"index": 0, "finish_reason": "tool_calls", "message": {"tool_calls": [call]}});
    let answer = json!({"object": "chat.completion", "choices": [choice]});
    relations("/v1/chat/completions", &json!({"model": "m", "messages": []}), &answer)
}

#[test]
fn a_result_of_a_tool_names_the_call_that_asked_for_it() {
    let (user, model) =
        (json!({"role": "user", "content": "x"}), json!({"role": "assistant", "content": "x"}));
    let result = json!({"role": "tool", "tool_call_id": CALL, "content": "x"});
    let gave = gave(CALL).gives;
    assert_eq!(gave.len(), 1);
    assert_eq!(asked(&json!([user, model, result])).follows, gave);
    assert_eq!(asked(&json!([user, model, result, user])).follows, gave);
    let answered = asked(&json!([user, model, result, model, user]));
    assert!(answered.follows.is_empty(), "it was answered before");
    assert!(asked(&json!([user])).follows.is_empty());
}

#[test]
fn every_format_of_results_is_read() {
    let anthropic = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": CALL, "content": "x"}]}]});
    let answer = json!({"type": "message", "usage": {"input_tokens": 1, "output_tokens": 1}, "content": []});
    assert_eq!(relations("/v1/messages", &anthropic, &answer).follows, gave(CALL).gives);
    let responses = json!({"model": "m", "input": [
        {"type": "function_call", "call_id": CALL, "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": CALL, "output": "x"}]});
    let answer = json!({"object": "response", "id": "resp_0123456789", "status": "completed", "output": []});
    let relations_of_responses = relations("/v1/responses", &responses, &answer);
    assert_eq!(relations_of_responses.follows, gave(CALL).gives);
    let next = json!({"model": "m", "input": "x", "previous_response_id": "resp_0123456789"});
    assert_eq!(relations("/v1/responses", &next, &answer).follows, relations_of_responses.gives);
}

#[test]
fn ids_that_are_not_unique_are_no_evidence() {
    for id in ["0", "call_0", "functions.weather:0"] {
        assert_eq!(gave(id), Relations::default(), "{id}");
    }
}
