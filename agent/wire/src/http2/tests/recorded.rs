//! What real ends wrote: nghttp 1.52 asks, python-h2 4 answers.

use super::*;

/// Three requests on one connection.
const CALLS: &[(Direction, &str)] = &[
    (
        Write,
        "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a00000c04000000000000030000006400040000ffff0000050200\
         0000000300000000c80000050200000000050000000064000005020000000007000000000000000502000000000900000007\
         0000000502000000000b000000030000004801240000000d0000000b0f83048e63b85824e34b043d35d05498f52386418b08\
         9d5c0b8170dc0bcfb22f53032a2f2a907a8aaa69d29ac4c0576c4b830f0d0231335f8b1d75d0620d263d4c7441ea00001d01\
         240000000f0000000b0f83048a63b8582d3196490d54c886c1c090bf0f0d023133be00001b0124000000110000000b0f8304\
         8863b858a4f216847f86c1c090bf0f0d023133be00000d00010000000d7b226d6f64656c223a226d227d00000d0001000000\
         0f7b226d6f64656c223a226d227d00000d0001000000117b226d6f64656c223a226d227d",
    ),
    (
        Read,
        "00002a04000000000000010000100000020000000000040000ffff0005000040000008000000000003000000640006000100\
         00",
    ),
    (
        Read,
        "00000004010000000000002001040000000d885f8c497ca582f72d495909b0a3a74089f2b585ed6950958d2785b0bda20b3f\
         00000a00000000000d646174613a2031330a0a00000e00000000000d646174613a205b444f4e455d0a0a0000080105000000\
         0d4084f2b22da7810f00000a01040000000f88c07f0085b0bda20b7f00000a00000000000f646174613a2031350a0a00000e\
         00000000000f646174613a205b444f4e455d0a0a00000101050000000fbf00000901040000001188c17e85b0bda20bbf0000\
         0a000000000011646174613a2031370a0a00000e000000000011646174613a205b444f4e455d0a0a000001010500000011c0",
    ),
    (Write, "000000040100000000"),
    (Write, "0000080700000000000000000000000000"),
];

fn bytes(hex: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn watch(from: usize) -> Watch {
    let mut watch = Watch::new(Role::Client);
    for (dir, hex) in &CALLS[from..] {
        watch.call(*dir, bytes(hex));
    }
    watch
}

#[test]
fn every_call_is_seen_from_the_start() {
    let mut watch = watch(0);
    watch.expect(&[
        "POST /v1/chat/completions [{\"model\":\"m\"}] 200 [data: 13\n\ndata: [DONE]\n\n] Complete",
        "POST /v1/embeddings [{\"model\":\"m\"}] 200 [data: 15\n\ndata: [DONE]\n\n] Complete",
        "POST /v1/models [{\"model\":\"m\"}] 200 [data: 17\n\ndata: [DONE]\n\n] Complete",
    ]);
    assert!(watch.recorder.dropped.is_empty());
    for seen in watch.recorder.seen.values() {
        assert_eq!(seen.authority.as_deref(), Some("127.0.0.1:18932"));
        assert!(seen.fields.contains(&("content-type".into(), "application/json".into())));
        assert_eq!(seen.trailers, [("x-sum".into(), "1".into())]);
    }
}

#[test]
fn joined_at_any_call_no_field_is_wrong() {
    let whole = watch(0);
    for from in 1..CALLS.len() {
        let late = watch(from);
        for seen in late.recorder.seen.values() {
            let same = whole.recorder.seen.values().find(|w| w.response_body == seen.response_body).unwrap();
            assert!(seen.fields.iter().all(|field| same.fields.contains(field)), "from call {from}");
            assert!(seen.authority.is_none() || seen.authority == same.authority, "from call {from}");
            assert!(seen.request == same.request || seen.request == "POST ", "from call {from}");
        }
    }
}
