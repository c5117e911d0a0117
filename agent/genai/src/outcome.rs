//! How a call ended, which can differ from how its exchange ended.

use std::borrow::Cow;

use tokentap_wire::{Ending, Reason};

use crate::{IncompleteReason, SpanKind, context::ExchangeContext, facts::ResponseFacts};

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Why the call is incomplete, if it is.
    pub(crate) incomplete: Option<IncompleteReason>,
    pub(crate) error: Option<CallError>,
}

/// How a call failed.
#[derive(Debug)]
pub(crate) struct CallError {
    /// `error.type`
    pub(crate) name: Cow<'static, str>,
    pub(crate) description: Cow<'static, str>,
}

/// What was not seen of a call, or not understood.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Bytes of a body are missing.
    pub(crate) gap: bool,
    /// Some header fields could not be resolved.
    pub(crate) unresolved: bool,
    /// What is malformed in the response body.
    pub(crate) malformed: Option<Reason>,
}

impl Outcome {
    pub(crate) fn new(
        ending: Ending,
        exchange: &ExchangeContext,
        response: &ResponseFacts,
        seen: Seen,
    ) -> Self {
        let ending = call_ending(ending, exchange, response);
        Self {
            incomplete: incomplete(ending, exchange.status, seen)
                .or_else(|| unrecognized(exchange.status, response)),
            error: error(ending, exchange.status, response),
        }
    }
}

fn call_ending(ending: Ending, exchange: &ExchangeContext, response: &ResponseFacts) -> Ending {
    // In an observed server, the process that closed first is not the caller.
    let ending = match ending {
        Ending::ClosedLocally if exchange.kind == SpanKind::Server => Ending::Cut,
        ending => ending,
    };
    let explained = exchange.response_gap || response.failure.seen || !response.has_unfinished_choice();
    match ending {
        _ if response.done => Ending::Complete,
        // A stream without its last event was cut, even if HTTP ended it regularly: a body without a length
        // has no other end, and gateways end HTTP regularly when the server behind them fails.
        Ending::Complete if response.streamed && !explained => Ending::Cut,
        ending => ending,
    }
}

fn incomplete(ending: Ending, status: u16, seen: Seen) -> Option<IncompleteReason> {
    Some(match ending {
        Ending::Cut => IncompleteReason::Cut,
        Ending::ClosedLocally => IncompleteReason::Cancelled,
        Ending::Lost => IncompleteReason::Gap,
        Ending::ProcessExit => IncompleteReason::ProcessExit,
        Ending::AgentStop => IncompleteReason::AgentStop,
        Ending::Stale => IncompleteReason::Stale,
        Ending::Malformed(reason) => IncompleteReason::Malformed(reason),
        Ending::Undecodable(reason) => IncompleteReason::Undecodable(reason),
        Ending::Complete if seen.gap => IncompleteReason::Gap,
        Ending::Complete => match seen.malformed.filter(|_| status < 400) {
            Some(reason) => IncompleteReason::Malformed(reason),
            None if seen.unresolved => IncompleteReason::LateJoin,
            None => return None,
        },
    })
}

/// A success in which nothing was understood is none.
fn unrecognized(status: u16, response: &ResponseFacts) -> Option<IncompleteReason> {
    let success = (200..300).contains(&status) && status != 204;
    // The id of what is fetched is known from the path.
    let identified = !response.id.is_empty() && !response.fetched;
    let understood = response.is_recognised || response.failure.seen || identified;
    (success && !understood).then_some(IncompleteReason::Unrecognized)
}

/// Finish reasons that say that the call failed.
const FAILED: [&str; 9] = [
    "error",
    "ERROR",
    "ERROR_LIMIT",
    "TIMEOUT",
    "OTHER_ERROR",
    "insufficient_system_resource",
    "malformed_model_output",
    "malformed_tool_use",
    "MALFORMED_FUNCTION_CALL",
];

fn error(ending: Ending, status: u16, response: &ResponseFacts) -> Option<CallError> {
    let name = response.failure.name().map(|name| Cow::Owned(name.to_owned()));
    if status >= 400 {
        let name = name.unwrap_or_else(|| status.to_string().into());
        return Some(CallError { name, description: format!("HTTP {status}").into() });
    }
    if response.failure.seen {
        let code =
            Some(&response.failure.code).filter(|code| !code.is_empty()).map(|code| code.clone().into());
        let name = name.or(code).unwrap_or(Cow::Borrowed("_OTHER"));
        return Some(CallError { name, description: "the response says that the call failed".into() });
    }
    let failed = |reason: &&&str| response.has_finish_reason(reason) && !response.fetched;
    if let Some(reason) = FAILED.iter().find(failed) {
        let description = "a finish reason says that the call failed".into();
        return Some(CallError { name: Cow::Borrowed(reason), description });
    }
    let (name, description) = match ending {
        Ending::Cut => ("connection_closed", "the connection was closed before the response was whole"),
        // The caller had the whole response.
        Ending::ClosedLocally if response.is_finished() => return None,
        Ending::ClosedLocally => {
            ("cancelled", "the caller closed the connection before the response was whole")
        }
        Ending::ProcessExit => ("process_exit", "the process ended before the response was whole"),
        Ending::Malformed(_) => ("malformed_response", "the bytes stopped being HTTP"),
        _ => return None,
    };
    Some(CallError { name: name.into(), description: description.into() })
}
