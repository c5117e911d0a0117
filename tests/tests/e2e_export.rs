//! Spans as receivers that are not ours get them, also when those are not there.

use std::{collections::BTreeMap, process::Command, time::Duration};

use serde_json::{Value, json};
use tokentap_tests::{
    agent::Agent,
    bodies,
    client::{self, Job, Via},
    expect::{INCOMPLETE, check_calls},
    mock::Mock,
    process::{Process, Signal},
    receiver::{Receiver, free_port},
    span::Span,
};

/// Some calls, over TLS.
fn job(mock: &Mock) -> Job {
    let mut job = Via::Tls.job(mock, bodies::assorted(client::OPENAI.api));
    job.env = vec![
        ("OTEL_SERVICE_NAME".into(), "shop".into()),
        ("OTEL_RESOURCE_ATTRIBUTES".into(), "deployment.environment.name=test,service.name=ignored".into()),
    ];
    job
}

/// What the observed process said of itself, and what can be seen of it.
fn check_resource(spans: &[Span], pid: u32) {
    for Span { resource, .. } in spans {
        assert_eq!(resource["service.name"], "shop");
        assert_eq!(resource["deployment.environment.name"], "test");
        assert_eq!(resource["process.pid"], json!(pid));
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(resource["host.name"], json!(hostname.trim()));
    }
}

/// Exports to `endpoint` with the flags that belong to it.
fn check(receiver: &Receiver, flags: &[&str]) {
    check_in(receiver, flags, &[]);
}

/// The same, with more of the environment.
fn check_in(receiver: &Receiver, flags: &[&str], environment: &[(&str, &str)]) {
    let mock = Mock::for_test();
    let agent = Agent::run_in(&[&["--exe", &client::OPENAI.exe()], flags].concat(), environment);
    let job = job(&mock);
    let running = client::OPENAI.start(&job);
    let pid = running.process().id();
    let calls = running.finish().len();
    let answers = mock.ledger().wait_for_answers(calls);
    let printed = agent.finish();
    let received = receiver.wait_for_spans(calls);
    check_calls(&printed, &answers);
    check_calls(&received, &answers);
    check_resource(&received, pid);
    let ids = |spans: &[Span]| -> BTreeMap<String, Value> {
        spans.iter().map(|span| (span.trace_id.clone(), span.get("gen_ai.response.id").clone())).collect()
    };
    assert_eq!(ids(&printed), ids(&received), "every exporter tells the same");
}

#[test]
fn the_collector_over_grpc() {
    let receiver = Receiver::collector();
    check(&receiver, &["--otlp-endpoint", &receiver.grpc(), "--otlp-protocol", "grpc"]);
}

#[test]
fn the_collector_over_http() {
    let receiver = Receiver::collector();
    check(&receiver, &["--otlp-endpoint", &receiver.http(), "--otlp-protocol", "http/protobuf"]);
}

