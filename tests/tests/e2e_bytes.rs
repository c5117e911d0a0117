//! Every byte, in order, in both directions; and where the ring is too small, every missing one counted.

use std::collections::BTreeMap;

use serde_json::Value;
use tokentap_abi::Direction;
use tokentap_tests::{
    agent::Agent,
    bodies::call,
    client::{self, Client, Job, Via},
    expect::{INCOMPLETE, check_calls, differences},
    mock::Mock,
    tape::{self, Stream},
};

/// Bytes of content and how many calls with it.
const LOADS: [(usize, usize); 4] = [(4 << 10, 200), (64 << 10, 100), (256 << 10, 20), (1 << 20, 20)];

fn job(mock: &Mock, client: Client, via: Via, (size, calls): (usize, usize)) -> Job {
    let mut job = via.job(mock, vec![call(client.api, "mock-echo")]);
    (job.pad, job.rounds) = (size, calls);
    job
}

/// What the client makes up, in Rust.
fn content(call: usize, size: usize) -> String {
    let blocks = (0..=size).step_by(14).map(|at| format!("{call:04}:{at:08} "));
    let mut content: String = blocks.collect();
    content.truncate(size);
    content
}

/// Echoes of each size, closed loop, and the tape of them.
fn check(client: Client, via: Via) {
    let mock = Mock::for_test();
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("bytes.tape");
    let agent = Agent::record(&tape, &["--exe", &client.exe(), "--with-content"]);
    for load in LOADS {
        for report in client.run(&job(&mock, client, via, load)) {
            assert_eq!((report.error, report.bytes), (None, load.0));
        }
    }
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    let streams = tape::streams(&tape);
    let mut wanted: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (size, calls) in LOADS {
        (0..calls).for_each(|call| *wanted.entry((call, size)).or_default() += 1);
    }
    let (mut requests, mut responses) = (wanted.clone(), wanted);
    for stream in &streams {
        assert_eq!(stream.tls, via == Via::Tls, "ciphertext is not copied");
        assert_eq!(stream.turns[0], stream.turns[1], "what frames say of a connection's turns");
        let [sent, received] = [Direction::Write, Direction::Read].map(|direction| {
            let bytes = stream.direction(direction);
            assert_eq!((bytes.lost, bytes.delivered.len() as u64), (0, stream.passed(direction)));
            messages(&bytes.delivered)
        });
        sent.iter().for_each(|body| strike_out(&mut requests, &body["messages"][0]["content"]));
        received.iter().for_each(|body| {
            let text = [&body["choices"][0]["message"]["content"], &body["content"][0]["text"]];
            strike_out(
                &mut responses,
                text.into_iter().find(|text| text.is_string()).unwrap_or(&Value::Null),
            );
        });
    }
    assert!(requests.is_empty() && responses.is_empty(), "not seen: {requests:?} {responses:?}");
    let mut totals: Vec<_> = mock
        .ledger()
        .wait_for_connections(streams.len())
        .iter()
        .map(|traffic| [traffic.received, traffic.sent])
        .collect();
    let mut seen: Vec<_> = streams.iter().map(passed).collect();
    totals.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, totals, "bytes sent and received on each connection");
}

fn passed(stream: &Stream) -> [u64; 2] {
    [stream.passed(Direction::Write), stream.passed(Direction::Read)]
}

/// Takes an exact content off the list of those that are still wanted.
fn strike_out(wanted: &mut BTreeMap<(usize, usize), usize>, got: &Value) {
    let got = got.as_str().expect("content");
    let call = got[..4].parse().unwrap_or_else(|_| panic!("content begins with {:?}", &got[..20]));
    assert!(got == content(call, got.len()), "content of call {call} is not what was sent");
    let left = wanted.get_mut(&(call, got.len())).unwrap_or_else(|| panic!("call {call} twice"));
    *left -= 1;
    if *left == 0 {
        wanted.remove(&(call, got.len()));
    }
}

/// The JSON bodies of HTTP messages with Content-Length, one behind the other.
fn messages(mut bytes: &[u8]) -> Vec<Value> {
    let mut bodies = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("the end of a head") + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.expect("a length").trim().parse().unwrap();
        bodies.push(serde_json::from_slice(&bytes[end..end + length]).unwrap());
        bytes = &bytes[end + length..];
    }
    bodies
}

