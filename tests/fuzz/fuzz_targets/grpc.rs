//! gRPC messages in pieces are those of the whole body; a message that is not all there is not given as whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{reference, script};
use tokentap_wire::grpc::Parser;

fuzz_target!(|input: &[u8]| {
    let steps = script::read(input);
    let pieces = script::pieces(&steps);
    let body: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let (expected, broken) = reference::messages(&body);
    let gaps = pieces.iter().any(|(gap, _)| *gap);
    for most in [64 << 10, 8] {
        let mut parser = Parser::new(most);
        let (mut messages, mut failed) = (Vec::new(), false);
        for &(gap, bytes) in &pieces {
            if gap {
                parser.gap(bytes.first().map(|&missing| missing.into()));
            }
            let fed = parser.feed(bytes, |message| {
                let flags = u8::from(message.compressed) | u8::from(message.trailers) << 7;
                assert!(message.bytes.len() <= message.len as usize);
                messages.push((flags, message.len, message.bytes.to_vec()));
            });
            failed |= fed.is_err();
        }
        if gaps {
            continue;
        }
        assert_eq!(failed, broken);
        assert_eq!(messages.len(), expected.len());
        for ((flags, len, bytes), (expected_flags, expected)) in messages.iter().zip(&expected) {
            assert_eq!((flags, *len as usize), (expected_flags, expected.len()));
            assert!(expected.starts_with(bytes) && bytes.len() >= expected.len().min(most));
        }
    }
});
