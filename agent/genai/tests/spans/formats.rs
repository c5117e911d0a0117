//! Recordings of all formats: every number that a body has, read by a whole parser, is on the span.

use std::io::Read as _;

use serde_json::Value as Json;

use crate::{
    exchange::{Exchange, lines},
    recordings,
};

/// Where a format has its facts. Pointers are tried in order; of the documents of a stream, the last that has one counts.
struct Format {
    folder: &'static str,
    /// A part of the targets that it is for; others in the folder are not looked at.
    target: &'static str,
    operation: &'static str,
    provider: &'static str,
    /// Where the request says the model; empty: the path does.
    model: &'static str,
    id: &'static [&'static str],
    response_model: &'static [&'static str],
    input: &'static [&'static str],
    output: &'static [&'static str],
    reasons: &'static [&'static str],
}

const NOTHING: Format = Format {
    folder: "",
    target: "",
    operation: "chat",
    provider: "openai",
    model: "/model",
    id: &["/id"],
    response_model: &["/model"],
    input: &[],
    output: &[],
    reasons: &[],
};

const RESPONSES: Format = Format {
    folder: "openai-responses",
    target: "/responses",
    id: &["/response/id", "/id"],
    response_model: &["/response/model", "/model"],
    input: &["/response/usage/input_tokens", "/usage/input_tokens"],
    output: &["/response/usage/output_tokens", "/usage/output_tokens"],
    ..NOTHING
};

const GEMINI: Format = Format {
    folder: "gemini",
    target: "/v1beta/models/",
    operation: "generate_content",
    provider: "gcp.gemini",
    model: "",
    id: &["/responseId"],
    response_model: &["/modelVersion"],
    input: &["/usageMetadata/promptTokenCount"],
    output: &["/usageMetadata/candidatesTokenCount+/usageMetadata/thoughtsTokenCount"],
    ..NOTHING
};

const FORMATS: [Format; 18] = [
    RESPONSES,
    Format { folder: "deepseek", provider: "deepseek", ..RESPONSES },
    Format { folder: "xai", provider: "x_ai", ..RESPONSES },
    Format {
        folder: "openai-completions",
        target: "/completions",
        operation: "text_completion",
        input: &["/usage/prompt_tokens"],
        output: &["/usage/completion_tokens"],
        reasons: &["/choices/0/finish_reason"],
        ..NOTHING
    },
    Format {
        folder: "vllm",
        target: "/completions",
        operation: "text_completion",
        provider: "vllm",
        input: &["/usage/prompt_tokens"],
        output: &["/usage/completion_tokens"],
        reasons: &["/choices/0/finish_reason"],
        ..NOTHING
    },
    Format {
        folder: "openai-embeddings",
        target: "/embeddings",
        operation: "embeddings",
        id: &[],
        input: &["/usage/prompt_tokens"],
        ..NOTHING
    },
    Format {
        folder: "openai-images",
        target: "/images/",
        operation: "generate_content",
        id: &[],
        response_model: &[],
        ..NOTHING
    },
    Format { folder: "openai-moderations", target: "/moderations", operation: "moderation", ..NOTHING },
    Format {
        folder: "openai-assistants",
        target: "/runs",
        operation: "invoke_agent",
        id: &[],
        response_model: &[],
        input: &["/usage/prompt_tokens"],
        output: &["/usage/completion_tokens"],
        ..NOTHING
    },
    GEMINI,
    Format { target: "/publishers/", provider: "gcp.vertex_ai", ..GEMINI },
    Format { folder: "vertex", target: "/publishers/", provider: "gcp.vertex_ai", ..GEMINI },
    Format {
        folder: "cohere",
        target: "/v2/chat",
        provider: "cohere",
        response_model: &[],
        input: &["/usage/billed_units/input_tokens"],
        output: &["/usage/billed_units/output_tokens"],
        reasons: &["/finish_reason"],
        ..NOTHING
    },
    Format {
        folder: "cohere",
        target: "/rerank",
        operation: "rerank",
        provider: "cohere",
        response_model: &[],
        ..NOTHING
    },
    Format {
        folder: "ollama",
        target: "/api/chat",
        provider: "ollama",
        id: &[],
        input: &["/prompt_eval_count"],
        output: &["/eval_count"],
        reasons: &["/done_reason"],
        ..NOTHING
    },
    Format {
        folder: "ollama",
        target: "/api/generate",
        operation: "text_completion",
        provider: "ollama",
        id: &[],
        input: &["/prompt_eval_count"],
        output: &["/eval_count"],
        reasons: &["/done_reason"],
        ..NOTHING
    },
    Format {
        folder: "others",
        target: "/v1/rerank",
        operation: "rerank",
        provider: "voyageai",
        id: &[],
        input: &["/usage/total_tokens"],
        ..NOTHING
    },
    Format {
        folder: "openai-audio",
        target: "/audio/transcriptions",
        operation: "transcription",
        model: "",
        id: &[],
        response_model: &[],
        ..NOTHING
    },
];

