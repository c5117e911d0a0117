//! Spans as OTLP messages, grouped by resource.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status};
use prost::Message as _;
use tokentap_genai::{Attribute, SpanKind, SpanStatus, Value};

use crate::export::{RESOURCE_SCHEMA_URL, Record, SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION};
use crate::resource::Resource;

/// W3C "sampled": we export no other spans.
const SAMPLED: u32 = 0x01;
/// `SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`: the next one means something.
const HAS_IS_REMOTE: u32 = 0x100;
/// `SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`: the parent came in a request.
const IS_REMOTE: u32 = 0x200;

/// An encoded `ExportTraceServiceRequest` of these spans, in order within each resource.
pub(super) fn encode(batch: &[Arc<Record>]) -> Bytes {
    request(batch).encode_to_vec().into()
}

fn request(batch: &[Arc<Record>]) -> ExportTraceServiceRequest {
    let mut groups: Vec<(&Arc<Resource>, Vec<Span>)> = Vec::new();
    for record in batch {
        let group = match groups.iter().position(|(resource, _)| Arc::ptr_eq(resource, &record.resource)) {
            Some(at) => &mut groups[at].1,
            None => {
                groups.push((&record.resource, Vec::new()));
                let last = groups.len() - 1;
                &mut groups[last].1
            }
        };
        group.push(span(record));
    }
    ExportTraceServiceRequest {
        resource_spans: groups.into_iter().map(|(resource, spans)| resource_spans(resource, spans)).collect(),
    }
}

fn resource_spans(resource: &Resource, spans: Vec<Span>) -> ResourceSpans {
    let attributes = resource.attributes().iter().map(key_value).collect();
    let scope = InstrumentationScope {
        name: SCOPE_NAME.into(),
        version: SCOPE_VERSION.into(),
        ..InstrumentationScope::default()
    };
    ResourceSpans {
        resource: Some(OtlpResource { attributes, ..OtlpResource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: SCHEMA_URL.into() }],
        schema_url: RESOURCE_SCHEMA_URL.into(),
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
        }
        .into(),
        start_time_unix_nano: record.start_unix_nanos,
        end_time_unix_nano: record.end_unix_nanos,
        attributes: record.span.attributes.iter().map(key_value).collect(),
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

fn key_value(attribute: &Attribute) -> KeyValue {
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

fn string(text: &str) -> any_value::Value {
    any_value::Value::StringValue(text.to_owned())
}
