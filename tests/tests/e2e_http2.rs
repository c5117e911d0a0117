//! HTTP/2 as clients and servers speak it that nobody here wrote: every call is one span, on either side, and
//! says what the server sent.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tokentap_tests::{
    agent::Agent,
    bodies::{self, call, stream},
    client::{self, Client, Http, Job, Running, Via},
    exchange::{Exchange, Fields, traffic},
    expect::{INCOMPLETE, check_calls, check_served_calls},
    front::Front,
    ledger::{Answer, Api},
    parts,
    process::{PATIENCE, Process},
    span::Span,
};
use tokentap_wire::{Role, Version};

const OPENAI: Api = Api::OpenaiChat;

/// An agent that watches these clients whenever they start.
fn watch(clients: &[Client]) -> Agent {
    let executables: BTreeSet<String> = clients.iter().map(|client| client.exe()).collect();
    let arguments: Vec<&str> = executables.iter().flat_map(|exe| ["--exe", exe]).collect();
    Agent::run(&arguments)
}

/// Runs a client to its end: how many calls it made.
fn calls(client: Client, mut job: Job) -> usize {
    job.concurrency = 4;
    // This is what curl of Debian 12 cannot use a second time.
    let once = client == client::CURL && job.http == Http::Two && job.base_url.starts_with("http:");
    let size = if once { 1 } else { job.requests.len() };
    let requests = std::mem::take(&mut job.requests);
    let jobs = requests.chunks(size).map(|requests| Job { requests: requests.to_vec(), ..job.clone() });
    let reports: Vec<_> = jobs.flat_map(|job| client.run(&job)).collect();
    for report in &reports {
        assert!(report.status.is_some(), "{} got {report:?}", client.name);
    }
    reports.len()
}

/// Each of the clients calls each of these servers over HTTP/2.
fn check(clients: &[Client], fronts: &[Front], via: Via, upgrade: bool) {
    let agent = watch(clients);
    let mut answers: Vec<Answer> = Vec::new();
    for front in fronts {
        let mut made = 0;
        for client in clients {
            made += calls(*client, front.job(via, bodies::assorted(client.api)));
        }
        if upgrade {
            let mut job = front.job(via, bodies::assorted(OPENAI));
            job.http = Http::Upgrade;
            made += calls(client::CURL, job);
        }
        answers.extend(front.answers(via, made));
    }
    let mut spans = agent.finish();
    // Some of the servers are the same program as their clients.
    spans.retain(|span| asked_of(span, fronts.iter().map(|front| front.address(via).port())));
    check_calls(&spans, &answers);
}

/// Whether it is the span of a caller of one of these ports.
fn asked_of(span: &Span, mut ports: impl Iterator<Item = u16>) -> bool {
    span.kind == "CLIENT" && ports.any(|port| *span.get("server.port") == json!(port))
}

#[test]
fn clients_over_tls() {
    let clients = [client::CURL, client::HTTPX, client::HTTPX_ASYNC, client::NODE_HTTP2];
    check(&clients, &[Front::nginx(), Front::nghttpx()], Via::Tls, false);
}

#[test]
fn clients_in_the_clear() {
    let clients =
        [client::CURL, client::HTTPX, client::HTTPX_ASYNC, client::NODE_HTTP2, client::GO, client::HYPER];
    check(&clients, &[Front::nginx(), Front::go(), Front::hyper()], Via::Plain, false);
}

/// RFC 7540 §3.2: the connection begins as HTTP/1.1.
#[test]
fn a_connection_that_is_upgraded() {
    check(&[client::CURL], &[Front::nghttpx()], Via::Plain, true);
}

