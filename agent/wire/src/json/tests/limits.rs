//! Input that no server sends, and some that only odd ones do.

use super::{MALFORMED, check, extract};
use crate::{Reason, json::Status};

const TOO_DEEP: Status = Status::Malformed(Reason::JsonTooDeep);

#[test]
fn brackets_are_followed_to_a_depth_and_no_further() {
    for (open, close) in [("[", "]"), (r#"{"x":"#, "}"), (r#"[{"items":"#, "}]")] {
        let levels = 1024 / open.matches(['[', '{']).count();
        let value = |levels: usize| format!("{}0{}", open.repeat(levels), close.repeat(levels));
        let deep = format!(r#"{{"id":"a","x":{},"n":1}}"#, value(levels));
        let (found, status) = extract(&[deep.as_bytes()]);
        assert_eq!((found.len(), status), (2, Status::Complete), "{open}");
        let deeper = format!(r#"{{"id":"a","x":{},"n":1}}"#, value(levels + 1));
        assert_eq!(extract(&[deeper.as_bytes()]), (vec![r#"id [] "a""#.into()], TOO_DEEP), "{open}");
    }
    for endless in ["[".repeat(100_000), r#"{"a":"#.repeat(100_000), r#"{"items":[[{"d":"#.repeat(100_000)] {
        for size in [1, 4096, endless.len()] {
            let pieces: Vec<&[u8]> = endless.as_bytes().chunks(size).collect();
            assert_eq!(extract(&pieces).1, TOO_DEEP);
        }
    }
}

#[test]
fn keys_of_any_length_and_number_are_passed_over() {
    let long = "usage".repeat(200_000);
    let many: String = (0..100_000).map(|n| format!(r#""{n}":"{n}","#)).collect();
    let document = format!(r#"{{{many}"{long}":{{"n":1}},"{long}\u0061":2,"id":"x"}}"#);
    for size in [1, 7, 4096, document.len()] {
        let pieces: Vec<&[u8]> = document.as_bytes().chunks(size).collect();
        assert_eq!(extract(&pieces), (vec![r#"id [] "x""#.into()], Status::Complete), "pieces of {size}");
    }
}

#[test]
fn a_number_that_cannot_be_held_has_no_value_and_harms_no_other() {
    let digits = "9".repeat(1 << 20);
    let fraction = format!("0.{digits}");
    for number in [&digits, &fraction, "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "007", "-", "1e"] {
        let document = format!(r#"{{"x":{number},"n":{number},"y":[{number}],"id":"x"}}"#);
        for size in [1, 4096, document.len()] {
            let pieces: Vec<&[u8]> = document.as_bytes().chunks(size).collect();
            let expected = vec!["n [] None".to_owned(), r#"id [] "x""#.to_owned()];
            assert_eq!(extract(&pieces), (expected, Status::Complete));
        }
    }
    for (number, value) in [
        ("-0", "Some(-0.0)"),
        ("1e-999", "Some(0.0)"),
        ("1E+2", "Some(100.0)"),
        ("18446744073709551616", "Some(1.8446744073709552e19)"),
    ] {
        check(&format!(r#"{{"n":{number}}}"#), &[&format!("n [] {value}")], Status::Complete);
    }
    for no_number in ["Nan", "Infinite", "nul", "trues", "+1", ".5"] {
        check(&format!(r#"{{"n":{no_number},"id":"x"}}"#), &[], MALFORMED);
    }
}

#[test]
fn a_string_is_the_same_wherever_it_is_cut() {
    for (raw, text) in [
        (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r"\\\\\\", r"\\\"),
        (r"\u00e9\ud83d\ude00\u0041", "é😀A"),
        (r"\ud83d", "\u{fffd}"),
        (r"\ud83d\ud83d\ude00\ude00", "\u{fffd}😀\u{fffd}"),
        (r"\ud83dx\ude00", "\u{fffd}x\u{fffd}"),
        (r"\u0022\u005c\u005C", "\"\\\\"),
        ("é😀\u{7f}", "é😀\u{7f}"),
    ] {
        let expected = format!("id [] {text:?}");
        check(&format!(r#"{{"x":"{raw}","id":"{raw}","y":["{raw}"]}}"#), &[&expected], Status::Complete);
    }
}

#[test]
fn bytes_that_are_no_utf_8_stay_in_their_string() {
    let document = b"{\"\xff\":\"\xe2\x82\",\"id\":\"a\xff\xe2\x82\",\"n\":1}";
    for cut in 0..=document.len() {
        let (head, tail) = document.split_at(cut);
        let expected = vec!["id [] \"a\u{fffd}\u{fffd}\"".to_owned(), "n [] Some(1.0)".to_owned()];
        assert_eq!(extract(&[head, tail]), (expected, Status::Complete), "cut {cut}");
    }
}

#[test]
fn a_key_that_comes_twice_is_reported_twice() {
    check(
        r#"{"id":"a","id":"b","a":{"b":1},"a":{"b":2}}"#,
        &[r#"id [] "a""#, r#"id [] "b""#, "a.b [] Some(1.0)", "a.b [] Some(2.0)"],
        Status::Complete,
    );
}
