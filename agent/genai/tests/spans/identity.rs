//! The session and the user of a call, where the user of the agent says where they are.

use serde_json::{Value as Json, json};
use tokentap_genai::{IdentityRules, Options, Span, Value};
use tokentap_wire::Ending;

use crate::exchange::{Capture, Exchange};

fn span(session: &[&str], user: &[&str], target: &str, request: &Json, response: &Json) -> Span {
    let sources = |sources: &[&str]| sources.iter().map(|source| source.parse().expect("a source")).collect();
    let options = Options {
        identity: IdentityRules { session: sources(session), user: sources(user) },
        ..Options::default()
    };
    let exchange = Exchange::new("gateway.example", target, request, 200, response.to_string())
        .request_field("X-Session-Id", "s-1")
        .request_field("Baggage", "a=b,user.id=jo%20doe");
    let mut capture = Capture::new(options);
    capture.whole(&exchange, &[]);
    capture.end(Ending::Cut).swap_remove(0)
}

fn text(span: &Span, key: &str) -> Option<String> {
    match span.get(key)? {
        Value::Str(text) => Some(text.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_source_that_is_there_counts() {
    let openai = json!({"model": "m", "messages": [], "user": "u-1", "metadata": {"user_id": "u-2", "session_id": "s-2"}});
    let chat = json!({"object": "chat.completion", "choices": []});
    let anthropic = json!({"model": "m", "max_tokens": 1, "messages": [], "metadata": {"user_id": "u-3"}});
    let message = json!({"type": "message", "usage": {"input_tokens": 1, "output_tokens": 1}});
    let of_openai = |session: &[&str], user: &[&str]| {
        let span = span(session, user, "/v1/chat/completions", &openai, &chat);
        [text(&span, "session.id"), text(&span, "user.id")]
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(of_openai(&[], &[]), [None, None], "nothing is taken without a source");
    assert_eq!(of_openai(&["header:x-session-id"], &["body:user"]), [some("s-1"), some("u-1")]);
    assert_eq!(
        of_openai(&["header:session", "body:metadata.session_id"], &["baggage:user.id", "body:user"]),
        [some("s-2"), some("jo doe")]
    );
    assert_eq!(of_openai(&["baggage:session.id"], &["body:safety_identifier"]), [None, None]);
    let span = span(&[], &["body:metadata.user_id"], "/v1/messages", &anthropic, &message);
    assert_eq!(text(&span, "user.id"), some("u-3"));
}
