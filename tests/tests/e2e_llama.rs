//! An inference server that nobody here wrote: llama.cpp's, with a tiny model, over plain HTTP.

use std::process::Command;

use serde_json::{Value, json};
use tokentap_tests::{
    agent::Agent,
    bodies::{call, stream, with},
    client::{self, Via},
    ledger::Api,
    mock::Mock,
    parts,
    process::{Process, wait_until},
    receiver::free_port,
    span::Span,
};

fn server(port: u16) -> Process {
    let mut server = Command::new(parts::part("llama-venv/bin/python"));
    server.args(["-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", &port.to_string()]);
    server.arg("--model").arg(parts::part("tiny.gguf")).args(["--model_alias", "tiny"]);
    let server = Process::spawn(server);
    wait_until("llama.cpp's server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    server
}

/// The client's own view of what the server reports is what spans must say.
#[test]
fn tokens_are_those_that_the_server_reports() {
    let port = free_port();
    let _server = server(port);
    let limit = json!({"max_tokens": 12, "seed": 7});
    let requests = vec![
        with(call(Api::OpenaiChat, "tiny"), &limit),
        with(stream(Api::OpenaiChat, "tiny"), &limit),
        with(
            with(stream(Api::OpenaiChat, "tiny"), &limit),
            &json!({"stream_options": {"include_usage": true}}),
        ),
    ];
    let mock = Mock::for_test();
    for client in [client::OPENAI, client::REQUESTS, client::OPENAI_ASYNC] {
        let mut job = Via::Plain.job(&mock, requests.clone());
        job.base_url = format!("http://127.0.0.1:{port}");
        job.wait = true;
        let mut running = client.start(&job);
        let agent = Agent::run(&["--pid", &running.process().id().to_string()]);
        running.go();
        let reports = running.finish();
        let spans = agent.finish();
        assert_eq!(spans.len(), reports.len(), "{spans:#?}");
        for report in reports {
            assert_eq!(report.error, None);
            let of_report = |span: &&Span| *span.get("gen_ai.response.id") == json!(report.id);
            let span =
                spans.iter().find(of_report).unwrap_or_else(|| panic!("no span of {report:?}\n{spans:#?}"));
            let told = |key: &str| report.usage.as_ref().map_or(Value::Null, |usage| usage[key].clone());
            assert_eq!(span.name, "chat tiny");
            assert_eq!(*span.get("gen_ai.response.model"), json!(report.model));
            assert_eq!(*span.get("gen_ai.response.finish_reasons"), json!(report.finish_reasons));
            assert_eq!(*span.get("gen_ai.usage.input_tokens"), told("prompt_tokens"));
            assert_eq!(*span.get("gen_ai.usage.output_tokens"), told("completion_tokens"));
            assert_eq!(*span.get("server.port"), json!(port));
        }
    }
}
