//! What an HTTP/1 connection keeps for one direction.

use super::framer::Framer;
use crate::{Limits, body::BodyUse, held::Held};

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) framer: Framer,
    pub(super) body: BodyUse,
    pub(super) held: Held,
    /// How often the connection had turned when the last bytes came.
    pub(super) turns: Option<u32>,
}

impl Lane {
    pub(super) const fn new(limits: &Limits) -> Self {
        Self { framer: Framer::new(limits.head), body: BodyUse::Skip, held: Held::new(), turns: None }
    }
}
