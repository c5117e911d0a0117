//! Why a call is incomplete.

use std::{borrow::Cow, fmt};

use tokentap_wire::Reason;

/// Why a part of a call was not seen or not read. Its text is the value of [`crate::semconv::INCOMPLETE_REASON`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IncompleteReason {
    /// The connection was closed before the response was complete: by the server, or by a side that is not known.
    Cut,
    /// The caller closed the connection before the response was complete.
    Cancelled,
    /// The observed process ended during the call.
    ProcessExit,
    /// The agent stopped during the call.
    AgentStop,
    /// No byte of the call passed for longer than the configured time.
    Stale,
    /// Captured bytes were lost.
    Gap,
    /// Header fields are not known because they refer to what was sent before the capture began.
    LateJoin,
    /// The bytes stopped being HTTP, or the response is not the JSON document that it should be.
    Malformed(Reason),
    /// The content coding of a body could not be undone.
    Undecodable(Reason),
    /// A successful response in which nothing of the API was found: an empty stream, another document.
    Unrecognized,
}

impl IncompleteReason {
    /// The name of each, with its meaning, for pages of documentation.
    pub const DOCUMENTED: [(&str, &str); 10] = [
        ("cut", "The connection was closed before the response was complete"),
        ("cancelled", "The caller closed the connection before the response was complete"),
        ("process_exit", "The observed process ended during the call"),
        ("agent_stop", "The agent stopped during the call"),
        ("stale", "No byte of the call passed for longer than `--stale-after`"),
        ("gap", "Captured bytes were lost"),
        ("late_join", "Header fields are not known: they refer to what was sent before the capture began"),
        (
            "malformed",
            "The bytes stopped being HTTP, or the response is not the JSON document that it should be",
        ),
        ("undecodable", "The content coding of a body could not be undone"),
        ("unrecognized", "A successful response in which nothing of the API was found"),
    ];

    /// The stable name for machines, without the details of the last two: for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Cancelled => "cancelled",
            Self::ProcessExit => "process_exit",
            Self::AgentStop => "agent_stop",
            Self::Stale => "stale",
            Self::Gap => "gap",
            Self::LateJoin => "late_join",
            Self::Malformed(_) => "malformed",
            Self::Undecodable(_) => "undecodable",
            Self::Unrecognized => "unrecognized",
        }
    }

    /// The text on a span.
    pub(crate) fn text(self) -> Cow<'static, str> {
        match self {
            Self::Malformed(reason) | Self::Undecodable(reason) => format!("{}:{reason}", self.name()).into(),
            _ => self.name().into(),
        }
    }
}

impl fmt::Display for IncompleteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}
