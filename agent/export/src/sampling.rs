//! Which spans are exported. A call is decided on when it has ended: its duration, its tokens and its failure count, too.

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind as OtelKind, TraceContextExt as _, TraceState},
};
use opentelemetry_sdk::trace::{Sampler as SdkSampler, SamplingDecision, ShouldSample as _};
use tokentap_genai::{SpanKind, SpanStatus, TraceContext, glob};

use crate::{
    config::{Sampler, SamplingConfig, SamplingRule},
    record::Record,
};

/// Decides which spans are exported.
#[derive(Debug)]
pub(crate) struct Decider {
    sampler: SdkSampler,
    follows_parent: bool,
    rules: Vec<(SamplingRule, SdkSampler)>,
    keep_errors: bool,
}

/// The bit of the trace flags that says that the trace is kept.
const SAMPLED: u8 = 1;

impl Decider {
    pub(crate) fn new(config: &SamplingConfig) -> Self {
        let ratio = SdkSampler::TraceIdRatioBased;
        let (sampler, follows_parent) = match config.sampler {
            Sampler::AlwaysOn => (SdkSampler::AlwaysOn, false),
            Sampler::AlwaysOff => (SdkSampler::AlwaysOff, false),
            Sampler::TraceIdRatio(share) => (ratio(share), false),
            Sampler::ParentBasedAlwaysOn => (SdkSampler::AlwaysOn, true),
            Sampler::ParentBasedAlwaysOff => (SdkSampler::AlwaysOff, true),
            Sampler::ParentBasedTraceIdRatio(share) => (ratio(share), true),
        };
        let rules = config.rules.iter().map(|rule| (rule.clone(), ratio(rule.ratio)));
        Self { sampler, follows_parent, rules: rules.collect(), keep_errors: config.keep_errors }
    }

    /// Whether the span is exported: as its parent decided, where the sampler follows parents; else where the request asks
    /// for it, where the call failed and such calls are kept, as the first rule says that matches, as the sampler says.
    pub(crate) fn keeps(&self, record: &Record) -> bool {
        let span = &record.span;
        let parent = span.parent.as_ref();
        if let Some(parent) = parent.filter(|_| self.follows_parent) {
            return parent.flags & SAMPLED != 0;
        }
        if span.forced {
            return true;
        }
        let failed = matches!(span.status, SpanStatus::Error(_));
        if self.keep_errors && (failed || span.incomplete.is_some()) {
            return true;
        }
        let rule = self.rules.iter().find(|(rule, _)| matches(rule, record, failed));
        let sampler = rule.map_or(&self.sampler, |(_, sampler)| sampler);
        is_sampled(sampler, record, parent)
    }
}

fn is_sampled(sampler: &SdkSampler, record: &Record, parent: Option<&TraceContext>) -> bool {
    let trace_id = TraceId::from_bytes(record.trace_id);
    let context = parent.map(|parent| {
        Context::new().with_remote_span_context(SpanContext::new(
            trace_id,
            SpanId::from_bytes(parent.span_id),
            TraceFlags::new(parent.flags),
            true,
            TraceState::default(),
        ))
    });
    let kind = match record.span.kind {
        SpanKind::Client => OtelKind::Client,
        SpanKind::Server => OtelKind::Server,
        SpanKind::Internal => OtelKind::Internal,
    };
    let result = sampler.should_sample(context.as_ref(), trace_id, &record.span.name, &kind, &[], &[]);
    result.decision == SamplingDecision::RecordAndSample
}

fn matches(rule: &SamplingRule, record: &Record, failed: bool) -> bool {
    let measured = &record.span.measurements;
    let usage = &measured.usage;
    let tokens = usage.input.unwrap_or(0).saturating_add(usage.output.unwrap_or(0));
    let is = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| glob(wanted, text));
    is(&rule.service, record.resource.service_name().unwrap_or_default())
        && is(&rule.provider, &measured.provider)
        && is(&rule.operation, &measured.operation)
        && rule.error.is_none_or(|error| error == failed)
        && rule.min_duration.is_none_or(|least| measured.duration.is_some_and(|duration| duration >= least))
        && rule.min_tokens.is_none_or(|least| tokens >= least)
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, time::Duration};

    use super::*;
    use crate::tests::{record, with_parent};

    fn decider(sampler: Sampler, rules: &[&str], keep_errors: bool) -> Decider {
        let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        Decider::new(&SamplingConfig { sampler, rules, keep_errors })
    }

    fn root() -> Record {
        (*record(1)).clone()
    }

    fn child(sampled: bool) -> Record {
        let mut child = with_parent(record(1));
        child.span.status = SpanStatus::Unset;
        if let Some(parent) = &mut child.span.parent {
            parent.flags = u8::from(sampled);
        }
        child
    }

    #[test]
    fn a_parent_wins_with_every_sampler_that_follows_parents_and_with_no_other() {
        let ratio = [Sampler::ParentBasedTraceIdRatio(0.0), Sampler::ParentBasedTraceIdRatio(1.0)];
        for sampler in [Sampler::ParentBasedAlwaysOn, Sampler::ParentBasedAlwaysOff, ratio[0], ratio[1]] {
            let decider = decider(sampler, &["ratio=1"], true);
            for sampled in [false, true] {
                let mut child = child(sampled);
                child.span.forced = true;
                child.span.status = SpanStatus::Error(Cow::Borrowed("HTTP 500"));
                assert_eq!(decider.keeps(&child), sampled, "{sampler:?}");
            }
        }
        assert!(decider(Sampler::AlwaysOn, &[], false).keeps(&child(false)));
        assert!(!decider(Sampler::AlwaysOff, &[], false).keeps(&child(true)));
    }

    #[test]
    fn roots_are_kept_by_force_by_failure_by_rule_and_by_share() {
        let mut forced = root();
        forced.span.forced = true;
        assert!(decider(Sampler::ParentBasedAlwaysOff, &["ratio=0"], false).keeps(&forced));
        let mut failed = root();
        failed.span.status = SpanStatus::Error(Cow::Borrowed("HTTP 500"));
        assert!(decider(Sampler::AlwaysOff, &[], true).keeps(&failed));
        assert!(!decider(Sampler::AlwaysOff, &[], false).keeps(&failed));
        assert!(decider(Sampler::AlwaysOff, &["ratio=1,error=true"], false).keeps(&failed));
        let mut slow = root();
        slow.span.measurements.duration = Some(Duration::from_secs(3));
        slow.span.measurements.usage.output = Some(500);
        slow.span.measurements.provider = "openai".into();
        for (rule, kept) in [
            ("ratio=1,min_duration=3s,min_tokens=500,provider=open*", true),
            ("ratio=1,min_duration=4s", false),
            ("ratio=1,min_tokens=501", false),
            ("ratio=1,operation=chat", false),
            ("ratio=1,service=nobody", false),
        ] {
            assert_eq!(decider(Sampler::AlwaysOff, &[rule], false).keeps(&slow), kept, "{rule}");
        }
        let share = decider(Sampler::TraceIdRatio(0.1), &[], false);
        let kept = (0..10_000_u64).filter(|n| {
            let mut one = root();
            let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            one.trace_id[8..].copy_from_slice(&random.to_be_bytes());
            share.keeps(&one)
        });
        assert!((900..1_100).contains(&kept.count()));
    }
}
