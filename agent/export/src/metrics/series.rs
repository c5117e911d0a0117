//! Aggregation: sums and histograms with the conventions' buckets, by labels.
//!
//! Not the SDK's: it takes the memory of all series of an instrument at once, and hashes and sorts the labels of a call anew for
//! each of its dozen numbers.

use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, exemplar,
    metric, number_data_point,
};
use tokentap_genai::ChunkTimes;

use super::{
    instruments::{DEFINITIONS, Definition, Form, Instrument},
    labels::{ByHash, Kept, Labels, otlp, overflow},
};

/// The span of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Example {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    /// When it ended.
    pub(super) unix_nanos: u64,
}

/// Every series of one process.
#[derive(Debug)]
pub(super) struct AllSeries {
    by_instrument: Vec<ByHash<Series>>,
    /// Labels that series share, by their hash.
    labels: ByHash<Kept>,
    most: usize,
    /// When the numbers begin.
    since: u64,
}

#[derive(Debug)]
struct Series {
    labels: Kept,
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    Sum(u64),
    Histogram(Box<Buckets>),
}

#[derive(Debug)]
struct Buckets {
    counts: Box<[u64]>,
    sum: f64,
    /// `None` where only means are known.
    range: Option<[f64; 2]>,
    /// The last call that may be an example, and what was measured.
    example: Option<(Example, f64)>,
}

/// What a collection is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Numbers begin anew after it.
    pub(super) delta: bool,
    /// Now.
    pub(super) until: u64,
}

