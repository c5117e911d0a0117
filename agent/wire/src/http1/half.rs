//! One direction of an HTTP/1 connection.

use super::framer::Framer;
use crate::{Limits, body::BodyUse, runs::HeldRuns};

#[derive(Debug)]
pub(super) struct Http1Half {
    pub(super) framer: Framer,
    /// What is done with the body of the current message.
    pub(super) body: BodyUse,
    pub(super) held: HeldRuns,
    /// How often the connection had turned to the other direction when the last bytes came.
    pub(super) turns: Option<u32>,
}

impl Http1Half {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self { framer: Framer::new(limits.head), body: BodyUse::Skip, held: HeldRuns::new(), turns: None }
    }
}
