//! What the mock server really sent: the expected values of every test.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// One answer, written when its last byte was sent, or when it could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which connection, from 0 in order of arrival.
    pub connection: u64,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The server's port.
    pub port: u16,
    /// Which API answered; `None` for what is not an LLM call.
    pub api: Option<Api>,
    /// HTTP status.
    pub status: u16,
    /// Whether it was streamed.
    pub stream: bool,
    /// The response's id, when one was sent.
    pub id: Option<String>,
    /// `model` of the request.
    pub request_model: Option<String>,
    /// `model` of the response, when one was sent.
    pub response_model: Option<String>,
    /// The finish reasons that were sent, by choice.
    pub finish_reasons: Vec<String>,
    /// The token counts that were sent, counted as the semantic convention counts.
    pub usage: Option<Usage>,
    /// What identifies the error that was sent: its code, else its type.
    pub error: Option<String>,
    /// False when the connection was dropped before the end, by either side.
    pub whole: bool,
    /// Streamed events that were sent.
    pub events: u64,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body as sent, content coding applied, chunk framing not counted.
    pub response_bytes: u64,
}

/// An LLM API that the mock speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// OpenAI Chat Completions.
    OpenaiChat,
    /// Anthropic Messages.
    AnthropicMessages,
}

/// Token counts as the semantic convention counts: `input` has the cached ones in it, `output` the reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input.
    pub input: u64,
    /// All output; a stream that was cut may have told its input only.
    pub output: Option<u64>,
    /// Input read from a cache, when the API told.
    pub cache_read: Option<u64>,
    /// Input written to a cache, when the API told.
    pub cache_creation: Option<u64>,
    /// Output spent on reasoning, when the API told.
    pub reasoning: Option<u64>,
}

/// Plaintext that passed one connection, written when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Which connection.
    pub connection: u64,
    /// Whether it was TLS.
    pub tls: bool,
    /// Bytes that the client sent.
    pub received: u64,
    /// Bytes that the server sent, as far as it could.
    pub sent: u64,
}

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// One answer.
    Answer(Answer),
    /// The end of a connection.
    Connection(Traffic),
}

/// Collects lines, in memory or in a file of JSON lines.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
    grown: Condvar,
    keep: Keep,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    streams_under_way: usize,
}

#[derive(Debug, Default)]
enum Keep {
    #[default]
    InMemory,
    InFile(File),
    Nowhere,
}

impl Ledger {
    /// A ledger that is written to a file instead of being kept.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Ok(Self { keep: Keep::InFile(File::create(path)?), ..Self::default() })
    }

    /// A ledger that keeps nothing, for servers that run long.
    #[must_use]
    pub fn forgetful() -> Self {
        Self { keep: Keep::Nowhere, ..Self::default() }
    }

    pub(crate) fn add(&self, line: Line) -> io::Result<()> {
        match &self.keep {
            Keep::InMemory => {
                self.lock().lines.push(line);
                self.grown.notify_all();
                Ok(())
            }
            Keep::InFile(file) => {
                let mut text = serde_json::to_vec(&line)?;
                text.push(b'\n');
                let mut file = file;
                file.write_all(&text)
            }
            Keep::Nowhere => Ok(()),
        }
    }

    /// A stream has sent so much that its client knows who answers.
    pub(crate) fn stream_under_way(&self) {
        self.lock().streams_under_way += 1;
        self.grown.notify_all();
    }

    /// Waits until `count` streams have got well past their first events.
    ///
    /// # Panics
    /// When there are fewer after ten seconds.
    pub fn wait_for_streams(&self, count: usize) {
        self.wait(|state| (state.streams_under_way >= count).then_some(()))
            .unwrap_or_else(|| panic!("{} of {count} streams got under way", self.lock().streams_under_way));
    }

    /// Waits for `count` LLM answers; a client can see the end of an answer before it is written down.
    ///
    /// # Panics
    /// When there are fewer after ten seconds.
    #[must_use]
    pub fn wait_for_answers(&self, count: usize) -> Vec<Answer> {
        self.wait(|state| Some(answers(&state.lines)).filter(|found| found.len() >= count)).unwrap_or_else(
            || panic!("the server wrote down {} of {count} answers", answers(&self.lock().lines).len()),
        )
    }

    /// Waits for `count` connections to have ended.
    ///
    /// # Panics
    /// When there are fewer after ten seconds.
    #[must_use]
    pub fn wait_for_connections(&self, count: usize) -> Vec<Traffic> {
        self.wait(|state| Some(connections(&state.lines)).filter(|found| found.len() >= count))
            .unwrap_or_else(|| {
                panic!("the server saw {} of {count} connections end", connections(&self.lock().lines).len())
            })
    }

    fn wait<T>(&self, mut found: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&state) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answers(lines: &[Line]) -> Vec<Answer> {
    lines
        .iter()
        .filter_map(|line| match line {
            Line::Answer(answer) if answer.api.is_some() => Some(answer.clone()),
            _ => None,
        })
        .collect()
}

fn connections(lines: &[Line]) -> Vec<Traffic> {
    lines
        .iter()
        .filter_map(|line| match line {
            Line::Connection(traffic) => Some(*traffic),
            Line::Answer(_) => None,
        })
        .collect()
}
