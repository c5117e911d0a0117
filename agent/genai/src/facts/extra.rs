//! Facts that few calls have.

/// The name of a fact that few calls have. Renderers know what each dialect calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Extra {
    AgentId,
    AgentName,
    ConversationId,
    DataSourceId,
    EmbeddingsDimensions,
    /// A list.
    EncodingFormats,
    GuardrailId,
    JsonRpcRequestId,
    KnowledgeBaseId,
    McpMethod,
    McpProtocolVersion,
    McpResourceUri,
    McpSessionId,
    NetworkProtocol,
    NetworkProtocolVersion,
    PreviousResponseId,
    PromptName,
    PromptVersion,
    ResponseStatus,
    RetrievalTopK,
    RpcStatusCode,
    StreamCursor,
    ToolName,
}

/// The value of an [`Extra`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ExtraValue {
    Text(String),
    Int(i64),
    Bool(bool),
    List(Vec<String>),
}

impl Extra {
    /// Whether the fact is a list of strings.
    pub(super) const fn is_list(self) -> bool {
        matches!(self, Self::EncodingFormats)
    }
}

impl From<String> for ExtraValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for ExtraValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for ExtraValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for ExtraValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
