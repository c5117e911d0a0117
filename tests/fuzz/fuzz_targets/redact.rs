//! Redaction keeps the number of bytes, says which of them to withhold, and lets out nothing of what was planted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_abi::Direction;
use tokentap_fuzz::{replay, script};
use tokentap_tape::redact::Masker;

fuzz_target!(|input: &[u8]| {
    lengths_are_kept(input);
    planted_content_stays_inside(input);
});

fn lengths_are_kept(input: &[u8]) {
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
}

/// What nobody may see: in a query, in header fields, in what was said, and in what a tool was called with.
const PLANTED: &str = "sk-PlAnTeD-73";

/// Both directions of an exchange, cut anywhere and with pieces missing, with input where it may stand.
fn planted_content_stays_inside(input: &[u8]) {
    let (choices, noise) = input.split_at(input.len() / 2);
    let noise: String = noise.iter().map(|&byte| char::from(byte)).filter(|c| *c != '\u{0}').collect();
    // As a JSON string has it; in front of what is planted, so that it can lead astray.
    let text = serde_json::Value::from(format!("{noise} {PLANTED}")).to_string();
    let streamed = choices.first().is_some_and(|choice| choice & 1 != 0);
    let request = format!(
        "{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":{text}}}],\"tools\":[{{\"name\":\"t\",\
         \"description\":{text}}}],\"stream\":{streamed}}}"
    );
    let chunk = format!("{{\"id\":\"1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}");
    let (kind, response) = if streamed {
        ("text/event-stream", format!("data: {chunk}\n\ndata: [DONE]\n\n"))
    } else {
        ("application/json", chunk)
    };
    let directions = [
        format!(
            "POST /v1/chat/completions?key={PLANTED} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {PLANTED}\r\n\
             X-Note: {PLANTED}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{request}",
            request.len()
        ),
        format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: {PLANTED}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{response}",
            response.len()
        ),
    ];
    let mut masker = Masker::default();
    let mut choices = choices.iter().copied().cycle();
    for (dir, bytes) in [Direction::Write, Direction::Read].into_iter().zip(&directions) {
        let (mut at, mut out, mut seen) = (0, Vec::new(), Vec::new());
        while at < bytes.len() {
            let choice = choices.next().unwrap_or(u8::MAX);
            let end = bytes.len().min(at + 1 + usize::from(choice >> 1));
            let piece = &bytes.as_bytes()[at..end];
            // One piece in some is lost.
            if choice & 0x1f == 0x1f {
                masker.lost(dir, at as u64, piece.len() as u64);
                seen.clear();
            } else {
                let withheld = masker.data(dir, at as u64, piece, &mut out);
                withheld.into_iter().for_each(|range| out[range].fill(b'x'));
                seen.extend_from_slice(&out);
            }
            let comes_out = seen.windows(PLANTED.len()).any(|window| window == PLANTED.as_bytes());
            assert!(!comes_out, "{}", String::from_utf8_lossy(&seen));
            at = end;
        }
    }
}
