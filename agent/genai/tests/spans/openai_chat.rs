//! OpenAI Chat Completions and its dialects.

use serde_json::{Value as Json, json};
use tokentap_genai::SpanStatus;

use crate::exchange::{Exchange, check};

const PATH: &str = "/v1/chat/completions";

fn asked() -> Json {
    json!({"messages": [{"role": "user", "content": "hi"}], "model": "gpt-4o"})
}

fn answered() -> Json {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-2024", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]})
}

/// A stream of these chunks and `[DONE]`.
fn stream(chunks: &[Json]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>() + "data: [DONE]\n\n"
}

fn delta(delta: Json, reason: Json) -> Json {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o-2024", "choices": [
        {"index": 0, "delta": delta, "finish_reason": reason}]})
}

#[test]
fn everything_a_request_asks_for_is_on_the_span() {
    let request = json!({
        "messages": [{"role": "user", "content": "hi", "model": "not this"}],
        "model": "gpt-4o", "max_tokens": 10, "max_completion_tokens": 20, "n": 2, "temperature": 0.5, "top_p": 1,
        "top_k": 40, "frequency_penalty": -1.5, "presence_penalty": 0, "seed": 42, "stop": ["a", "b\n"],
        "reasoning_effort": "low", "response_format": {"type": "json_schema", "json_schema": {"type": "text"}},
        "service_tier": "flex", "stream": false, "tools": [{"function": {"parameters": {"model": {"n": 9}}}}],
    });
    let response = json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-2024",
        "service_tier": "default", "system_fingerprint": "fp_1", "choices": []});
    let span = Exchange::new("api.openai.com", PATH, request, 200, response).span();
    assert_eq!(span.name, "chat gpt-4o");
    check(
        &span,
        &["request.", "output.", "openai.", "operation", "provider", "error", "response"],
        &[
            "operation.name=chat",
            "provider.name=openai",
            "request.model=gpt-4o",
            "request.max_tokens=20",
            "request.choice.count=2",
            "request.temperature=0.5",
            "request.top_p=1.0",
            "request.top_k=40",
            "request.frequency_penalty=-1.5",
            "request.presence_penalty=0.0",
            "request.seed=42",
            "request.stop_sequences=a,b\n",
            "request.reasoning.level=low",
            "output.type=json",
            "response.id=chatcmpl-1",
            "response.model=gpt-4o-2024",
            "openai.api.type=chat_completions",
            "openai.request.service_tier=flex",
            "openai.response.service_tier=default",
            "openai.response.system_fingerprint=fp_1",
        ],
    );
}

#[test]
fn parts_of_requests_mean_what_they_say() {
    for (field, value, prefix, expected) in [
        ("stop", json!("END"), "request.stop", vec!["request.stop_sequences=END"]),
        ("stop", json!(null), "request.stop", vec![]),
        ("n", json!(1), "request.choice", vec![]),
        ("max_tokens", json!(7.0), "request.max", vec!["request.max_tokens=7"]),
        ("max_tokens", json!(null), "request.max", vec![]),
        ("stream", json!(true), "request.stream", vec!["request.stream=true"]),
        ("random_seed", json!(3), "request.seed", vec!["request.seed=3"]),
        ("reasoning", json!({"effort": "high"}), "request.reasoning", vec!["request.reasoning.level=high"]),
        ("response_format", json!({"type": "json_object"}), "output", vec!["output.type=json"]),
        ("response_format", json!({"type": "text"}), "output", vec!["output.type=text"]),
        ("modalities", json!(["text", "audio"]), "output", vec!["output.type=speech"]),
        ("modalities", json!(["text"]), "output", vec![]),
        ("service_tier", json!("auto"), "openai.request", vec![]),
    ] {
        let mut request = asked();
        request[field] = value;
        check(&Exchange::new("api.openai.com", PATH, request, 200, answered()).span(), &[prefix], &expected);
    }
}

#[test]
fn a_stream_gives_the_same_as_a_plain_response_and_its_times() {
    let chunks = [
        delta(json!({"role": "assistant", "content": ""}), Json::Null),
        delta(json!({"content": "hello"}), Json::Null),
        delta(json!({"content": "lo"}), Json::Null),
        delta(json!({}), json!("stop")),
        json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o-2024", "choices": [],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}),
    ];
    let mut request = asked();
    request["stream"] = json!(true);
    let exchange = Exchange::new("api.openai.com", PATH, request, 200, stream(&chunks));
    check(
        &exchange.span(),
        &["request.stream", "response", "usage", "tokentap", "error"],
        &[
            "request.stream=true",
            "response.id=chatcmpl-1",
            "response.model=gpt-4o-2024",
            "response.finish_reasons=stop",
            "response.time_to_first_chunk=0.001",
            "tokentap.time_to_first_token=0.001",
            "usage.input_tokens=3",
            "usage.output_tokens=2",
        ],
    );
}

