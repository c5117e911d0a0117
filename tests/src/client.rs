//! Clients that nobody here wrote: they know nothing of being watched.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    ledger::Api,
    mock::Mock,
    parts,
    process::{PATIENCE, Process},
};

/// A program that makes LLM calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// What it is called here.
    pub name: &'static str,
    /// What it speaks.
    pub api: Api,
    program: Program,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Python { script: &'static str, asynchronous: bool },
    Node(&'static str),
    Curl,
    Go,
    Hyper,
}

const fn python(name: &'static str, api: Api, script: &'static str, asynchronous: bool) -> Client {
    Client { name, api, program: Program::Python { script, asynchronous } }
}

/// OpenAI's SDK for Python.
pub const OPENAI: Client = python("openai", Api::OpenaiChat, "openai_client.py", false);
/// OpenAI's SDK for Python, asyncio.
pub const OPENAI_ASYNC: Client = python("openai async", Api::OpenaiChat, "openai_client.py", true);
/// Anthropic's SDK for Python.
pub const ANTHROPIC: Client = python("anthropic", Api::AnthropicMessages, "anthropic_client.py", false);
/// Anthropic's SDK for Python, asyncio.
pub const ANTHROPIC_ASYNC: Client =
    python("anthropic async", Api::AnthropicMessages, "anthropic_client.py", true);
/// requests.
pub const REQUESTS: Client = python("requests", Api::OpenaiChat, "requests_client.py", false);
/// httpx.
pub const HTTPX: Client = python("httpx", Api::OpenaiChat, "httpx_client.py", false);
/// httpx, asyncio.
pub const HTTPX_ASYNC: Client = python("httpx async", Api::AnthropicMessages, "httpx_client.py", true);
/// aiohttp, which has asyncio only.
pub const AIOHTTP: Client = python("aiohttp", Api::OpenaiChat, "aiohttp_client.py", true);
/// OpenAI's SDK for Node.
pub const NODE: Client =
    Client { name: "node openai", api: Api::OpenaiChat, program: Program::Node("openai_client.mjs") };
/// curl.
pub const CURL: Client = Client { name: "curl", api: Api::OpenaiChat, program: Program::Curl };
/// Node's own HTTP/2.
pub const NODE_HTTP2: Client =
    Client { name: "node http2", api: Api::OpenaiChat, program: Program::Node("http2_client.mjs") };
/// Go's own HTTP/2, in the clear.
pub const GO: Client = Client { name: "go", api: Api::OpenaiChat, program: Program::Go };
/// hyper's HTTP/2, in the clear.
pub const HYPER: Client = Client { name: "hyper", api: Api::OpenaiChat, program: Program::Hyper };

/// Which HTTP a client that knows several is to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1
    One,
    /// HTTP/2, without asking first where there is no TLS.
    Two,
    /// HTTP/1.1, and then HTTP/2 on the same connection (curl only).
    Upgrade,
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// Scheme, host and port.
    pub base_url: String,
    /// The authority to trust.
    pub ca: PathBuf,
    /// Bodies of the calls.
    pub requests: Vec<Value>,
    /// How often the bodies are gone through.
    pub rounds: usize,
    /// Makes the last message this long.
    pub pad: usize,
    /// Leaves a streamed answer after so many events.
    pub cancel_after: Option<usize>,
    /// Calls in flight, for asyncio.
    pub concurrency: usize,
    /// Waits for [`Running::go`], with a connection open.
    pub wait: bool,
    /// How often the first body goes over that connection before.
    pub before: usize,
    /// What it speaks, if it knows several.
    pub http: Http,
    /// Puts a PROXY protocol header in front of each connection (curl only).
    pub proxied: bool,
    /// More of the environment.
    pub env: Vec<(String, String)>,
    /// Another file than the usual one to run as curl.
    pub curl: PathBuf,
}

