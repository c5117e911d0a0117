//! Times between chunks, aggregated here: a stream has thousands of them, and the SDK takes half a microsecond for each.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::{
    common::v1::KeyValue as OtlpKeyValue,
    metrics::v1::{AggregationTemporality, Histogram, HistogramDataPoint, Metric, metric},
};
use tokentap_genai::{CHUNK_TIME_BOUNDS, ChunkTimes};

pub(super) const DESCRIPTION: &str = "Time from chunk to chunk of streamed responses";
const BUCKETS: usize = CHUNK_TIME_BOUNDS.len() + 1;

/// Series of times between chunks of one process.
#[derive(Debug)]
pub(super) struct ChunkHistograms {
    series: BTreeMap<Vec<(String, String)>, Series>,
    most: usize,
    /// When the series begin.
    since: u64,
}

#[derive(Debug)]
struct Series {
    attributes: Vec<KeyValue>,
    buckets: [u64; BUCKETS],
    sum: f64,
}

impl ChunkHistograms {
    pub(super) const fn new(most: usize, now: u64) -> Self {
        Self { series: BTreeMap::new(), most, since: now }
    }

    pub(super) fn record(&mut self, times: &ChunkTimes, attributes: &[KeyValue]) {
        let mut key: Vec<(String, String)> =
            attributes.iter().map(|pair| (pair.key.to_string(), pair.value.to_string())).collect();
        key.sort_unstable();
        let overflow = [KeyValue::new("otel.metric.overflow", true)];
        let (key, attributes) = if self.series.len() >= self.most && !self.series.contains_key(&key) {
            (vec![("otel.metric.overflow".to_owned(), "true".to_owned())], overflow.as_slice())
        } else {
            (key, attributes)
        };
        let series = self.series.entry(key).or_insert_with(|| Series {
            attributes: attributes.to_vec(),
            buckets: [0; BUCKETS],
            sum: 0.0,
        });
        for (count, time) in times.buckets() {
            let seconds = time.as_secs_f64();
            let bucket = CHUNK_TIME_BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BUCKETS - 1);
            series.buckets[bucket] += u64::from(count);
            series.sum += seconds * f64::from(count);
        }
    }

    /// The points of all series. `delta`: what is counted begins anew.
    pub(super) fn collect(&mut self, delta: bool, now: u64) -> Vec<HistogramDataPoint> {
        let points = self.series.values().map(|series| series.point(self.since, now)).collect();
        if delta {
            self.series.clear();
            self.since = now;
        }
        points
    }
}

/// A metric of such points. It has no minimum and no maximum: of each call, only the sum of a bucket is known.
pub(super) fn metric(name: &str, delta: bool, data_points: Vec<HistogramDataPoint>) -> Metric {
    let temporality = if delta { AggregationTemporality::Delta } else { AggregationTemporality::Cumulative };
    Metric {
        name: name.to_owned(),
        description: DESCRIPTION.to_owned(),
        unit: "s".to_owned(),
        data: Some(metric::Data::Histogram(Histogram {
            data_points,
            aggregation_temporality: temporality.into(),
        })),
        ..Metric::default()
    }
}

impl Series {
    fn point(&self, since: u64, now: u64) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: self.attributes.iter().map(OtlpKeyValue::from).collect(),
            start_time_unix_nano: since,
            time_unix_nano: now,
            count: self.buckets.iter().sum(),
            sum: Some(self.sum),
            bucket_counts: self.buckets.to_vec(),
            explicit_bounds: CHUNK_TIME_BOUNDS.to_vec(),
            ..HistogramDataPoint::default()
        }
    }
}
