//! Anthropic Messages, as the API answers (`src/anthropic/types` of its SDK).

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    reply::{Body, Event, Reply, Tell, pieces},
    scenario::{Scenario, Turn},
};
use crate::{
    ledger::{Answer, Api, Usage},
    random::Random,
};

#[derive(Deserialize)]
struct Request {
    model: String,
    #[serde(default)]
    stream: Option<bool>,
    tools: Option<Vec<Value>>,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Value,
}

/// Plans the answer to a request body.
pub(super) fn reply(body: &[u8], seed: u64, number: u64) -> Reply {
    let request: Request = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(e) => return error(Answer::default(), 400, &format!("The request body is not valid JSON: {e}")),
    };
    let stream = request.stream.unwrap_or(false);
    let answer = Answer { request_model: Some(request.model.clone()), stream, ..Answer::default() };
    let scenario = match Scenario::parse(&request.model) {
        Ok(scenario) if scenario.status == 200 => scenario,
        Ok(scenario) => return error(answer, scenario.status, "As you asked."),
        Err(word) => return error(answer, 404, &format!("model: no behaviour {word:?}")),
    };
    let answer = Answer { api: Some(Api::AnthropicMessages), status: 200, ..answer };
    let message = Answered::new(request, scenario, seed, number);
    let body = if stream { Body::Events(message.events()) } else { message.whole() };
    Reply { answer, body }
}

fn error(answer: Answer, status: u16, message: &str) -> Reply {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    Reply {
        // A streamed answer was asked for, a plain one comes.
        answer: Answer { api: Some(Api::AnthropicMessages), status, stream: false, ..answer },
        body: Body::Whole {
            text: error_json(kind, message).to_string(),
            tells: vec![Tell::Error(kind.to_owned())],
        },
    }
}

fn error_json(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_mock"})
}

/// What an answer is made of, plain or streamed.
struct Answered {
    scenario: Scenario,
    id: String,
    model: String,
    tool: Option<String>,
    usage: Usage,
    echo: Option<String>,
    random: (u64, u64),
}

