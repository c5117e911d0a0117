//! The same call in other dialects. The names are those of the packages that the platforms publish.

use tokentap_genai::{ContentOptions, Dialect, Options, Span};

use crate::{
    apis::{CASES, spans},
    exchange::{Capture, lines},
};

fn in_dialects(case: &str, dialects: &[Dialect], content: bool) -> Span {
    let case = CASES.iter().find(|known| known.name == case).expect("the case exists");
    let options = Options {
        content: content.then(ContentOptions::default),
        dialects: dialects.to_vec(),
        ..Options::default()
    };
    spans(case, Capture::new(options), usize::MAX).swap_remove(0)
}

#[track_caller]
fn assert_has(span: &Span, expected: &[&str]) {
    let found: Vec<String> = lines(span).into_iter().map(|line| line.replacen("gen_ai.", "", 1)).collect();
    for line in expected {
        assert!(found.iter().any(|known| known == line), "{line} is not in {found:#?}");
    }
}

#[test]
fn openinference() {
    let span = in_dialects("anthropic/agent-loop", &[Dialect::OpenInference], true);
    assert_has(
        &span,
        &[
            "openinference.span.kind=LLM",
            "llm.model_name=c-1",
            "llm.request.model_name=c",
            "llm.provider=anthropic",
            "llm.system=anthropic",
            "llm.token_count.prompt=3",
            "llm.token_count.completion=5",
            "llm.token_count.total=8",
            "llm.finish_reason=tool_use",
            "llm.invocation_parameters={\"max_tokens\":9}",
            "llm.input_messages.0.message.role=system",
            "llm.input_messages.0.message.content=Be kind.",
            "llm.input_messages.1.message.contents.0.message_content.text=Look.",
            "llm.input_messages.2.message.tool_calls.0.tool_call.function.name=look",
            "llm.input_messages.3.message.tool_call_id=toolu_1",
            "llm.output_messages.0.message.role=assistant",
            "llm.output_messages.0.message.content=Let me see.",
            "llm.output_messages.0.message.tool_calls.0.tool_call.id=toolu_2",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments={\"at\":2}",
            "input.mime_type=application/json",
        ],
    );
    assert!(!lines(&span).iter().any(|line| line.starts_with("operation.name")), "no other dialect");
}

#[test]
fn openllmetry() {
    let span = in_dialects("openai-chat/agent-loop", &[Dialect::OpenLlmetry], true);
    assert_has(
        &span,
        &[
            "llm.request.type=chat",
            "llm.is_streaming=true",
            "system=openai",
            "request.model=m",
            "response.model=m",
            "llm.response.finish_reason=tool_calls",
            "prompt.0.role=system",
            "prompt.0.content=Be kind.",
            "prompt.2.tool_calls.0.arguments={\"at\":1}",
            "prompt.3.tool_call_id=call_1",
            "completion.0.finish_reason=tool_call",
            "completion.0.tool_calls.1.name=stop",
            "llm.request.functions.0.name=look",
        ],
    );
}

#[test]
fn fi() {
    let span = in_dialects("openai-vector-store-search/search", &[Dialect::Fi], true);
    assert_has(&span, &["span.kind=RETRIEVER", "input.value=x", "output.mime_type=application/json"]);
    let span = in_dialects("anthropic/stream", &[Dialect::Fi], true);
    assert_has(
        &span,
        &["span.kind=LLM", "operation.name=chat", "output.value=Green", "output.mime_type=text/plain"],
    );
}

#[test]
fn several_at_once_have_each_key_once_and_no_content_that_is_off() {
    for case in CASES.iter().filter(|case| !case.spans.is_empty()) {
        let span = in_dialects(&case.name, &Dialect::ALL, false);
        let plain = in_dialects(&case.name, &[], false);
        let mut keys: Vec<_> = span.attributes.iter().map(|attribute| attribute.key.clone()).collect();
        assert!(
            plain.attributes.iter().all(|attribute| span.attributes.contains(attribute)),
            "{}",
            case.name
        );
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all, "{}", case.name);
        let content =
            ["input.value", "output.value", "llm.input_messages", "gen_ai.prompt.0", "gen_ai.completion"];
        assert!(!keys.iter().any(|key| content.iter().any(|part| key.starts_with(part))), "{}", case.name);
    }
}

#[test]
fn names_of_dialects_are_read() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.to_string().parse(), Ok(dialect));
    }
    assert_eq!("otel_genai".parse(), Ok(Dialect::OpenTelemetry));
    assert!("phoenix".parse::<Dialect>().is_err_and(|why| why.contains("openinference")));
}
