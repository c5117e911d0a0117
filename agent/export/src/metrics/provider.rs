//! One meter provider for each process, with a reader that is asked and does not ask.
//!
//! The only file that knows how the SDK connects readers: what it uses of that is hidden from the SDK's documentation.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource as SdkResource,
    error::OTelSdkResult,
    metrics::{
        Instrument, InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Stream,
        Temporality as SdkTemporality, data::ResourceMetrics, reader::MetricReader,
    },
};
use tokentap_genai::{Attribute, Resource, Value};

use crate::{
    config::{MetricsConfig, Temporality},
    record::RESOURCE_SCHEMA_URL,
};

/// A provider keeps its reader to itself; this one can still be asked.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> SdkTemporality {
        self.0.temporality(kind)
    }
}

/// What aggregates the measurements of one process.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) sdk: SdkMeterProvider,
    reader: SharedReader,
}

impl Provider {
    pub(super) fn new(resource: &Resource, config: &MetricsConfig) -> Self {
        let temporality = match config.temporality {
            Temporality::Cumulative => SdkTemporality::Cumulative,
            Temporality::Delta => SdkTemporality::Delta,
            Temporality::LowMemory => SdkTemporality::LowMemory,
        };
        let reader = SharedReader(Arc::new(ManualReader::builder().with_temporality(temporality).build()));
        // The default limit would take the memory of 2,000 series for each instrument of each process.
        let most = config.max_series;
        let limited = move |_: &Instrument| Stream::builder().with_cardinality_limit(most).build().ok();
        let sdk = SdkMeterProvider::builder()
            .with_resource(sdk_resource(resource))
            .with_reader(reader.clone())
            .with_view(limited)
            .build();
        Self { sdk, reader }
    }

    /// What was measured.
    pub(super) fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.reader.collect(metrics)
    }
}

fn sdk_resource(resource: &Resource) -> SdkResource {
    let attributes = resource.attributes().iter().map(key_value);
    // Not `builder()`, which takes in the environment of the agent.
    SdkResource::builder_empty().with_schema_url(attributes, RESOURCE_SCHEMA_URL).build()
}

fn key_value(attribute: &Attribute) -> KeyValue {
    let key = attribute.key.clone();
    match &attribute.value {
        Value::Str(text) => KeyValue::new(key, text.clone()),
        Value::Bool(value) => KeyValue::new(key, *value),
        Value::Int(value) => KeyValue::new(key, *value),
        Value::Double(value) => KeyValue::new(key, *value),
        Value::StrList(list) => {
            let list: Vec<opentelemetry::StringValue> = list.iter().map(|text| text.clone().into()).collect();
            KeyValue::new(key, opentelemetry::Value::Array(list.into()))
        }
    }
}
