//! A record of the ring is decoded, or refused for a reason; what was decoded is what was there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_abi::{HEADER_LEN, HEADER_LEN_V1, Kind, decode, encode};

fuzz_target!(|record: &[u8]| {
    let Ok(frame) = decode(record) else { return };
    let (start, len) = (usize::from(frame.header.header_len), frame.header.len as usize);
    assert_eq!(frame.payload, &record[start..start + len]);
    assert_eq!(frame.total_len(), start + len);
    // The version is written as this build's.
    let written = encode(&frame.header);
    assert_eq!(written[1..HEADER_LEN_V1], record[1..HEADER_LEN_V1]);
    if start >= HEADER_LEN {
        // Between them lie the length and two reserved bytes.
        assert_eq!(written[HEADER_LEN_V1 + 4..], record[HEADER_LEN_V1 + 4..HEADER_LEN]);
    }
    assert!(frame.open().is_none() || matches!(frame.kind, Kind::Open | Kind::Bind));
    assert!(frame.close().is_none() || frame.kind == Kind::Close);
    assert!(frame.bound().is_none() || frame.kind == Kind::Bind);
    assert!(frame.child().is_none() || frame.filename().is_none());
});
