//! The messages of a WebSocket are the same after an upgrade of HTTP/1 and on a stream of HTTP/2, and however the
//! bytes are cut; without compression, they are those of the whole conversation. The connection costs no more than
//! it says.
#![no_main]

use std::mem::discriminant;

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{
    contract::{BodyPolicy, Contract},
    memory,
    recorder::{Exchange, RecordedMessage, Recorder},
    reference,
    websocket::{CONVERSATIONS, Script},
};
use tokentap_wire::{Direction, Limits, Role};

/// The sink, the streams, and the decompression of two of them.
const MOST: i64 = (32 << 10) + 2 * (128 << 10);

fuzz_target!(|input: &[u8]| {
    let script = Script::new(input);
    // How much of a message comes before a ratio is found too large depends on how it is cut.
    let limits = Limits { decoded: 1 << 20, ratio: 1 << 30, search: 4 << 10, ..Limits::default() };
    let mut http2 = Recorder::new(&limits);
    script.play_http2(limits, &mut http2);
    http2.check_over();
    for conversation in 0..CONVERSATIONS {
        let mut http1 = Recorder::new(&limits);
        script.play_http1(conversation, limits, &mut http1);
        http1.check_over();
        assert_same(&http1.exchanges[&0], &http2.exchanges[&(conversation as u64)], "over HTTP/1 and HTTP/2");
    }
    if script.is_whole() {
        let mut recut = Recorder::new(&limits);
        script.play_http2_recut(limits, &mut recut);
        for (whole, recut) in http2.exchanges.values().zip(recut.exchanges.values()) {
            assert_same(whole, recut, "when cut");
        }
    }
    if script.is_whole() && !script.compresses() {
        for (exchange, conversation) in http2.exchanges.values().zip(0..) {
            for (from, dir) in [(Role::Client, Direction::Write), (Role::Server, Direction::Read)] {
                let expected = reference::websocket(&script.said(conversation, dir));
                let told = clear(exchange).filter(|message| message.from == from);
                assert!(
                    told.map(|message| &message.bytes.0).eq(&expected),
                    "{expected:?}: {:?}",
                    exchange.messages
                );
            }
        }
    }
    let small = Limits { inflating: 2, ..limits };
    let mut contract = Contract::new(BodyPolicy::Bodies, &small);
    let peak = memory::peak(|| script.play_http2(small, &mut contract));
    contract.check_over();
    assert!(peak <= MOST, "{peak} bytes");
});

/// The messages of which nothing is missing.
fn clear(exchange: &Exchange) -> impl Iterator<Item = &RecordedMessage> {
    exchange.messages.iter().filter(|message| message.whole && !message.gap)
}

/// How much of a message comes before its compression breaks is left to its decoder.
#[track_caller]
fn assert_same(one: &Exchange, other: &Exchange, how: &str) {
    let endings = [one, other].map(|exchange| exchange.ending.as_ref().map(discriminant));
    assert_eq!(endings[0], endings[1], "{how}: {:?} {:?}", one.ending, other.ending);
    assert!(clear(one).eq(clear(other)), "{how}: {:?} {:?}", one.messages, other.messages);
}