/// A call that is answered is a SERVER span, and forwarding it is a CLIENT span.
#[test]
fn servers_that_forward() {
    let fronts = [
        (Front::nginx(), Via::Tls),
        (Front::nginx(), Via::Plain),
        (Front::nghttpx(), Via::Tls),
        (Front::go(), Via::Plain),
        (Front::hyper(), Via::Plain),
    ];
    let pids: Vec<String> = fronts.iter().map(|(front, _)| front.process().id().to_string()).collect();
    let pids: Vec<&str> = pids.iter().flat_map(|pid| ["--pid", pid]).collect();
    let agent = Agent::run(&pids);
    let (mut served, mut forwarded) = (Vec::new(), Vec::new());
    for (front, via) in &fronts {
        let made = calls(client::HTTPX_ASYNC, front.job(*via, bodies::assorted(client::HTTPX_ASYNC.api)));
        served.extend(front.answers(*via, made));
        forwarded.extend(front.mock().ledger().wait_for_answers(made));
    }
    let (server, caller): (Vec<Span>, Vec<Span>) =
        agent.finish().into_iter().partition(|span| span.kind == "SERVER");
    check_served_calls(&server, &served);
    check_calls(&caller, &forwarded);
}

/// The spans of a tape.
fn replay(tape: &std::path::Path) -> Vec<Span> {
    let mut command = std::process::Command::new(parts::agent());
    command.arg("replay").arg(tape).arg("--console=json");
    let mut process = Process::spawn(command);
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{status}\n{}", process.transcript());
    process.stdout().all().iter().map(|line| Span::from_console(line)).collect()
}

/// Slow answers of 64 calls at once, over one connection of each client.
#[test]
fn sixty_four_streams_at_once_are_told_apart() {
    const STREAMS: usize = 64;
    let cases = [
        (client::HTTPX_ASYNC, Front::nginx(), Via::Tls),
        (client::HYPER, Front::go(), Via::Plain),
        (client::GO, Front::hyper(), Via::Plain),
    ];
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("streams.tape");
    let executables = cases.each_ref().map(|(client, ..)| client.exe());
    let mut arguments = vec!["--with-content"];
    arguments.extend(executables.iter().flat_map(|exe| ["--exe", exe]));
    let agent = Agent::record(&tape, &arguments);
    let mut answers = Vec::new();
    for (client, front, via) in &cases {
        let mut job = front.job(*via, vec![stream(client.api, "mock-chunks60-slow25"); STREAMS]);
        job.concurrency = STREAMS;
        assert!(client.run(&job).iter().all(|report| report.status == Some(200)));
        answers.extend(front.answers(*via, STREAMS));
    }
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.log);
    let mut connections = traffic(&tape);
    // Two of the servers are the same program as a client, and ask the mock.
    connections.retain(|connection| connection.exchanges.iter().all(asked_over_http2));
    let at_once: Vec<_> = connections.iter().map(|traffic| traffic.most_open).collect();
    assert_eq!(at_once, [STREAMS; 3], "streams open at once on each connection");
    assert!(connections.iter().all(|traffic| traffic.dropped.is_empty()), "{connections:#?}");
    let mut spans = replay(&tape);
    spans.retain(|span| asked_of(span, cases.iter().map(|(_, front, via)| front.address(*via).port())));
    check_calls(&spans, &answers);
}

fn asked_over_http2(exchange: &Exchange) -> bool {
    exchange.role == Role::Client && exchange.version == Version::Http2
}

/// Fields that say something else on each connection.
const OWN: [&str; 2] = ["date", "content-length"];