#[test]
fn the_first_token_is_generated_content_and_not_the_first_chunk() {
    for (content, generated) in [
        (json!({"content": "x"}), true),
        (json!({"content": [{"type": "thinking", "thinking": []}]}), true),
        (json!({"reasoning_content": "x"}), true),
        (json!({"reasoning": "x"}), true),
        (json!({"refusal": "x"}), true),
        (
            json!({"tool_calls": [{"index": 0, "id": "call", "function": {"name": "f", "arguments": ""}}]}),
            true,
        ),
        (json!({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}), true),
        (json!({"function_call": {"arguments": "{"}}), true),
        (json!({"audio": {"transcript": "x"}}), true),
        (json!({"content": "", "reasoning": null, "refusal": null}), false),
        (json!({"content": []}), true),
        (json!({}), false),
    ] {
        let role = json!({"role": "assistant", "content": ""});
        let events =
            [delta(role, Json::Null), delta(content.clone(), Json::Null), delta(json!({}), json!("stop"))];
        let exchange = Exchange::new("api.openai.com", PATH, asked(), 200, "data: -");
        let mut capture = crate::exchange::Capture::new(tokentap_genai::Options::default());
        capture.request(&exchange.request_bytes());
        capture.response(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: keep-alive\n\n");
        for event in events {
            capture.response(format!("data: {event}\n\n").as_bytes());
        }
        capture.response(b"data: [DONE]\n\n");
        let span = capture.taken().pop().expect("the stream is over");
        let token = if generated { &["tokentap.time_to_first_token=0.003"][..] } else { &[] };
        // A comment is no chunk.
        let expected = [&["response.time_to_first_chunk=0.002"], token].concat();
        check(&span, &["response.time", "tokentap.time", "tokentap.inc"], &expected);
        assert_eq!(span.end.0, 6_000_000, "{content}");
    }
}

#[test]
fn finish_reasons_are_in_the_order_of_the_choices() {
    let choice = |index: u32, reason: Json| json!({"finish_reason": reason, "delta": {"content": "x"}, "index": index});
    let chunk = |choices: Json| json!({"object": "chat.completion.chunk", "choices": choices});
    let chunks = [
        chunk(json!([choice(2, Json::Null)])),
        chunk(json!([choice(1, json!("length")), choice(0, Json::Null)])),
        chunk(json!([choice(0, json!("tool_calls"))])),
        chunk(json!([choice(2, json!("stop"))])),
        chunk(json!([choice(2, Json::Null)])),
    ];
    let span = Exchange::new("h", PATH, asked(), 200, stream(&chunks)).span();
    check(&span, &["response.finish"], &["response.finish_reasons=tool_calls,length,stop"]);

    let mut plain = answered();
    plain["choices"] =
        json!([{"message": {}, "finish_reason": "stop"}, {"message": {}, "finish_reason": "length"}]);
    let span = Exchange::new("h", PATH, asked(), 200, plain).span();
    check(&span, &["response.finish"], &["response.finish_reasons=stop,length"]);
}

#[test]
fn usage_is_read_in_every_dialect() {
    for (name, fields, expected) in [
        ("absent", json!({}), vec![]),
        ("null", json!({"usage": null}), vec![]),
        (
            "OpenAI",
            json!({"usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8, "audio_tokens": 0, "text_tokens": 90, "image_tokens": 10},
                "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 5, "accepted_prediction_tokens": 1}}}),
            vec![
                "input_tokens=100",
                "output_tokens=50",
                "cache_read.input_tokens=64",
                "cache_write.input_tokens=8",
                "reasoning.output_tokens=30",
                "audio.output_tokens=5",
                "text.input_tokens=90",
                "image.input_tokens=10",
            ],
        ),
        (
            "numbers as floats, strings and null",
            json!({"usage": {"prompt_tokens": 12.0, "completion_tokens": "7", "total_tokens": null, "prompt_tokens_details": null}}),
            vec!["input_tokens=12", "output_tokens=7"],
        ),
        (
            "negative",
            json!({"usage": {"prompt_tokens": -1, "completion_tokens": 7}}),
            vec!["output_tokens=7"],
        ),
        (
            "DeepSeek",
            json!({"usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29, "prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 4}}),
            vec!["input_tokens=20", "output_tokens=9", "cache_read.input_tokens=16"],
        ),
        (
            "Together",
            json!({"usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29, "cached_tokens": 0}}),
            vec!["input_tokens=20", "output_tokens=9", "cache_read.input_tokens=0"],
        ),
        (
            "xAI: reasoning beside completion",
            json!({"usage": {"prompt_tokens": 165, "completion_tokens": 40, "total_tokens": 326, "completion_tokens_details": {"reasoning_tokens": 121}}}),
            vec!["input_tokens=165", "output_tokens=161", "reasoning.output_tokens=121"],
        ),
        (
            "Grok on Azure: cached beside prompt",
            json!({"usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 175, "prompt_tokens_details": {"cached_tokens": 163}}}),
            vec!["input_tokens=170", "output_tokens=5", "cache_read.input_tokens=163"],
        ),
        (
            "a total that says nothing",
            json!({"usage": {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 19, "completion_tokens_details": {"reasoning_tokens": 11}}}),
            vec!["input_tokens=7", "output_tokens=10", "reasoning.output_tokens=11"],
        ),
        (
            "SGLang",
            json!({"usage": {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 17, "reasoning_tokens": 3}}),
            vec!["input_tokens=7", "output_tokens=10", "reasoning.output_tokens=3"],
        ),
        (
            "Groq",
            json!({"x_groq": {"id": "req_1", "usage": {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 17, "queue_time": 0.1}}}),
            vec!["input_tokens=7", "output_tokens=10"],
        ),
        (
            "llama.cpp without usage",
            json!({"timings": {"cache_n": 5, "prompt_n": 7, "prompt_ms": 1.5, "predicted_n": 10}}),
            vec!["input_tokens=12", "output_tokens=10", "cache_read.input_tokens=5"],
        ),
        (
            "llama.cpp with usage",
            json!({"usage": {"prompt_tokens": 12, "completion_tokens": 10, "total_tokens": 22}, "timings": {"cache_n": 5, "prompt_n": 7, "predicted_n": 10}}),
            vec!["input_tokens=12", "output_tokens=10", "cache_read.input_tokens=5"],
        ),
        ("empty", json!({"usage": {}}), vec![]),
    ] {
        let mut plain = answered();
        plain.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let expected: Vec<String> = expected.iter().map(|line| format!("usage.{line}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&Exchange::new("h", PATH, asked(), 200, &plain).span(), &["usage"], &expected);

        // Cumulative counts in a stream: the last ones stand, whatever follows without any.
        let mut earlier = delta(json!({"content": "x"}), Json::Null);
        earlier["usage"] = if expected.is_empty() {
            Json::Null
        } else {
            json!({"prompt_tokens": 1, "completion_tokens": 1})
        };
        let mut last = delta(json!({}), json!("stop"));
        last.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let mut after = delta(json!({}), Json::Null);
        after["usage"] = Json::Null;
        let streamed = Exchange::new("h", PATH, asked(), 200, stream(&[earlier, last, after]));
        if !name.starts_with("llama.cpp without") {
            check(&streamed.span(), &["usage"], &expected);
        }
    }
}

#[test]
fn errors_have_the_providers_name_else_the_status() {
    let body = |error: Json| json!({"error": error}).to_string();
    for (status, response, error) in [
        (
            401,
            body(json!({"message": "no", "type": "invalid_request_error", "code": "invalid_api_key"})),
            "invalid_api_key",
        ),
        (
            400,
            body(json!({"message": "no", "type": "invalid_request_error", "code": null})),
            "invalid_request_error",
        ),
        (
            400,
            body(json!({"message": "no", "type": "BadRequestError", "param": null, "code": 400})),
            "BadRequestError",
        ),
        (404, body(json!({"code": "DeploymentNotFound", "message": "no"})), "DeploymentNotFound"),
        (401, body(json!({"code": "401", "message": "no"})), "401"),
        (400, json!({"code": "invalid-argument", "error": "no"}).to_string(), "invalid-argument"),
        (
            400,
            json!({"object": "error", "message": "no", "type": "BadRequestError", "code": 400}).to_string(),
            "BadRequestError",
        ),
        (429, json!({"error": "busy", "error_type": "overloaded"}).to_string(), "overloaded"),
        (422, json!({"detail": [{"loc": ["body"], "msg": "no"}]}).to_string(), "422"),
        (429, json!({"statusCode": 429, "message": "no"}).to_string(), "429"),
        (502, "<html><body>Bad Gateway</body></html>".to_owned(), "502"),
        (503, String::new(), "503"),
    ] {
        let span = Exchange::new("h", PATH, asked(), status, &response).span();
        let (status_line, error_line) =
            (format!("http.response.status_code={status}"), format!("error.type={error}"));
        check(&span, &["error", "http", "tokentap", "usage", "response"], &[&status_line, &error_line]);
        assert_eq!(span.status, SpanStatus::Error(format!("HTTP {status}").into()));
        assert_eq!(span.name, "chat gpt-4o");
    }
}

#[test]
fn errors_inside_a_successful_response_are_errors() {
    let token = delta(json!({"content": "x"}), Json::Null);
    for (name, response, error, reasons) in [
        (
            "OpenAI",
            format!(
                "data: {token}\n\ndata: {}\n\n",
                json!({"error": {"type": "server_error", "code": null}})
            ),
            "server_error",
            &["response.finish_reasons=error"][..],
        ),
        (
            "Groq",
            format!(
                "data: {token}\n\nevent: error\ndata: {}\n\n",
                json!({"error": {"code": "tool_use_failed", "failed_generation": "secret"}})
            ),
            "tool_use_failed",
            &["response.finish_reasons=error"],
        ),
        (
            "OpenRouter",
            format!("data: {}\n\ndata: [DONE]\n\n", {
                let mut chunk = delta(json!({"content": ""}), json!("error"));
                chunk["error"] = json!({"code": 502, "message": "no"});
                chunk
            }),
            "502",
            &["response.finish_reasons=error"],
        ),
        (
            "text only",
            format!("data: {token}\n\ndata: {}\n\n", json!({"error": "no"})),
            "_OTHER",
            &["response.finish_reasons=error"],
        ),
        (
            "plain",
            format!("\n\n {}", json!({"error": {"code": 400, "message": "no"}, "user_id": "u"})),
            "400",
            &[],
        ),
    ] {
        let span = Exchange::new("h", PATH, asked(), 200, response).span();
        let error = format!("error.type={error}");
        check(&span, &["error", "response.finish", "tokentap.inc"], &[&[error.as_str()], reasons].concat());
        assert!(matches!(span.status, SpanStatus::Error(_)), "{name}");
    }
}

#[test]
fn the_provider_is_known_by_host_else_by_what_gives_the_server_away() {
    let with = |key: &str, value: Json| {
        let mut response = answered();
        response[key] = value;
        response
    };
    let choice = |key: &str| {
        let mut response = answered();
        response["choices"][0][key] = Json::Null;
        response
    };
    for (host, target, field, response, provider) in [
        ("api.openai.com", PATH, "x: y", answered(), "openai"),
        ("eu.api.openai.com", PATH, "x: y", answered(), "openai"),
        ("api.groq.com", "/openai/v1/chat/completions", "x: y", answered(), "groq"),
        ("api.x.ai", PATH, "x: y", answered(), "x_ai"),
        ("r.openai.azure.com", "/openai/v1/chat/completions", "x: y", answered(), "azure.ai.openai"),
        ("r.services.ai.azure.com", "/models/chat/completions", "x: y", answered(), "azure.ai.inference"),
        ("r.services.ai.azure.com", "/openai/v1/chat/completions", "x: y", answered(), "azure.ai.openai"),
        ("bedrock-mantle.us-east-1.api.aws", PATH, "x: y", answered(), "aws.bedrock"),
        ("localhost:8000", PATH, "x: y", choice("stop_reason"), "vllm"),
        ("localhost:8000", PATH, "x: y", choice("matched_stop"), "sglang"),
        ("localhost:8000", PATH, "server: llama.cpp", answered(), "llama_cpp"),
        ("localhost:8000", PATH, "x: y", with("system_fingerprint", json!("b4611-5598f475")), "llama_cpp"),
        ("localhost:8000", PATH, "x: y", with("timings", json!({"prompt_n": 1})), "llama_cpp"),
        ("localhost:8000", PATH, "x: y", with("system_fingerprint", json!("fp_ollama")), "ollama"),
        ("localhost:8000", PATH, "x: y", with("system_fingerprint", json!("3.0.1-native")), "tgi"),
        ("localhost:8000", PATH, "x-generation-id: g", answered(), "openrouter"),
        ("localhost:8000", PATH, "x: y", answered(), "openai"),
    ] {
        let (name, value) = field.split_once(": ").expect("a field");
        let exchange = Exchange::new(host, target, asked(), 200, response).response_field(name, value);
        let span = exchange.span();
        let namespace = "azure.resource_provider.namespace=Microsoft.CognitiveServices";
        let provider_line = format!("provider.name={provider}");
        let mut expected = vec![provider_line.as_str()];
        expected.extend((provider == "openai").then_some("openai.api.type=chat_completions"));
        expected.extend((provider == "azure.ai.inference").then_some(namespace));
        check(&span, &["provider", "openai.api", "azure"], &expected);
    }
}

#[test]
fn the_deployment_in_an_azure_path_is_what_was_asked_for() {
    let target = "//openai/deployments/my-gpt/chat/completions?api-version=2023-07-01-preview";
    for request in [json!({"messages": []}), json!({"messages": [], "model": "gpt-4o"})] {
        let span = Exchange::new("r.openai.azure.com", target, request, 200, answered()).span();
        assert_eq!(span.name, "chat my-gpt");
        check(
            &span,
            &["request.model", "response.model", "openai"],
            &["request.model=my-gpt", "response.model=gpt-4o-2024"],
        );
    }
}
