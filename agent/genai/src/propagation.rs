//! The trace context that the headers of a request carry, in the formats that the user of the agent names.

use std::str::FromStr;

use tokentap_wire::Headers;

use crate::{TraceContext, trace_context};

/// A format of trace contexts in headers. Parses from its name in `OTEL_PROPAGATORS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagator {
    /// `traceparent` and `tracestate` (W3C Trace Context).
    TraceContext,
    /// `b3`, in one header (<https://github.com/openzipkin/b3-propagation>).
    B3,
    /// `X-B3-TraceId`, `X-B3-SpanId`, `X-B3-Sampled`, `X-B3-Flags`.
    B3Multi,
    /// `x-datadog-trace-id`, `x-datadog-parent-id`, `x-datadog-sampling-priority`; the upper half of the trace id in
    /// `x-datadog-tags`.
    Datadog,
    /// `uber-trace-id`.
    Jaeger,
    /// `DERISK-Trace-Span-Id`: trace and span id.
    Derisk,
}

const NAMES: [(&str, Propagator); 6] = [
    ("tracecontext", Propagator::TraceContext),
    ("b3", Propagator::B3),
    ("b3multi", Propagator::B3Multi),
    ("datadog", Propagator::Datadog),
    ("jaeger", Propagator::Jaeger),
    ("derisk", Propagator::Derisk),
];

impl Propagator {
    /// As `OTEL_PROPAGATORS` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Propagator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(name, _)| *name == text).map(|(_, propagator)| *propagator);
        found.ok_or_else(|| format!("use {}", NAMES.map(|(name, _)| name).join(", ")))
    }
}

/// The context of a request, in the first format in which it has a valid one. `formats` is empty: W3C Trace Context.
pub(crate) fn extract(formats: &[Propagator], headers: &Headers<'_>) -> Option<TraceContext> {
    if formats.is_empty() {
        return trace_context::parse(headers);
    }
    formats.iter().find_map(|format| match format {
        Propagator::TraceContext => trace_context::parse(headers),
        Propagator::B3 => b3(text(headers, "b3")?),
        Propagator::B3Multi => b3_multi(headers),
        Propagator::Datadog => datadog(headers),
        Propagator::Jaeger => jaeger(text(headers, "uber-trace-id")?),
        Propagator::Derisk => derisk(text(headers, "derisk-trace-span-id")?),
    })
}

fn text<'h>(headers: &Headers<'h>, name: &str) -> Option<&'h str> {
    str::from_utf8(headers.get(name)?).ok().map(str::trim)
}

/// A context, unless an id is zero. Where nothing says whether the trace is kept, that is ours to decide: it is.
fn context(trace_id: [u8; 16], span_id: [u8; 8], sampled: Option<bool>) -> Option<TraceContext> {
    (trace_id != [0; 16] && span_id != [0; 8]).then(|| TraceContext {
        trace_id,
        span_id,
        flags: u8::from(sampled.unwrap_or(true)),
        state: String::new(),
    })
}

/// An id of at most `2 * N` hex digits; shorter ones lack their first.
fn hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.is_empty() || digits.len() > 2 * N || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(digits, 16).ok()?;
    number.to_be_bytes()[16 - N..].try_into().ok()
}

/// `{trace}-{span}[-{sampled}[-{parent}]]`; one that has only the decision has no parent for us.
fn b3(value: &str) -> Option<TraceContext> {
    let mut parts = value.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
        return None;
    }
    let sampled = match parts.next() {
        None => None,
        Some("1" | "d" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        Some(_) => return None,
    };
    context(hex(trace)?, hex(span)?, sampled)
}

fn b3_multi(headers: &Headers<'_>) -> Option<TraceContext> {
    let (trace, span) = (text(headers, "x-b3-traceid")?, text(headers, "x-b3-spanid")?);
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
        return None;
    }
    let debug = text(headers, "x-b3-flags") == Some("1");
    let sampled = match text(headers, "x-b3-sampled") {
        _ if debug => Some(true),
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        _ => None,
    };
    context(hex(trace)?, hex(span)?, sampled)
}

fn datadog(headers: &Headers<'_>) -> Option<TraceContext> {
    let lower: u64 = text(headers, "x-datadog-trace-id")?.parse().ok()?;
    let span: u64 = text(headers, "x-datadog-parent-id")?.parse().ok()?;
    let tags = text(headers, "x-datadog-tags").unwrap_or_default();
    let upper = tags.split(',').find_map(|tag| tag.trim().strip_prefix("_dd.p.tid="));
    let upper = upper.filter(|digits| digits.len() == 16).and_then(hex::<8>).unwrap_or_default();
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(&upper);
    trace_id[8..].copy_from_slice(&lower.to_be_bytes());
    let priority = text(headers, "x-datadog-sampling-priority").and_then(|text| text.parse::<i32>().ok());
    // The ids are 64 bits wide: the upper half alone is none.
    (lower != 0).then(|| context(trace_id, span.to_be_bytes(), priority.map(|priority| priority > 0)))?
}

