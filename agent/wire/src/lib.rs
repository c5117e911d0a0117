//! Passive, sans-IO protocol engine: captured bytes in, HTTP exchanges out.
//!
//! Feed a [`Connection`] the bytes of one captured stream pair as they arrive, each run with its absolute
//! offset and kernel time; it calls a [`Sink`] with the exchanges in them. It does no IO, reads no clock,
//! keeps a stated amount of memory per connection and never panics, whatever the bytes are. Missing bytes
//! become [`Sink::gap`] calls and incomplete exchanges, never wrong ones.

pub mod base64;
mod body;
mod coding;
mod connection;
pub mod eventstream;
mod exchange;
pub mod grpc;
pub mod http1;
mod http2;
pub mod json;
mod limits;
pub mod multipart;
pub mod ndjson;
mod progress;
pub mod protobuf;
mod proxy;
mod reason;
mod reassembly;
#[cfg(test)]
mod recorder;
mod runs;
pub mod sse;
mod websocket;

pub use connection::{Connection, Protocol};
pub use exchange::{
    Ending, ExchangeId, Headers, Interest, MessageKind, MessagePart, Nanos, RequestHead, ResponseHead, Role,
    Sink, Version,
};
pub use limits::Limits;
pub use reason::Reason;
pub use tokentap_abi::Direction;
