//! Metrics of calls: one set for each observed process, on its Resource. Every call counts, whether its span is exported or
//! not.
//!
//! What was aggregated becomes OTLP here, in one request for all processes, cut where receivers would refuse it. Numbers that count from the start are sent until a receiver has them: a request that was not delivered is replaced by
//! the next one. Those of a process that has ended are kept until all receivers have them.

mod instruments;
mod labels;
mod observed;
mod series;
mod task;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics, metric};
use prost::Message as _;
use tokentap_genai::Resource;

use crate::{
    config::{ExemplarFilter, MetricsConfig},
    queue::MAX_BATCH_BYTES,
    record::Record,
};
use observed::{Call, Observed};
use series::Example;
pub(crate) use task::{Collector, MOST_ENDED, MetricsWorker};

/// A metric of calls, for pages of documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentedMetric {
    /// Its name.
    pub name: &'static str,
    /// `counter` or `histogram`.
    pub form: &'static str,
    /// Its unit, in UCUM.
    pub unit: &'static str,
    /// The name of its scope.
    pub scope: &'static str,
    /// What it is.
    pub description: &'static str,
}

/// Every metric of calls.
pub fn documented_metrics() -> impl Iterator<Item = DocumentedMetric> {
    instruments::DEFINITIONS.iter().map(|definition| DocumentedMetric {
        name: definition.name,
        form: if definition.form == instruments::Form::Sum { "counter" } else { "histogram" },
        unit: definition.unit,
        scope: definition.scope.identity().0,
        description: definition.description,
    })
}

/// Measures calls, from any thread.
#[derive(Debug)]
pub(crate) struct Metrics {
    config: MetricsConfig,
    processes: Mutex<Processes>,
}

#[derive(Debug, Default)]
struct Processes {
    /// By the address of a Resource. It stays taken while the process is in here: a weak reference to it is kept.
    by_address: HashMap<usize, Arc<Observed>>,
    /// By what their Resources say: a process that is described anew goes on in the same series.
    by_identity: HashMap<u64, Arc<Observed>>,
}

/// A collection, cut into requests.
#[derive(Debug, Default)]
pub(crate) struct Collection {
    /// Encoded requests, each with the number of its points.
    requests: Vec<(Bytes, u64)>,
    /// Processes that had ended before: this is the last that is to say of them.
    ended: Vec<u64>,
}

impl Collection {
    fn points(&self) -> u64 {
        self.requests.iter().map(|(_, points)| points).sum()
    }
}

impl Metrics {
    pub(crate) fn new(config: MetricsConfig) -> Self {
        Self { config, processes: Mutex::default() }
    }

    /// Counts a call. `sampled`: its span is exported.
    pub(crate) fn record(&self, record: &Record, sampled: bool) {
        let may_be_example = match self.config.exemplars {
            ExemplarFilter::AlwaysOn => true,
            ExemplarFilter::TraceBased => sampled,
            ExemplarFilter::AlwaysOff => false,
        };
        let example = may_be_example.then_some(Example {
            trace_id: record.trace_id,
            span_id: record.span_id,
            unix_nanos: record.end_unix_nanos,
        });
        let span = &record.span;
        self.observed(&record.resource).record(&Call {
            kind: span.kind,
            measurements: &span.measurements,
            example,
        });
    }

    fn observed(&self, resource: &Arc<Resource>) -> Arc<Observed> {
        let address = Arc::as_ptr(resource) as usize;
        let mut processes = self.lock();
        let Processes { by_address, by_identity } = &mut *processes;
        if let Some(known) = by_address.get(&address) {
            return Arc::clone(known);
        }
        let observed = match by_identity.entry(identity(resource)) {
            Entry::Occupied(known) => {
                known.get().add_resource(resource);
                Arc::clone(known.get())
            }
            Entry::Vacant(place) => {
                Arc::clone(place.insert(Arc::new(Observed::new(resource, self.config, unix_nanos()))))
            }
        };
        by_address.insert(address, Arc::clone(&observed));
        observed
    }

