//! An answer before it is sent: what goes over the wire, and what each piece of it tells the ledger.

use crate::{
    ledger::{Answer, Usage},
    random::Random,
};

/// A planned answer.
pub(super) struct Reply {
    /// What is known before a byte is sent.
    pub(super) answer: Answer,
    pub(super) body: Body,
}

/// The body of an answer.
pub(super) enum Body {
    /// One JSON document, and all that it tells.
    Whole { text: String, tells: Vec<Tell> },
    /// Server-sent events.
    Events(Box<dyn Iterator<Item = Event>>),
}

/// One server-sent event, blank line and all.
pub(super) struct Event {
    pub(super) text: String,
    pub(super) tells: Option<Tell>,
    /// Whether it is a piece of content, which a slow server takes its time for.
    pub(super) content: bool,
}

/// What the client learns from a piece.
#[derive(Clone)]
pub(super) enum Tell {
    Identity { id: String, model: String },
    Finish { choice: usize, reason: String },
    Usage(Usage),
    Error(String),
}

impl Tell {
    pub(super) fn write_down(self, answer: &mut Answer) {
        match self {
            Self::Identity { id, model } => {
                answer.id = Some(id);
                answer.response_model = Some(model);
            }
            Self::Finish { choice, reason } => {
                if answer.finish_reasons.len() <= choice {
                    answer.finish_reasons.resize(choice + 1, String::new());
                }
                answer.finish_reasons[choice] = reason;
            }
            Self::Usage(usage) => answer.usage = Some(usage),
            Self::Error(error) => answer.error = Some(error),
        }
    }
}

impl Event {
    pub(super) fn data(json: &str) -> Self {
        Self { text: format!("data: {json}\n\n"), tells: None, content: false }
    }

    pub(super) fn named(name: &str, json: &str) -> Self {
        Self { text: format!("event: {name}\ndata: {json}\n\n"), tells: None, content: false }
    }

    pub(super) fn telling(self, tell: Tell) -> Self {
        Self { tells: Some(tell), ..self }
    }

    pub(super) fn content(self) -> Self {
        Self { content: true, ..self }
    }
}

/// Content pieces: `count` of them, or without end, of about `size` bytes in all when it is given.
pub(super) fn pieces(
    mut random: Random,
    count: Option<usize>,
    size: Option<usize>,
) -> impl Iterator<Item = String> + use<> {
    let length = size.map(|size| size / count.unwrap_or(1).max(1));
    (0..count.unwrap_or(usize::MAX)).map(move |_| {
        let mut piece = word(&mut random).to_owned();
        while length.is_some_and(|length| piece.len() < length) {
            piece.push_str(word(&mut random));
        }
        piece
    })
}

fn word(random: &mut Random) -> &'static str {
    const WORDS: [&str; 16] = [
        " the",
        " model",
        " answers",
        " with",
        " words",
        " that",
        " mean",
        " nothing",
        " at",
        " all",
        " “and”",
        " some",
        " ünïcode",
        " 東京",
        " \\n",
        " end.",
    ];
    WORDS[(random.next() % WORDS.len() as u64) as usize]
}
