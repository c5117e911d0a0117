//! The demonstration behind `cargo xtask demo`: clients that know nothing of it call an LLM server over TLS,
//! the agent watches them from outside, and its own console output is shown at the end.

use std::{
    io::{self, Write as _},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokentap_tests::{
    client::{self, Client, Job},
    ledger::Api,
    mock::{Mock, Options},
    parts,
    process::{PATIENCE, Process, Signal},
};

/// A client and its calls: the model, and whether the answer is streamed. The model's name tells the server
/// what to do.
struct Act {
    client: Client,
    what: &'static str,
    calls: &'static [(&'static str, bool)],
}

const ACTS: [Act; 5] = [
    Act {
        client: client::OPENAI,
        what: "Python, OpenAI's SDK",
        calls: &[("mock-size600", false), ("mock-chunks40-slow10", true), ("mock-429", false)],
    },
    Act {
        client: client::OPENAI_ASYNC,
        what: "Python, OpenAI's SDK with asyncio, three calls at once",
        calls: &[
            ("mock-chunks20-slow20", true),
            ("mock-chunks30-slow20", true),
            ("mock-chunks40-slow20", true),
        ],
    },
    Act {
        client: client::ANTHROPIC,
        what: "Python, Anthropic's SDK",
        calls: &[("mock-thinking", false), ("mock-cached-chunks40-slow10", true)],
    },
    Act {
        client: client::NODE,
        what: "Node.js, OpenAI's SDK",
        calls: &[("mock-gzip", false), ("mock-chunks60-slow10", true), ("mock-chunks40-cut", true)],
    },
    Act { client: client::CURL, what: "curl", calls: &[("mock-br", false)] },
];

fn main() -> ExitCode {
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let ca = folder.path().join("ca.pem");
    let mock = Mock::start(Options::default(), &ca).context("cannot start the LLM server")?;
    println!("An LLM server listens on https://{}.", mock.tls());

    println!("Starting clients; each opens its connection and waits:");
    let mut clients = Vec::new();
    for act in &ACTS {
        let requests =
            act.calls.iter().map(|(model, stream)| request(act.client.api, model, *stream)).collect();
        let mut job = Job::new("https", mock.tls(), &ca, requests);
        job.wait = true;
        job.concurrency = act.calls.len();
        job.env = vec![("OTEL_SERVICE_NAME".into(), act.client.name.replace(' ', "-"))];
        let running = act.client.start(&job);
        println!("  {:>7}  {}", running.process().id(), act.what);
        clients.push(running);
    }

    let mut command = Command::new(parts::agent());
    command.args(["run", "--console"]);
    for running in &clients {
        command.args(["--pid", &running.process().id().to_string()]);
    }
    println!("\n$ tokentap run --console --pid ...");
    let mut agent = Process::spawn(command);
    agent.wait_for_complaint("line that says ready", |line| line.contains(" ready").then_some(()));
    for line in agent.stderr().all() {
        println!("{line}");
    }

    println!("\nAttached. The clients make their calls now:");
    for running in &mut clients {
        running.go();
    }
    for (act, running) in ACTS.iter().zip(clients) {
        let answered = running.finish().iter().filter(|report| report.status == Some(200)).count();
        println!("  {}: {answered} of {} answered", act.what, act.calls.len());
    }

    agent.signal(Signal::TERM);
    let status = agent.wait(2 * PATIENCE);
    println!("\nWhat tokentap saw:\n");
    let mut out = io::stdout().lock();
    for line in agent.stdout().all() {
        writeln!(out, "{line}")?;
    }
    ensure!(status.success(), "the agent ended with {status}\n{}", agent.stderr().text());
    Ok(())
}

fn request(api: Api, model: &str, stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "Why is the sky blue?"}]);
    let mut request = json!({"model": model, "messages": messages, "stream": stream});
    match api {
        Api::AnthropicMessages => request["max_tokens"] = 512.into(),
        Api::OpenaiChat if stream => request["stream_options"] = json!({"include_usage": true}),
        Api::OpenaiChat => {}
    }
    request
}
