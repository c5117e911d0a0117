//! A connection is followed however a process comes by it, whatever number it has, and whatever moves its bytes; and
//! nothing else is taken for one.

use std::{collections::BTreeMap, fs, process::Command};

use serde_json::json;
use tokentap_abi::Direction;
use tokentap_tests::{
    actor::{Actor, Gateway, observe, observe_by, text},
    agent::{Agent, Ended},
    bodies::call,
    client::{self, Job},
    expect::{INCOMPLETE, check_calls, check_served_calls},
    ledger::{Answer, Api},
    messages::{post, request},
    mock::Mock,
    parts,
    span::Span,
    storm::FILE_MODEL,
    tape,
};

fn of_kind(spans: &[Span], kind: &str) -> Vec<Span> {
    spans.iter().filter(|span| span.kind == kind).cloned().collect()
}

/// Calls through the gateway, each on a connection of its own: both sides of each are seen.
fn check_gateway(gateway: &Gateway, mock: &Mock) {
    const CLIENTS: usize = 3;
    let agent = Agent::run(&["--pid", &gateway.id()]);
    for _ in 0..CLIENTS {
        let job = Job::new("http", gateway.address(), mock.ca(), vec![call(Api::OpenaiChat, "mock"); 2]);
        assert_eq!(client::CURL.run(&job).len(), 2);
    }
    let answers = gateway.in_front(&mock.ledger().wait_for_answers(2 * CLIENTS));
    let spans = agent.wait_for_spans(2 * answers.len());
    check_calls(&of_kind(&spans, "CLIENT"), &answers);
    check_served_calls(&of_kind(&spans, "SERVER"), &answers);
    let ended = agent.stop();
    assert_eq!(ended.spans.len(), spans.len());
    ended.check_ledger();
}

#[test]
fn a_process_that_was_waiting_in_accept_is_seen() {
    let mock = Mock::for_test();
    check_gateway(&Gateway::start("itself", mock.plain()), &mock);
}

#[test]
fn a_child_serves_a_connection_that_its_parent_accepted() {
    let mock = Mock::for_test();
    check_gateway(&Gateway::start("fork", mock.plain()), &mock);
}

#[test]
fn a_program_is_started_with_a_connection_as_its_standard_input() {
    let mock = Mock::for_test();
    check_gateway(&Gateway::start("exec", mock.plain()), &mock);
}

#[test]
fn a_worker_serves_connections_that_are_passed_to_it() {
    let mock = Mock::for_test();
    check_gateway(&Gateway::start("pass", mock.plain()), &mock);
}

/// The primary process accepts, and passes connections to workers over a Unix socket.
#[test]
fn workers_of_a_node_cluster_are_seen() {
    let mock = Mock::for_test();
    let mut node = Command::new(parts::part("node/bin/node"));
    node.arg(parts::file("clients/cluster.mjs")).arg(mock.plain().port().to_string());
    check_gateway(&Gateway::spawn(node), &mock);
}

/// The connection was accepted before, and the server was waiting for its next request.
#[test]
fn a_read_that_was_waiting_when_the_agent_came_is_seen() {
    let mock = Mock::for_test();
    let gateway = Gateway::start("itself", mock.plain());
    let mut job = Job::new("http", gateway.address(), mock.ca(), vec![call(Api::OpenaiChat, "mock")]);
    (job.wait, job.before, job.rounds) = (true, 1, 3);
    let mut client = client::HTTPX.start(&job);
    let agent = Agent::run(&["--pid", &gateway.id()]);
    client.go();
    assert_eq!(client.finish().len(), 3);
    let answers = gateway.in_front(&mock.ledger().wait_for_answers(4)[1..]);
    let spans = agent.wait_for_spans(6);
    check_calls(&of_kind(&spans, "CLIENT"), &answers);
    check_served_calls(&of_kind(&spans, "SERVER"), &answers);
    agent.stop().check_ledger();
}

