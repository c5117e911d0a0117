//! The splitter, on which masking relies, gives every byte back once and in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{replay, script};
use tokentap_wire::{Limits, http1::Splitter};

fuzz_target!(|input: &[u8]| {
    let mut splitter = Splitter::new(Limits { head: 2 << 10, in_flight: 8, ..Limits::default() });
    let mut offsets = [0_u64; 2];
    let mut given = Vec::new();
    for step in script::read(input) {
        let dir = replay::direction(step.code);
        let offset = &mut offsets[dir.index()];
        if step.code & 2 != 0 {
            splitter.lost(dir, *offset, step.bytes.len() as u64);
        } else {
            given.clear();
            splitter.data(dir, *offset, &step.bytes, |_, part| given.extend_from_slice(part));
            assert_eq!(given, step.bytes);
        }
        *offset += step.bytes.len() as u64;
    }
});
