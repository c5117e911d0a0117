//! gRPC messages in pieces are those of the whole body, in gRPC-Web's text as well; a message that is not all there is
//! not given as whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{reference, script};
use tokentap_wire::grpc::{GrpcMessage, Parser, web};

/// Flags, length and bytes of a message.
type Told = (u8, u32, Vec<u8>);

fuzz_target!(|input: &[u8]| {
    let steps = script::read(input);
    let pieces = script::pieces(&steps);
    let body: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let (expected, broken) = reference::messages(&body);
    let gaps = pieces.iter().any(|(gap, _)| *gap);
    for most in [64 << 10, 8] {
        let mut parser = Parser::new(most);
        let mut binary = web::Parser::new(false, Parser::new(most));
        let (mut messages, mut of_web) = (Vec::new(), Vec::new());
        let mut failed = false;
        for &(gap, bytes) in &pieces {
            if gap {
                let missing = bytes.first().map(|&missing| missing.into());
                parser.gap(missing);
                binary.gap(missing);
            }
            let fed = parser.feed(bytes, |message| messages.push(told(&message)));
            failed |= fed.is_err();
            assert_eq!(fed, binary.feed(bytes, |message| of_web.push(told(&message))));
        }
        assert_eq!(messages, of_web);
        if !gaps {
            check(&messages, failed, &expected, broken, most);
        }
    }
    as_text(&pieces, &expected, broken);
});

fn told(message: &GrpcMessage<'_>) -> Told {
    let flags = u8::from(message.compressed) | u8::from(message.trailers) << 7;
    assert!(message.bytes.len() <= message.len as usize);
    (flags, message.len, message.bytes.to_vec())
}

fn check(messages: &[Told], failed: bool, expected: &[(u8, Vec<u8>)], broken: bool, most: usize) {
    assert_eq!(failed, broken);
    assert_eq!(messages.len(), expected.len());
    for ((flags, len, bytes), (expected_flags, expected)) in messages.iter().zip(expected) {
        assert_eq!((flags, *len as usize), (expected_flags, expected.len()));
        assert!(expected.starts_with(bytes) && bytes.len() >= expected.len().min(most));
    }
}

/// Each piece is encoded for itself, and cut again. After a gap nothing is told, and why is.
fn as_text(pieces: &[(bool, &[u8])], expected: &[(u8, Vec<u8>)], broken: bool) {
    let most = 64 << 10;
    let mut parser = web::Parser::new(true, Parser::new(most));
    let (mut messages, mut lost, mut failed) = (Vec::new(), false, false);
    for (gap, bytes) in pieces {
        if *gap {
            parser.gap(None);
            lost = true;
        }
        let before = messages.len();
        for piece in script::recut(&reference::base64(bytes)) {
            failed |= parser.feed(piece, |message| messages.push(told(&message))).is_err();
        }
        assert!(!lost || messages.len() == before, "a message after a gap");
        assert!(!lost || bytes.is_empty() || failed, "a gap without a reason");
    }
    if lost {
        assert!(messages.len() <= expected.len());
        check(&messages, false, &expected[..messages.len()], false, most);
    } else {
        check(&messages, failed, expected, broken, most);
    }
}
