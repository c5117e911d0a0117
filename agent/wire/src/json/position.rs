//! Where a parser is in a document.

use super::schema::{MAX_DEPTH, NodeId};

/// The position of the parser in a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParserPosition {
    pub(super) state: JsonState,
    /// The objects and arrays around the position in which something is wanted.
    pub(super) stack: [Container; MAX_DEPTH],
    pub(super) depth: usize,
    /// The index in each array of the stack.
    pub(super) indices: [u32; MAX_DEPTH],
    pub(super) arrays: usize,
    /// The node of the current value; `None`: it is not wanted.
    pub(super) child: Option<NodeId>,
    /// The number of open brackets of a skipped value.
    pub(super) nesting: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonState {
    /// Before the document.
    Start,
    /// A value begins.
    Value,
    /// After `[`.
    FirstItem,
    /// After `{`.
    FirstKey,
    /// After `,` in an object.
    Key,
    /// Inside a key.
    InKey,
    /// After a key.
    Colon,
    /// Inside a string value.
    InString,
    /// Inside a number or literal.
    InScalar,
    /// After a value in a container.
    Next,
    /// Inside a skipped object or array.
    Skip,
    /// Inside a string of a skipped object or array.
    SkipString,
    /// After the document.
    Done,
    /// After a gap: the next quote is searched for.
    Lost,
    /// After a quote that may begin a key.
    LostKey,
    Malformed,
    /// Brackets are nested too deep.
    TooDeep,
}

impl Default for ParserPosition {
    fn default() -> Self {
        Self {
            state: JsonState::Start,
            stack: [Container { node: NodeId::ROOT, array: false }; MAX_DEPTH],
            depth: 0,
            indices: [0; MAX_DEPTH],
            arrays: 0,
            child: Some(NodeId::ROOT),
            nesting: 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Container {
    pub(super) node: NodeId,
    pub(super) array: bool,
}