/// The documents of a body: one, those of a list, of lines or of events.
fn documents(body: &[u8]) -> Vec<Json> {
    let mut text = Vec::new();
    match body.starts_with(&[0x1f, 0x8b]) {
        true => flate2::read::GzDecoder::new(body).read_to_end(&mut text).map(drop).expect("gzip"),
        false => text.extend_from_slice(body),
    }
    let text = String::from_utf8_lossy(&text);
    match serde_json::from_str(&text) {
        Ok(Json::Array(list)) => list,
        Ok(document) => vec![document],
        Err(_) => {
            let lines = text.lines().map(|line| line.strip_prefix("data:").unwrap_or(line));
            lines.filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
        }
    }
}

/// The last value that is there: `/a+/b` is a sum.
fn last(documents: &[Json], pointers: &[&str]) -> Option<Json> {
    documents.iter().rev().find_map(|document| {
        pointers.iter().find_map(|pointers| {
            let found: Vec<&Json> =
                pointers.split('+').filter_map(|at| document.pointer(at)).filter(|v| !v.is_null()).collect();
            match found.as_slice() {
                [] => None,
                [one] => Some((*one).clone()),
                many => Some(many.iter().filter_map(|v| v.as_i64()).sum::<i64>().into()),
            }
        })
    })
}

fn expected(format: &Format, exchange: &Exchange) -> Vec<String> {
    let request = documents(&exchange.request);
    let response = if exchange.status < 400 { documents(&exchange.response) } else { Vec::new() };
    // Objects of other kinds are parts of a stream.
    let runs: Vec<Json> = response
        .into_iter()
        .filter(|d| format.folder != "openai-assistants" || d["object"] == "thread.run")
        .collect();
    let text = |value: Json| match value {
        Json::String(text) => text,
        Json::Number(number) => number.as_f64().map_or_else(String::new, |n| (n as i64).to_string()),
        other => other.to_string(),
    };
    let mut lines =
        vec![format!("operation.name={}", format.operation), format!("provider.name={}", format.provider)];
    for (key, documents, pointers) in [
        ("response.id", &runs, format.id),
        ("response.model", &runs, format.response_model),
        ("usage.input_tokens", &runs, format.input),
        ("usage.output_tokens", &runs, format.output),
        ("response.finish_reasons", &runs, format.reasons),
        (
            "request.model",
            &request,
            if format.model.is_empty() { &[] } else { std::slice::from_ref(&format.model) },
        ),
    ] {
        if let Some(value) = last(documents, pointers) {
            lines.push(format!("{key}={}", text(value)));
        }
    }
    lines.sort();
    lines
}