/// Of the connection's table of fields nothing is known: later calls are seen nevertheless, and what is said of
/// them is right, or said to be incomplete.
#[test]
fn a_connection_is_joined_after_a_hundred_calls() {
    let cases = [
        (client::HTTPX, Front::nghttpx(), Via::Tls),
        (client::HTTPX_ASYNC, Front::nginx(), Via::Tls),
        (client::NODE_HTTP2, Front::nghttpx(), Via::Tls),
        (client::NODE_HTTP2, Front::go(), Via::Plain),
        (client::GO, Front::hyper(), Via::Plain),
        (client::HYPER, Front::go(), Via::Plain),
    ];
    let requests =
        |api| [call(api, "mock-cached"), stream(api, "mock"), call(api, "mock-429"), stream(api, "mock")];
    let start = |client: Client, front: &Front, via: Via, before: usize| {
        let mut job = front.job(via, requests(client.api).to_vec());
        (job.wait, job.before) = (true, before);
        client.start(&job)
    };
    let mut late: Vec<Running> =
        cases.iter().map(|(client, front, via)| start(*client, front, *via, 100)).collect();
    let pids: Vec<String> = late.iter().map(|client| client.process().id().to_string()).collect();
    let executables: BTreeSet<String> = cases.iter().map(|(client, ..)| client.exe()).collect();
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("late.tape");
    let mut arguments = vec!["--with-content"];
    arguments.extend(pids.iter().flat_map(|pid| ["--pid", pid]));
    arguments.extend(executables.iter().flat_map(|exe| ["--exe", exe]));
    let agent = Agent::record(&tape, &arguments);
    let mut answers = Vec::new();
    let mut ports = BTreeMap::new();
    for (at, ((client, front, via), mut late)) in cases.iter().zip(late.drain(..)).enumerate() {
        let port = front.address(*via).port();
        late.go();
        assert_eq!(late.finish().len(), 4);
        let mut fresh = start(*client, front, *via, 0);
        ports.extend([&pids[at], &fresh.process().id().to_string()].map(|pid| (pid.clone(), port)));
        fresh.go();
        assert_eq!(fresh.finish().len(), 4);
        answers.extend(front.answers(*via, 108).into_iter().skip(100));
    }
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.log);
    let mut spans = replay(&tape);
    // Some of the servers are the same program as a client.
    spans.retain(|span| ports.contains_key(&span.resource["process.pid"].to_string()));
    for span in &mut spans {
        // Its head is not known in full, and that is said.
        if *span.get("tokentap.incomplete.reason") == json!("late_join") {
            span.attributes.remove(INCOMPLETE);
            let port = ports[&span.resource["process.pid"].to_string()];
            for (key, known) in [("server.address", json!("127.0.0.1")), ("server.port", json!(port))] {
                span.attributes.entry(key.to_owned()).or_insert(known);
            }
        }
    }
    check_calls(&spans, &answers);
    let mut connections = traffic(&tape);
    connections.retain(|connection| connection.exchanges.iter().all(asked_over_http2));
    assert_eq!(connections.len(), 2 * cases.len());
    for pair in connections.chunks(2) {
        assert!(pair.iter().all(|traffic| traffic.dropped.is_empty()), "{pair:#?}");
        let fresh = pair[1].exchanges.iter().filter(|exchange| exchange.asked[0] == "POST");
        for (late, fresh) in pair[0].exchanges.iter().zip(fresh) {
            check_late(late, fresh);
        }
    }
}

/// What is said of an exchange on a connection that was joined late is what was so on a new one.
fn check_late(late: &Exchange, fresh: &Exchange) {
    for (late, fresh) in [(&late.request, &fresh.request), (&late.response, &fresh.response)] {
        let known = |fields: &Fields| -> BTreeSet<(String, String)> {
            fields.iter().filter(|(name, _)| !OWN.contains(&name.as_str())).cloned().collect()
        };
        let (late_fields, fresh_fields) = (known(&late.fields), known(&fresh.fields));
        assert!(late_fields.is_subset(&fresh_fields), "{late:#?}\nnot as {fresh:#?}");
        assert!(!late.complete || late_fields == fresh_fields, "{late:#?}\nnot as {fresh:#?}");
        assert!(fresh.complete, "{fresh:#?}");
    }
    for (late, fresh) in late.asked.iter().zip(&fresh.asked) {
        assert!(late.is_empty() || late == fresh, "{late} for {fresh}");
    }
    assert!(late.authority.is_none() || late.authority == fresh.authority);
    assert!([Some(0), fresh.status].contains(&late.status), "{late:#?}");
    assert_eq!(late.request.body, fresh.request.body);
}
