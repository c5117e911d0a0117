//! The content of calls as OTLP log records: one event `gen_ai.client.inference.operation.details` for each call, with the
//! attributes of its span and its content, structured.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
};
use prost::Message as _;
use serde_json::Value as Json;

use super::message::{SAMPLED, by_resource, key_value, otlp_resource, scope, string};
use crate::record::{DEEPEST_JSON, RESOURCE_SCHEMA_URL, Record, SCHEMA_URL};

/// The conventions' name of the event.
const EVENT_NAME: &str = "gen_ai.client.inference.operation.details";

/// An encoded `ExportLogsServiceRequest` of the events of these calls, in order within each resource.
pub(crate) fn encode(batch: &[Arc<Record>]) -> Bytes {
    request(batch).encode_to_vec().into()
}

fn request(batch: &[Arc<Record>]) -> ExportLogsServiceRequest {
    let groups = by_resource(batch, log_record).into_iter().map(|(resource, log_records)| ResourceLogs {
        resource: Some(otlp_resource(resource)),
        scope_logs: vec![ScopeLogs { scope: Some(scope()), log_records, schema_url: SCHEMA_URL.into() }],
        schema_url: RESOURCE_SCHEMA_URL.into(),
    });
    ExportLogsServiceRequest { resource_logs: groups.collect() }
}

fn log_record(record: &Record) -> LogRecord {
    let content = |key: &str| record.span.event_content.iter().any(|(known, _)| *known == key);
    // The span may have content as text.
    let of_span = record.span.attributes.iter().filter(|attribute| !content(&attribute.key)).map(key_value);
    let structured = record.span.event_content.iter().map(|(key, json)| pair((*key).to_owned(), json, 0));
    LogRecord {
        time_unix_nano: record.end_unix_nanos,
        observed_time_unix_nano: record.end_unix_nanos,
        severity_number: SeverityNumber::Debug.into(),
        severity_text: "DEBUG".into(),
        attributes: of_span.chain(structured).collect(),
        flags: SAMPLED,
        trace_id: record.trace_id.to_vec(),
        span_id: record.span_id.to_vec(),
        event_name: EVENT_NAME.into(),
        ..LogRecord::default()
    }
}

fn pair(key: String, json: &Json, depth: usize) -> KeyValue {
    KeyValue { key, value: Some(any_value(json, depth)), ..KeyValue::default() }
}

fn any_value(json: &Json, depth: usize) -> AnyValue {
    let value = match json {
        Json::Null => None,
        Json::Bool(value) => Some(any_value::Value::BoolValue(*value)),
        Json::Number(number) => Some(match number.as_i64() {
            Some(number) => any_value::Value::IntValue(number),
            None => any_value::Value::DoubleValue(number.as_f64().unwrap_or_default()),
        }),
        Json::String(text) => Some(string(text)),
        json if depth == DEEPEST_JSON => Some(string(&json.to_string())),
        Json::Array(list) => Some(any_value::Value::ArrayValue(ArrayValue {
            values: list.iter().map(|item| any_value(item, depth + 1)).collect(),
        })),
        Json::Object(fields) => Some(any_value::Value::KvlistValue(KeyValueList {
            values: fields.iter().map(|(key, value)| pair(key.clone(), value, depth + 1)).collect(),
        })),
    };
    AnyValue { value }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::record;

    fn with_content() -> Arc<Record> {
        let mut record = (*record(1)).clone();
        let messages = json!([{"role": "user", "parts": [{"type": "text", "content": "Hi", "n": [1, 2.5, true, null]}]}]);
        record.span.event_content = vec![("gen_ai.input.messages", messages)];
        Arc::new(record)
    }

    #[test]
    fn an_event_has_the_attributes_of_its_span_and_structured_content() {
        let request = request(&[with_content()]);
        let log = &request.resource_logs[0].scope_logs[0].log_records[0];
        assert_eq!(log.event_name, "gen_ai.client.inference.operation.details");
        assert_eq!((log.span_id[7], log.severity_number), (1, 5));
        let keys: Vec<&str> = log.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert!(keys.contains(&"gen_ai.request.model"), "{keys:?}");
        let messages = log.attributes.last().and_then(|attribute| attribute.value.as_ref()).expect("content");
        let Some(any_value::Value::ArrayValue(list)) = &messages.value else { panic!("{messages:?}") };
        let Some(any_value::Value::KvlistValue(message)) = &list.values[0].value else { panic!("{list:?}") };
        assert_eq!(message.values[1].value.as_ref().expect("a role"), &any_value(&json!("user"), 0));
    }

    #[test]
    fn a_record_is_never_larger_on_the_wire_than_it_says() {
        for depth in 0..60 {
            let mut json = json!("é");
            for _ in 0..depth {
                json = json!([{"k": json}, -1, 0.5, null]);
            }
            let mut record = (*record(1)).clone();
            record.span.event_content = vec![("gen_ai.input.messages", json)];
            let size = record.size();
            let bytes = encode(&[Arc::new(record)]);
            assert!(bytes.len() <= size, "at depth {depth}");
            assert!(ExportLogsServiceRequest::decode(bytes).is_ok(), "parsers read it at depth {depth}");
        }
    }
}
