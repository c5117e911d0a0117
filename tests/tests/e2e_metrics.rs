//! Metrics of calls of a real client, at receivers that are not ours.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use tokentap_tests::{
    agent::Agent,
    bodies,
    client::{self, Job, Via},
    ledger::{Answer, Usage},
    metric::Series,
    mock::Mock,
    process::wait_until,
    receiver::{Receiver, free_port},
};

/// Some calls, over TLS.
fn job(mock: &Mock) -> Job {
    let mut job = Via::Tls.job(mock, bodies::assorted(client::OPENAI.api));
    job.env = vec![("OTEL_SERVICE_NAME".into(), "shop".into())];
    job
}

fn total(series: &[Series]) -> f64 {
    series.iter().map(|series| series.sum).sum()
}

/// What the server says that it counted.
fn tokens(answers: &[Answer], count: impl Fn(&Usage) -> Option<u64>) -> f64 {
    answers.iter().filter_map(|answer| answer.usage.as_ref()).filter_map(count).sum::<u64>() as f64
}

/// What was sent is what was counted, to the token, whatever share of the spans is exported.
fn check(receiver: &Receiver, endpoint: &str, flags: &[&str], ratio: f64) {
    let mock = Mock::for_test();
    let share = ratio.to_string();
    let sampling = ["--sampler", "traceidratio", "--sampler-arg", &share, "--metric-interval", "200ms"];
    let to = ["--exe", &client::OPENAI.exe(), "--otlp-endpoint", endpoint];
    let agent = Agent::run(&[&to[..], &sampling, flags].concat());
    let calls = client::OPENAI.run(&job(&mock)).len();
    let answers = mock.ledger().wait_for_answers(calls);
    let spans = agent.finish();
    let durations = receiver.wait_for_metric("gen_ai.client.inference.duration", |series| {
        series.iter().map(|series| series.count).sum::<u64>() == calls as u64
    });
    let input = receiver.metric("gen_ai.client.inference.usage.input_tokens");
    let output = receiver.metric("gen_ai.client.inference.usage.output_tokens");
    assert_eq!(total(&input), tokens(&answers, |usage| Some(usage.input)), "{input:#?}");
    assert_eq!(total(&output), tokens(&answers, |usage| usage.output), "{output:#?}");
    let old = receiver.metric("gen_ai.client.token.usage");
    assert_eq!(total(&old), total(&input) + total(&output));
    assert!(old.iter().all(|series| series.scope == "tokentap.v1_41"), "{old:#?}");
    for series in durations.iter().chain(&input).chain(&old) {
        assert_eq!(series.resource["service.name"], "shop");
        assert_eq!(series.attributes["gen_ai.provider.name"], "openai");
    }
    match ratio {
        0.0 => assert_eq!(spans.len(), 0),
        1.0 => {
            assert_eq!(spans.len(), calls);
            let examples: Vec<&String> = durations.iter().flat_map(|series| &series.exemplars).collect();
            assert!(examples.iter().all(|id| spans.iter().any(|span| span.span_id == **id)), "{examples:?}");
        }
        _ => assert!(spans.len() <= calls),
    }
}

#[test]
fn tokens_are_counted_to_the_token_at_the_collector_over_grpc() {
    let receiver = Receiver::collector();
    check(&receiver, &receiver.grpc(), &["--otlp-protocol", "grpc"], 1.0);
}

#[test]
fn calls_whose_spans_are_not_sampled_are_counted_at_the_collector_over_http() {
    let receiver = Receiver::collector();
    check(&receiver, &receiver.http(), &["--otlp-protocol", "http/json"], 0.0);
}

#[test]
fn python_reads_the_same_metrics() {
    let receiver = Receiver::python();
    check(&receiver, &receiver.grpc(), &["--otlp-protocol", "grpc"], 0.5);
}

#[test]
fn counting_begins_anew_when_the_agent_does() {
    let receiver = Receiver::collector();
    let mut since = None;
    for _ in 0..2 {
        let mock = Mock::for_test();
        let endpoint = receiver.http();
        let exe = client::OPENAI.exe();
        let agent = Agent::run(&["--exe", &exe, "--otlp-endpoint", &endpoint, "--metric-interval", "200ms"]);
        let calls = client::OPENAI.run(&job(&mock)).len();
        let sent = tokens(&mock.ledger().wait_for_answers(calls), |usage| usage.output);
        assert_eq!(agent.finish().len(), calls);
        let newest = |series: &[Series]| series.iter().map(|series| series.since).max();
        let name = "gen_ai.client.inference.usage.output_tokens";
        let of_this_agent = |series: &[Series]| -> Vec<Series> {
            series.iter().filter(|series| Some(series.since) > since).cloned().collect()
        };
        let series = receiver.wait_for_metric(name, |series| total(&of_this_agent(series)) >= sent);
        assert_eq!(total(&of_this_agent(&series)), sent, "{series:#?}");
        since = newest(&series);
    }
}

/// The status and the body of a page of the agent.
fn page(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the agent listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\n\r\n").expect("a request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).expect("a status").to_owned(), body.to_owned())
}

#[test]
fn the_agent_is_ready_with_a_dead_collector_and_shows_its_counters() {
    let (mock, port) = (Mock::for_test(), free_port());
    let (address, dead) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
    let flags = ["--exe", &client::OPENAI.exe(), "--admin-address", &address, "--otlp-endpoint", &dead];
    let agent = Agent::run(&[&flags[..], &["--drain-timeout", "1s"]].concat());
    assert_eq!(page(port, "/healthz"), ("200".into(), "ok\n".into()));
    let calls = client::OPENAI.run(&job(&mock)).len();
    assert_eq!(mock.ledger().wait_for_answers(calls).len(), calls);
    let counted = format!("tokentap_calls_total {calls}\n");
    wait_until(&counted, || page(port, "/metrics").1.contains(&counted));
    let (status, body) = page(port, "/readyz");
    let state: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status.as_str(), &state["ready"]), ("200", &true.into()), "{body}");
    let exporters = state["exporters"].as_array().expect("exporters");
    let otlp =
        exporters.iter().find(|exporter| exporter["name"].as_str().is_some_and(|name| name.contains(&dead)));
    assert_eq!(otlp.expect("the dead one")["exported"], 0, "{body}");
    assert_eq!(agent.stop().status.code(), Some(3), "something was lost");
    TcpStream::connect(("127.0.0.1", port)).expect_err("nobody listens any more");
}
