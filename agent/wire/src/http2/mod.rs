//! HTTP/2 (RFC 9113), watched from outside.
//!
//! Each direction is cut into frames by its own `Framer`, or looked through by a `FrameSearch` while it is out of
//! step; `Http2` puts the frames of each stream together.

mod connection;
mod frame;
mod head;
mod hpack;
mod messages;
mod search;
mod stream;
#[cfg(test)]
mod tests;
mod tunnel;

pub(crate) use connection::{Http2, PROOF};
pub(crate) use frame::PREFACE;
pub(crate) use search::FrameSearch;
