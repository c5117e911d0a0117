//! The progress of a message.

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageProgress {
    /// Its head was not seen yet.
    Awaited,
    /// Its head was seen.
    Open,
    /// Its last byte was seen.
    Done,
    /// Its end cannot be known any more (HTTP/1).
    Lost,
}
