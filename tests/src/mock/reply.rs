//! An answer before it is sent: what goes over the wire, and what each piece of it tells the ledger.

use crate::ledger::{Answer, Usage};

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

/// Numbers from a seed (splitmix64), the same on every run.
pub(super) struct Random(u64);

impl Random {
    /// A series of its own for each answer.
    pub(super) const fn new(seed: u64, number: u64) -> Self {
        Self(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn word(&mut self) -> &'static str {
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
        WORDS[(self.next() % WORDS.len() as u64) as usize]
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
        let mut piece = random.word().to_owned();
        while length.is_some_and(|length| piece.len() < length) {
            piece.push_str(random.word());
        }
        piece
    })
}