/// `{trace}:{span}:{parent}:{flags}`, in hex of any length, perhaps with its colons percent-encoded.
fn jaeger(value: &str) -> Option<TraceContext> {
    let value = value.replace("%3A", ":").replace("%3a", ":");
    let mut parts = value.split(':');
    let (Some(trace), Some(span), Some(_parent), Some(flags), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let [flags] = hex::<1>(flags)?;
    context(hex(trace)?, hex(span)?, Some(flags & 1 != 0))
}

/// `{trace}:{span}`, in hex; whoever sends it keeps its traces.
fn derisk(value: &str) -> Option<TraceContext> {
    let (trace, span) = value.split_once(':')?;
    (trace.len() == 32 && span.len() == 16).then(|| context(hex(trace)?, hex(span)?, Some(true)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";

    fn found(formats: &[Propagator], fields: &[(&str, &str)]) -> Option<(String, String, u8)> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let context = extract(formats, &Headers::new(&fields, true))?;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Some((hex(&context.trace_id), hex(&context.span_id), context.flags))
    }

    fn is(trace: &str, span: &str, flags: u8) -> Option<(String, String, u8)> {
        Some((trace.to_owned(), span.to_owned(), flags))
    }

    #[test]
    fn every_format_is_read_as_it_is_written() {
        use Propagator::{B3, B3Multi, Datadog, Derisk, Jaeger};
        let short = "000000000000000048485a3953bb6124";
        let span = "0020000000000001";
        for (format, fields, want) in [
            (B3, vec![("b3", format!("{TRACE}-{span}-1-05e3ac9a4f6e3b90"))], is(TRACE, span, 1)),
            (B3, vec![("B3", format!("{TRACE}-{span}-0"))], is(TRACE, span, 0)),
            (B3, vec![("b3", format!("{TRACE}-{span}"))], is(TRACE, span, 1)),
            (B3, vec![("b3", format!("48485a3953bb6124-{span}-d"))], is(short, span, 1)),
            (B3, vec![("b3", "0".into())], None),
            (B3, vec![("b3", format!("{TRACE}-{span}-maybe"))], None),
            (B3, vec![("b3", format!("{}-{span}-1", "0".repeat(32)))], None),
            (
                B3Multi,
                vec![
                    ("X-B3-TraceId", TRACE.into()),
                    ("X-B3-SpanId", span.into()),
                    ("X-B3-Sampled", "0".into()),
                ],
                is(TRACE, span, 0),
            ),
            (
                B3Multi,
                vec![
                    ("x-b3-traceid", TRACE.into()),
                    ("x-b3-spanid", span.into()),
                    ("x-b3-flags", "1".into()),
                ],
                is(TRACE, span, 1),
            ),
            (B3Multi, vec![("x-b3-traceid", TRACE.into())], None),
            (
                Datadog,
                vec![
                    ("x-datadog-trace-id", "5208512171318403364".into()),
                    ("x-datadog-parent-id", "9007199254740993".into()),
                    ("x-datadog-sampling-priority", "-1".into()),
                    ("x-datadog-tags", "_dd.p.dm=-1,_dd.p.tid=463ac35c9f6413ad".into()),
                ],
                is(TRACE, "0020000000000001", 0),
            ),
            (
                Datadog,
                vec![
                    ("x-datadog-trace-id", "5208512171318403364".into()),
                    ("x-datadog-parent-id", "9007199254740993".into()),
                ],
                is(short, "0020000000000001", 1),
            ),
            (Datadog, vec![("x-datadog-trace-id", "0".into()), ("x-datadog-parent-id", "1".into())], None),
            (Jaeger, vec![("uber-trace-id", format!("{TRACE}:20000000000001:0:3"))], is(TRACE, span, 1)),
            (Jaeger, vec![("uber-trace-id", format!("{TRACE}%3A{span}%3A0%3A0"))], is(TRACE, span, 0)),
            (Jaeger, vec![("uber-trace-id", format!("{TRACE}:{span}:0"))], None),
            (Derisk, vec![("DERISK-Trace-Span-Id", format!("{TRACE}:{span}"))], is(TRACE, span, 1)),
            (Derisk, vec![("DERISK-Trace-Span-Id", format!("{TRACE}:xyz"))], None),
        ] {
            let fields: Vec<(&str, &str)> =
                fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(found(&[format], &fields), want, "{format:?} {fields:?}");
            assert_eq!(found(&[], &fields), None, "only what is asked for");
        }
    }

    #[test]
    fn the_first_format_with_a_valid_context_counts() {
        let b3 = format!("{TRACE}-0020000000000001-1");
        let w3c = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let fields = [("b3", b3.as_str()), ("traceparent", w3c)];
        let w3c = is("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 0);
        let b3 = is(TRACE, "0020000000000001", 1);
        assert_eq!(found(&[Propagator::TraceContext, Propagator::B3], &fields), w3c);
        assert_eq!(found(&[Propagator::B3, Propagator::TraceContext], &fields), b3);
        assert_eq!(found(&[Propagator::Jaeger, Propagator::B3], &fields), b3);
        assert_eq!(found(&[], &fields), w3c);
    }

    #[test]
    fn names_are_those_of_the_specification() {
        for (name, propagator) in NAMES {
            assert_eq!((name.parse(), propagator.name()), (Ok(propagator), name));
        }
        assert!("w3c".parse::<Propagator>().is_err_and(|why| why.contains("tracecontext, b3, b3multi")));
    }
}
