//! How far a codec came.

/// What a codec did in one step.
pub(crate) struct Progress {
    pub(crate) taken: usize,
    pub(crate) given: usize,
}
