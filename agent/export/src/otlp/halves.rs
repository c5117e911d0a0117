//! Requests cut in two: one item that a receiver refuses must not take those beside it along.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message as _;

use crate::config::Signal;

/// The first half of the items of an encoded request, and the others; each with its number. `None`: it cannot be cut.
pub(crate) fn halves(signal: Signal, request: &Bytes) -> Option<[(Bytes, u64); 2]> {
    match signal {
        Signal::Traces => {
            let mut first = ExportTraceServiceRequest::decode(request.clone()).ok()?;
            let mut second = first.clone();
            let lists = |request: &mut ExportTraceServiceRequest| -> usize {
                let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
                scopes.map(|scope| scope.spans.len()).sum()
            };
            let all = lists(&mut first);
            let keep = |request: &mut ExportTraceServiceRequest, wanted: &dyn Fn(usize) -> bool| {
                let mut at = 0;
                for resource in &mut request.resource_spans {
                    for scope in &mut resource.scope_spans {
                        scope.spans.retain(|_| take(&mut at, wanted));
                    }
                    resource.scope_spans.retain(|scope| !scope.spans.is_empty());
                }
                request.resource_spans.retain(|resource| !resource.scope_spans.is_empty());
            };
            let half = middle(all)?;
            keep(&mut first, &|at| at < half);
            keep(&mut second, &|at| at >= half);
            Some(encoded([first.encode_to_vec(), second.encode_to_vec()], half, all))
        }
        Signal::Logs => {
            let mut first = ExportLogsServiceRequest::decode(request.clone()).ok()?;
            let mut second = first.clone();
            let scopes = first.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
            let all = scopes.map(|scope| scope.log_records.len()).sum();
            let keep = |request: &mut ExportLogsServiceRequest, wanted: &dyn Fn(usize) -> bool| {
                let mut at = 0;
                for resource in &mut request.resource_logs {
                    for scope in &mut resource.scope_logs {
                        scope.log_records.retain(|_| take(&mut at, wanted));
                    }
                    resource.scope_logs.retain(|scope| !scope.log_records.is_empty());
                }
                request.resource_logs.retain(|resource| !resource.scope_logs.is_empty());
            };
            let half = middle(all)?;
            keep(&mut first, &|at| at < half);
            keep(&mut second, &|at| at >= half);
            Some(encoded([first.encode_to_vec(), second.encode_to_vec()], half, all))
        }
        // The next collection says the same.
        Signal::Metrics => None,
    }
}

/// Whether the next item is wanted.
fn take(at: &mut usize, wanted: &dyn Fn(usize) -> bool) -> bool {
    let is_wanted = wanted(*at);
    *at += 1;
    is_wanted
}

fn middle(all: usize) -> Option<usize> {
    (all > 1).then_some(all / 2)
}

fn encoded(requests: [Vec<u8>; 2], half: usize, all: usize) -> [(Bytes, u64); 2] {
    let [first, second] = requests;
    [(first.into(), half as u64), (second.into(), (all - half) as u64)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        otlp::{log, message},
        record::Record,
        tests::record,
    };

    #[test]
    fn both_halves_have_every_item_once_and_in_order() {
        // Two processes, three spans each, and one more.
        let (a, b) = (record(0), record(0));
        let of = |owner: &Arc<Record>, id: u8| {
            Arc::new(Record { span_id: [0, 0, 0, 0, 0, 0, 0, id], ..(**owner).clone() })
        };
        let batch: Vec<_> = (1..=7).map(|id| of(if id < 4 { &a } else { &b }, id)).collect();
        let mut parts = vec![(message::encode(&batch), 7)];
        let mut ids = Vec::new();
        while let Some((request, items)) = parts.pop() {
            match halves(Signal::Traces, &request) {
                Some([first, second]) => {
                    assert_eq!(first.1 + second.1, items);
                    parts.extend([second, first]);
                }
                None => {
                    let request = ExportTraceServiceRequest::decode(request).unwrap();
                    assert_eq!((request.resource_spans.len(), items), (1, 1));
                    ids.push(request.resource_spans[0].scope_spans[0].spans[0].span_id[7]);
                }
            }
        }
        assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7]);
        let [first, second] = halves(Signal::Logs, &log::encode(&batch)).unwrap();
        assert_eq!((first.1, second.1), (3, 4));
        assert!(halves(Signal::Metrics, &message::encode(&batch)).is_none());
        assert!(halves(Signal::Traces, &Bytes::from_static(b"\xff")).is_none());
    }
}