#[test]
#[cfg_attr(not(recordings), ignore = "no recordings: TOKENTAP_RECORDINGS names their folder")]
fn every_recorded_call_of_every_format_has_what_its_bodies_have() {
    for format in &FORMATS {
        let exchanges = recordings::load(format.folder).into_iter();
        let mine = exchanges.filter(|(_, exchange)| {
            exchange.target.to_ascii_lowercase().contains(format.target) && exchange.method == "POST"
        });
        let mut count = 0;
        for (name, exchange) in mine {
            count += 1;
            let spans = exchange.spans();
            let [span] = spans.as_slice() else { panic!("{name}: {spans:?}") };
            let found = lines(span);
            for line in expected(format, &exchange) {
                assert!(found.contains(&line), "{name}: {line} is not in {found:#?}");
            }
            let numbers = found
                .iter()
                .filter(|line| line.starts_with("usage.input") || line.starts_with("usage.output"));
            let said = expected(format, &exchange).iter().filter(|line| line.starts_with("usage.")).count();
            assert_eq!(numbers.count(), said, "{name}: {found:#?}");
            assert_eq!(span.incomplete, None, "{name}: {found:#?}");
        }
        assert!(count > 0, "no recording of {} in {}", format.target, format.folder);
    }
}

/// Facts that are not in one place of the body.
#[test]
#[cfg_attr(not(recordings), ignore = "no recordings: TOKENTAP_RECORDINGS names their folder")]
fn recorded_calls_with_facts_in_the_path_in_header_fields_and_in_base64() {
    let bedrock = recordings::load("bedrock");
    for (part, expected) in [
        (
            "meta.llama",
            [
                "request.model=meta.llama3-1-70b-instruct-v1:0",
                "usage.input_tokens=5",
                "usage.output_tokens=10",
            ],
        ),
        (
            "anthropic.claude-v2",
            ["request.model=anthropic.claude-v2", "usage.input_tokens=14", "usage.output_tokens=10"],
        ),
        (
            "claude-3-5",
            ["response.finish_reasons=max_tokens", "usage.input_tokens=18135", "usage.output_tokens=50"],
        ),
        (
            "does-not-exist",
            ["request.model=does-not-exist", "error.type=ValidationException", "request.stream=true"],
        ),
    ] {
        let mut mine = bedrock.iter().filter(|(_, exchange)| exchange.target.contains(part)).peekable();
        assert!(mine.peek().is_some(), "{part}");
        for (name, exchange) in mine {
            let found = lines(&exchange.span());
            for line in expected {
                assert!(found.iter().any(|found| found == line), "{name}: {line} is not in {found:#?}");
            }
        }
    }
    let mcp = recordings::load("mcp");
    let names: Vec<String> =
        mcp.iter().flat_map(|(_, exchange)| exchange.spans()).map(|span| span.name).collect();
    let expected = [
        "initialize",
        "tools/list",
        "chat gpt-4o",
        "initialize",
        "tools/call ask_question",
        "tools/list",
        "chat gpt-4o",
    ];
    assert_eq!(names, expected);
}

#[test]
#[cfg_attr(not(recordings), ignore = "no recordings: TOKENTAP_RECORDINGS names their folder")]
fn recorded_streams_of_grpc_are_read_as_their_json_says() {
    let streams = recordings::grpc_streams("xai-grpc");
    assert!(!streams.is_empty());
    for (name, [request, response]) in streams {
        let framed = |messages: &[(Json, Vec<u8>)]| {
            let frame =
                |message: &Vec<u8>| [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
            messages.iter().flat_map(|(_, message)| frame(message)).collect::<Vec<u8>>()
        };
        let mut exchange = Exchange::new("api.x.ai", "/xai_api.Chat/GetCompletionChunk", "", 200, "");
        (exchange.request, exchange.response) = (framed(&request), framed(&response));
        exchange.response_fields = vec![("content-type".into(), "application/grpc".into())];
        let found = lines(&exchange.span());
        let documents: Vec<Json> = response.into_iter().map(|(json, _)| json).collect();
        let number = |at: &str| last(&documents, &[at]).and_then(|n| n.as_i64()).unwrap_or_default();
        let output = number("/usage/completion_tokens") + number("/usage/reasoning_tokens");
        for line in [
            format!("request.model={}", request[0].0["model"].as_str().expect("a model")),
            format!("response.id={}", documents[0]["id"].as_str().expect("an id")),
            format!("usage.input_tokens={}", number("/usage/prompt_tokens")),
            format!("usage.output_tokens={output}"),
        ] {
            assert!(found.contains(&line), "{name}: {line} is not in {found:#?}");
        }
    }
}
