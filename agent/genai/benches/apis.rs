//! Speed of each API family: captured bytes of a streamed answer in, span out, on one core.
//!
//! `cargo xtask bench genai` prints a table, with `--json` one JSON object a line. Each answer has 300 chunks of its format, as
//! chunked HTTP/1.1 in frames of 16 KiB. The last rows are exchanges that are no calls.

#[path = "../../wire/benches/harness/mod.rs"]
mod harness;

use std::{hint::black_box, sync::Arc};

use harness::{Load, Table, Target};
use tokentap_genai::{Calls, Options, Transport};
use tokentap_wire::{Connection, Direction, Limits, Nanos};

const CHUNKS: usize = 300;
const FRAME: usize = 16 << 10;

/// A streamed answer: the path, the type, the first events, one that repeats, and the last ones.
struct Stream {
    name: &'static str,
    path: &'static str,
    kind: &'static str,
    first: &'static str,
    repeated: &'static str,
    last: &'static str,
}

const EVENTS: &str = "text/event-stream";

const STREAMS: [Stream; 6] = [
    Stream {
        name: "OpenAI Chat Completions",
        path: "/v1/chat/completions",
        kind: EVENTS,
        first: "data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1718345013,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        repeated: "data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1718345013,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n",
        last: "data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":300}}\n\ndata: [DONE]\n\n",
    },
    Stream {
        name: "OpenAI Responses",
        path: "/v1/responses",
        kind: EVENTS,
        first: "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"in_progress\",\"model\":\"gpt-5\"}}\n\n",
        repeated: "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":7,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\" word\",\"logprobs\":[],\"obfuscation\":\"abcd\"}\n\n",
        last: "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"completed\",\"model\":\"gpt-5\",\"usage\":{\"input_tokens\":9,\"output_tokens\":300}}}\n\n",
    },
    Stream {
        name: "Anthropic Messages",
        path: "/v1/messages",
        kind: EVENTS,
        first: "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"model\":\"claude\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
        repeated: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word\"}}\n\n",
        last: "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":300}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    },
    Stream {
        name: "Gemini, events",
        path: "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        kind: EVENTS,
        first: "",
        repeated: "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" word\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":9,\"totalTokenCount\":9},\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"r1\"}\r\n\r\n",
        last: "data: {\"candidates\":[{\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":300},\"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"r1\"}\r\n\r\n",
    },
    Stream {
        name: "Cohere v2",
        path: "/v2/chat",
        kind: EVENTS,
        first: "event: message-start\ndata: {\"id\":\"c1\",\"type\":\"message-start\",\"delta\":{\"message\":{\"role\":\"assistant\"}}}\n\n",
        repeated: "event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\" word\"}}}}\n\n",
        last: "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"input_tokens\":9,\"output_tokens\":300}}}}\n\n",
    },
    Stream {
        name: "Ollama, lines",
        path: "/api/chat",
        kind: "application/x-ndjson",
        first: "",
        repeated: "{\"model\":\"llama3\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\" word\"},\"done\":false}\n",
        last: "{\"model\":\"llama3\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":9,\"eval_count\":300}\n",
    },
];

fn main() {
    let table = Table::new();
    for stream in &STREAMS {
        // A core keeps up with thousands of answers a second of each.
        table.row(stream.name, Target::Megabytes(200), (4, CHUNKS), |exchanges, chunks| {
            let frames = frames(stream, chunks);
            let bytes = exchanges * frames.iter().map(Vec::len).sum::<usize>();
            let round = Box::new(move || play(stream.path, exchanges, &frames, 1));
            Load { bytes, exchanges, chunks: exchanges * chunks, round }
        });
    }
    for (name, path) in
        [("no call", "/v1/customers/42/orders"), ("no call, a path of others", "/items/search")]
    {
        table.row(name, Target::Steady, (400, 1), |exchanges, _| {
            let response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}".to_vec();
            let bytes = exchanges * response.len();
            let round = Box::new(move || play(path, exchanges, std::slice::from_ref(&response), 0));
            Load { bytes, exchanges, chunks: exchanges, round }
        });
    }
}

fn frames(stream: &Stream, chunks: usize) -> Vec<Vec<u8>> {
    let mut body =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n", stream.kind);
    let events = [stream.first].into_iter().chain((0..chunks).map(|_| stream.repeated)).chain([stream.last]);
    for event in events.filter(|event| !event.is_empty()) {
        body += &format!("{:x}\r\n{event}\r\n", event.len());
    }
    body += "0\r\n\r\n";
    body.into_bytes().chunks(FRAME).map(<[u8]>::to_vec).collect()
}

/// On one connection that is kept; each exchange gives so many spans.
fn play(path: &str, exchanges: usize, frames: &[Vec<u8>], spans: usize) {
    let transport = Transport { tls: true, peer: None };
    let (mut connection, mut calls) =
        (Connection::new(Limits::default()), Calls::new(Arc::new(Options::default()), transport));
    let asked = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"input\":\"Hi\",\"contents\":[]}";
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: llm.example.com\r\nAccept: */*\r\nContent-Length: {}\r\n\r\n{asked}",
        asked.len()
    );
    let (mut at, mut offsets) = (0, [0; 2]);
    let mut data = |dir: Direction, bytes: &[u8], calls: &mut Calls| {
        at += 1;
        let offset = &mut offsets[dir.index()];
        connection.data(dir, *offset, black_box(bytes), Nanos(at), calls);
        *offset += bytes.len() as u64;
    };
    for _ in 0..exchanges {
        data(Direction::Write, request.as_bytes(), &mut calls);
        for frame in frames {
            data(Direction::Read, frame, &mut calls);
        }
        for _ in 0..spans {
            let span = calls.take().expect("a call");
            assert_eq!(span.incomplete, None, "{path}: {span:?}");
        }
        assert!(calls.take().is_none());
    }
}
