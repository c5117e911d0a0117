//! What a JSON document costs in memory: the same however long it is, and whatever is in it.

mod counting;

use std::sync::LazyLock;

use counting::cost;
use tokentap_wire::json::{Extractor, Schema, Status, Value, WantedField};

static SCHEMA: LazyLock<Schema<u8>> = LazyLock::new(|| {
    Schema::new(&[
        WantedField::new("model", 0),
        WantedField::presence("content", 1),
        WantedField::new("items[].n", 2),
        WantedField::new("usage.n", 3),
    ])
});

/// As a socket gives it.
const PIECE: usize = 16 << 10;

/// Reads a document; `gap`: after losing bytes. Returns how often it was told the model `m`.
fn read(extractor: &mut Extractor<u8>, document: &[u8], gap: bool) -> (u32, Status) {
    let mut models = 0;
    let mut on = |field, _: &[u32], value: Value<'_>| {
        models += u32::from(field == 0 && value.as_str().is_some_and(|text| text.is("m")));
    };
    if gap {
        extractor.gap();
    }
    document.chunks(PIECE).for_each(|piece| extractor.push(piece, &mut on));
    let status = extractor.finish(on);
    (models, status)
}

#[test]
fn a_string_of_20_mib_before_the_model_costs_time_and_no_memory() {
    let image = "iVBORw0KGgo/+=".repeat((20 << 20) / 14);
    for before in [
        format!(r#"{{"image":"{image}""#),
        format!(
            r#"{{"messages":[{{"content":[{{"image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]"#
        ),
        format!(r#"{{"content":"{image}""#),
        format!(r#"{{"{image}":0"#),
    ] {
        let document = before + r#","model":"m"}"#;
        let mut extractor = Extractor::new(&SCHEMA);
        LazyLock::force(&SCHEMA);
        let mut told = None;
        let (allocations, _, peak) = cost(|| told = Some(read(&mut extractor, document.as_bytes(), false)));
        assert_eq!(told, Some((1, Status::Complete)));
        // One token may be cut: the key, and whatever else has to be put together.
        assert!(allocations <= 8 && peak <= 4 << 10, "{allocations} allocations, {peak} bytes");
    }
}

#[test]
fn nothing_is_allotted_while_a_string_is_skipped() {
    let image = "iVBORw0KGgo/+=".repeat((20 << 20) / 14);
    for begin in [r#"{"image":""#, r#"{"messages":[{"url":""#, r#"{"content":""#, r#"{"items":[{"m":""#] {
        let mut extractor = Extractor::new(&SCHEMA);
        extractor.push(begin.as_bytes(), |_, _, _| {});
        let skip = || image.as_bytes().chunks(PIECE).for_each(|piece| extractor.push(piece, |_, _, _| {}));
        assert_eq!(cost(skip), (0, 0, 0), "{begin}");
    }
}

#[test]
fn no_document_costs_more_than_is_stated() {
    const MIB: usize = 1 << 20;
    let many_keys: String = (0..200_000).map(|n| format!(r#""k{n}":{n},"#)).collect();
    for (what, document, cut) in [
        ("nesting", "[".repeat(100_000), true),
        ("wanted nesting", r#"{"items":[{"n":"#.repeat(100_000), true),
        ("a key", format!(r#"{{"{}":1,"model":"m"}}"#, "model".repeat(MIB)), false),
        ("a key of escapes", format!(r#"{{"{}":1,"model":"m"}}"#, r"\u006d".repeat(MIB)), false),
        ("a number", format!(r#"{{"items":[{{"n":{}}}],"model":"m"}}"#, "7".repeat(MIB)), false),
        ("a number that is skipped", format!(r#"{{"x":{},"model":"m"}}"#, "7".repeat(MIB)), false),
        ("a word", format!(r#"{{"x":t{},"model":"m"}}"#, "r".repeat(MIB)), false),
        ("a wanted string", format!(r#"{{"model":"{}","model":"m"}}"#, r"\u006d".repeat(MIB)), false),
        ("keys", format!(r#"{{{many_keys}"model":"m"}}"#), false),
        ("items", format!(r#"{{"items":[{}0],"model":"m"}}"#, r#"{"n":1},"#.repeat(200_000)), false),
        ("white space", format!(r#"{{"x":1,{}"model":"m"}}"#, " ".repeat(MIB)), false),
        ("a string without end", format!(r#"{{"model":"{}"#, "m".repeat(MIB)), true),
    ] {
        for gap in [false, true] {
            let mut extractor = Extractor::new(&SCHEMA);
            let mut told = None;
            let (_, _, peak) = cost(|| told = Some(read(&mut extractor, document.as_bytes(), gap)));
            assert!(peak <= 16 << 10, "{what}: {peak} bytes");
            if !cut && !gap {
                assert_eq!(told, Some((1, Status::Complete)), "{what}");
            }
        }
    }
}
