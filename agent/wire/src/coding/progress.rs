//! The progress of a codec.

/// How many bytes a codec has taken and given in one step.
pub(crate) struct Progress {
    pub(crate) taken: usize,
    pub(crate) given: usize,
}
