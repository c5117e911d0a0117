//! What connects the calls of one conversation: ids that a call was given and a later one names.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::facts::{Extra, ExtraValue, Facts};

/// What connects a call to earlier and later ones, as hashes of ids. Similar text is no evidence, and neither are short ids,
/// which servers give again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations {
    /// Ids that the request names: a call that gave one of them came before.
    pub follows: Vec<u64>,
    /// Ids that the response gives, or that all calls of a conversation share.
    pub gives: Vec<u64>,
}

/// Shorter ids are not unique.
const SHORTEST: usize = 8;

#[derive(Hash)]
enum Kind {
    ToolCall,
    Response,
    /// Of a conversation, a thread, or a session of the Model Context Protocol.
    Conversation,
}

fn hash(kind: &Kind, id: &str) -> Option<u64> {
    // `functions.name:0` is Kimi's: it counts from zero in each conversation.
    if id.len() < SHORTEST || id.starts_with("functions.") {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (kind, id).hash(&mut hasher);
    Some(hasher.finish())
}

impl Relations {
    /// `chained`: a request of the API may name the id of an earlier response.
    pub(crate) fn of(facts: &mut Facts, extras: &[(Extra, ExtraValue)], chained: bool) -> Self {
        let mut relations = Self::default();
        relations.follows.extend(facts.request.tool_result().and_then(|id| hash(&Kind::ToolCall, id)));
        for (extra, value) in extras {
            let ExtraValue::Text(id) = value else { continue };
            match extra {
                Extra::PreviousResponseId => relations.follows.extend(hash(&Kind::Response, id)),
                Extra::ConversationId | Extra::McpSessionId => {
                    let conversation = hash(&Kind::Conversation, id);
                    relations.follows.extend(conversation);
                    relations.gives.extend(conversation);
                }
                _ => {}
            }
        }
        if chained {
            relations.gives.extend(hash(&Kind::Response, &facts.response.id));
        }
        relations.gives.extend(facts.response.tool_calls.ids().filter_map(|id| hash(&Kind::ToolCall, id)));
        relations
    }
}