macro_rules! clients {
    ($($name:ident: $client:expr,)*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn every_byte_over_tls() {
                check($client, Via::Tls);
            }

            #[test]
            fn every_byte_in_the_clear() {
                check($client, Via::Plain);
            }
        }
    )* };
}

clients! {
    sync: client::HTTPX,
    asyncio: client::AIOHTTP,
    asyncio_anthropic: client::HTTPX_ASYNC,
}

/// The ring holds less than one body.
#[test]
fn with_a_tiny_ring_every_byte_is_delivered_or_counted() {
    for via in Via::BOTH {
        let mock = Mock::for_test();
        let folder = tempfile::tempdir().unwrap();
        let tape = folder.path().join("tiny.tape");
        let agent =
            Agent::record(&tape, &["--exe", &client::OPENAI.exe(), "--with-content", "--ring-size", "64K"]);
        for load in LOADS {
            assert_eq!(client::HTTPX.run(&job(&mock, client::HTTPX, via, load)).len(), load.1);
        }
        let ended = agent.stop();
        let streams = tape::streams(&tape);
        let totals = mock.ledger().wait_for_connections(LOADS.len());
        let sent: u64 = totals.iter().map(|traffic| traffic.received + traffic.sent).sum();
        let lost: u64 = ["ring_full", "ring_share", "unreadable", "too_large"]
            .iter()
            .map(|reason| ended.counter(&format!("tokentap.bytes.lost{{stage=kernel,reason={reason}}}")))
            .sum();
        let delivered: usize =
            streams.iter().flat_map(|s| &s.directions).map(|bytes| bytes.delivered.len()).sum();
        assert!(lost > 0, "the ring is not tiny enough to show anything");
        assert_eq!(ended.status.code(), Some(3), "{}", ended.log);
        assert_eq!(ended.counter("tokentap.bytes.delivered"), delivered as u64);
        assert_eq!(delivered as u64 + lost, sent, "{}", ended.log);
        assert_eq!(streams.iter().flat_map(passed).sum::<u64>(), sent);
    }
}

/// What is missing makes a call incomplete, never wrong.
#[test]
fn with_a_tiny_ring_no_call_is_wrong() {
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", &client::OPENAI.exe(), "--ring-size", "64K"]);
    for load in LOADS {
        assert_eq!(client::HTTPX.run(&job(&mock, client::HTTPX, Via::Tls, load)).len(), load.1);
    }
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.log);
    let calls = LOADS.iter().map(|(_, calls)| calls).sum();
    let answers = mock.ledger().wait_for_answers(calls);
    assert!(ended.spans.len() <= answers.len(), "{} spans", ended.spans.len());
    let (incomplete, whole): (Vec<_>, Vec<_>) =
        ended.spans.into_iter().partition(|span| *span.get(INCOMPLETE) == Value::Bool(true));
    assert!(!incomplete.is_empty(), "the ring is not tiny enough to show anything");
    let of = |id: &Value| answers.iter().find(|answer| answer.id.as_deref() == id.as_str());
    for span in whole {
        let answer =
            of(span.get("gen_ai.response.id")).unwrap_or_else(|| panic!("nobody answered {span:#?}"));
        assert_eq!(differences(&span, answer), Vec::<String>::new(), "{span:#?}");
    }
    for span in incomplete {
        let Some(answer) = of(span.get("gen_ai.response.id")) else { continue };
        for (key, expected) in [
            ("gen_ai.usage.input_tokens", answer.usage.map(|usage| usage.input)),
            ("gen_ai.usage.output_tokens", answer.usage.and_then(|usage| usage.output)),
        ] {
            let got = span.get(key).as_u64();
            assert!(got.is_none() || got == expected, "{key} is {got:?}, was {expected:?}\n{span:#?}");
        }
    }
}

/// Bodies up to 1 MiB, both ways, are calls like any other.
#[test]
fn calls_with_large_bodies_are_exact() {
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", &client::OPENAI.exe()]);
    for (client, via) in
        [(client::HTTPX, Via::Tls), (client::AIOHTTP, Via::Tls), (client::REQUESTS, Via::Plain)]
    {
        for load in LOADS {
            assert_eq!(client.run(&job(&mock, client, via, load)).len(), load.1);
        }
    }
    let calls: usize = LOADS.iter().map(|(_, calls)| calls).sum();
    let answers = mock.ledger().wait_for_answers(3 * calls);
    check_calls(&agent.finish(), &answers);
}
