//! Calls that fail: each is one span that says how, and claims nothing that was not seen.

use serde_json::json;
use tokentap_tests::{
    agent::Agent,
    bodies::{call, stream},
    client::{self, Client, Via},
    expect::{INCOMPLETE, check_calls},
    ledger::Api,
    mock::Mock,
    process::Signal,
    span::Span,
};

/// Calls with these models, plain and streamed, of each client: exactly one right span for each.
fn check(clients: &[Client], models: &[&str]) -> Vec<Span> {
    let mock = Mock::for_test();
    let agent = watch(clients);
    let mut calls = 0;
    for client in clients {
        for via in Via::BOTH {
            let requests =
                models.iter().flat_map(|model| [call(client.api, model), stream(client.api, model)]);
            calls += client.run(&via.job(&mock, requests.collect())).len();
        }
    }
    let answers = mock.ledger().wait_for_answers(calls);
    let spans = agent.finish();
    check_calls(&spans, &answers);
    spans
}

/// How many spans failed with this.
fn failed_with(spans: &[Span], error: &str) -> usize {
    spans.iter().filter(|span| *span.get("error.type") == json!(error)).count()
}

/// An agent that watches these clients whenever they start.
fn watch(clients: &[Client]) -> Agent {
    let executables: Vec<String> = clients.iter().map(|client| client.exe()).collect();
    let arguments: Vec<&str> = executables.iter().flat_map(|exe| ["--exe", exe]).collect();
    Agent::run(&arguments)
}

#[test]
fn refused_calls_name_the_error() {
    let models = ["mock-400", "mock-401", "mock-404", "mock-429", "mock-500", "mock-503", "mock-529"];
    check(&[client::REQUESTS, client::ANTHROPIC_ASYNC], &models);
}

#[test]
fn an_error_inside_a_stream_fails_the_call() {
    let clients = [client::REQUESTS, client::HTTPX_ASYNC, client::OPENAI_ASYNC, client::ANTHROPIC];
    check(&clients, &["mock-error", "mock-error-chunks40"]);
}

#[test]
fn a_cut_connection_leaves_an_incomplete_call() {
    let clients = [client::REQUESTS, client::HTTPX_ASYNC, client::OPENAI_ASYNC];
    let spans = check(&clients, &["mock-cut", "mock-cut-chunks40"]);
    assert_eq!(failed_with(&spans, "connection_closed"), spans.len(), "the server did it");
}

#[test]
fn without_token_counts_none_are_claimed() {
    check(&[client::REQUESTS, client::ANTHROPIC], &["mock-nousage", "mock-nousage-chunks40"]);
}

/// The clients leave, the server would go on for a minute.
#[test]
fn a_client_that_leaves_a_stream_ends_the_call() {
    /// Half a second: the socket of a connection over memory is found meanwhile.
    const EVENTS: usize = 100;
    let clients = [client::OPENAI, client::OPENAI_ASYNC, client::HTTPX_ASYNC, client::NODE];
    let mock = Mock::for_test();
    let agent = watch(&clients);
    let mut calls = 0;
    for client in clients {
        for via in Via::BOTH {
            let mut job = via.job(&mock, vec![stream(client.api, "mock-endless"); 2]);
            job.cancel_after = Some(EVENTS);
            let reports = client.run(&job);
            assert!(reports.iter().all(|report| report.events == EVENTS), "{reports:?}");
            calls += reports.len();
        }
    }
    let answers = mock.ledger().wait_for_answers(calls);
    assert!(answers.iter().all(|answer| !answer.whole));
    let spans = agent.finish();
    check_calls(&spans, &answers);
    assert_eq!(failed_with(&spans, "cancelled"), calls);
}

#[test]
fn a_target_killed_in_mid_call_leaves_one_incomplete_call() {
    for via in Via::BOTH {
        let mock = Mock::for_test();
        let agent = Agent::run(&["--exe", &client::OPENAI.exe()]);
        let job = via.job(&mock, vec![stream(Api::OpenaiChat, "mock-endless")]);
        let running = client::OPENAI.start(&job);
        mock.ledger().wait_for_streams(1);
        running.process().signal(Signal::KILL);
        let spans = agent.wait_for_spans(1);
        let answers = mock.ledger().wait_for_answers(1);
        check_calls(&agent.finish(), &answers);
        assert_eq!(*spans[0].get(INCOMPLETE), json!(true));
    }
}