    /// Everything that was measured.
    fn collect(&self) -> Collection {
        let mut processes: Vec<(u64, Arc<Observed>)> = {
            let processes = self.lock();
            processes.by_identity.iter().map(|(identity, known)| (*identity, Arc::clone(known))).collect()
        };
        processes.sort_unstable_by_key(|(identity, _)| *identity);
        let now = unix_nanos();
        let mut collection = Collection::default();
        let mut batch = Batch::default();
        for (identity, observed) in processes {
            // Before it is collected: what is measured in between is in the next collection.
            if observed.has_ended() {
                collection.ended.push(identity);
            }
            for (metrics, size) in observed.collect(now).into_iter().flat_map(split) {
                batch.add(&metrics, size, &mut collection.requests);
            }
        }
        batch.finish(&mut collection.requests);
        collection
    }

    /// Forgets processes, unless they live again; how many series they had.
    fn retire(&self, ended: &[u64]) -> u64 {
        let mut processes = self.lock();
        let Processes { by_address, by_identity } = &mut *processes;
        let mut gone = HashSet::new();
        let mut series = 0;
        for identity in ended {
            if by_identity.get(identity).is_some_and(|known| known.has_ended())
                && let Some(observed) = by_identity.remove(identity)
            {
                series += observed.series();
                gone.insert(Arc::as_ptr(&observed) as usize);
            }
        }
        if !gone.is_empty() {
            by_address.retain(|_, known| !gone.contains(&(Arc::as_ptr(known) as usize)));
        }
        series
    }

    fn lock(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identity(resource: &Resource) -> u64 {
    let mut hasher = DefaultHasher::new();
    for attribute in resource.attributes() {
        (&attribute.key, format!("{:?}", attribute.value)).hash(&mut hasher);
    }
    hasher.finish()
}

fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Metrics of processes that go into one request, encoded one after the other: as a whole they would take much memory.
#[derive(Debug, Default)]
struct Batch {
    encoded: Vec<u8>,
    points: u64,
}

impl Batch {
    fn add(&mut self, metrics: &ResourceMetrics, size: usize, requests: &mut Vec<(Bytes, u64)>) {
        /// `ExportMetricsServiceRequest.resource_metrics`
        const FIELD: u32 = 1;
        if self.encoded.len() + size > MAX_BATCH_BYTES {
            self.finish(requests);
        }
        prost::encoding::message::encode(FIELD, metrics, &mut self.encoded);
        self.points += metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics).map(points).sum::<u64>();
    }

    fn finish(&mut self, requests: &mut Vec<(Bytes, u64)>) {
        let Self { encoded, points } = std::mem::take(self);
        if !encoded.is_empty() {
            requests.push((encoded.into(), points));
        }
    }
}

fn points(metric: &Metric) -> u64 {
    match &metric.data {
        Some(metric::Data::Sum(sum)) => sum.data_points.len() as u64,
        Some(metric::Data::Histogram(histogram)) => histogram.data_points.len() as u64,
        Some(metric::Data::Gauge(gauge)) => gauge.data_points.len() as u64,
        _ => 0,
    }
}

/// Metrics of a process in pieces that receivers take, with their sizes: metric by metric where it has too many series.
fn split(metrics: ResourceMetrics) -> Vec<(ResourceMetrics, usize)> {
    let size = metrics.encoded_len();
    if size <= MAX_BATCH_BYTES {
        return vec![(metrics, size)];
    }
    let ResourceMetrics { resource, scope_metrics, schema_url } = metrics;
    let each = scope_metrics.into_iter().flat_map(|scope| {
        let ScopeMetrics { scope, metrics, schema_url } = scope;
        metrics.into_iter().map(move |metric| ScopeMetrics {
            scope: scope.clone(),
            metrics: vec![metric],
            schema_url: schema_url.clone(),
        })
    });
    let piece = |scope| {
        let resource = resource.clone();
        let piece = ResourceMetrics { resource, scope_metrics: vec![scope], schema_url: schema_url.clone() };
        let size = piece.encoded_len();
        (piece, size)
    };
    each.map(piece).collect()
}

#[cfg(test)]
mod tests;