impl Answered {
    fn new(request: Request, scenario: Scenario, seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed, number);
        let prompt: usize = request.messages.iter().map(|m| m.content.to_string().len()).sum();
        let fresh = (prompt / 4) as u64 + random.below(50) + 1;
        let (read, created) =
            if scenario.cached { (1000 + random.below(1000), random.below(500)) } else { (0, 0) };
        Self {
            id: format!("msg_{:016x}", random.next()),
            model: format!("{}-20261101", request.model),
            tool: request.tools.and_then(|tools| tools.first()?.get("name")?.as_str().map(str::to_owned)),
            usage: Usage {
                input: fresh + read + created,
                output: Some(scenario.chunks as u64 + 1 + random.below(100)),
                cache_read: Some(read),
                cache_creation: Some(created),
                reasoning: None,
            },
            echo: scenario.echo.then(|| {
                request.messages.last().and_then(|m| m.content.as_str()).unwrap_or_default().to_owned()
            }),
            scenario,
            random: (seed, number),
        }
    }

    fn whole(&self) -> Body {
        let mut content = Vec::new();
        if self.scenario.thinking {
            content.push(json!({"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmF0dXJl"}));
        }
        let text = self.echo.clone().unwrap_or_else(|| self.content().collect());
        content.push(json!({"type": "text", "text": text}));
        if let Some(tool) = &self.tool {
            content.push(json!({"type": "tool_use", "id": self.tool_id(), "name": tool,
                "input": {"city": "Zürich", "days": 3}}));
        }
        let mut body = json!({"id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": self.stop_reason(), "stop_sequence": null});
        let mut tells = vec![self.identity(), self.stop()];
        if self.scenario.usage {
            body["usage"] = self.usage_json(self.usage.output);
            tells.push(Tell::Usage(self.usage));
        }
        Body::Whole { text: body.to_string(), tells }
    }

    fn events(self) -> Box<dyn Iterator<Item = Event>> {
        let opening = self.opening();
        let half = self.scenario.chunks / 2;
        match self.scenario.turn {
            Turn::Never => {
                let closing = self.closing();
                Box::new(opening.into_iter().chain(self.deltas()).chain(closing))
            }
            Turn::Error => {
                let event = Event::named("error", &error_json("overloaded_error", "Overloaded").to_string())
                    .telling(Tell::Error("overloaded_error".to_owned()));
                Box::new(opening.into_iter().chain(self.deltas().take(half)).chain([event]))
            }
            Turn::Cut => Box::new(opening.into_iter().chain(self.deltas().take(half))),
            Turn::Endless => Box::new(opening.into_iter().chain(self.deltas())),
        }
    }

    fn opening(&self) -> Vec<Event> {
        let mut message = json!({"id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": [], "stop_reason": null, "stop_sequence": null});
        if self.scenario.usage {
            message["usage"] = self.usage_json(Some(1));
        }
        let mut events = vec![
            typed(json!({"type": "message_start", "message": message})).telling(self.identity()),
            typed(json!({"type": "ping"})),
        ];
        if self.scenario.usage {
            // Its count of output is that of the first words: the final one comes later, or never.
            let told = Tell::Usage(Usage { output: None, ..self.usage });
            events[1] = typed(json!({"type": "ping"})).telling(told);
        }
        if self.scenario.thinking {
            events.extend([
                typed(json!({"type": "content_block_start", "index": 0,
                    "content_block": {"type": "thinking", "thinking": "", "signature": ""}})),
                typed(json!({"type": "content_block_delta", "index": 0,
                    "delta": {"type": "thinking_delta", "thinking": "Let me see."}})),
                typed(json!({"type": "content_block_delta", "index": 0,
                    "delta": {"type": "signature_delta", "signature": "c2lnbmF0dXJl"}})),
                typed(json!({"type": "content_block_stop", "index": 0})),
            ]);
        }
        events.push(typed(json!({"type": "content_block_start", "index": self.text_block(),
            "content_block": {"type": "text", "text": ""}})));
        events
    }

    fn deltas(self) -> impl Iterator<Item = Event> {
        let index = self.text_block();
        self.content().map(move |piece| {
            let piece = json!(piece);
            let json = format!(
                r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"text_delta","text":{piece}}}}}"#
            );
            Event::named("content_block_delta", &json).content()
        })
    }

    fn closing(&self) -> Vec<Event> {
        let text = self.text_block();
        let mut events = vec![typed(json!({"type": "content_block_stop", "index": text}))];
        if let Some(tool) = &self.tool {
            let index = text + 1;
            events.push(typed(json!({"type": "content_block_start", "index": index, "content_block":
                {"type": "tool_use", "id": self.tool_id(), "name": tool, "input": {}}})));
            events.extend(["", "{\"city\": \"Zür", "ich\", \"days\": 3}"].map(|part| {
                typed(json!({"type": "content_block_delta", "index": index,
                    "delta": {"type": "input_json_delta", "partial_json": part}}))
            }));
            events.push(typed(json!({"type": "content_block_stop", "index": index})));
        }
        let mut delta = json!({"type": "message_delta",
            "delta": {"stop_reason": self.stop_reason(), "stop_sequence": null}});
        if self.scenario.usage {
            delta["usage"] = json!({"output_tokens": self.usage.output});
        }
        events.push(typed(delta).telling(self.stop()));
        let last = typed(json!({"type": "message_stop"}));
        events.push(if self.scenario.usage { last.telling(Tell::Usage(self.usage)) } else { last });
        events
    }

    fn content(&self) -> impl Iterator<Item = String> + use<> {
        let (seed, number) = self.random;
        let count = (self.scenario.turn != Turn::Endless).then_some(self.scenario.chunks);
        pieces(Random::new(!seed, number), count, self.scenario.size)
    }

    fn text_block(&self) -> u64 {
        u64::from(self.scenario.thinking)
    }

    fn identity(&self) -> Tell {
        Tell::Identity { id: self.id.clone(), model: self.model.clone() }
    }

    fn stop(&self) -> Tell {
        Tell::Finish { choice: 0, reason: self.stop_reason().to_owned() }
    }

    const fn stop_reason(&self) -> &'static str {
        if self.tool.is_some() { "tool_use" } else { "end_turn" }
    }

    fn tool_id(&self) -> String {
        self.id.replace("msg_", "toolu_")
    }

    /// The API's own count of input leaves the cached ones out.
    fn usage_json(&self, output: Option<u64>) -> Value {
        let usage = self.usage;
        let (read, created) = (usage.cache_read.unwrap_or(0), usage.cache_creation.unwrap_or(0));
        json!({"input_tokens": usage.input - read - created, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": created, "output_tokens": output, "service_tier": "standard"})
    }
}

/// An event named after its own type, as all of this API's are.
fn typed(json: Value) -> Event {
    Event::named(json["type"].as_str().unwrap_or_default(), &json.to_string())
}
