//! Records the golden tapes anew: real clients at the mock server, watched by the agent. Needs root; bless the
//! new spans with `UPDATE_GOLDEN=1 cargo test -p tokentap-tests --test tapes`.

use std::fs;

use serde_json::{Value, json};
use tokentap_tests::{
    agent::Agent,
    bodies::{call, stream, tools, with},
    client::{self, Client, Via},
    ledger::Api,
    mock::Mock,
    parts,
};

/// One tape.
struct Take {
    name: &'static str,
    client: Client,
    via: Via,
    requests: Vec<Value>,
    /// Calls in flight at a time.
    concurrency: usize,
    cancel_after: Option<usize>,
    /// Compressed bodies cannot be masked: these tapes keep what the mock made up.
    with_content: bool,
}

impl Take {
    fn new(name: &'static str, client: Client, via: Via, requests: Vec<Value>) -> Self {
        Self { name, client, via, requests, concurrency: 1, cancel_after: None, with_content: false }
    }

    fn record(self) {
        let mock = Mock::for_test();
        let tape = parts::file("tapes").join(self.name).with_extension("tape");
        let mut job = self.via.job(&mock, self.requests);
        job.concurrency = self.concurrency;
        job.cancel_after = self.cancel_after;
        job.env = vec![("OTEL_SERVICE_NAME".into(), "golden".into())];
        let exe = self.client.exe();
        let mut arguments = vec!["--exe", exe.as_str()];
        if self.with_content {
            arguments.push("--with-content");
        }
        let agent = Agent::record(&tape, &arguments);
        let reports = self.client.run(&job);
        assert!(
            reports.iter().all(|report| report.status.is_some()),
            "calls that were not made: {reports:?}"
        );
        let ended = agent.stop();
        assert!(ended.status.success(), "{}", ended.log);
        let bytes = fs::metadata(&tape).map_or(0, |file| file.len());
        println!("{}: {} calls, {bytes} bytes", tape.display(), reports.len());
    }
}

/// Records the tapes that are named, or all.
fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |take: &Take| names.is_empty() || names.iter().any(|name| name == take.name);
    takes().into_iter().filter(wanted).for_each(Take::record);
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
    ]
}
