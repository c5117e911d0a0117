//! Spans as OTLP messages, grouped by resource.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource as OtlpResource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status},
};
use prost::Message as _;
use tokentap_genai::{Attribute, Resource, SpanKind, SpanStatus, Value};

use crate::record::{Link, RESOURCE_SCHEMA_URL, Record, SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION};

/// W3C "sampled": we export no other spans.
pub(super) const SAMPLED: u32 = 0x01;
/// `SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`: the next one means something.
const HAS_IS_REMOTE: u32 = 0x100;
/// `SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`: the parent came in a request.
const IS_REMOTE: u32 = 0x200;

/// An encoded `ExportTraceServiceRequest` of these spans, in order within each resource.
pub(crate) fn encode(batch: &[Arc<Record>]) -> Bytes {
    request(batch).encode_to_vec().into()
}

fn request(batch: &[Arc<Record>]) -> ExportTraceServiceRequest {
    let groups = by_resource(batch, span);
    ExportTraceServiceRequest {
        resource_spans: groups.into_iter().map(|(resource, spans)| resource_spans(resource, spans)).collect(),
    }
}

/// What becomes of each record, in order within each resource.
pub(super) fn by_resource<T>(
    batch: &[Arc<Record>],
    item: impl Fn(&Record) -> T,
) -> Vec<(&Arc<Resource>, Vec<T>)> {
    let mut groups: Vec<(&Arc<Resource>, Vec<T>)> = Vec::new();
    for record in batch {
        let group = match groups.iter().position(|(resource, _)| Arc::ptr_eq(resource, &record.resource)) {
            Some(at) => &mut groups[at].1,
            None => {
                groups.push((&record.resource, Vec::new()));
                let last = groups.len() - 1;
                &mut groups[last].1
            }
        };
        group.push(item(record));
    }
    groups
}

fn resource_spans(resource: &Resource, spans: Vec<Span>) -> ResourceSpans {
    ResourceSpans {
        resource: Some(otlp_resource(resource)),
        scope_spans: vec![ScopeSpans { scope: Some(scope()), spans, schema_url: SCHEMA_URL.into() }],
        schema_url: RESOURCE_SCHEMA_URL.into(),
    }
}

pub(crate) fn otlp_resource(resource: &Resource) -> OtlpResource {
    let attributes = resource.attributes().iter().map(key_value).collect();
    OtlpResource { attributes, ..OtlpResource::default() }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SCOPE_NAME.into(),
        version: SCOPE_VERSION.into(),
        ..InstrumentationScope::default()
    }
}

fn span(record: &Record) -> Span {
    let parent = record.span.parent.as_ref();
    Span {
        trace_id: record.trace_id.to_vec(),
        span_id: record.span_id.to_vec(),
        trace_state: parent.map_or_else(String::new, |parent| parent.state.clone()),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.span_id.to_vec()),
        flags: parent.map_or(SAMPLED | HAS_IS_REMOTE, |parent| {
            u32::from(parent.flags) | SAMPLED | HAS_IS_REMOTE | IS_REMOTE
        }),
        name: record.span.name.clone(),
        kind: match record.span.kind {
            SpanKind::Client => span::SpanKind::Client,
            SpanKind::Server => span::SpanKind::Server,
            SpanKind::Internal => span::SpanKind::Internal,
        }
        .into(),
        start_time_unix_nano: record.start_unix_nanos,
        end_time_unix_nano: record.end_unix_nanos,
        attributes: record.span.attributes.iter().map(key_value).collect(),
        links: record.links.iter().map(link).collect(),
        status: match &record.span.status {
            SpanStatus::Unset => None,
            SpanStatus::Error(description) => Some(Status {
                message: description.clone().into_owned(),
                code: status::StatusCode::Error.into(),
            }),
        },
        ..Span::default()
    }
}

fn link(link: &Link) -> span::Link {
    span::Link {
        trace_id: link.trace_id.to_vec(),
        span_id: link.span_id.to_vec(),
        flags: SAMPLED,
        ..span::Link::default()
    }
}

pub(super) fn key_value(attribute: &Attribute) -> KeyValue {
    let value = match &attribute.value {
        Value::Str(text) => string(text),
        Value::Bool(value) => any_value::Value::BoolValue(*value),
        Value::Int(value) => any_value::Value::IntValue(*value),
        Value::Double(value) => any_value::Value::DoubleValue(*value),
        Value::StrList(list) => any_value::Value::ArrayValue(ArrayValue {
            values: list.iter().map(|text| AnyValue { value: Some(string(text)) }).collect(),
        }),
    };
    KeyValue {
        key: attribute.key.clone().into_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

pub(super) fn string(text: &str) -> any_value::Value {
    any_value::Value::StringValue(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::{record, with_parent};

    fn arbitrary_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            ".{0,300}".prop_map(|text| Value::Str(text.into())),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Double),
            proptest::collection::vec(".{0,20}", 0..20).prop_map(Value::StrList),
        ]
    }

    proptest! {
        /// Batches are kept below what receivers accept by this.
        #[test]
        fn a_record_is_never_larger_on_the_wire_than_it_says(
            attributes in proptest::collection::vec(("[a-z.]{1,60}", arbitrary_value()), 0..20),
            failed in any::<bool>(),
        ) {
            let mut record = if failed { with_parent(record(1)) } else { (*record(1)).clone() };
            record.span.attributes = attributes
                .into_iter()
                .map(|(key, value)| Attribute { key: key.into(), value })
                .collect();
            let size = record.size();
            prop_assert!(encode(&[Arc::new(record)]).len() <= size);
        }
    }

    #[test]
    fn spans_are_grouped_by_the_process_they_are_about() {
        let (a, b) = (record(1), record(2));
        let another_of_a = Arc::new(Record { span_id: [3; 8], ..(*a).clone() });
        let request = request(&[Arc::clone(&a), b, another_of_a]);
        let ids: Vec<Vec<u8>> = request
            .resource_spans
            .iter()
            .map(|group| group.scope_spans[0].spans.iter().map(|span| span.span_id[7]).collect())
            .collect();
        assert_eq!(ids, [vec![1, 3], vec![2]]);
        let group = &request.resource_spans[0];
        assert_eq!(group.resource.as_ref().unwrap().attributes[0].key, "service.name");
        assert_eq!(group.scope_spans[0].scope.as_ref().unwrap().name, "tokentap");
    }

    #[test]
    fn parents_come_from_elsewhere_and_roots_do_not() {
        let child = span(&with_parent(record(1)));
        assert_eq!(child.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!((child.flags, &*child.trace_state), (0x301, "vendor=1"));
        assert_eq!(child.status.unwrap().code, 2);
        let root = span(&record(1));
        assert_eq!((root.parent_span_id.len(), root.flags, root.status), (0, 0x101, None));
    }
}
