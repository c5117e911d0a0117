//! OTLP's JSON (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>): ids in hex, integers of 64 bits as text.
//! Requests are made of the encoded ones, so that everything before this is the same for all protocols.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use prost::Message;
use serde::Serialize;
use serde_json::Value;

use super::retry::Accepted;
use crate::config::Signal;

/// An encoded request of the signal, as JSON. `None`: it is none, and nothing must be sent for it.
pub(crate) fn request(signal: Signal, encoded: Bytes) -> Option<Bytes> {
    fn json<T: Message + Default + Serialize>(encoded: Bytes) -> Option<Bytes> {
        // Some two and a half times as long.
        let mut text = Vec::with_capacity(encoded.len() * 5 / 2);
        serde_json::to_writer(&mut text, &T::decode(encoded).ok()?).ok()?;
        drop_nulls(&mut text);
        Some(text.into())
    }
    match signal {
        Signal::Traces => json::<ExportTraceServiceRequest>(encoded),
        Signal::Logs => json::<ExportLogsServiceRequest>(encoded),
        Signal::Metrics => json::<ExportMetricsServiceRequest>(encoded),
    }
}

/// Takes out members that are `null`, of a document without spaces: receivers refuse the `null` that stands for an absent field.
/// In place, as bytes: a tree of the document would cost more than everything else that is done for a span.
fn drop_nulls(text: &mut Vec<u8>) {
    const NULL: &[u8] = b":null";
    // What is read, of that what is not yet moved to its place, and the end of what is.
    let (mut read, mut unmoved, mut written) = (0, 0, 0);
    // Where the last member begins: behind the bracket, or at the comma before it.
    let mut member = 0;
    while let Some(byte) = text.get(read) {
        match byte {
            b'"' => {
                read = end_of_string(text, read);
                continue;
            }
            b'{' => member = read + 1,
            b',' => member = read,
            b':' if text[read..].starts_with(NULL) => {
                text.copy_within(unmoved..member, written);
                written += member - unmoved;
                read += NULL.len();
                // The next one is the first then.
                let is_first = written > 0 && text[written - 1] == b'{';
                if is_first && text.get(read) == Some(&b',') {
                    read += 1;
                }
                (unmoved, member) = (read, read);
                continue;
            }
            _ => {}
        }
        read += 1;
    }
    text.copy_within(unmoved.., written);
    text.truncate(written + text.len() - unmoved);
}

/// The end of the string that begins at a quotation mark.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// What a response says of a batch that was taken. Nothing in it can undo that.
pub(super) fn accepted(body: &[u8]) -> Accepted {
    let document = document(body);
    let partial = &document["partialSuccess"];
    let rejected = ["rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"]
        .iter()
        .find_map(|field| partial[field].as_u64().or_else(|| partial[field].as_str()?.parse().ok()));
    let message = partial["errorMessage"].as_str().unwrap_or_default().to_owned();
    Accepted { rejected: rejected.unwrap_or(0), message }
}

/// What an error says.
pub(super) fn error_message(body: &[u8]) -> String {
    document(body)["message"].as_str().unwrap_or_default().to_owned()
}

fn document(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        otlp::{log, message},
        tests::{record, with_parent},
    };

    #[test]
    fn ids_are_hex_and_large_integers_text() {
        let record = std::sync::Arc::new(with_parent(record(7)));
        let sent = request(Signal::Traces, message::encode(&[record])).unwrap();
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let span = &sent["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "000102030405060708090a0b0c0d0e0f");
        assert_eq!(
            (&span["spanId"], &span["parentSpanId"]),
            (&json!("0000000000000007"), &json!("00f067aa0ba902b7"))
        );
        assert_eq!(span["startTimeUnixNano"], "1700000000000000123");
        assert_eq!(span["kind"], 3);
        assert_eq!(span["status"]["code"], 2);
        assert!(!sent.to_string().contains("null"), "{sent}");
        let attribute = |key: &str| {
            let all = span["attributes"].as_array().unwrap();
            all.iter().find(|attribute| attribute["key"] == key).unwrap()["value"].clone()
        };
        assert_eq!(attribute("gen_ai.usage.input_tokens"), json!({"intValue": "12"}));
        assert_eq!(
            attribute("gen_ai.response.finish_reasons"),
            json!({"arrayValue": {"values": [{"stringValue": "stop"}]}})
        );
    }

    #[test]
    fn content_of_every_kind_comes_back_as_it_was() {
        let mut record = (*record(1)).clone();
        let content = json!([{"a": null, "b": [1, 2.5, true, "x"], "c": {}}]);
        record.span.event_content = vec![("gen_ai.input.messages", content)];
        let encoded = log::encode(&[std::sync::Arc::new(record)]);
        let json = request(Signal::Logs, encoded.clone()).unwrap();
        let back: ExportLogsServiceRequest = serde_json::from_slice(&json).unwrap();
        assert_eq!(back, ExportLogsServiceRequest::decode(encoded).unwrap());
    }

    #[test]
    fn members_that_are_null_are_left_out_and_nothing_else_is() {
        for (document, want) in [
            (json!({"a": null}), json!({})),
            (json!({"a": null, "b": 1}), json!({"b": 1})),
            (json!({"a": 1, "b": null}), json!({"a": 1})),
            (json!({"a": null, "b": null, "c": {"d": null}}), json!({"c": {}})),
            (json!({"a": {"b": 1}, "c": null, "d": [1]}), json!({"a": {"b": 1}, "d": [1]})),
            (json!({"a": [{"b": null, "c": 2}, {"b": null}], "d": null}), json!({"a": [{"c": 2}, {}]})),
            (json!({"a": [null, 1], "b": [1, null]}), json!({"a": [null, 1], "b": [1, null]})),
            (
                json!({"a\"": ":null", "b": "\\", "c": "\\\":null,{"}),
                json!({"a\"": ":null", "b": "\\", "c": "\\\":null,{"}),
            ),
        ] {
            let mut text = document.to_string().into_bytes();
            drop_nulls(&mut text);
            assert_eq!(String::from_utf8(text).unwrap(), want.to_string());
        }
    }

    #[test]
    fn what_is_no_request_is_not_sent_as_an_empty_one() {
        assert_eq!(request(Signal::Traces, Bytes::from_static(b"\xff")), None);
    }

    #[test]
    fn answers_are_read_as_far_as_they_are_any() {
        let partial = br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#;
        assert_eq!(accepted(partial), Accepted { rejected: 3, message: "too old".into() });
        let points = br#"{"partialSuccess":{"rejectedDataPoints":2}}"#;
        assert_eq!(accepted(points), Accepted { rejected: 2, message: String::new() });
        for nothing in [&b"{}"[..], b"", b"[]", b"\xff"] {
            assert_eq!(accepted(nothing), Accepted::default());
        }
        assert_eq!(error_message(br#"{"code":3,"message":"no"}"#), "no");
    }
}
