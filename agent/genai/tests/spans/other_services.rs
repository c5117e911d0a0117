//! Other services have the paths of LLM APIs, too: their exchanges give no span.

use std::collections::BTreeMap;

use tokentap_genai::Api;

use crate::exchange::Exchange;

/// Parts of paths that no other service has: such a request is a call, whatever is answered.
const UNMISTAKABLE: &[&str] = &[
    "/chat/completions",
    "/v1/fim/completions",
    ":generateContent",
    ":streamGenerateContent",
    ":embedContent",
    ":batchEmbedContents",
    ":asyncBatchEmbedContent",
    "/v2/vectordb/entities/",
    "/agentAliases/{alias}/sessions/",
    "/knowledgebases/{id}/retrieve",
    "/model/{model+}/",
    "/text/generation",
    "/text/chat",
    "/cortex/",
    "/schemas/{schema}/agents/",
    "/cortex-search-services/",
    "/services/aigc/",
    "/services/embeddings/",
    "/services/rerank/",
    // gRPC names the package.
    "GenerativeService/",
    "PredictionService/",
    "xai_api.Chat/",
    "tei.v1.",
    "qdrant.Points/",
    "milvus.proto.",
    "/retrieveAndGenerate",
];

/// What the body of a request to a model has, where the path names the model.
const OF_A_MODEL: [&str; 3] = [r#""input":"#, r#""prompt":"#, r#""messages":"#];

const REQUESTS: &[&str] = &[
    "",
    "{}",
    "[]",
    r#"{"id":1,"name":"x","status":"new"}"#,
    r#"{"input":"x","url":"https://x.example"}"#,
    r#"{"query":"x","limit":5,"top_k":5}"#,
    r#"{"query":{"match":{"x":1}},"vector":[1,2]}"#,
    r#"{"text":"x","texts":["x"]}"#,
    r#"{"prompt":"x","image":"AAAA"}"#,
    r#"{"message":"x","conversation_id":"7"}"#,
    r#"{"messages":[{"id":1,"text":"x"}]}"#,
    r#"{"audio":"x.wav"}"#,
    r#"{"assistant_id":"a","agent":"bob"}"#,
    r#"{"type":"response.create"}"#,
];

const DOCUMENTS: &[&str] = &[
    r#"{"status":"ok"}"#,
    r#"{"id":"7","object":"order","status":"completed","created":1}"#,
    r#"{"id":1,"name":"x","model":"T1000"}"#,
    r#"{"error":"x"}"#,
    r#"{"error":{"code":"bad","message":"x","type":"t","status":"BAD"}}"#,
    r#"{"type":"error","code":"bad","message":"x"}"#,
    r#"{"object":"error","message":"x"}"#,
    r#"{"event_type":"error","detail":"x"}"#,
    r#"{"message":"x","response":"x","done":true}"#,
    r#"{"type":"message","id":"7","text":"x"}"#,
    r#"{"message":{"role":"admin","text":"x"}}"#,
    r#"{"text":"x","finish_reason":"done"}"#,
    r#"{"data":[{"id":1,"url":"https://x.example","score":1}]}"#,
    r#"{"results":[{"id":1,"score":0.5}]}"#,
    r#"{"result":[{"id":1,"value":0.5}]}"#,
    r#"{"matches":[{"id":1}],"hits":[]}"#,
    r#"{"choices":[{"id":1,"label":"x"}]}"#,
    r#"{"predictions":[{"class":"x","score":0.5}]}"#,
    r#"{"output":"x","outputs":["x"],"tokens":["x"]}"#,
    "[]",
    "[[]]",
    r#"[{"id":1,"score":0.5}]"#,
    "true",
];

fn bodies() -> Vec<(&'static str, String)> {
    let mut bodies = vec![("text/plain", "ok".to_owned()), ("image/png", "\u{1}PNG".to_owned())];
    for document in DOCUMENTS {
        bodies.push(("application/json", (*document).to_owned()));
        bodies.push(("text/event-stream", format!("data: {document}\n\n")));
        bodies.push(("application/x-ndjson", format!("{document}\n{document}\n")));
    }
    bodies.push(("text/event-stream", "event: error\ndata: {\"message\":\"x\"}\n\n".to_owned()));
    bodies
}

#[test]
fn other_services_with_such_a_path_give_no_span() {
    let bodies = bodies();
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let routes = Api::all().flat_map(|api| api.routes().map(move |route| (api, route)));
    for (api, route) in routes.filter(|(_, route)| !UNMISTAKABLE.iter().any(|part| route.path.contains(part)))
    {
        let target = target(route.path);
        let names_model = route.path.contains("{model}");
        let to_model = |request: &str| names_model && OF_A_MODEL.iter().any(|part| request.contains(part));
        for request in REQUESTS.iter().filter(|request| !to_model(request)) {
            for status in [200, 404] {
                for (kind, body) in &bodies {
                    let mut exchange = Exchange::new("example.com", &target, *request, status, body.as_str());
                    exchange.method = route.method.to_owned();
                    exchange.request_fields = vec![("Content-Type".into(), "application/json".into())];
                    exchange.response_fields = vec![("Content-Type".into(), (*kind).into())];
                    for span in exchange.spans() {
                        let of = format!("{api:?} {} {target}", route.method);
                        wrong
                            .entry(of)
                            .or_default()
                            .push(format!("{}: {request} {status} {body}", span.name));
                    }
                }
            }
        }
    }
    let first = wrong.iter().map(|(of, found)| format!("{of}: {} of them, {}", found.len(), found[0]));
    assert!(wrong.is_empty(), "{}", first.collect::<Vec<_>>().join("\n"));
}

/// A path of a route.
fn target(template: &str) -> String {
    let mut target = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (_, after) = after.split_once('}').expect("a name ends");
        target = target + before + "x7";
        rest = after;
    }
    target + rest
}
