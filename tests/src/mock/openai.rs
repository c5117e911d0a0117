//! OpenAI Chat Completions, as the API answers (`types/chat/*` of its SDK).

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
    stream_options: Option<StreamOptions>,
    n: Option<usize>,
    tools: Option<Vec<Value>>,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
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
        Err(e) => return error(Answer::default(), 400, &format!("We could not parse the JSON body: {e}")),
    };
    let stream = request.stream.unwrap_or(false);
    let answer = Answer { request_model: Some(request.model.clone()), stream, ..Answer::default() };
    let scenario = match Scenario::parse(&request.model) {
        Ok(scenario) if scenario.status == 200 => scenario,
        Ok(scenario) => return error(answer, scenario.status, "As you asked."),
        Err(word) => return error(answer, 404, &format!("The model has no behaviour {word:?}")),
    };
    let chat = Chat::new(request, scenario, seed, number);
    let answer = Answer { api: Some(Api::OpenaiChat), status: 200, ..answer };
    let body = if stream { Body::Events(chat.events()) } else { chat.whole() };
    Reply { answer, body }
}

fn error(answer: Answer, status: u16, message: &str) -> Reply {
    let (kind, code) = match status {
        400 => ("invalid_request_error", Some("context_length_exceeded")),
        401 => ("invalid_request_error", Some("invalid_api_key")),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        _ => ("server_error", None),
    };
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    Reply {
        // A streamed answer was asked for, a plain one comes.
        answer: Answer { api: Some(Api::OpenaiChat), status, stream: false, ..answer },
        body: Body::Whole {
            text: body.to_string(),
            tells: vec![Tell::Error(code.unwrap_or(kind).to_owned())],
        },
    }
}

/// What an answer is made of, plain or streamed.
struct Chat {
    scenario: Scenario,
    id: String,
    model: String,
    choices: usize,
    tool: Option<String>,
    usage: Usage,
    include_usage: bool,
    echo: Option<String>,
    random: (u64, u64),
}

