//! Why bytes were not read as an exchange: every reason that [`crate::Ending::Malformed`],
//! [`crate::Ending::Undecodable`] and [`crate::Sink::dropped`] can carry.

/// Bytes of a connection that was joined late, or after a loss, before the next message began.
pub const OUT_OF_STEP: &str = "no message start seen yet";
