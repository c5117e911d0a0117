//! Records the golden tapes anew: real clients at the mock server, watched by the agent. Needs root; bless the
//! new spans with `UPDATE_GOLDEN=1 cargo test -p tokentap-tests --test tapes`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tokentap_tests::{
    agent::Agent,
    bodies::{call, stream, tools, with},
    client::{self, Client, Http, Job, Via},
    framings,
    front::Front,
    grpc,
    ledger::Api,
    mock::Mock,
    parts, websocket,
};
use tokentap_wire::Role;

/// One tape.
struct Take {
    name: &'static str,
    client: Client,
    via: Via,
    requests: Vec<Value>,
    /// Calls in flight at a time.
    concurrency: usize,
    cancel_after: Option<usize>,
    /// Calls on the connection before the agent is there.
    before: usize,
    /// Compressed bodies cannot be masked: these tapes keep what the mock made up.
    with_content: bool,
    /// HTTP/2: who is asked, how, and which side is watched.
    front: Option<(StartFront, Http, Role)>,
}

type StartFront = fn() -> Front;

impl Take {
    fn new(name: &'static str, client: Client, via: Via, requests: Vec<Value>) -> Self {
        Self {
            name,
            client,
            via,
            requests,
            concurrency: 1,
            cancel_after: None,
            before: 0,
            with_content: false,
            front: None,
        }
    }

    /// Over HTTP/2, all of it kept: the fields of that are compressed.
    fn http2(self, http: Http, front: StartFront, watched: Role) -> Self {
        Self { with_content: true, front: Some((front, http, watched)), ..self }
    }

    fn record(self) {
        let front = self.front.map(|(front, http, watched)| (front(), http, watched));
        let mock = Mock::for_test();
        let mut job = match &front {
            Some((front, http, _)) => Job { http: *http, ..front.job(self.via, self.requests) },
            None => self.via.job(&mock, self.requests),
        };
        job.concurrency = self.concurrency;
        job.cancel_after = self.cancel_after;
        (job.before, job.wait) = (self.before, self.before > 0);
        job.env = vec![("OTEL_SERVICE_NAME".into(), "golden".into())];
        let waiting = job.wait.then(|| self.client.start(&job));
        let (how, who) = match (&front, &waiting) {
            (Some((front, _, Role::Server)), _) => ("--pid", front.process().id().to_string()),
            (_, Some(client)) => ("--pid", client.process().id().to_string()),
            _ => ("--exe", self.client.exe()),
        };
        let mut arguments = vec![how, who.as_str()];
        if self.with_content {
            arguments.push("--with-content");
        }
        let tape = tape(self.name);
        let agent = Agent::record(&tape, &arguments);
        let reports = match waiting {
            Some(mut client) => {
                client.go();
                client.finish()
            }
            None => self.client.run(&job),
        };
        assert!(
            reports.iter().all(|report| report.status.is_some()),
            "calls that were not made: {reports:?}"
        );
        let ended = agent.stop();
        assert!(ended.status.success(), "{}", ended.log);
        end(&tape, reports.len());
    }
}

fn tape(name: &str) -> PathBuf {
    parts::file("tapes").join(name).with_extension("tape")
}

/// Ends a tape: where things lie on this machine is not to be on it.
fn end(tape: &Path, calls: usize) {
    let mut bytes = fs::read(tape).expect("a tape");
    for place in [parts::root().join("target/parts"), parts::root().to_owned()] {
        let place = place.canonicalize().expect("a folder");
        let place = place.as_os_str().as_encoded_bytes();
        // As long as before, for the lengths that are on the tape.
        let other: Vec<u8> =
            b"/opt".iter().copied().chain(std::iter::repeat(b'/')).take(place.len()).collect();
        for at in 0..bytes.len().saturating_sub(place.len()) {
            if bytes[at..].starts_with(place) {
                bytes[at..at + place.len()].copy_from_slice(&other);
            }
        }
    }
    fs::write(tape, &bytes).expect("a tape is written");
    println!("{}: {calls} calls, {} bytes", tape.display(), bytes.len());
}

/// Records the tapes that are named, or all.
fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    takes().into_iter().filter(|take| wanted(take.name)).for_each(Take::record);
    for (name, role, before) in
        [("grpc-client", Role::Client, 0), ("grpc-server", Role::Server, 0), ("grpc-late", Role::Client, 12)]
    {
        if wanted(name) {
            grpc::record(&tape(name), role, before);
            end(&tape(name), grpc::CASES.len());
        }
    }
    let say = json!([["text", 40, 1], ["text", 900, 3], ["binary", 300, 1], ["text", 0, 1]]);
    for (name, pair, compression) in [
        ("websocket-plain", (websocket::Peer::Node, websocket::Peer::Python), false),
        ("websocket-deflate", (websocket::Peer::Asyncio, websocket::Peer::Node), true),
        ("websocket-http2", (websocket::Peer::NodeHttp2, websocket::Peer::NodeHttp2), false),
    ] {
        if wanted(name) {
            let how = websocket::How { tls: compression, compression };
            let sent = websocket::record(&tape(name), &[pair], how, &say);
            end(&tape(name), sent.len());
        }
    }
    if wanted("framings") {
        framings::record(&tape("framings"));
        end(&tape("framings"), framings::EXCHANGES);
    }
}