impl Chat {
    fn new(request: Request, scenario: Scenario, seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed, number);
        let prompt: usize = request.messages.iter().map(|m| m.content.to_string().len()).sum();
        let choices = request.n.unwrap_or(1).clamp(1, 16);
        let input = (prompt / 4) as u64 + random.below(50) + 1;
        Self {
            id: format!("chatcmpl-{:016x}", random.next()),
            // An alias answers with the name it stands for.
            model: format!("{}-2026-11-01", request.model),
            choices,
            tool: request
                .tools
                .and_then(|tools| tools.first()?.pointer("/function/name")?.as_str().map(str::to_owned)),
            usage: Usage {
                input,
                // Never the number of pieces: who counts those instead of reading this is found out.
                output: Some((scenario.chunks * choices) as u64 + 1 + random.below(100)),
                cache_read: Some(if scenario.cached { input / 2 } else { 0 }),
                cache_creation: None,
                reasoning: Some(if scenario.thinking { 1 + random.below(5) } else { 0 }),
            },
            include_usage: request.stream_options.is_some_and(|o| o.include_usage) && scenario.usage,
            echo: scenario.echo.then(|| {
                request.messages.last().and_then(|m| m.content.as_str()).unwrap_or_default().to_owned()
            }),
            scenario,
            random: (seed, number),
        }
    }

    fn whole(&self) -> Body {
        let choices: Vec<Value> = (0..self.choices)
            .map(|index| {
                json!({"index": index, "message": self.message(index), "logprobs": null,
                       "finish_reason": self.finish_reason()})
            })
            .collect();
        let mut body = json!({
            "id": self.id, "object": "chat.completion", "created": 1_795_000_000, "model": self.model,
            "choices": choices, "service_tier": "default", "system_fingerprint": "fp_mock",
        });
        let mut tells = vec![self.identity()];
        tells.extend((0..self.choices).map(|choice| self.finish(choice)));
        if self.scenario.usage {
            body["usage"] = self.usage_json();
            tells.push(Tell::Usage(self.usage));
        }
        Body::Whole { text: body.to_string(), tells }
    }

    fn message(&self, choice: usize) -> Value {
        if let Some(tool) = &self.tool {
            return json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": self.call_id(choice), "type": "function",
                 "function": {"name": tool, "arguments": ARGUMENTS.concat()}}]});
        }
        let content = self.echo.clone().unwrap_or_else(|| self.content(choice).collect());
        json!({"role": "assistant", "content": content, "refusal": null, "annotations": []})
    }

    fn events(self) -> Box<dyn Iterator<Item = Event>> {
        let roles: Vec<_> = (0..self.choices)
            .map(|choice| self.chunk(choice, r#"{"role":"assistant","content":""}"#, None))
            .collect();
        let opening = roles.into_iter().map({
            let identity = self.identity();
            move |event| event.telling(identity.clone())
        });
        let half = self.half();
        match self.scenario.turn {
            Turn::Never => {
                let closing = self.closing();
                Box::new(opening.chain(self.deltas()).chain(closing))
            }
            Turn::Error => {
                let error = json!({"error": {"message": "The server had an error while processing your request.",
                    "type": "server_error", "param": null, "code": "internal_error"}});
                let event = Event::data(&error.to_string()).telling(Tell::Error("internal_error".to_owned()));
                Box::new(opening.chain(self.deltas().take(half)).chain([event]))
            }
            Turn::Cut => Box::new(opening.chain(self.deltas().take(half))),
            Turn::Endless => Box::new(opening.chain(self.deltas())),
        }
    }

    /// The content of every choice, interleaved.
    fn deltas(self) -> impl Iterator<Item = Event> {
        let tool: Vec<Event> = (0..self.choices).flat_map(|choice| self.tool_deltas(choice)).collect();
        let mut contents: Vec<_> =
            if tool.is_empty() { (0..self.choices).map(|c| self.content(c)).collect() } else { Vec::new() };
        let mut choice = 0;
        let text = std::iter::from_fn(move || {
            let count = contents.len();
            let piece = contents.get_mut(choice)?.next()?;
            let delta = format!(r#"{{"content":{}}}"#, json!(piece));
            let event = self.chunk(choice, &delta, None).content();
            choice = (choice + 1) % count;
            Some(event)
        });
        tool.into_iter().chain(text)
    }

    fn tool_deltas(&self, choice: usize) -> Vec<Event> {
        let Some(tool) = &self.tool else { return Vec::new() };
        let first = json!({"tool_calls": [{"index": 0, "id": self.call_id(choice), "type": "function",
            "function": {"name": tool, "arguments": ""}}]});
        let rest = ARGUMENTS
            .iter()
            .map(|part| json!({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}));
        std::iter::once(first)
            .chain(rest)
            .map(|delta| self.chunk(choice, &delta.to_string(), None).content())
            .collect()
    }

    fn closing(&self) -> Vec<Event> {
        let mut events: Vec<_> = (0..self.choices)
            .map(|choice| self.chunk(choice, "{}", Some(self.finish_reason())).telling(self.finish(choice)))
            .collect();
        if self.include_usage {
            let usage = json!({"id": self.id, "object": "chat.completion.chunk", "created": 1_795_000_000,
                "model": self.model, "choices": [], "usage": self.usage_json()});
            events.push(Event::data(&usage.to_string()).telling(Tell::Usage(self.usage)));
        }
        events.push(Event::data("[DONE]"));
        events
    }

    /// Written by hand: a benchmark's stream is mostly this.
    fn chunk(&self, choice: usize, delta: &str, finish: Option<&str>) -> Event {
        let finish = finish.map_or_else(|| "null".to_owned(), |f| format!("\"{f}\""));
        let usage = if self.include_usage { r#","usage":null"# } else { "" };
        Event::data(&format!(
            r#"{{"id":"{}","object":"chat.completion.chunk","created":1795000000,"model":"{}","choices":[{{"index":{choice},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]{usage}}}"#,
            self.id, self.model,
        ))
    }

    fn content(&self, choice: usize) -> impl Iterator<Item = String> + use<> {
        let (seed, number) = self.random;
        let count = (self.scenario.turn != Turn::Endless).then_some(self.scenario.chunks);
        pieces(Random::new(seed ^ (choice as u64 + 1), number), count, self.scenario.size)
    }

    const fn half(&self) -> usize {
        self.scenario.chunks * self.choices / 2
    }

    fn identity(&self) -> Tell {
        Tell::Identity { id: self.id.clone(), model: self.model.clone() }
    }

    fn finish(&self, choice: usize) -> Tell {
        Tell::Finish { choice, reason: self.finish_reason().to_owned() }
    }

    const fn finish_reason(&self) -> &'static str {
        if self.tool.is_some() { "tool_calls" } else { "stop" }
    }

    fn call_id(&self, choice: usize) -> String {
        format!("call_{}{choice}", &self.id["chatcmpl-".len()..])
    }

    fn usage_json(&self) -> Value {
        let usage = self.usage;
        json!({"prompt_tokens": usage.input, "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output.unwrap_or(0),
            "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}})
    }
}

const ARGUMENTS: [&str; 4] = ["{\"city\": ", "\"Zür", "ich\", \"days\"", ": 3}"];
