//! What connects the calls of one conversation: ids that a call was given and a later one names.

/// What connects a call to earlier and later ones, as hashes of ids. Similar text is no evidence, and neither are short ids,
/// which servers give again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations {
    /// Ids that the request names: a call that gave one of them came before.
    pub follows: Vec<u64>,
    /// Ids that the response gives, or that all calls of a conversation share.
    pub gives: Vec<u64>,
}
