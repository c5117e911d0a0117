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

/// An encoded request of the signal, as JSON.
pub(crate) fn request(signal: Signal, encoded: Bytes) -> Bytes {
    fn json<T: Message + Default + Serialize>(encoded: Bytes) -> Bytes {
        // We have encoded it ourselves, of what JSON can say.
        let message = T::decode(encoded).unwrap_or_default();
        let mut document = serde_json::to_value(&message).unwrap_or_default();
        drop_nulls(&mut document);
        serde_json::to_vec(&document).unwrap_or_default().into()
    }
    match signal {
        Signal::Traces => json::<ExportTraceServiceRequest>(encoded),
        Signal::Logs => json::<ExportLogsServiceRequest>(encoded),
        Signal::Metrics => json::<ExportMetricsServiceRequest>(encoded),
    }
}

/// Takes out fields that are absent: receivers refuse the `null` that stands for them.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_nulls),
        _ => {}
    }
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
        let sent = request(Signal::Traces, message::encode(&[record]));
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
        let json = request(Signal::Logs, encoded.clone());
        let back: ExportLogsServiceRequest = serde_json::from_slice(&json).unwrap();
        assert_eq!(back, ExportLogsServiceRequest::decode(encoded).unwrap());
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
