//! The LLM calls of a connection: no bytes make spans of what was not in them. Token counts were sent as numbers,
//! or are sums of such; times are in order.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{numbers::Numbers, recorder::Recorder, replay::Replay};
use tokentap_genai::{Calls, ContentOptions, Destination, Dialect, Options, Span, Transport, Value};
use tokentap_wire::{
    Ending, ExchangeId, Headers, Interest, Nanos, Reason, RequestHead, ResponseHead, Role, Sink,
};

fuzz_target!(|input: &[u8]| {
    let replay = Replay::new(input);
    // Content takes part, in all its forms.
    let content = ContentOptions {
        destination: Destination::SpanAndEvent,
        max_bytes: 256,
        ..ContentOptions::default()
    };
    let dialects = vec![Dialect::OpenTelemetry, Dialect::OpenInference];
    let options = Options { content: Some(content), dialects, ..Options::default() };
    let calls = Calls::new(Arc::new(options), Transport::default());
    let mut tee = Tee { recorder: Recorder::new(&replay.limits), calls };
    replay.play(&mut tee);
    tee.recorder.check_over();
    let bodies = tee.recorder.exchanges.values();
    let numbers = Numbers::of(bodies.map(|exchange| &exchange.response_body.0[..]));
    while let Some(span) = tee.calls.take() {
        check(&span, &numbers);
    }
});

fn check(span: &Span, numbers: &Numbers) {
    assert!(span.start <= span.end);
    for (n, attribute) in span.attributes.iter().enumerate() {
        assert!(
            span.attributes[..n].iter().all(|other| other.key != attribute.key),
            "{} twice",
            attribute.key
        );
        if attribute.key.starts_with("gen_ai.usage.") {
            let Value::Int(count) = attribute.value else { panic!("{attribute:?}") };
            assert!(count >= 0 && numbers.explain(count), "{attribute:?} was not sent");
        }
    }
}

/// Tells both: the recorder to know what was in the bodies.
struct Tee {
    recorder: Recorder,
    calls: Calls,
}

impl Sink for Tee {
    fn request(&mut self, id: ExchangeId, head: &RequestHead<'_>, at: Nanos) -> Interest {
        self.recorder.request(id, head, at);
        self.calls.request(id, head, at);
        Interest::Body
    }

    fn request_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos) {
        self.recorder.request_body(id, bytes, at);
        self.calls.request_body(id, bytes, at);
    }

    fn request_end(&mut self, id: ExchangeId, at: Nanos) {
        self.recorder.request_end(id, at);
        self.calls.request_end(id, at);
    }

    fn response(&mut self, id: ExchangeId, head: &ResponseHead<'_>, at: Nanos) -> Interest {
        self.recorder.response(id, head, at);
        self.calls.response(id, head, at);
        Interest::Body
    }

    fn response_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos) {
        self.recorder.response_body(id, bytes, at);
        self.calls.response_body(id, bytes, at);
    }

    fn trailers(&mut self, id: ExchangeId, fields: Headers<'_>, at: Nanos) {
        self.recorder.trailers(id, fields, at);
        self.calls.trailers(id, fields, at);
    }

    fn gap(&mut self, id: ExchangeId, from: Role, missing: Option<u64>) {
        self.recorder.gap(id, from, missing);
        self.calls.gap(id, from, missing);
    }

    fn end(&mut self, id: ExchangeId, ending: Ending, at: Nanos) {
        self.recorder.end(id, ending, at);
        self.calls.end(id, ending, at);
    }

    fn is_response_complete(&self, id: ExchangeId) -> bool {
        self.calls.is_response_complete(id)
    }

    fn dropped(&mut self, reason: Reason, bytes: u64) {
        self.calls.dropped(reason, bytes);
    }
}
