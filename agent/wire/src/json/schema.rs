//! The wanted values of a document, compiled into a trie.

/// One wanted path.
///
/// A path is keys and `[]` (every item of an array), joined by dots: `choices[].delta.content`, `[].usage`.
#[derive(Clone, Copy, Debug)]
pub struct WantedField<F> {
    /// The path.
    pub path: &'static str,
    /// What its value is reported as.
    pub field: F,
    pub(super) cap: u16,
}

impl<F> WantedField<F> {
    /// Reports what is at `path` as `field`: scalars with their value (strings up to 256 bytes), objects and
    /// arrays with their begin and end.
    #[must_use]
    pub const fn new(path: &'static str, field: F) -> Self {
        Self { path, field, cap: 256 }
    }

    /// As [`WantedField::new`], but of a string only whether it is empty: none of it is kept.
    #[must_use]
    pub const fn presence(path: &'static str, field: F) -> Self {
        Self { path, field, cap: 0 }
    }
}

/// A compiled set of wanted paths.
#[derive(Debug)]
pub struct Schema<F> {
    nodes: Vec<Node<F>>,
    /// Fields that are not reported again where a document begins with the same bytes as the one before.
    pub(super) once: fn(F) -> bool,
}

impl<F: Copy> Schema<F> {
    /// Compiles paths.
    ///
    /// # Panics
    /// When a path is not well-formed, has more than 12 keys and `[]`, or a key of more than 40 bytes: schemas are constants
    /// of the program.
    #[must_use]
    pub fn new(wants: &[WantedField<F>]) -> Self {
        Self::mounted([(["", ""], wants)])
    }

    /// Compiles tables of paths, each below the two parts of a path that stand before it; the path `""` of a table is
    /// that path itself. An object that lies in several places of a document needs one table; a later table
    /// overrides an earlier one.
    ///
    /// # Panics
    /// As [`Schema::new`], for paths with what stands before them.
    #[must_use]
    pub fn mounted<'t>(tables: impl IntoIterator<Item = ([&'static str; 2], &'t [WantedField<F>])>) -> Self
    where
        F: 't,
    {
        let mut schema = Self { nodes: vec![Node::new()], once: |_| false };
        for (prefix, wants) in tables {
            for want in wants {
                let node = schema.insert(prefix, want.path);
                schema.nodes[node.0 as usize].want = Some((want.field, want.cap));
            }
        }
        for node in &mut schema.nodes {
            node.index();
        }
        schema
    }

    /// Of the fields for which `once` is true, a value that the first bytes of every document of a stream repeat may be
    /// reported for the first of them only: for facts of the stream, as its id.
    #[must_use]
    pub fn once(self, once: fn(F) -> bool) -> Self {
        Self { once, ..self }
    }

    /// What is wanted of a key of the top-level object, for names that do not come from a JSON document: those of form
    /// fields.
    #[must_use]
    pub fn top_level(&self, key: &str) -> Option<F> {
        let node = self.child(NodeId::ROOT, key.as_bytes(), 0, key.len())?;
        self.node(node).want.map(|(field, _)| field)
    }

    fn insert(&mut self, prefix: [&'static str; 2], path: &'static str) -> NodeId {
        let mut at = NodeId::ROOT;
        let mut depth = 0;
        for segment in prefix.into_iter().chain([path]).flat_map(|part| part.split('.')) {
            let key = segment.trim_end_matches("[]");
            if !key.is_empty() {
                assert!(key.len() <= MAX_KEY, "key too long in {path}");
                let known = self.nodes[at.0 as usize].keys.iter().find(|k| k.text == key).map(|k| k.child);
                at = known.unwrap_or_else(|| {
                    let child = self.push();
                    let word = first_word(key.as_bytes(), 0, key.len());
                    self.nodes[at.0 as usize].keys.push(Key { word, text: key, child });
                    child
                });
                depth += 1;
            }
            for _ in 0..(segment.len() - key.len()) / 2 {
                let known = self.nodes[at.0 as usize].items;
                at = known.unwrap_or_else(|| {
                    let id = self.push();
                    self.nodes[at.0 as usize].items = Some(id);
                    id
                });
                depth += 1;
            }
        }
        assert!(at != NodeId::ROOT && depth <= MAX_DEPTH, "bad path {prefix:?} {path}");
        at
    }

    fn push(&mut self) -> NodeId {
        self.nodes.push(Node::new());
        NodeId(u16::try_from(self.nodes.len() - 1).expect("a schema has less than 65536 nodes"))
    }
}

impl<F> Schema<F> {
    /// The node of a key of the object at `node`; the key is `text[from..to]`.
    #[inline]
    pub(super) fn child(&self, node: NodeId, text: &[u8], from: usize, to: usize) -> Option<NodeId> {
        let node = &self.nodes[node.0 as usize];
        let length = to - from;
        let (&first, &end) = (node.by_len.get(length)?, node.by_len.get(length + 1)?);
        if first == end {
            return None;
        }
        let word = first_word(text, from, length);
        let mut keys = node.keys[first as usize..end as usize].iter();
        keys.find(|key| key.word == word && (length <= 8 || key.text.as_bytes() == &text[from..to]))
            .map(|key| key.child)
    }

    #[inline]
    pub(super) fn node(&self, node: NodeId) -> &Node<F> {
        &self.nodes[node.0 as usize]
    }
}

/// Most keys and `[]` in a path.
pub(super) const MAX_DEPTH: usize = 12;

/// Longest wanted key, in bytes.
pub(super) const MAX_KEY: usize = 40;

/// Longest form of a byte of text: `\u0041`.
pub(super) const ESCAPED: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u16);

impl NodeId {
    pub(super) const ROOT: Self = Self(0);
}

#[derive(Debug)]
pub(super) struct Node<F> {
    pub(super) want: Option<(F, u16)>,
    /// The node of every item of an array in which something is wanted.
    pub(super) items: Option<NodeId>,
    /// Sorted by length once the schema is complete.
    keys: Vec<Key>,
    /// `keys[by_len[n]..by_len[n + 1]]` have length n: the length alone rules most keys of a document out.
    by_len: [u8; MAX_KEY + 2],
}

#[derive(Debug)]
struct Key {
    word: u64,
    text: &'static str,
    child: NodeId,
}

/// The first 8 bytes of `text[from..from + length]`, padded with zeros.
#[inline]
fn first_word(text: &[u8], from: usize, length: usize) -> u64 {
    match text.get(from..from + 8) {
        Some(word) => {
            let word = u64::from_le_bytes(word.try_into().expect("8 bytes"));
            if length < 8 { word & ((1 << (8 * length)) - 1) } else { word }
        }
        None => {
            let mut word = [0; 8];
            let length = length.min(8);
            word[..length].copy_from_slice(&text[from..from + length]);
            u64::from_le_bytes(word)
        }
    }
}

impl<F> Node<F> {
    const fn new() -> Self {
        Self { want: None, items: None, keys: Vec::new(), by_len: [0; MAX_KEY + 2] }
    }

    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    fn index(&mut self) {
        self.keys.sort_by_key(|key| key.text.len());
        for (len, start) in self.by_len.iter_mut().enumerate() {
            let shorter = self.keys.iter().filter(|key| key.text.len() < len).count();
            *start = u8::try_from(shorter).expect("an object has less than 256 wanted keys");
        }
    }
}
