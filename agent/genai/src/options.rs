//! What the user may change about recognition.

/// An LLM API whose calls become spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI Chat Completions and everything that speaks its dialect.
    OpenAiChat,
    /// Anthropic Messages.
    Anthropic,
}

/// Which exchanges are LLM calls, beyond what recognition finds by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Exchanges that are calls wherever they go, in order of preference.
    pub include: Vec<Include>,
    /// Exchanges that are never reported; wins over `include`.
    pub exclude: Vec<Rule>,
}

/// An exchange that is an LLM call although its path does not say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// Where it goes.
    pub rule: Rule,
    /// Its API; `None`: recognised by its bodies.
    pub api: Option<Api>,
}

/// A host and path pattern; `*` stands for any run of characters, `/` included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Host without port, in lower case; empty matches every host.
    pub host: String,
    /// Path without query; empty matches every path.
    pub path: String,
}
