//! HTTP/2 frames that are well-formed as such, in any order and with any content: the sink's contract holds, and
//! the connection costs no more than it says.
//!
//! Of a step's code, bit 0 is the direction, bits 1 to 4 are the frame's type (from 10 on: bytes without a frame
//! around them). Its first byte is the frame's flags, the second its stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{
    contract::{BodyPolicy, Contract},
    http2, memory,
    replay::{self, Replay, Writer},
    script,
};

/// As for HTTP/1, with the tables of sent fields.
const MOST: i64 = 256 << 10;

fuzz_target!(|input: &[u8]| {
    let Some((&settings, steps)) = input.split_first() else { return };
    let mut connection = Writer::new(settings & replay::OPENED != 0).small();
    if settings & http2::PREFACE_FIRST != 0 {
        connection.data(replay::direction(0), http2::PREFACE);
    }
    for step in script::read(steps) {
        connection.data(replay::direction(step.code), &http2::frame_of(&step));
    }
    let replay = Replay::new(&connection.finish());
    let mut sink = Contract::new(BodyPolicy::PlainBodies, &replay.limits);
    let peak = memory::peak(|| replay.play(&mut sink));
    sink.check_over();
    assert!(peak <= MOST, "{peak} bytes");
});
