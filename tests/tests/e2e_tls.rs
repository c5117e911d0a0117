//! TLS calls that are nested, that wait, that never return, and the ends of TLS connections; and one process that uses
//! TLS without bounds.

use std::process::Command;

use serde_json::json;
use tokentap_tests::{
    actor::{Actor, FakeSsl, Gateway, observe, text},
    agent::{Agent, Ended},
    bodies::call,
    client::{self, Via},
    expect::{INCOMPLETE, check_calls},
    ledger::{Answer, Api},
    mock::Mock,
    parts,
    process::{PATIENCE, Process, wait_until},
    span::Span,
};

/// Those that were seen to their end, and those that were not.
fn by_end(spans: Vec<Span>) -> (Vec<Span>, Vec<Span>) {
    spans.into_iter().partition(|span| *span.get(INCOMPLETE) != json!(true))
}

/// curl makes calls through TLS within TLS: each `SSL_write` of the inner connection makes one of the outer.
#[test]
fn calls_through_an_https_proxy_are_exact() {
    const CALLS: usize = 3;
    let mock = Mock::for_test();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let identity = folder.path().join("server.pem");
    std::fs::write(&identity, mock.identity()).expect("a certificate is written");
    let mut proxy = Command::new(parts::part("venv/bin/python"));
    proxy.arg(parts::file("clients/connect_proxy.py")).arg(&identity);
    let proxy = Gateway::spawn(proxy);

    let agent = Agent::run(&["--exe", "curl"]);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--cacert", text(mock.ca()), "--proxy-cacert", text(mock.ca())]);
    curl.args(["--proxy", &format!("https://{}", proxy.address())]);
    curl.args(["--data", &call(Api::OpenaiChat, "mock-size50000").to_string()]);
    curl.args((0..CALLS).map(|_| format!("https://{}/v1/chat/completions", mock.tls())));
    let mut curl = Process::spawn(curl);
    assert!(curl.wait(PATIENCE).success(), "{}", curl.transcript());
    let answers = mock.ledger().wait_for_answers(CALLS);
    check_calls(&agent.wait_for_spans(CALLS), &answers);
    agent.stop().check_ledger();
}

/// Bodies without a length, of which `close_notify` is the end, or nothing is; and one that has a length, and is cut, too.
/// Calls of Python's `ssl` are `SSL_read_ex`.
#[test]
fn close_notify_ends_an_answer_and_the_end_of_the_connection_alone_does_not() {
    const UNBOUNDED: &str = "mock-close-cut";
    let mock = Mock::for_test();
    let mut python = Command::new(parts::part("venv/bin/python"));
    python.arg(parts::file("clients/tls_until_end.py")).arg(mock.tls().port().to_string()).arg(mock.ca());
    python.args(["mock-close", UNBOUNDED, "mock-cut", "mock-close-size100000"]);
    let mut client = Actor::spawn(python);
    let agent = Agent::run(&["--no-follow", "--pid", &client.id()]);
    client.go();
    client.wait_until_done();
    // Connections that ended in good order stay open as long as the process runs.
    let mut spans = agent.wait_for_spans(4);
    let mut answers = mock.ledger().wait_for_answers(4);
    client.end::<()>();
    agent.stop().check_ledger();
    let model = json!(UNBOUNDED);
    let cut = spans.iter().position(|span| *span.get("gen_ai.request.model") == model);
    let cut = spans.swap_remove(cut.expect("a span of each call"));
    let answer = answers.remove(1);
    assert_eq!((cut.get(INCOMPLETE), cut.get("gen_ai.response.id")), (&json!(true), &json!(answer.id)));
    check_calls(&spans, &answers);
}

