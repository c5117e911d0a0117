use std::{collections::BTreeMap, time::Duration};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, KeyValue as OtlpKeyValue, any_value},
    metrics::v1::{NumberDataPoint, number_data_point},
};
use tokentap_genai::{HttpMeasurements, Measurements, SpanKind, TokenUsage};

use tokentap_wire::Nanos;

use super::*;
use crate::{
    config::{SemconvMetrics, Signal, Temporality},
    counters::ExporterCounters,
    drain::Drain,
    tests::record,
};

fn metrics(change: impl FnOnce(&mut MetricsConfig)) -> Metrics {
    let mut config = MetricsConfig::default();
    change(&mut config);
    Metrics::new(config)
}

fn call(kind: SpanKind) -> Record {
    let mut call = (*record(1)).clone();
    call.span.kind = kind;
    call.span.measurements = Measurements {
        operation: "chat".into(),
        provider: "openai".into(),
        request_model: "gpt-5".into(),
        response_model: "gpt-5-2".into(),
        server: Some(("api.openai.com".into(), 443)),
        http: Some(HttpMeasurements { method: "POST", status: 200, tls: true, http2: true }),
        duration: Some(Duration::from_millis(3_000)),
        streamed: true,
        time_to_first_chunk: Some(Duration::from_millis(900)),
        time_to_first_token: Some(Duration::from_millis(1_000)),
        usage: TokenUsage {
            input: Some(100),
            output: Some(21),
            cache_read: Some(40),
            reasoning: Some(5),
            input_by_modality: [None, Some(30), None],
            ..TokenUsage::default()
        },
        ..Measurements::default()
    };
    call
}

/// A point, in figures that can be compared: attributes, and sum or number.
type Points = Vec<(BTreeMap<String, String>, f64)>;

/// Points by scope and metric, of all requests of a collection.
fn points_of(collection: &Collection) -> BTreeMap<(String, String), Points> {
    let mut all = BTreeMap::<_, Points>::new();
    for (bytes, count) in &collection.requests {
        let request = ExportMetricsServiceRequest::decode(bytes.clone()).unwrap();
        let mut counted = 0;
        for scope in request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics) {
            let name = scope.scope.unwrap().name;
            for metric in scope.metrics {
                counted += points(&metric);
                let found: Points = match metric.data.unwrap() {
                    metric::Data::Sum(sum) => sum.data_points.iter().map(number).collect(),
                    metric::Data::Histogram(histogram) => histogram
                        .data_points
                        .iter()
                        .map(|point| (labels(&point.attributes), point.sum.unwrap()))
                        .collect(),
                    other => panic!("{other:?}"),
                };
                all.entry((name.clone(), metric.name)).or_default().extend(found);
            }
        }
        assert_eq!(counted, *count);
    }
    all
}

fn number(point: &NumberDataPoint) -> (BTreeMap<String, String>, f64) {
    let Some(number_data_point::Value::AsInt(value)) = point.value else { panic!("{point:?}") };
    (labels(&point.attributes), value as f64)
}