impl Job {
    /// These calls once, to an address.
    #[must_use]
    pub fn new(scheme: &str, server: SocketAddr, ca: &Path, requests: Vec<Value>) -> Self {
        Self {
            base_url: format!("{scheme}://{server}"),
            ca: ca.to_owned(),
            requests,
            rounds: 1,
            pad: 0,
            cancel_after: None,
            concurrency: 1,
            wait: false,
            before: 0,
            http: Http::One,
            proxied: false,
            env: Vec::new(),
            curl: "curl".into(),
        }
    }

    /// How many calls these are.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.requests.len() * self.rounds
    }
}

/// What a client got to know of one answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Report {
    /// HTTP status, when there was one.
    pub status: Option<u16>,
    /// The response's id.
    #[serde(default)]
    pub id: Option<String>,
    /// The response's model.
    #[serde(default)]
    pub model: Option<String>,
    /// Finish reasons by choice.
    #[serde(default)]
    pub finish_reasons: Vec<String>,
    /// Token counts as the API told them.
    #[serde(default)]
    pub usage: Option<Value>,
    /// Events of a streamed answer.
    #[serde(default)]
    pub events: usize,
    /// Bytes of content.
    #[serde(default)]
    pub bytes: usize,
    /// What went wrong.
    #[serde(default)]
    pub error: Option<String>,
}

impl Client {
    /// Starts it; with [`Job::wait`], returns once it has a connection open.
    ///
    /// # Panics
    /// When it cannot be started or does not get ready.
    #[must_use]
    pub fn start(self, job: &Job) -> Running {
        let process = Process::spawn(self.command(job));
        let curl = (self.program == Program::Curl).then(|| self.curl_config(job));
        if job.wait && curl.is_none() {
            process.wait_for_line("\"ready\"", |line| line.contains("\"ready\"").then_some(()));
        }
        let mut running = Running { client: self, process, curl, calls: job.calls() };
        if !job.wait {
            running.go();
        }
        running
    }

    /// Starts it and waits for it: one report for each call.
    ///
    /// # Panics
    /// When it makes fewer calls than it was told to.
    #[must_use]
    pub fn run(self, job: &Job) -> Vec<Report> {
        self.start(job).finish()
    }

    /// The pattern that selects its executable: the whole path where it is one of the tests' own, so that what
    /// else runs on this machine is left alone.
    ///
    /// # Panics
    /// When the part is missing.
    #[must_use]
    pub fn exe(self) -> String {
        let path = match self.program {
            Program::Python { .. } => parts::part("venv/bin/python"),
            Program::Node(_) => parts::part("node/bin/node"),
            Program::Curl => "curl".into(),
            Program::Go => parts::part("go-peer"),
            Program::Hyper => parts::program("hyper-peer"),
        };
        path.to_string_lossy().into_owned()
    }