impl AllSeries {
    pub(super) fn new(most: usize, since: u64) -> Self {
        Self {
            by_instrument: DEFINITIONS.iter().map(|_| ByHash::default()).collect(),
            labels: ByHash::default(),
            most,
            since,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.by_instrument.iter().map(|all| all.len() as u64).sum()
    }

    /// Counts so many things.
    pub(super) fn add(&mut self, instrument: Instrument, number: u64, labels: &Labels<'_>) {
        if let Numbers::Sum(sum) = &mut self.series(instrument, labels).numbers {
            *sum = sum.saturating_add(number);
        }
    }

    /// Records a measurement in a histogram.
    pub(super) fn record(
        &mut self,
        instrument: Instrument,
        value: f64,
        example: Option<Example>,
        labels: &Labels<'_>,
    ) {
        let bounds = DEFINITIONS[instrument as usize].bounds();
        if let Numbers::Histogram(buckets) = &mut self.series(instrument, labels).numbers {
            buckets.counts[bounds.partition_point(|&bound| bound < value)] += 1;
            buckets.sum += value;
            let [least, most] = buckets.range.unwrap_or([value; 2]);
            buckets.range = Some([least.min(value), most.max(value)]);
            buckets.example = example.map(|example| (example, value)).or(buckets.example);
        }
    }

    /// Records times between chunks, of which each bucket has a mean.
    pub(super) fn record_chunks(&mut self, instrument: Instrument, times: &ChunkTimes, labels: &Labels<'_>) {
        let bounds = DEFINITIONS[instrument as usize].bounds();
        if let Numbers::Histogram(buckets) = &mut self.series(instrument, labels).numbers {
            for (count, mean) in times.buckets() {
                let seconds = mean.as_secs_f64();
                buckets.counts[bounds.partition_point(|&bound| bound < seconds)] += u64::from(count);
                buckets.sum += seconds * f64::from(count);
            }
        }
    }

    fn series(&mut self, instrument: Instrument, labels: &Labels<'_>) -> &mut Series {
        const OVERFLOW: u64 = u64::MAX;
        let Self { by_instrument, labels: shared, most, .. } = self;
        let all = &mut by_instrument[instrument as usize];
        let known = all.get(&labels.hash()).map(|series| labels.are(&series.labels));
        let key = match known {
            Some(true) => labels.hash(),
            // Other labels have the same hash, or there are too many.
            Some(false) => OVERFLOW,
            None if all.len() >= *most => OVERFLOW,
            None => labels.hash(),
        };
        all.entry(key).or_insert_with(|| {
            let kept = if key == OVERFLOW {
                overflow()
            } else {
                let kept = shared.entry(key).or_insert_with(|| labels.keep());
                if labels.are(kept) { Arc::clone(kept) } else { labels.keep() }
            };
            Series { labels: kept, numbers: Numbers::of(&DEFINITIONS[instrument as usize]) }
        })
    }

    /// What was measured, as metrics.
    pub(super) fn collect(&mut self, span: Span) -> Vec<(&'static Definition, Metric)> {
        let since = self.since;
        let mut metrics = Vec::new();
        for (definition, all) in DEFINITIONS.iter().zip(&mut self.by_instrument) {
            if !all.is_empty() {
                metrics.push((definition, metric(definition, all.values_mut(), since, span)));
            }
            if span.delta {
                all.clear();
            }
        }
        if span.delta {
            self.labels.clear();
            self.since = span.until;
        }
        metrics
    }
}

impl Numbers {
    fn of(definition: &Definition) -> Self {
        if definition.form == Form::Sum {
            return Self::Sum(0);
        }
        let counts = vec![0; definition.bounds().len() + 1].into_boxed_slice();
        Self::Histogram(Box::new(Buckets { counts, sum: 0.0, range: None, example: None }))
    }
}

fn metric<'s>(
    definition: &Definition,
    all: impl Iterator<Item = &'s mut Series>,
    since: u64,
    span: Span,
) -> Metric {
    let aggregation_temporality =
        if span.delta { AggregationTemporality::Delta } else { AggregationTemporality::Cumulative }.into();
    let data = if definition.form == Form::Sum {
        metric::Data::Sum(Sum {
            data_points: all.filter_map(|series| series.sum(since, span.until)).collect(),
            aggregation_temporality,
            is_monotonic: true,
        })
    } else {
        let bounds = definition.bounds();
        metric::Data::Histogram(Histogram {
            data_points: all.filter_map(|series| series.histogram(bounds, since, span.until)).collect(),
            aggregation_temporality,
        })
    };
    Metric {
        name: definition.name.to_owned(),
        description: definition.description.to_owned(),
        unit: definition.unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

impl Series {
    fn sum(&self, since: u64, until: u64) -> Option<NumberDataPoint> {
        let Numbers::Sum(sum) = self.numbers else { return None };
        Some(NumberDataPoint {
            attributes: otlp(&self.labels),
            start_time_unix_nano: since,
            time_unix_nano: until,
            value: Some(number_data_point::Value::AsInt(i64::try_from(sum).unwrap_or(i64::MAX))),
            ..NumberDataPoint::default()
        })
    }

    /// Its example is given once.
    fn histogram(&mut self, bounds: &[f64], since: u64, until: u64) -> Option<HistogramDataPoint> {
        let Numbers::Histogram(buckets) = &mut self.numbers else { return None };
        let example = buckets.example.take().map(|(example, value)| Exemplar {
            time_unix_nano: example.unix_nanos,
            trace_id: example.trace_id.to_vec(),
            span_id: example.span_id.to_vec(),
            value: Some(exemplar::Value::AsDouble(value)),
            ..Exemplar::default()
        });
        Some(HistogramDataPoint {
            attributes: otlp(&self.labels),
            start_time_unix_nano: since,
            time_unix_nano: until,
            count: buckets.counts.iter().sum(),
            sum: Some(buckets.sum),
            bucket_counts: buckets.counts.to_vec(),
            explicit_bounds: bounds.to_vec(),
            exemplars: example.into_iter().collect(),
            min: buckets.range.map(|[least, _]| least),
            max: buckets.range.map(|[_, most]| most),
            ..HistogramDataPoint::default()
        })
    }
}