#[test]
fn a_connection_has_several_numbers_and_is_one_stream() {
    const CONNECTIONS: usize = 3;
    const CALLS: usize = 10;
    let mock = Mock::for_test();
    let server = mock.plain().to_string();
    let mut actor = Actor::start(&["dup", &server]);
    let agent = Agent::run(&["--no-follow", "--pid", &actor.id()]);
    actor.go();
    actor.wait_until_done();
    // The process still runs: the call whose connection lost its number is over because of that.
    let answers = mock.ledger().wait_for_answers(CALLS);
    check_calls(&agent.wait_for_spans(CALLS), &answers);
    actor.end::<()>();
    agent.stop().check_ledger();

    let folder = tempfile::tempdir().expect("a temporary folder");
    let tape = folder.path().join("dup.tape");
    let mut actor = Actor::start(&["dup", &server]);
    let agent = Agent::record(&tape, &["--no-follow", "--pid", &actor.id(), "--with-content"]);
    actor.go();
    actor.wait_until_done();
    actor.end::<()>();
    agent.stop().check_ledger();
    let sent = |streams: &[tape::Stream]| {
        let mut sent: Vec<u64> = streams.iter().map(|stream| stream.passed(Direction::Write)).collect();
        sent.sort_unstable();
        sent
    };
    let connections = mock.ledger().wait_for_connections(2 * CONNECTIONS).split_off(CONNECTIONS);
    let mut received: Vec<u64> = connections.iter().map(|traffic| traffic.received).collect();
    received.sort_unstable();
    let streams = tape::streams(&tape);
    assert_eq!(sent(&streams), received, "each connection is one stream");
    assert!(streams.iter().all(|stream| stream.close.is_some()), "each stream ended");
}

/// A file whose contents look like a call comes to have the number of a connection.
fn check_file_on_number(how: &str) {
    let mock = Mock::for_test();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [file, tape] = ["file", "a.tape"].map(|name| folder.path().join(name));
    let text_of_file = post(&json!({"messages": [], "model": FILE_MODEL}), mock.plain());
    fs::write(&file, text_of_file).expect("a file is written");
    let server = mock.plain().to_string();
    let arguments = ["file", "--how", how, "--file", text(&file), &server];

    let (_, ended) = observe::<()>(&arguments);
    check_calls(&ended.spans, &mock.ledger().wait_for_answers(2));
    // The next agent can start.
    drop(ended);

    let mut actor = Actor::start(&arguments);
    let agent = Agent::record(&tape, &["--no-follow", "--pid", &actor.id(), "--with-content"]);
    actor.go();
    actor.wait_until_done();
    actor.end::<()>();
    let ended = agent.stop();
    ended.check_ledger();
    let contains = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    let recorded = fs::read(&tape).expect("a tape");
    assert!(!contains(&recorded, FILE_MODEL.as_bytes()), "contents of a file are in the tape");
    let streams = tape::streams(&tape);
    let sent: Vec<&[u8]> = streams.iter().map(|s| &s.direction(Direction::Write).delivered[..]).collect();
    assert_eq!(
        sent,
        [request("mock", mock.plain()), request("mock", mock.plain())],
        "the calls themselves are"
    );
}

#[test]
fn a_file_that_dup2_puts_on_a_connections_number_is_no_traffic() {
    check_file_on_number("dup2");
}

#[test]
fn a_file_on_a_number_that_close_range_freed_is_no_traffic() {
    check_file_on_number("close-range");
}

#[test]
fn a_file_on_a_number_that_another_thread_closed_is_no_traffic() {
    check_file_on_number("close-in-thread");
}

#[test]
fn a_file_on_a_number_that_another_thread_still_reads_from_is_no_traffic() {
    check_file_on_number("dup2-while-reading");
}

/// The second of four calls on one connection moves bytes past every buffer: it is marked, the others are exact, and the
/// bytes are counted.
fn check_past_buffers(how: &str, counter: &str) {
    let mock = Mock::for_test();
    let (did, ended) = observe::<BTreeMap<String, u64>>(&["past", "--how", how, &mock.plain().to_string()]);
    let mut answers = mock.ledger().wait_for_answers(4);
    let marked = answers.remove(1);
    let (exact, incomplete): (Vec<Span>, Vec<Span>) =
        ended.spans.iter().cloned().partition(|span| *span.get(INCOMPLETE) != json!(true));
    check_calls(&exact, &answers);
    let [span] = &incomplete[..] else { panic!("{incomplete:#?}") };
    assert_eq!((span.failed, span.get("error.type")), (false, &json!(null)), "{span:#?}");
    let known = if how == "splice-answer" {
        ("gen_ai.request.model", json!(marked.request_model))
    } else {
        ("gen_ai.response.id", json!(marked.id))
    };
    assert_eq!(*span.get(known.0), known.1, "{span:#?}");
    assert_eq!(ended.counter(counter), did[0]["bytes"], "{counter}");
    assert_eq!(ended.status.code(), Some(3), "{}", ended.log);
}

