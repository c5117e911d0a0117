//! Both directions of a connection, cut, interleaved and lost in any way: the sink's contract holds, and the
//! connection costs no more than it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{
    contract::{BodyPolicy, Contract},
    memory,
    replay::{self, Replay},
};

/// What the limits of [`replay::SMALL`] come to where no body has a coding, with what vectors allot ahead and the
/// sink itself: see [`tokentap_wire::Connection`].
const MOST: i64 = 160 << 10;

fuzz_target!(|input: &[u8]| {
    let replay = Replay::new(input);
    let small = input.first().is_some_and(|settings| settings & replay::SMALL != 0);
    let mut sink =
        Contract::new(if small { BodyPolicy::PlainBodies } else { BodyPolicy::Bodies }, &replay.limits);
    let peak = memory::peak(|| replay.play(&mut sink));
    sink.check_over();
    assert!(!small || peak <= MOST, "{peak} bytes");
});
