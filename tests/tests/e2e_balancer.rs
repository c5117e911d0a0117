//! Behind a load balancer that says whose a connection is: the header of the PROXY protocol is no part of a call,
//! for who sends it nor for who reads it.

use serde_json::json;
use tokentap_tests::{
    agent::Agent,
    bodies,
    client::{self, Http, Via},
    expect::{check_calls, check_served_calls},
    front::Front,
    ledger::Api,
};

#[test]
fn a_proxy_protocol_header_hides_no_call() {
    let fronts = [
        (Front::nginx_behind_a_balancer(), Via::Plain, Http::One),
        (Front::nginx_behind_a_balancer(), Via::Tls, Http::One),
        (Front::nginx_behind_a_balancer(), Via::Tls, Http::Two),
    ];
    let pids = fronts.each_ref().map(|(front, ..)| front.process().id().to_string());
    let agent = Agent::run(&["--exe", "curl", "--pid", &pids[0], "--pid", &pids[1], "--pid", &pids[2]]);
    let mut answers = Vec::new();
    for (front, via, http) in &fronts {
        let mut job = front.job(*via, bodies::assorted(Api::OpenaiChat));
        (job.http, job.proxied) = (*http, true);
        let reports = client::CURL.run(&job);
        assert!(reports.iter().all(|report| report.status.is_some()), "{reports:?}");
        answers.extend(front.answers(*via, reports.len()));
    }
    let mut spans = agent.finish();
    let served: Vec<_> = spans.extract_if(.., |span| span.kind == "SERVER").collect();
    // nginx asks the mock, which expects no such header.
    let ports = fronts.each_ref().map(|(front, via, _)| json!(front.address(*via).port()));
    spans.retain(|span| ports.contains(span.get("server.port")));
    check_calls(&spans, &answers);
    check_served_calls(&served, &answers);
}