/// asyncio moves ciphertext through memory: which socket carries which connection is found by the ciphertext. Requests
/// without `Host` are said to go where their socket is connected to.
#[test]
fn each_connection_over_memory_is_bound_to_its_own_socket() {
    const CONNECTIONS: usize = 200;
    const ADDRESSES: usize = 20;
    /// The answer's size, plus the number of the server's address, is in the model.
    const SIZE: usize = 1000;
    let mock = Mock::for_test();
    for last in 2..=ADDRESSES {
        mock.listen_at(format!("127.0.0.{last}").parse().expect("an address"));
    }
    let mut python = Command::new(parts::part("venv/bin/python"));
    python.arg(parts::file("clients/tls_addresses.py")).arg(mock.tls().port().to_string()).arg(mock.ca());
    python.args([CONNECTIONS, ADDRESSES, SIZE].map(|number| number.to_string()));
    let mut client = Actor::spawn(python);
    let agent = Agent::run(&["--no-follow", "--pid", &client.id()]);
    client.go();
    wait_until("the address of the first connection is known", || {
        agent.wait_for_spans(1).iter().any(|span| *span.get("server.address") == json!("127.0.0.1"))
    });
    client.go();
    client.wait_until_done();
    client.end::<()>();
    let ended = agent.stop();
    ended.check_ledger();
    let expected = |number: usize| {
        let (address, model) = (format!("127.0.0.{}", 1 + number), format!("mock-size{}", SIZE + number));
        (json!(model), json!(address), json!(mock.tls().port()))
    };
    let place = |span: &Span| {
        let [model, address, port] =
            ["gen_ai.request.model", "server.address", "server.port"].map(|key| span.get(key).clone());
        (model, address, port)
    };
    let mut expected: Vec<_> = (0..CONNECTIONS).map(|number| expected(number % ADDRESSES)).collect();
    let mut places: Vec<_> = ended.spans.iter().map(place).filter(|place| place.0 != json!("mock")).collect();
    expected.sort_by_key(|place| format!("{place:?}"));
    places.sort_by_key(|place| format!("{place:?}"));
    assert_eq!(places, expected);
}

/// curl's calls are `SSL_read`.
#[test]
fn close_notify_ends_an_answer_to_curl() {
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", "curl"]);
    let bodies = ["mock-close", "mock-close-size100000"].map(|model| call(Api::OpenaiChat, model)).to_vec();
    assert_eq!(client::CURL.run(&Via::Tls.job(&mock, bodies)).len(), 2);
    check_calls(&agent.finish(), &mock.ledger().wait_for_answers(2));
}

/// Every thread waits for the answer to its own request, while others call.
#[test]
fn nine_thousand_calls_that_wait_get_their_own_answers() {
    const WAIT: usize = 9000;
    const BESIDE: usize = 20;
    let (fake, mock) = (FakeSsl::build(), Mock::for_test());
    let mut waiting = fake.start("all-wait", WAIT);
    let queue = [("OTEL_BSP_MAX_QUEUE_SIZE", "8192")];
    let agent = Agent::run_in(&["--no-follow", "--pid", &waiting.id(), "--exe", "curl"], &queue);
    waiting.go();
    waiting.process().wait_for_line("waiting", |line| (line == "\"waiting\"").then_some(()));
    for via in Via::BOTH {
        let job = via.job(&mock, vec![call(Api::OpenaiChat, "mock"); BESIDE]);
        assert_eq!(client::CURL.run(&job).len(), BESIDE);
    }
    let beside = mock.ledger().wait_for_answers(2 * BESIDE);
    check_calls(&agent.wait_for_spans(beside.len()), &beside);
    for released in (1000..=WAIT).step_by(1000) {
        waiting.go();
        assert_eq!(agent.wait_for_spans(beside.len() + released).len(), beside.len() + released);
    }
    waiting.wait_until_done();
    let answers = [waiting.end(), beside].concat();
    check_without_loss(agent.stop(), &answers);
}

fn check_without_loss(ended: Ended, answers: &[Answer]) {
    ended.check_ledger();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    check_calls(&ended.spans, answers);
}

/// A thread that ends takes its call with it, and nothing else.
#[test]
fn threads_that_end_in_the_middle_of_a_call_do_not_shift_those_of_others() {
    const THREADS: usize = 50;
    let fake = FakeSsl::build();
    let (answers, ended) = observe_handles(&fake, "threads-end", THREADS);
    let (whole, cut) = by_end(ended.spans);
    check_calls(&whole, &answers);
    assert_eq!(cut.len(), THREADS);
    let models =
        |span: &Span| (span.get("gen_ai.request.model").clone(), span.get("gen_ai.response.id").clone());
    let mut cut: Vec<_> = cut.iter().map(models).map(|(model, id)| (model.to_string(), id)).collect();
    cut.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = (THREADS..2 * THREADS).map(|number| (format!("\"handle-{number}\""), json!(null)));
    assert_eq!(cut, expected.collect::<Vec<_>>());
}

