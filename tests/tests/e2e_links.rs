//! Which call a call follows: an id that one process was given and another one names.

use serde_json::{Value, json};
use tokentap_tests::{
    agent::Agent,
    bodies,
    client::{self, Client, Via},
    ledger::Api,
    mock::Mock,
    receiver::Receiver,
};

/// A request that has the result of the tool that the model asked for.
fn with_result(client: Client, id: &str) -> Value {
    let body = bodies::call(client.api, "mock");
    let messages = match client.api {
        Api::OpenaiChat => json!([
            {"role": "user", "content": "How is the weather?"},
            {"role": "assistant", "tool_calls": [
                {"id": id, "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": id, "content": "sunny"}]),
        Api::AnthropicMessages => json!([
            {"role": "user", "content": "How is the weather?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "weather", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "sunny"}]}]),
    };
    bodies::with(body, &json!({ "messages": messages }))
}

fn check(client: Client) {
    let (mock, receiver) = (Mock::for_test(), Receiver::collector());
    let agent = Agent::run(&["--exe", &client.exe(), "--otlp-endpoint", &receiver.http()]);
    let asks = bodies::with(bodies::stream(client.api, "mock"), &bodies::tools(client.api));
    let calls = client.run(&Via::Tls.job(&mock, vec![asks])).len();
    let first = agent.wait_for_spans(1).swap_remove(0);
    assert_eq!(first.get("tokentap.response.tool_call.names"), &json!(["weather"]));
    let id = first.get("tokentap.response.tool_call.ids")[0].as_str().expect("an id").to_owned();
    let more = client.run(&Via::Tls.job(&mock, vec![with_result(client, &id)])).len();
    assert_eq!(mock.ledger().wait_for_answers(calls + more).len(), 2);
    let spans = agent.finish();
    let received = receiver.wait_for_spans(2);
    for spans in [spans, received] {
        let second = spans.iter().find(|span| span.span_id != first.span_id).expect("a second span");
        assert_eq!((&first.links, &second.links), (&Vec::new(), &vec![first.span_id.clone()]), "{spans:?}");
    }
}

#[test]
fn the_result_of_a_tool_follows_the_call_that_asked_for_it_at_openai() {
    check(client::OPENAI);
}

#[test]
fn the_result_of_a_tool_follows_the_call_that_asked_for_it_at_anthropic() {
    check(client::ANTHROPIC);
}