fn takes() -> Vec<Take> {
    use Api::{AnthropicMessages as Anthropic, OpenaiChat as Openai};
    let counted = |body| with(body, &json!({"stream_options": {"include_usage": true}}));
    let everything_asked = json!({
        "max_tokens": 99, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END"], "n": 2,
        "frequency_penalty": 0.1, "presence_penalty": 0.2, "response_format": {"type": "json_object"},
    });
    let refused =
        |api| ["mock-400", "mock-401", "mock-429", "mock-500"].map(|model| call(api, model)).to_vec();
    let mixed = |api| {
        vec![
            call(api, "mock-cached"),
            stream(api, "mock-gzip"),
            call(api, "mock-429"),
            with(stream(api, "mock"), &tools(api)),
        ]
    };
    let coded = |api| {
        let models = ["mock-gzip-size3000", "mock-br-size3000", "mock-zstd-size3000", "mock-gzip-chunked"];
        models.iter().flat_map(|model| [call(api, model), stream(api, model)]).collect()
    };
    vec![
        Take::new(
            "openai-plain",
            client::OPENAI,
            Via::Tls,
            vec![
                with(call(Openai, "mock"), &everything_asked),
                with(call(Openai, "mock-cached-thinking"), &tools(Openai)),
                call(Openai, "mock-nousage"),
                call(Openai, "mock-chunked-size3000"),
                call(Openai, "mock-close"),
            ],
        ),
        Take::new(
            "openai-stream",
            client::OPENAI,
            Via::Tls,
            vec![
                counted(stream(Openai, "mock-chunks12")),
                stream(Openai, "mock-chunks12"),
                with(counted(stream(Openai, "mock-cached")), &tools(Openai)),
                with(counted(stream(Openai, "mock")), &json!({"n": 3})),
                stream(Openai, "mock-error"),
            ],
        ),
        Take {
            concurrency: 4,
            ..Take::new(
                "openai-asyncio",
                client::OPENAI_ASYNC,
                Via::Tls,
                (4..12)
                    .map(|chunks| counted(stream(Openai, &format!("mock-chunks{chunks}-slow1"))))
                    .collect(),
            )
        },
        Take::new("openai-refused", client::REQUESTS, Via::Plain, refused(Openai)),
        Take::new(
            "openai-cut",
            client::REQUESTS,
            Via::Plain,
            vec![call(Openai, "mock-cut"), stream(Openai, "mock-cut"), call(Openai, "mock")],
        ),
        Take {
            cancel_after: Some(4),
            ..Take::new("openai-cancelled", client::NODE, Via::Tls, vec![stream(Openai, "mock-endless"); 2])
        },
        Take { with_content: true, ..Take::new("curl-coded", client::CURL, Via::Plain, coded(Openai)) },
        Take::new(
            "anthropic-plain",
            client::HTTPX_ASYNC,
            Via::Tls,
            vec![
                call(Anthropic, "mock"),
                with(call(Anthropic, "mock-cached-thinking"), &tools(Anthropic)),
                with(
                    call(Anthropic, "mock"),
                    &json!({"temperature": 0.5, "top_k": 40, "stop_sequences": ["END"]}),
                ),
            ],
        ),
        Take {
            concurrency: 3,
            ..Take::new(
                "anthropic-stream",
                client::ANTHROPIC_ASYNC,
                Via::Tls,
                vec![
                    stream(Anthropic, "mock-cached-slow1"),
                    with(stream(Anthropic, "mock-thinking-cached-slow1"), &tools(Anthropic)),
                    stream(Anthropic, "mock-error"),
                    call(Anthropic, "mock-529"),
                ],
            )
        },
        Take::new("anthropic-refused", client::ANTHROPIC, Via::Plain, refused(Anthropic)),
        Take::new("http2-httpx", client::HTTPX, Via::Tls, mixed(Openai)).http2(
            Http::Two,
            Front::nghttpx,
            Role::Client,
        ),
        Take::new("http2-upgrade", client::CURL, Via::Plain, mixed(Openai)).http2(
            Http::Upgrade,
            Front::nghttpx,
            Role::Client,
        ),
        Take::new("http2-nginx", client::HTTPX_ASYNC, Via::Plain, mixed(Anthropic)).http2(
            Http::Two,
            Front::nginx,
            Role::Server,
        ),
        Take {
            concurrency: 24,
            ..Take::new(
                "http2-streams",
                client::GO,
                Via::Plain,
                vec![stream(Openai, "mock-chunks4-slow20"); 24],
            )
        }
        .http2(Http::Two, Front::hyper, Role::Client),
        Take { before: 100, ..Take::new("http2-late", client::NODE_HTTP2, Via::Plain, mixed(Openai)) }.http2(
            Http::Two,
            Front::go,
            Role::Client,
        ),
    ]
}