    /// Path of its API.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self.api {
            Api::OpenaiChat => "/v1/chat/completions",
            Api::AnthropicMessages => "/v1/messages",
        }
    }

    fn command(self, job: &Job) -> Command {
        let mut command = match self.program {
            Program::Python { script, asynchronous } => {
                let mut command = Command::new(parts::part("venv/bin/python"));
                command.arg(parts::file("clients").join(script));
                if asynchronous {
                    command.args(["--async", "--concurrency", &job.concurrency.to_string()]);
                }
                if self.api == Api::AnthropicMessages {
                    command.args(["--api", "anthropic"]);
                }
                if job.pad > 0 {
                    command.args(["--pad", &job.pad.to_string()]);
                }
                if job.http == Http::Two {
                    command.arg("--http2");
                }
                command
            }
            Program::Node(script) => {
                let home = parts::part("node");
                let mut command = Command::new(home.join("bin/node"));
                command.arg(parts::file("clients").join(script)).current_dir(home);
                command
            }
            Program::Go | Program::Hyper => {
                let mut command = Command::new(self.exe());
                command.args(["call", "--concurrency", &job.concurrency.to_string()]);
                command
            }
            Program::Curl => {
                let mut command = Command::new(&job.curl);
                command.args(["--silent", "--show-error", "--config", "-"]);
                command
            }
        };
        // Proxies and authorities of this machine would change what the clients do.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("NODE_EXTRA_CA_CERTS", &job.ca).envs(job.env.iter().map(|(k, v)| (k, v)));
        if self.program != Program::Curl {
            command.args(["--base-url", &job.base_url, "--ca"]).arg(&job.ca);
            command.args(["--calls", &job.rounds.to_string()]);
            for request in &job.requests {
                command.args(["--request", &request.to_string()]);
            }
            if let Some(events) = job.cancel_after {
                command.args(["--cancel-after", &events.to_string()]);
            }
            if job.before > 0 {
                command.args(["--before", &job.before.to_string()]);
            }
            if job.wait {
                command.arg("--wait");
            }
        }
        command
    }

    /// All calls over one connection; curl reads this before it opens it.
    fn curl_config(self, job: &Job) -> String {
        let http = match (job.http, job.base_url.starts_with("https")) {
            (Http::One, _) => "http1.1",
            (Http::Two, false) => "http2-prior-knowledge",
            (Http::Two, true) | (Http::Upgrade, _) => "http2",
        };
        let proxied = if job.proxied { "haproxy-protocol\n" } else { "" };
        let call = |request: &Value| {
            let body = request.to_string().replace('\\', "\\\\").replace('"', "\\\"");
            format!(
                "{http}\n{proxied}url = \"{}{}\"\ncacert = \"{}\"\nheader = \"content-type: application/json\"\ncompressed\n\
                 data-binary = \"{body}\"\noutput = \"/dev/null\"\nwrite-out = \"{{\\\"status\\\": %{{http_code}}}}\\n\"\n",
                job.base_url,
                self.path(),
                job.ca.display(),
            )
        };
        // Servers switch protocols on a request without a body.
        let first = (job.http == Http::Upgrade)
            .then(|| format!("{http}\nurl = \"{}/v1/models\"\noutput = \"/dev/null\"\n", job.base_url));
        let calls = (0..job.rounds).flat_map(|_| job.requests.iter().map(call));
        let calls: Vec<_> = first.into_iter().chain(calls).collect();
        calls.join("next\n")
    }
}

/// A client at work.
#[derive(Debug)]
pub struct Running {
    client: Client,
    process: Process,
    /// What curl is told on its standard input.
    curl: Option<String>,
    calls: usize,
}

impl Running {
    /// Its process.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Lets a waiting client start.
    pub fn go(&mut self) {
        let text = self.curl.take().unwrap_or_else(|| "go\n".to_owned());
        self.process.write(&text);
        self.process.close_stdin();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(3 * PATIENCE)
    }

    /// Waits for its end: one report for each call.
    ///
    /// # Panics
    /// When it does not end, or makes fewer calls than it was told to.
    #[must_use]
    pub fn finish(mut self) -> Vec<Report> {
        let status = self.wait();
        let reports: Vec<Report> = self
            .process
            .stdout()
            .all()
            .iter()
            .filter(|line| !line.contains("\"ready\""))
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|e| panic!("{e}: {line}\n{}", self.process.transcript()))
            })
            .collect();
        assert!(
            reports.len() == self.calls,
            "{} made {} of {} calls, {status}\n{}",
            self.client.name,
            reports.len(),
            self.calls,
            self.process.transcript()
        );
        reports
    }
}

/// How a client reaches the mock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// TLS.
    Tls,
    /// HTTP in the clear.
    Plain,
}

impl Via {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Tls, Self::Plain];

    /// A job at a mock, over this.
    #[must_use]
    pub fn job(self, mock: &Mock, requests: Vec<Value>) -> Job {
        match self {
            Self::Tls => Job::new("https", mock.tls(), mock.ca(), requests),
            Self::Plain => Job::new("http", mock.plain(), mock.ca(), requests),
        }
    }
}
