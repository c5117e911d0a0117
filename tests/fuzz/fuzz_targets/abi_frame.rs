//! A record of the ring is decoded, or refused for a reason; what was decoded is what was there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_abi::{HEADER_LEN, decode, encode};

fuzz_target!(|record: &[u8]| {
    let Ok(frame) = decode(record) else { return };
    let len = frame.header.len as usize;
    assert_eq!(frame.payload, &record[HEADER_LEN..HEADER_LEN + len]);
    // The last three bytes are reserved.
    assert_eq!(encode(&frame.header)[..HEADER_LEN - 3], record[..HEADER_LEN - 3]);
    let payloads = [frame.open().is_some(), frame.close().is_some(), frame.bound().is_some()];
    assert!(payloads.into_iter().filter(|&is_there| is_there).count() <= 1);
    assert!(frame.child().is_none() || frame.filename().is_none());
});
