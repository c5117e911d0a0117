//! What lies below HTTP.

use std::net::SocketAddr;

/// What is known of the connection below HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// The bytes came out of a TLS library.
    pub tls: bool,
    /// The address of the other end, when the connection was seen or could be looked up.
    pub peer: Option<SocketAddr>,
}
