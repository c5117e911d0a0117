//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112), watched from outside.
//!
//! Each direction is cut into messages by its own `Framer`; `Http1` pairs requests with responses, by their order.
//! An exchange has the progress of two messages:
//!
//! ```text
//!            head                       last byte
//!  request  ──────────────────► Open ─────────────────────────► Done
//!                                 └─ loss, broken rule, close ─► Lost
//!
//!            final head                 last byte
//!  response Awaited ──────────► Open ─────────────────────────► Done
//!              └──────────────────┴─ loss, broken rule ────────► Lost
//! ```
//!
//! Its end is reported once:
//!
//! | Ending | when |
//! |---|---|
//! | Complete, Undecodable | the response is Done or complete for the sink, and the request not Open or its body omitted |
//! | Malformed | a message breaks a rule |
//! | Lost | missing bytes hide the end of the response |
//! | Stale | no byte passed for the configured time |
//! | the others | the connection is over |
//!
//! An exchange stays in the queue until both messages have passed, also where its end was reported before: later
//! responses are paired by their place.

mod chunked;
mod connection;
mod exchange;
mod framer;
mod half;
mod head;
mod loss;
mod messages;
mod splitter;
mod switch;
#[cfg(test)]
mod tests;
mod upgrade;

pub(crate) use connection::{ConnectionState, Http1};
pub(crate) use head::begins_message;
pub use splitter::{Segment, Splitter};
pub(crate) use upgrade::{Upgrade, UpgradeProtocol};
