//! The examples of RFC 7541 Appendix C, joining late, and what is broken.

use proptest::{prelude::*, sample::Index};

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decoder(from_start: bool) -> Decoder {
    Decoder::new(&Limits::default(), from_start)
}

/// The fields as `name: value` lines; the last one is `…` where some are missing.
fn lines(fields: &Fields) -> Vec<String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut lines: Vec<_> = fields.iter().map(|(n, v)| format!("{}: {}", text(n), text(v))).collect();
    lines.extend((!fields.complete).then(|| "…".into()));
    lines
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Reason> {
    let mut fields = Fields::default();
    decoder.decode(block, &mut fields).map(|()| lines(&fields))
}

#[track_caller]
fn check(decoder: &mut Decoder, block: &str, want: &[&str]) {
    assert_eq!(read(decoder, &hex(block)).unwrap(), want);
}

#[test]
fn rfc_7541_c_1_integers() {
    let decoded = |bytes: &[u8], bits| {
        let mut input = bytes;
        integer(&mut input, bits).map(|value| (value, input.len()))
    };
    assert_eq!(decoded(&[0b1110_1010], 5), Ok((10, 0)));
    assert_eq!(decoded(&[0b0001_1111, 0b1001_1010, 0b0000_1010, 7], 5), Ok((1337, 1)));
    assert_eq!(decoded(&[42], 8), Ok((42, 0)));
    assert_eq!(decoded(&[0x7f, 0x80, 0x80], 7), Err(Reason::HpackTruncated));
    assert_eq!(decoded(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0], 7), Err(Reason::HpackIntegerTooLarge));
    assert_eq!(decoded(&[], 7), Err(Reason::HpackTruncated));
}

#[test]
fn rfc_7541_c_2_representations() {
    let custom = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    let decoder = &mut decoder(true);
    check(decoder, custom, &["custom-key: custom-header"]);
    check(decoder, "be", &["custom-key: custom-header"]);
    check(decoder, "040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"]);
    check(decoder, "1008 7061 7373 776f 7264 0673 6563 7265 74", &["password: secret"]);
    check(decoder, "82", &[":method: GET"]);
    assert_eq!(read(decoder, b"\xbf"), Err(Reason::HpackIndexInvalid), "neither of them is in the table");
}

#[test]
fn rfc_7541_c_3_and_c_4_requests() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, huffman] {
        let decoder = &mut decoder(true);
        let base = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
        check(decoder, blocks[0], &base);
        check(decoder, blocks[1], &[&base[..], &["cache-control: no-cache"]].concat());
        let last = [
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value",
        ];
        check(decoder, blocks[2], &last);
    }
}

