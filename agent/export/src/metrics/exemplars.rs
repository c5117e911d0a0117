//! Examples of what was measured: the last call of each series of a histogram of times. The SDK makes none.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue as OtlpKeyValue, any_value},
    metrics::v1::{Exemplar, ResourceMetrics, exemplar, metric},
};

use super::instruments::{DEFINITIONS, Instrument};

/// The span of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Example {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    /// When it ended.
    pub(super) unix_nanos: u64,
}

/// Examples since the last collection.
#[derive(Debug, Default)]
pub(super) struct Exemplars(HashMap<(&'static str, u64), (Example, f64)>);

impl Exemplars {
    /// Takes an example, unless there are `most` for each of a few instruments.
    pub(super) fn add(
        &mut self,
        instrument: Instrument,
        attributes: &[KeyValue],
        value: f64,
        example: Example,
        most: usize,
    ) {
        let pairs = attributes.iter().map(|pair| (pair.key.as_str(), pair.value.as_str()));
        let key = (DEFINITIONS[instrument as usize].name, identity(pairs));
        if self.0.len() < most.saturating_mul(4) || self.0.contains_key(&key) {
            self.0.insert(key, (example, value));
        }
    }

    /// Puts them where they belong, and forgets them.
    pub(super) fn attach(&mut self, metrics: &mut ResourceMetrics) {
        if self.0.is_empty() {
            return;
        }
        for metric in metrics.scope_metrics.iter_mut().flat_map(|scope| &mut scope.metrics) {
            let Some(metric::Data::Histogram(histogram)) = &mut metric.data else { continue };
            let Some(definition) = DEFINITIONS.iter().find(|known| known.name == metric.name) else {
                continue;
            };
            for point in &mut histogram.data_points {
                let pairs = point.attributes.iter().map(|pair| (pair.key.as_str(), text(pair)));
                let Some((example, value)) = self.0.get(&(definition.name, identity(pairs))) else {
                    continue;
                };
                point.exemplars.push(Exemplar {
                    time_unix_nano: example.unix_nanos,
                    trace_id: example.trace_id.to_vec(),
                    span_id: example.span_id.to_vec(),
                    value: Some(exemplar::Value::AsDouble(*value)),
                    ..Exemplar::default()
                });
            }
        }
        self.0.clear();
    }
}

fn text(pair: &OtlpKeyValue) -> std::borrow::Cow<'_, str> {
    match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.as_str().into(),
        Some(any_value::Value::IntValue(value)) => value.to_string().into(),
        Some(any_value::Value::BoolValue(value)) => value.to_string().into(),
        _ => "".into(),
    }
}

/// The same for the same attributes in whatever order.
fn identity<'a>(pairs: impl Iterator<Item = (&'a str, std::borrow::Cow<'a, str>)>) -> u64 {
    pairs.fold(0, |sum: u64, (key, value)| {
        let mut hasher = DefaultHasher::new();
        (key, &*value).hash(&mut hasher);
        sum.wrapping_add(hasher.finish())
    })
}
