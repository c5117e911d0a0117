//! The byte that redacted ones become.

/// What a masked byte becomes.
pub(super) const MASK: u8 = b'x';
