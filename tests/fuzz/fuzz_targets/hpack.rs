//! Field blocks (HPACK, RFC 7541) of requests and responses: whole in one frame each, or in many with padding and
//! priority, they give the same fields.
//!
//! Each step is one block: code 0 of the next request, odd ones of its response.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{
    http2,
    recorder::Recorder,
    replay::{self, Replay, Writer},
    script::{self, ScriptStep},
};

fuzz_target!(|input: &[u8]| {
    let blocks = script::read(input);
    let whole = play(&blocks, http2::headers);
    let cut = play(&blocks, http2::headers_in_pieces);
    assert_eq!(whole.exchanges, cut.exchanges);
    assert_eq!(whole.dropped.keys().collect::<Vec<_>>(), cut.dropped.keys().collect::<Vec<_>>());
});

fn play(blocks: &[ScriptStep], frames: fn(u32, &[u8]) -> Vec<u8>) -> Recorder {
    let mut connection = Writer::new(true);
    connection.data(replay::direction(0), http2::PREFACE);
    let mut stream = 1;
    for (n, block) in blocks.iter().enumerate() {
        if block.code & 1 == 0 && n > 0 {
            stream += 2;
        }
        connection.data(replay::direction(block.code), &frames(stream, &block.bytes));
    }
    let replay = Replay::new(&connection.finish());
    let mut recorder = Recorder::new(&replay.limits);
    replay.play(&mut recorder);
    recorder.check_over();
    recorder
}