fn labels(attributes: &[OtlpKeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(value) => value.to_string(),
        any_value::Value::BoolValue(value) => value.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}

/// The sums of a metric, over all its points.
fn sum(metrics: &Metrics, name: &str) -> f64 {
    let all = points_of(&metrics.collect());
    all.iter().filter(|((_, metric), _)| metric == name).flat_map(|(_, points)| points).map(|(_, n)| n).sum()
}

fn names(metrics: &Metrics) -> Vec<String> {
    let mut names: Vec<_> = points_of(&metrics.collect()).into_keys().map(|(_, name)| name).collect();
    names.sort();
    names
}

#[test]
fn a_call_of_a_client_is_measured_in_both_generations() {
    let metrics = metrics(|_| {});
    let mut call = call(SpanKind::Client);
    let mut chunks = Box::<tokentap_genai::ChunkTimes>::default();
    chunks.add(Nanos(30_000_000));
    chunks.add(Nanos(50_000_000));
    call.span.measurements.chunks = Some(chunks);
    metrics.record(&call, true);
    let all = points_of(&metrics.collect());
    let names: Vec<(&str, &str)> = all.keys().map(|(scope, name)| (scope.as_str(), name.as_str())).collect();
    let (new, old, http) = ("tokentap", "tokentap.v1_41", "tokentap.http");
    assert_eq!(
        names,
        [
            (new, "gen_ai.client.inference.duration"),
            (new, "gen_ai.client.inference.operation.input_tokens"),
            (new, "gen_ai.client.inference.operation.output_tokens"),
            (new, "gen_ai.client.inference.time_per_output_chunk"),
            (new, "gen_ai.client.inference.time_to_first_chunk"),
            (new, "gen_ai.client.inference.usage.cache_read.input_tokens"),
            (new, "gen_ai.client.inference.usage.input_tokens"),
            (new, "gen_ai.client.inference.usage.output_tokens"),
            (new, "gen_ai.client.inference.usage.reasoning.output_tokens"),
            (http, "http.client.request.duration"),
            (old, "gen_ai.client.operation.duration"),
            (old, "gen_ai.client.operation.time_per_output_chunk"),
            (old, "gen_ai.client.operation.time_to_first_chunk"),
            (old, "gen_ai.client.token.usage"),
        ]
    );
    let of = |scope: &str, name: &str| &all[&(scope.to_owned(), name.to_owned())];
    let [(attributes, seconds)] = &of(new, "gen_ai.client.inference.duration")[..] else { panic!() };
    let want = [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-5"),
        ("gen_ai.response.model", "gpt-5-2"),
        ("server.address", "api.openai.com"),
        ("server.port", "443"),
    ];
    assert_eq!(*attributes, want.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
    assert_eq!(*seconds, 3.0);
    let mut input: Vec<(&str, f64)> = of(new, "gen_ai.client.inference.usage.input_tokens")
        .iter()
        .map(|(attributes, n)| (attributes["gen_ai.token.modality"].as_str(), *n))
        .collect();
    input.sort_by(|a, b| a.0.cmp(b.0));
    assert_eq!(input, [("image", 30.0), ("unknown", 70.0)]);
    let mut usage: Vec<(&str, f64)> = of(old, "gen_ai.client.token.usage")
        .iter()
        .map(|(attributes, n)| (attributes["gen_ai.token.type"].as_str(), *n))
        .collect();
    usage.sort_by(|a, b| a.0.cmp(b.0));
    assert_eq!(usage, [("input", 100.0), ("output", 21.0)]);
    let [(_, between)] = &of(new, "gen_ai.client.inference.time_per_output_chunk")[..] else { panic!() };
    assert!((between - 0.08).abs() < 1e-4, "{between}");
    let [(attributes, _)] = &of(http, "http.client.request.duration")[..] else { panic!() };
    assert_eq!(
        (&*attributes["http.response.status_code"], &*attributes["http.request.method"]),
        ("200", "POST")
    );
    assert_eq!(&*attributes["network.protocol.version"], "2");
}

#[test]
fn a_generation_can_be_left_out() {
    for (semconv, old, new) in [
        (SemconvMetrics::Both, true, true),
        (SemconvMetrics::New, false, true),
        (SemconvMetrics::Old, true, false),
    ] {
        let metrics = metrics(|config| config.semconv = semconv);
        metrics.record(&call(SpanKind::Client), true);
        let names = names(&metrics);
        let has = |name: &str| names.iter().any(|known| known == name);
        assert_eq!(has("gen_ai.client.operation.duration"), old, "{semconv}");
        assert_eq!(has("gen_ai.client.inference.duration"), new, "{semconv}");
        let mut retrieval = call(SpanKind::Client);
        retrieval.span.measurements.operation = "retrieval".into();
        let metrics = self::metrics(|config| config.semconv = semconv);
        metrics.record(&retrieval, true);
        assert!(self::names(&metrics).contains(&"gen_ai.client.operation.duration".to_owned()), "{semconv}");
    }
}

#[test]
fn a_call_of_a_server_has_times_of_its_tokens_where_it_succeeded() {
    let metrics = metrics(|_| {});
    metrics.record(&call(SpanKind::Server), true);
    let mut failed = call(SpanKind::Server);
    failed.span.measurements.error = Some("overloaded".into());
    metrics.record(&failed, true);
    assert_eq!(sum(&metrics, "gen_ai.server.request.duration"), 6.0);
    assert_eq!(sum(&metrics, "gen_ai.server.time_to_first_token"), 1.0);
    assert_eq!(sum(&metrics, "gen_ai.server.time_per_output_token"), 0.1);
    assert_eq!(sum(&metrics, "inference.model.infer.count"), 2.0);
    assert_eq!(sum(&metrics, "inference.errors"), 1.0);
    assert_eq!(sum(&metrics, "http.server.request.duration"), 6.0);
}

#[test]
fn a_call_without_usage_counts_as_zero_tokens_of_no_known_modality() {
    let metrics = metrics(|_| {});
    let mut call = call(SpanKind::Client);
    call.span.measurements.usage = TokenUsage::default();
    metrics.record(&call, true);
    let all = points_of(&metrics.collect());
    let key = ("tokentap".to_owned(), "gen_ai.client.inference.usage.input_tokens".to_owned());
    let [(attributes, 0.0)] = &all[&key][..] else { panic!("{all:?}") };
    assert_eq!(attributes["gen_ai.token.modality"], "unknown");
    assert!(!all.keys().any(|(_, name)| name == "gen_ai.client.token.usage"), "nothing is known");
}

#[test]
fn numbers_count_from_the_start_or_from_the_last_collection() {
    for (temporality, then) in [(Temporality::Cumulative, 200.0), (Temporality::Delta, 100.0)] {
        let metrics = metrics(|config| config.temporality = temporality);
        let call = call(SpanKind::Client);
        metrics.record(&call, true);
        assert_eq!(sum(&metrics, "gen_ai.client.inference.usage.input_tokens"), 100.0);
        metrics.record(&call, true);
        assert_eq!(sum(&metrics, "gen_ai.client.inference.usage.input_tokens"), then, "{temporality}");
    }
}

#[test]
fn series_are_bounded_and_the_sum_stays_right() {
    let metrics = metrics(|config| config.max_series = 10);
    let mut call = call(SpanKind::Client);
    let mut chunks = Box::<tokentap_genai::ChunkTimes>::default();
    chunks.add(Nanos(1_000_000_000));
    call.span.measurements.chunks = Some(chunks);
    for n in 0..100 {
        call.span.measurements.request_model = format!("model-{n}");
        metrics.record(&call, true);
    }
    let all = points_of(&metrics.collect());
    let of = |name: &str| {
        let key = ("tokentap".to_owned(), format!("gen_ai.client.inference.{name}"));
        let points = &all[&key];
        let overflow =
            points.iter().filter(|(labels, _)| labels.contains_key("otel.metric.overflow")).count();
        (points.len() <= 11, overflow, points.iter().map(|(_, n)| n).sum::<f64>())
    };
    assert_eq!(of("duration"), (true, 1, 300.0));
    assert_eq!(of("operation.output_tokens"), (true, 1, 2_100.0));
    let (bounded, overflow, seconds) = of("time_per_output_chunk");
    assert!(bounded && overflow == 1 && (seconds - 100.0).abs() < 0.01, "{seconds}");
}

#[test]
fn examples_are_calls_whose_span_is_exported() {
    let example = |filter, sampled| {
        let metrics = metrics(|config| config.exemplars = filter);
        metrics.record(&call(SpanKind::Client), sampled);
        let collection = metrics.collect();
        let request = ExportMetricsServiceRequest::decode(collection.requests[0].0.clone()).unwrap();
        let metrics = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let duration = metrics
            .flat_map(|scope| scope.metrics)
            .find(|metric| metric.name == "gen_ai.client.inference.duration")
            .unwrap();
        let Some(metric::Data::Histogram(histogram)) = duration.data else { panic!() };
        histogram.data_points[0].exemplars.first().map(|example| (example.span_id.clone(), example.value))
    };
    let value = opentelemetry_proto::tonic::metrics::v1::exemplar::Value::AsDouble(3.0);
    let one = Some((vec![0, 0, 0, 0, 0, 0, 0, 1], Some(value)));
    assert_eq!(example(ExemplarFilter::TraceBased, true), one);
    assert_eq!(example(ExemplarFilter::TraceBased, false), None);
    assert_eq!(example(ExemplarFilter::AlwaysOn, false), one);
    assert_eq!(example(ExemplarFilter::AlwaysOff, true), None);
}

#[test]
fn a_process_is_forgotten_when_it_has_ended_and_its_last_numbers_are_delivered() {
    let metrics = metrics(|_| {});
    let call = call(SpanKind::Client);
    metrics.record(&call, true);
    // The same process, described anew.
    let again = Record { resource: Arc::new((*call.resource).clone()), ..call.clone() };
    metrics.record(&again, true);
    assert_eq!(metrics.lock().by_identity.len(), 1);
    drop(call);
    assert_eq!(metrics.collect().ended, [] as [u64; 0], "a span of it is on its way");
    drop(again);
    let last = metrics.collect();
    assert_eq!((last.ended.len(), last.points() > 0), (1, true));
    assert_eq!(metrics.retire(&last.ended), last.points());
    assert_eq!(metrics.collect().points(), 0);
    assert!(metrics.lock().by_address.is_empty());
}

#[test]
fn requests_are_cut_where_receivers_would_refuse_them() {
    let metrics = metrics(|_| {});
    let calls: Vec<Record> = (0..300)
        .map(|n| {
            let mut call = call(SpanKind::Client);
            call.resource = Arc::new(Resource::new(vec![tokentap_genai::Attribute {
                key: "service.name".into(),
                value: tokentap_genai::Value::Str(format!("service-{n}").into()),
            }]));
            for model in 0..8 {
                call.span.measurements.request_model = format!("model-{model}");
                metrics.record(&call, true);
            }
            call
        })
        .collect();
    let collection = metrics.collect();
    assert!(collection.requests.len() > 1 && collection.requests.len() < 8, "{}", collection.requests.len());
    assert!(collection.requests.iter().all(|(bytes, _)| bytes.len() <= MAX_BATCH_BYTES));
    let key = ("tokentap".to_owned(), "gen_ai.client.inference.duration".to_owned());
    assert_eq!(points_of(&collection)[&key].len(), 300 * 8);
    drop(calls);
}

#[test]
fn processes_that_end_while_no_receiver_answers_take_bounded_memory() {
    let metrics = Arc::new(metrics(|_| {}));
    let counters = ExporterCounters::of("dead".into(), Signal::Metrics);
    let outbox = Arc::new(task::Outbox::new(Arc::clone(&counters)));
    let (_order, drain) = Drain::new();
    let collector =
        Collector { metrics: Arc::clone(&metrics), receivers: vec![outbox], drain, most_ended: 20 };
    let mut ended = HashMap::new();
    for round in 0..12 {
        for n in 0..5 {
            let mut call = call(SpanKind::Client);
            call.resource = Arc::new(Resource::new(vec![tokentap_genai::Attribute {
                key: "process.pid".into(),
                value: tokentap_genai::Value::Int(round * 5 + n),
            }]));
            metrics.record(&call, true);
        }
        collector.collect(round as u64 + 1, &mut ended);
    }
    let kept = metrics.lock().by_identity.len();
    assert!(kept <= 20 + 5, "{kept} processes are kept");
    let [(reason, points)] = counters.report().lost[..] else { panic!("{:?}", counters.report()) };
    assert_eq!((reason, points % (60 - kept as u64)), ("queue_full", 0), "{points}");
}
