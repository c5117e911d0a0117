//! Prompts and completions of real clients, where the user asks for them, at a real collector.

use serde_json::{Value, json};
use tokentap_tests::{
    agent::Agent,
    bodies,
    client::{self, Client, Via},
    mock::Mock,
    receiver::Receiver,
};

const KEY: &str = "sk-proj-abcdefghijklmnopqrstuvwx";

/// A streamed call with a secret in its prompt, which the mock answers by calling a tool.
fn call(client: Client) -> Value {
    let body = bodies::with(bodies::stream(client.api, "mock"), &bodies::tools(client.api));
    bodies::with(
        body,
        &json!({"messages": [{"role": "user", "content": format!("My key is {KEY}, my mail jo@example.org.")}]}),
    )
}

fn check(client: Client, protocol: &str, endpoint: impl Fn(&Receiver) -> String) {
    let (mock, receiver) = (Mock::for_test(), Receiver::collector());
    let endpoint = endpoint(&receiver);
    let agent = Agent::run(&[
        "--exe",
        &client.exe(),
        "--capture-content=both",
        "--redact",
        "a “?tap”?",
        "--otlp-endpoint",
        &endpoint,
        "--otlp-protocol",
        protocol,
    ]);
    let calls = client.run(&Via::Tls.job(&mock, vec![call(client)])).len();
    assert_eq!(mock.ledger().wait_for_answers(calls).len(), 1);
    let spans = agent.finish();
    let logs = receiver.wait_for_logs(1);
    let [span] = spans.as_slice() else { panic!("one span expected: {spans:?}") };
    let messages = |key: &str| -> Value {
        let text = span.get(key).as_str().unwrap_or_else(|| panic!("no {key}: {span:?}"));
        serde_json::from_str(text).expect("JSON")
    };
    let prompt = &messages("gen_ai.input.messages")[0]["parts"][0]["content"];
    assert_eq!(prompt, "My key is <API_KEY>, my mail <EMAIL_ADDRESS>.");
    let output = messages("gen_ai.output.messages");
    assert_eq!(output[0]["finish_reason"], "tool_call");
    let parts = output[0]["parts"].as_array().expect("parts");
    let tool = parts.iter().find(|part| part["type"] == "tool_call").expect("the call of a tool");
    assert_eq!((&tool["name"], &tool["arguments"]["city"]), (&json!("weather"), &json!("Zürich")), "{tool}");
    assert_eq!(messages("gen_ai.tool.definitions")[0]["name"], "weather");
    let [log] = logs.as_slice() else { panic!("one event expected: {logs:?}") };
    assert_eq!(log["eventName"], "gen_ai.client.inference.operation.details");
    assert_eq!(log["traceId"], span.trace_id.as_str());
    let text = log.to_string();
    assert!(text.contains("<API_KEY>") && text.contains("kvlistValue"), "structured: {text}");
    for all in [text, format!("{span:?}")] {
        assert!(!all.contains(KEY) && !all.contains("jo@example.org"), "{all}");
    }
}

#[test]
fn a_prompt_and_a_call_of_a_tool_of_the_openai_sdk() {
    check(client::OPENAI, "http/protobuf", Receiver::http);
}

#[test]
fn a_prompt_and_a_call_of_a_tool_of_the_anthropic_sdk() {
    check(client::ANTHROPIC, "grpc", Receiver::grpc);
}

#[test]
fn nothing_of_it_leaves_unless_it_is_asked_for() {
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", &client::OPENAI.exe()]);
    let calls = client::OPENAI.run(&Via::Tls.job(&mock, vec![call(client::OPENAI)])).len();
    assert_eq!(mock.ledger().wait_for_answers(calls).len(), 1);
    let spans = agent.finish();
    let all = format!("{spans:?}");
    assert!(
        !spans.is_empty() && !["sk-proj", "jo@example", "Zürich"].iter().any(|word| all.contains(word)),
        "{all}"
    );
}