const C_5: [&str; 3] = [
    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
     546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "4803 3330 37c1 c0bf",
    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
     6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
     2076 6572 7369 6f6e 3d31",
];
const C_6: [&str; 3] = [
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
     8f0b 97c8 e9ae 82ae 43d3",
    "4883 640e ffc1 c0bf",
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
     dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
];
const DATE: &str = "date: Mon, 21 Oct 2013 20:13:21 GMT";
const LOCATION: &str = "location: https://www.example.com";
const LAST: [&str; 6] = [
    ":status: 200",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:22 GMT",
    LOCATION,
    "content-encoding: gzip",
    "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

#[test]
fn rfc_7541_c_5_and_c_6_responses_with_eviction() {
    for blocks in [C_5, C_6] {
        let decoder = &mut decoder(true);
        decoder.table.resize(256);
        check(decoder, blocks[0], &[":status: 302", "cache-control: private", DATE, LOCATION]);
        check(decoder, blocks[1], &[":status: 307", "cache-control: private", DATE, LOCATION]);
        check(decoder, blocks[2], &LAST);
    }
}

#[test]
fn joined_late_what_was_inserted_since_is_exact_and_the_rest_is_left_out() {
    for blocks in [C_5, C_6] {
        let late = &mut decoder(false);
        check(late, blocks[1], &[":status: 307", "…"]);
        // Date and set-cookie are literals, the first two references are older.
        check(late, blocks[2], &[LAST[0], LAST[2], LAST[4], LAST[5], "…"]);
        check(late, "bebfc0", &[LAST[5], LAST[4], LAST[2]]);
        check(late, "c1", &[":status: 307"]);
        check(late, "c2", &["…"]);
    }
}

#[test]
fn joined_late_a_field_with_an_unknown_name_keeps_its_place() {
    let late = &mut decoder(false);
    check(late, "4001 61 01 31", &["a: 1"]);
    check(late, "7f00 01 32", &["…"]);
    check(late, "be", &["…"]);
    check(late, "bf", &["a: 1"]);
    check(late, "0f2f 01 33", &["…"]);
    check(late, "20", &[]);
    assert_eq!(read(late, b"\xbe"), Err(Reason::HpackIndexInvalid));
    check(late, "be", &["…"]);
}

#[test]
fn what_no_encoder_writes_is_named() {
    for (block, want) in [
        ("80", Reason::HpackIndexInvalid),
        ("be", Reason::HpackIndexInvalid),
        ("8220", Reason::HpackTableSizeMisplaced),
        ("40", Reason::HpackTruncated),
        ("4001", Reason::HpackTruncated),
        ("400161", Reason::HpackTruncated),
        ("0003 6162", Reason::HpackTruncated),
        ("0001 6181 06", Reason::HuffmanInvalid),
        ("ffff ffff ffff ffff", Reason::HpackIntegerTooLarge),
    ] {
        assert_eq!(read(&mut decoder(true), &hex(block)), Err(want), "{block}");
    }
}

#[test]
fn the_fields_of_a_block_are_bounded() {
    let mut decoder = decoder(true);
    let mut block = vec![0x40, 1, b'n', 0x7f, 0xa1, 0x1e];
    block.extend(vec![b'v'; 4000]);
    block.extend(vec![0xbe; 60_000]);
    let mut fields = Fields::default();
    decoder.decode(&block, &mut fields).unwrap();
    assert!(!fields.complete);
    assert_eq!(fields.iter().count(), 16);
    decoder.decode(&[0x82; 5000], &mut fields).unwrap();
    assert_eq!((fields.complete, fields.iter().count()), (false, MAX_FIELDS));
}

#[test]
fn a_block_tells_by_itself_whether_it_begins_a_request() {
    for (block, want) in [
        ("82", Some(true)),
        ("2044 0161", Some(true)),
        ("88", Some(false)),
        ("4803 333032", Some(false)),
        ("be 87", Some(true)),
        ("be", None),
        ("4001 6101 31", None),
    ] {
        assert_eq!(begins_request(&hex(block)), want, "{block}");
    }
}

/// Writes blocks as an encoder would that makes every choice at random.
#[derive(Default)]
struct Encoder {
    /// Newest first.
    table: Vec<(String, String)>,
    max: usize,
}

/// A field of a block: its name and value, and how it is written; or a new bound on the table's size.
#[derive(Clone, Debug)]
enum Written {
    Field(u8, u8, bool),
    Size(u8),
}

impl Encoder {
    fn integer(block: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
        let most = (1 << bits) - 1;
        if value < most {
            return block.push(first | value as u8);
        }
        block.push(first | most as u8);
        let mut rest = value - most;
        while rest >= 128 {
            block.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
    }

    fn string(block: &mut Vec<u8>, text: &str) {
        Self::integer(block, 0, 7, text.len());
        block.extend(text.bytes());
    }

    fn evict(&mut self) {
        let mut size = 0;
        self.table.retain(|(name, value)| {
            size += name.len() + value.len() + 32;
            size <= self.max
        });
    }

    fn block(&mut self, written: &[Written]) -> (Vec<u8>, Vec<String>) {
        let (mut block, mut want) = (Vec::new(), Vec::new());
        for what in written {
            match *what {
                Written::Size(size) => {
                    if want.is_empty() {
                        self.max = usize::from(size) * 2;
                        self.evict();
                        Self::integer(&mut block, 0x20, 5, self.max);
                    }
                }
                Written::Field(name, value, insert) => {
                    let (name, value) = (format!("x-{}", name % 4), "v".repeat(usize::from(value)));
                    want.push(format!("{name}: {value}"));
                    let whole = self.table.iter().position(|(n, v)| (n, v) == (&name, &value));
                    if let Some(at) = whole {
                        Self::integer(&mut block, 0x80, 7, 62 + at);
                        continue;
                    }
                    let (first, bits) = if insert { (0x40, 6) } else { (0, 4) };
                    match self.table.iter().rposition(|(n, _)| *n == name) {
                        Some(at) => Self::integer(&mut block, first, bits, 62 + at),
                        None => {
                            block.push(first);
                            Self::string(&mut block, &name);
                        }
                    }
                    Self::string(&mut block, &value);
                    if insert {
                        self.table.insert(0, (name, value));
                        self.evict();
                        // An entry that does not fit empties the table.
                        if !self.table.is_empty() && self.table[0].1.len() + 35 > self.max {
                            self.table.clear();
                        }
                    }
                }
            }
        }
        (block, want)
    }
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Written>>> {
    let field = (any::<u8>(), 0..60u8, prop::bool::weighted(0.8))
        .prop_map(|(name, value, insert)| Written::Field(name, value % 7 * 9, insert));
    let written = prop_oneof![1 => any::<u8>().prop_map(Written::Size), 9 => field];
    prop::collection::vec(prop::collection::vec(written, 0..8), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn joined_or_interrupted_anywhere_a_field_is_right_or_left_out(
        blocks in blocks(), joined in any::<Index>(), missed in any::<Index>(), kept in 0..600usize,
    ) {
        let mut encoder = Encoder { max: 4096, ..Encoder::default() };
        let limits = Limits { table: kept, ..Limits::default() };
        let (mut whole, mut late) = (decoder(true), decoder(false));
        let mut small = Decoder::new(&limits, true);
        let (joined, missed) = (joined.index(blocks.len()), missed.index(blocks.len()));
        for (i, written) in blocks.iter().enumerate() {
            let (block, want) = encoder.block(written);
            prop_assert_eq!(read(&mut whole, &block), Ok(want.clone()));
            if i == missed {
                late.lose();
            }
            let sees = i >= joined && i != missed;
            for decoder in [Some(&mut small), sees.then_some(&mut late)].into_iter().flatten() {
                let mut fields = Fields::default();
                decoder.decode(&block, &mut fields).unwrap();
                let mut got = lines(&fields);
                if fields.complete {
                    prop_assert_eq!(&got, &want);
                } else {
                    got.pop();
                    let mut rest = want.iter();
                    prop_assert!(got.iter().all(|line| rest.any(|w| w == line)), "{:?} of {:?}", got, want);
                }
            }
        }
    }

    #[test]
    fn any_block_is_survived(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..10)) {
        let (mut whole, mut late) = (decoder(true), decoder(false));
        for block in blocks {
            read(&mut whole, &block).unwrap_or_default();
            read(&mut late, &block).unwrap_or_default();
            begins_request(&block);
        }
    }
}