#[test]
fn an_answer_that_is_spliced_is_marked_and_counted() {
    check_past_buffers("splice-answer", "tokentap.bytes.lost{stage=kernel,reason=splice}");
}

#[test]
fn a_request_that_is_spliced_is_marked_and_counted() {
    check_past_buffers("splice-request", "tokentap.bytes.lost{stage=kernel,reason=splice}");
}

#[test]
fn a_request_by_sendfile_is_marked_and_counted() {
    check_past_buffers("sendfile-request", "tokentap.bytes.lost{stage=kernel,reason=sendfile}");
}

/// Every call is exact, nothing is lost.
fn check_exact(arguments: &[&str], mock: &Mock, calls: usize) -> Vec<Answer> {
    let server = mock.plain().to_string();
    let (_, ended) = observe::<()>(&[arguments, &[&server]].concat());
    assert_all_exact(&ended, mock, calls)
}

fn assert_all_exact(ended: &Ended, mock: &Mock, calls: usize) -> Vec<Answer> {
    let answers = mock.ledger().wait_for_answers(calls);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    check_calls(&ended.spans, &answers);
    answers
}

#[test]
fn calls_by_io_uring_are_seen() {
    check_exact(&["uring", "--how", "both"], &Mock::for_test(), 3);
}

#[test]
fn several_operations_in_an_io_uring_are_told_apart() {
    check_exact(&["uring", "--how", "several"], &Mock::for_test(), 12);
}

#[test]
fn answers_by_io_uring_are_seen() {
    check_exact(&["uring", "--how", "reads"], &Mock::for_test(), 3);
}

#[test]
fn recvmsg_finds_the_end_of_an_answer() {
    let mock = Mock::for_test();
    let mut actor = Actor::start(&["recvmsg-end", &mock.plain().to_string()]);
    let agent = Agent::run(&["--no-follow", "--pid", &actor.id()]);
    actor.go();
    // The connections stay open as long as the process runs.
    actor.wait_until_done();
    check_calls(&agent.wait_for_spans(2), &mock.ledger().wait_for_answers(2));
    actor.end::<()>();
    agent.stop().check_ledger();
}

#[test]
fn a_thousand_pieces_are_one_request() {
    check_exact(&["pieces"], &Mock::for_test(), 3);
}

#[test]
fn a_request_of_6_megabytes_in_one_call_is_exact() {
    let answers = check_exact(&["large", "--bytes", "6000000"], &Mock::for_test(), 2);
    assert!(answers[0].request_bytes > 6_000_000);
}

/// One process may fill three quarters of the ring, and what it reads meanwhile. Beyond that the middle of a call is lost,
/// never its end, where clients put the model.
#[test]
fn a_request_of_15_megabytes_in_one_call_names_its_model() {
    let mock = Mock::for_test();
    let (_, ended) = observe::<()>(&["large", "--bytes", "15000000", &mock.plain().to_string()]);
    let answers = mock.ledger().wait_for_answers(2);
    assert!(answers[0].request_bytes > 15_000_000);
    ended.check_ledger();
    let (incomplete, exact): (Vec<Span>, Vec<Span>) =
        ended.spans.into_iter().partition(|span| *span.get(INCOMPLETE) == json!(true));
    assert_eq!((incomplete.len() + exact.len(), exact.is_empty()), (2, false));
    for span in incomplete {
        assert_eq!(*span.get("gen_ai.request.model"), json!(answers[0].request_model), "{span:#?}");
    }
}

#[test]
fn a_request_of_15_megabytes_in_one_call_is_exact_with_a_larger_ring() {
    let mock = Mock::for_test();
    let server = mock.plain().to_string();
    let (_, ended) = observe_by::<()>(&["--ring-size", "64MiB"], &["large", "--bytes", "15000000", &server]);
    assert_all_exact(&ended, &mock, 2);
}
