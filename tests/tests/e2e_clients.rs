//! Clients that nobody here wrote, watched from before their start and while they run: every call is one
//! span, and says what the server sent.

use tokentap_tests::{
    agent::Agent,
    bodies,
    client::{self, Client, Via},
    expect::check_calls,
    mock::Mock,
};

/// The agent is there first and knows the program only by its name.
fn watched_from_the_start(client: Client) {
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", &client.exe()]);
    let mut calls = 0;
    for via in Via::BOTH {
        let mut job = via.job(&mock, bodies::assorted(client.api));
        job.concurrency = 4;
        calls += client.run(&job).len();
    }
    let answers = mock.ledger().wait_for_answers(calls);
    check_calls(&agent.finish(), &answers);
}

/// The program runs, with a connection open over which calls will go.
fn watched_while_running(client: Client) {
    let mock = Mock::for_test();
    let mut running = Via::BOTH.map(|via| {
        let mut job = via.job(&mock, bodies::assorted(client.api));
        job.wait = true;
        job.concurrency = 2;
        client.start(&job)
    });
    let pids = running.each_ref().map(|client| client.process().id().to_string());
    let agent = Agent::run(&["--pid", &pids[0], "--pid", &pids[1]]);
    running.iter_mut().for_each(client::Running::go);
    let calls = running.into_iter().map(|client| client.finish().len()).sum();
    let answers = mock.ledger().wait_for_answers(calls);
    check_calls(&agent.finish(), &answers);
}

macro_rules! clients {
    ($($name:ident: $client:expr,)*) => { $(
        mod $name {
            #[test]
            fn watched_from_the_start() {
                super::watched_from_the_start($client);
            }

            #[test]
            fn watched_while_running() {
                super::watched_while_running($client);
            }
        }
    )* };
}

clients! {
    openai_sdk: tokentap_tests::client::OPENAI,
    openai_sdk_async: tokentap_tests::client::OPENAI_ASYNC,
    anthropic_sdk: tokentap_tests::client::ANTHROPIC,
    anthropic_sdk_async: tokentap_tests::client::ANTHROPIC_ASYNC,
    requests: tokentap_tests::client::REQUESTS,
    httpx: tokentap_tests::client::HTTPX,
    httpx_async: tokentap_tests::client::HTTPX_ASYNC,
    aiohttp: tokentap_tests::client::AIOHTTP,
    node_sdk: tokentap_tests::client::NODE,
    curl: tokentap_tests::client::CURL,
}
