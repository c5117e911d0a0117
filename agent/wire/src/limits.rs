//! What one connection may cost.

/// Bounds of one [`crate::Connection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest header block of a message, trailers and chunk-size lines included, in bytes.
    pub head: usize,
    /// Most bytes held per direction until the other direction has been read.
    pub held: usize,
    /// Most requests without a complete response on an HTTP/1 connection.
    pub in_flight: usize,
    /// Most streams that are open at once on an HTTP/2 connection.
    pub streams: usize,
    /// Most WebSockets on streams of an HTTP/2 connection whose messages are decompressed at once.
    pub inflating: usize,
    /// Most bytes kept of the dynamic table of one direction of HTTP/2, as RFC 7541 §4.1 counts them.
    pub table: usize,
    /// Most bytes in which a protocol, or frames after a loss, are searched for.
    pub search: u64,
    /// Most bytes that one body may become when its content coding is undone.
    pub decoded: u64,
    /// Most decoded bytes for each encoded byte, once a body has become larger than 1 MiB.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 64 << 10,
            held: 16 << 10,
            in_flight: 64,
            streams: 1024,
            inflating: 64,
            table: 64 << 10,
            search: 16 << 20,
            decoded: 256 << 20,
            ratio: 256,
        }
    }
}
