//! Whatever the bytes are.

use proptest::{collection::vec, prelude::*};
use serde_json::json;
use tokentap_genai::Options;
use tokentap_wire::Ending;

use crate::exchange::{Capture, Exchange};

fn exchange() -> impl Strategy<Value = Exchange> {
    let target = prop::sample::select(vec!["/v1/chat/completions", "/v1/messages"]);
    let chunk = prop_oneof![
        Just(r#"data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"}}]}"#),
        Just(r#"data: {"choices":[{"index":1,"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#),
        Just(r#"data: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":1}}}"#),
        Just(r#"data: {"type":"message_delta","delta":{"stop_reason":"x"},"usage":{"output_tokens":1}}"#),
        Just("event: error"),
        Just(": comment"),
        Just(""),
    ];
    (target, vec(chunk, 0..20), any::<bool>()).prop_map(|(target, lines, done)| {
        let mut response = lines.join("\n") + "\n\n";
        if done {
            response += "data: [DONE]\n\n";
        }
        let request = json!({"messages": [], "model": "m", "stream": true});
        let mut exchange = Exchange::new("h", target, request, 200, response);
        exchange.response_fields[0].1 = "text/event-stream".into();
        exchange
    })
}

/// Times depend on the pieces; nothing else does.
fn untimed(mut capture: Capture) -> Vec<Vec<String>> {
    let mut spans = capture.taken();
    spans.extend(capture.end(Ending::Cut));
    let timeless =
        |span| crate::exchange::lines(&span).into_iter().filter(|line| !line.contains("time_to_")).collect();
    spans.into_iter().map(timeless).collect()
}

proptest! {
    #[test]
    fn pieces_have_no_meaning(exchanges in vec(exchange(), 1..4), cuts in vec(0.0..1.0, 0..12)) {
        let run = |cuts: &[f64]| {
            let mut capture = Capture::new(Options::default());
            for exchange in &exchanges {
                capture.whole(exchange, cuts);
            }
            untimed(capture)
        };
        let whole = run(&[]);
        prop_assert_eq!(whole.len(), exchanges.len());
        prop_assert_eq!(run(&cuts), whole);
    }

    #[test]
    fn any_bytes_are_taken(
        exchange in exchange(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        losses in vec((any::<prop::sample::Index>(), 1..60_usize), 0..4),
    ) {
        let mut capture = Capture::new(Options::default());
        let mut request = exchange.request_bytes();
        let mut response = exchange.response_bytes();
        for (position, byte) in damage {
            let bytes = if byte % 2 == 0 { &mut request } else { &mut response };
            let position = position.index(bytes.len());
            bytes[position] = byte;
        }
        capture.request(&request);
        let mut rest = response.as_slice();
        for (position, lost) in losses {
            let (seen, more) = rest.split_at(position.index(rest.len() + 1));
            let lost = lost.min(more.len());
            capture.response(seen);
            capture.lose_response(lost);
            rest = &more[lost..];
        }
        capture.response(rest);
        prop_assert!(untimed(capture).len() <= 1);
    }
}