fn observe_handles(fake: &FakeSsl, how: &str, count: usize) -> (Vec<Answer>, Ended) {
    let library = fake.path();
    observe(&["handles", "--how", how, "--count", &count.to_string(), text(&library)])
}

/// A handle with two owners lives until both have freed it; one at the same address is then another connection's.
#[test]
fn a_handle_with_two_owners_is_not_over_when_one_frees_it() {
    let (answers, ended) = observe_handles(&FakeSsl::build(), "up-ref", 1);
    let (whole, cut) = by_end(ended.spans);
    check_calls(&whole, &answers);
    let [cut] = &cut[..] else { panic!("{cut:#?}") };
    assert_eq!(*cut.get("gen_ai.request.model"), json!("handle-6"), "freed in the middle of the call");
}

/// OpenSSL has it since 3.3.
#[test]
fn requests_by_ssl_write_ex2_are_seen() {
    let (answers, ended) = observe_handles(&FakeSsl::build(), "write-ex2", 5);
    check_without_loss(ended, &answers);
    assert_eq!(answers.len(), 5);
}

/// OpenSSL has it since 3.0; it works with TLS in the kernel only.
#[test]
fn a_request_by_ssl_sendfile_is_marked_and_counted() {
    let (answers, ended) = observe_handles(&FakeSsl::build(), "sendfile", 1);
    assert!(
        ended.counter("tokentap.bytes.lost{stage=kernel,reason=sendfile}") > 0,
        "{:#?}",
        ended.counters()
    );
    let (whole, cut) = by_end(ended.spans);
    check_calls(&whole, &answers);
    let [cut] = &cut[..] else { panic!("{cut:#?}") };
    assert_eq!((cut.get("gen_ai.response.id"), cut.failed), (&json!("handle-0"), false), "{cut:#?}");
}

/// As large as they come: what `SSL_write_ex` did not take at once is handed to it again.
#[test]
fn large_requests_over_tls_are_exact() {
    const CALLS: usize = 2;
    let mock = Mock::for_test();
    let mut job = Via::Tls.job(&mock, vec![call(Api::OpenaiChat, "mock")]);
    (job.pad, job.rounds) = (6_000_000, CALLS);
    let agent = Agent::run(&["--exe", &client::HTTPX.exe()]);
    assert_eq!(client::HTTPX.run(&job).len(), CALLS);
    check_without_loss(agent.stop(), &mock.ledger().wait_for_answers(CALLS));
}

/// One process opens connections without end; it alone loses.
#[test]
fn a_process_over_its_quota_takes_nothing_from_others() {
    const CALLS: usize = 100;
    let mock = Mock::for_test();
    let mut noisy = FakeSsl::build().start("noisy", 1);
    let mut job = Via::Tls.job(&mock, vec![call(Api::OpenaiChat, "mock")]);
    (job.wait, job.before, job.rounds) = (true, 1, CALLS);
    let mut steady = client::HTTPX.start(&job);
    let id = steady.process().id();
    let agent = Agent::run(&["--no-follow", "--pid", &noisy.id(), "--pid", &id.to_string()]);
    let name = format!("pid={} ", noisy.id());
    let named = |line: &str| line.contains("more open connections") && line.contains(&name);
    noisy.go();
    agent.process().wait_for_complaint("name of the process", |line| named(line).then_some(()));
    steady.go();
    assert_eq!(steady.finish().len(), CALLS);
    let mut answers = mock.ledger().wait_for_answers(CALLS + 1);
    answers.remove(0);
    drop(noisy);
    let ended = agent.stop();
    let of_steady = |span: &&Span| span.resource["process.pid"] == json!(id);
    let spans: Vec<Span> = ended.spans.iter().filter(of_steady).cloned().collect();
    check_calls(&spans, &answers);
    ended.check_ledger();
    assert_eq!(ended.log.lines().filter(|line| named(line)).count(), 1, "{}", ended.log);
    assert!(ended.counter("tokentap.streams.refused{reason=stream_quota}") > 0);
    assert!(ended.counter("tokentap.bytes.lost{stage=kernel,reason=stream_quota}") > 0);
    assert_eq!(ended.counter("tokentap.entries.lost{reason=map_full}"), 0, "nobody's table is full");
}
