//! Masking keeps the number of bytes, says which of them to withhold, and masks all of those.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{replay, script};
use tokentap_tape::redact::Masker;

fuzz_target!(|input: &[u8]| {
    let mut masker = Masker::default();
    let mut offsets = [0_u64; 2];
    let mut out = Vec::new();
    for step in script::read(input) {
        let dir = replay::direction(step.code);
        let offset = &mut offsets[dir.index()];
        if step.code & 2 != 0 {
            masker.lost(dir, *offset, step.bytes.len() as u64);
        } else {
            let withheld = masker.data(dir, *offset, &step.bytes, &mut out);
            assert_eq!(out.len(), step.bytes.len());
            let mut end = 0;
            for range in withheld {
                assert!(range.start >= end && range.start < range.end, "ranges in order, none empty");
                end = range.end;
                assert!(out[range].iter().all(|&byte| byte == b'x'));
            }
        }
        *offset += step.bytes.len() as u64;
    }
});
