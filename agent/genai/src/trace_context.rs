//! W3C Trace Context of a request (<https://www.w3.org/TR/trace-context-2/>).

use tokentap_wire::Headers;

use crate::TraceContext;

/// The context that a request carries; `None` when there is none, more than one, or an invalid one.
pub(crate) fn parse(headers: &Headers<'_>) -> Option<TraceContext> {
    let mut all = headers.all("traceparent");
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let mut context = traceparent(one.trim_ascii())?;
    context.state = tracestate(headers.all("tracestate")).unwrap_or_default();
    Some(context)
}

/// The context that a body carries: `params._meta` of the Model Context Protocol.
pub(crate) fn of(parent: &str, state: &str) -> Option<TraceContext> {
    let mut context = traceparent(parent.trim().as_bytes())?;
    context.state = tracestate(std::iter::once(state.as_bytes())).unwrap_or_default();
    Some(context)
}

/// `version "-" trace-id "-" parent-id "-" trace-flags` (§3.2.2), with what a future version may append.
fn traceparent(value: &[u8]) -> Option<TraceContext> {
    const LENGTH: usize = 55;
    let (known, more) = value.split_at_checked(LENGTH)?;
    let [version] = hex(&known[..2])?;
    let ends = match version {
        0x00 => more.is_empty(),
        0xff => false,
        _ => more.first().is_none_or(|&byte| byte == b'-'),
    };
    if !ends || [known[2], known[35], known[52]] != [b'-'; 3] {
        return None;
    }
    let (trace_id, span_id) = (hex(&known[3..35])?, hex(&known[36..52])?);
    let [flags] = hex(&known[53..])?;
    (trace_id != [0; 16] && span_id != [0; 8]).then_some(TraceContext {
        trace_id,
        span_id,
        flags,
        state: String::new(),
    })
}

/// Exactly `2 * N` lower-case hex digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Longest `tracestate` that is passed on, in bytes (§3.3.1.5 asks for at least this much).
const STATE_LENGTH: usize = 512;
/// Members longer than this go first when it is longer (§3.3.1.5), in bytes.
const LONG_MEMBER: usize = 128;
/// Most members (§3.3.1.1).
const MEMBERS: usize = 32;

/// All fields of the state as one list. One that is invalid anywhere is discarded as a whole (§3.3.1).
fn tracestate<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut members = Vec::new();
    for field in fields {
        for member in str::from_utf8(field).ok()?.split(',').map(|m| m.trim_matches([' ', '\t'])) {
            if !member.is_empty() {
                let (key, value) = member.split_once('=')?;
                let fresh = members.iter().all(|&(k, _)| k != key);
                if !(is_key(key) && is_value(value) && fresh) || members.len() == MEMBERS {
                    return None;
                }
                members.push((key, member));
            }
        }
    }
    let mut members: Vec<&str> = members.into_iter().map(|(_, member)| member).collect();
    let length = |members: &[&str]| members.iter().map(|m| m.len() + 1).sum::<usize>().saturating_sub(1);
    while length(&members) > STATE_LENGTH {
        let last_long = members.iter().rposition(|member| member.len() > LONG_MEMBER);
        members.remove(last_long.unwrap_or(members.len() - 1));
    }
    Some(members.join(","))
}

fn is_key(key: &str) -> bool {
    let (tenant, system) = key.split_once('@').unwrap_or((key, "x"));
    let part = |part: &str, longest: usize| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && bytes.len() <= longest
            && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    if key.contains('@') { part(tenant, 241) && part(system, 14) } else { part(key, 256) }
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len()) && value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(fields: &[(&str, &str)]) -> Option<TraceContext> {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        parse(&Headers::new(&fields, true))
    }

    #[test]
    fn a_valid_parent_is_read() {
        let context = context(&[("Traceparent", VALID)]).expect("valid");
        assert_eq!(context.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(context.span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!((context.flags, context.state.as_str()), (1, ""));
    }

    #[test]
    fn the_grammar_is_kept_to_the_letter() {
        for (value, valid) in [
            (VALID.to_owned(), true),
            (format!(" {VALID}\t"), true),
            (VALID.replacen("00-", "01-", 1), true),
            (VALID.replacen("00-", "cc-", 1) + "-what-the-future-adds", true),
            (VALID.replacen("00-", "cc-", 1) + ".no-dash", false),
            (format!("{VALID}-"), false),
            (VALID.replacen("00-", "ff-", 1), false),
            (VALID.replacen("00-", "0-", 1), false),
            (VALID.to_uppercase(), false),
            (VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false),
            (VALID.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (VALID.replace("-01", "-0g"), false),
            (VALID.replace("-01", ""), false),
            (VALID.replace('-', "_"), false),
            (String::new(), false),
        ] {
            assert_eq!(context(&[("traceparent", &value)]).is_some(), valid, "{value}");
        }
        assert_eq!(context(&[("traceparent", VALID), ("traceparent", VALID)]), None);
        assert_eq!(context(&[("tracestate", "a=1")]), None);
    }

    #[test]
    fn the_context_of_a_body_is_held_to_the_same_grammar() {
        let state = |state| of(VALID, state).map(|context| context.state);
        assert_eq!(state("a=1, b=2"), Some("a=1,b=2".to_owned()));
        assert_eq!(state("a=1\r\nb"), Some(String::new()));
        assert_eq!(state(&format!("{}a=1", "x=y,".repeat(200))), Some(String::new()));
        assert_eq!(of("00-1-2-01", "a=1"), None);
    }

    #[test]
    fn state_is_joined_checked_and_limited() {
        let state = |values: &[&str]| {
            let mut fields = vec![("traceparent", VALID)];
            fields.extend(values.iter().map(|value| ("tracestate", *value)));
            context(&fields).expect("the parent is valid").state
        };
        assert_eq!(state(&["a=1, b=2 ,", "", "t@sys=x y"]), "a=1,b=2,t@sys=x y");
        for invalid in ["a=1,A=2", "a=1,a=2", "a", "a=", "a=b=c", "@s=1", "t@=1", "a=\u{e9}", "_a=1"] {
            assert_eq!(state(&[invalid]), "", "{invalid}");
        }
        let many = |n: usize| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(state(&[&many(32)]), many(32));
        assert_eq!(state(&[&many(33)]), "");
        let (long, short) = (format!("long={}", "x".repeat(200)), format!("s={}", "y".repeat(100)));
        let list = format!("a=1,{long},{short},b{short},c{short},d{short}");
        assert_eq!(state(&[&list]), format!("a=1,{short},b{short},c{short},d{short}"));
    }
}