#[test]
fn the_collector_over_http_with_json_and_zstd() {
    let receiver = Receiver::collector();
    let flags = ["--otlp-endpoint", &receiver.http(), "--otlp-protocol", "http/json"];
    check_in(&receiver, &flags, &[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")]);
}

#[test]
fn the_collector_over_grpc_with_zstd() {
    let receiver = Receiver::collector();
    let flags = ["--otlp-endpoint", &receiver.grpc(), "--otlp-protocol", "grpc"];
    check_in(&receiver, &flags, &[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")]);
}

#[test]
fn the_collector_over_a_unix_socket() {
    let receiver = Receiver::collector();
    check(&receiver, &["--otlp-endpoint", &receiver.unix(), "--otlp-protocol", "grpc"]);
}

#[test]
fn an_independent_receiver_over_grpc() {
    let receiver = Receiver::python();
    check(&receiver, &["--otlp-endpoint", &receiver.grpc(), "--otlp-protocol", "grpc"]);
}

#[test]
fn an_independent_receiver_over_http() {
    let receiver = Receiver::python();
    check(&receiver, &["--otlp-endpoint", &receiver.http(), "--otlp-protocol", "http/protobuf"]);
}

#[test]
fn several_receivers_each_get_everything() {
    let receivers = [Receiver::python(), Receiver::python()];
    let mock = Mock::for_test();
    let agent = Agent::run(&[
        "--exe",
        &client::OPENAI.exe(),
        "--otlp-endpoint",
        &receivers[0].grpc(),
        "--otlp-endpoint",
        &receivers[1].http(),
        "--otlp-protocol",
        "grpc",
        "--otlp-protocol",
        "http/protobuf",
    ]);
    let calls = client::OPENAI.run(&job(&mock)).len();
    let answers = mock.ledger().wait_for_answers(calls);
    check_calls(&agent.finish(), &answers);
    for receiver in &receivers {
        check_calls(&receiver.wait_for_spans(calls), &answers);
    }
}

#[test]
fn the_standard_variables_choose_the_receiver() {
    let receiver = Receiver::python();
    let mock = Mock::for_test();
    let agent = Agent::run_in(
        &["--exe", &client::OPENAI.exe()],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.http()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ],
    );
    let calls = client::OPENAI.run(&job(&mock)).len();
    let answers = mock.ledger().wait_for_answers(calls);
    check_calls(&receiver.wait_for_spans(calls), &answers);
    check_calls(&agent.finish(), &answers);
}

#[test]
fn a_receiver_that_starts_later_gets_everything() {
    let port = free_port();
    let mock = Mock::for_test();
    let endpoint = format!("http://127.0.0.1:{port}");
    let agent = Agent::run(&[
        "--exe",
        &client::OPENAI.exe(),
        "--otlp-endpoint",
        &endpoint,
        "--otlp-protocol",
        "grpc",
    ]);
    let calls = client::OPENAI.run(&job(&mock)).len();
    let answers = mock.ledger().wait_for_answers(calls);
    check_calls(&agent.wait_for_spans(calls), &answers);
    let receiver = Receiver::python_on(port);
    check_calls(&receiver.wait_for_spans(calls), &answers);
    check_calls(&agent.finish(), &answers);
}

#[test]
fn spans_that_nobody_takes_are_counted_and_change_the_exit_status() {
    let mock = Mock::for_test();
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let agent =
        Agent::run(&["--exe", &client::OPENAI.exe(), "--otlp-endpoint", &endpoint, "--drain-timeout", "1s"]);
    let calls = client::OPENAI.run(&job(&mock)).len();
    check_calls(&agent.wait_for_spans(calls), &mock.ledger().wait_for_answers(calls));
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.log);
    let said = ended.log.lines().last().unwrap_or_default();
    assert!(said.contains(&endpoint) && said.contains(&format!("={calls}")), "{}", ended.log);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mock = Mock::for_test();
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let agent =
        Agent::run(&["--exe", &client::OPENAI.exe(), "--otlp-endpoint", &endpoint, "--drain-timeout", "10m"]);
    let calls = client::OPENAI.run(&job(&mock)).len();
    assert!(agent.wait_for_spans(calls).len() == calls);
    agent.process().signal(Signal::TERM);
    agent.process().wait_for_complaint("line about draining", |line| line.contains("drain").then_some(()));
    agent.process().signal(Signal::TERM);
    // Ten minutes would be too late for this.
    let ended = agent.wait();
    assert_ne!(ended.status.code(), Some(0), "{}", ended.log);
}

#[test]
fn a_call_in_flight_at_the_end_is_exported_as_such() {
    let receiver = Receiver::python();
    let mock = Mock::for_test();
    let agent = Agent::run(&[
        "--exe",
        &client::OPENAI.exe(),
        "--otlp-endpoint",
        &receiver.grpc(),
        "--otlp-protocol",
        "grpc",
    ]);
    let job = Via::Tls.job(&mock, vec![bodies::stream(client::OPENAI.api, "mock-endless")]);
    let running = client::OPENAI.start(&job);
    mock.ledger().wait_for_streams(1);
    let printed = agent.finish();
    drop(running);
    let answer = &mock.ledger().wait_for_answers(1)[0];
    for spans in [printed, receiver.wait_for_spans(1)] {
        assert_eq!(spans.len(), 1, "{spans:#?}");
        assert_eq!(*spans[0].get("gen_ai.response.id"), json!(answer.id));
        assert_eq!(*spans[0].get("gen_ai.response.model"), json!(answer.response_model));
        assert_eq!(*spans[0].get(INCOMPLETE), json!(true));
        assert!(!spans[0].failed, "nobody can say that it failed: {:#?}", spans[0]);
    }
}

#[test]
fn the_callers_trace_goes_on() {
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", "curl"]);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--cacert"]).arg(mock.ca()).args([
        "--header",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "--data",
        &bodies::call(client::OPENAI.api, "mock").to_string(),
        &format!("https://{}/v1/chat/completions", mock.tls()),
    ]);
    assert!(Process::spawn(curl).wait(Duration::from_secs(10)).success());
    let spans = agent.finish();
    check_calls(&spans, &mock.ledger().wait_for_answers(1));
    assert_eq!(spans[0].trace_id, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(spans[0].parent_span_id, "b7ad6b7169203331");
}
