//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112), watched from outside.
//!
//! Each direction is cut into messages by its own `Framer`; `Http1` pairs requests with responses.

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
