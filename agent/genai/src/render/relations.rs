//! Which ids of a call connect it to others.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{
    Relations,
    facts::{Extra, ExtraValue, Facts},
};

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

/// What connects a call to others. `chained`: a request of the API may name the id of an earlier response.
pub(super) fn relations(facts: &mut Facts, extras: &[(Extra, ExtraValue)], chained: bool) -> Relations {
    let mut relations = Relations::default();
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
