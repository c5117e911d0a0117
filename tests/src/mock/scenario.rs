//! How a request tells the mock what to do: by its model name, so that untouched SDKs can drive it.

use std::time::Duration;

/// A behaviour, read from a model name: `mock`, then words joined by dashes, in any order.
///
/// | word | effect |
/// |---|---|
/// | `400` `401` `404` `429` `500` `503` `529` | an error answer with that status |
/// | `chunks300` | content pieces of a streamed answer, 8 unless told |
/// | `size4096` | bytes of content in all, about |
/// | `slow20` | milliseconds before each piece |
/// | `endless` | pieces until the client leaves |
/// | `error` | a streamed answer turns into an error event half-way |
/// | `cut` | the connection is dropped half-way |
/// | `gzip` `br` `zstd` | content coding, whatever the client said it accepts |
/// | `chunked` `close` | framing of a plain answer, Content-Length unless told |
/// | `nousage` | no token counts |
/// | `cached` | token counts with cached input |
/// | `thinking` | reasoning before the answer |
/// | `echo` | the answer's content is the last message's content |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Content pieces of a streamed answer.
    pub chunks: usize,
    /// Bytes of content in all, about.
    pub size: Option<usize>,
    /// 200, or the status of the error answer.
    pub status: u16,
    /// Waits this long before each piece.
    pub delay: Duration,
    /// What happens half-way.
    pub turn: Turn,
    /// Content coding of the answer.
    pub coding: Coding,
    /// Framing of a plain answer.
    pub framing: Framing,
    /// Whether token counts are sent at all.
    pub usage: bool,
    /// Whether some of the input comes from a cache.
    pub cached: bool,
    /// Whether the answer is preceded by reasoning.
    pub thinking: bool,
    /// Whether the answer repeats the last message.
    pub echo: bool,
}

/// What happens half-way through an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: it is sent whole.
    Never,
    /// An error event.
    Error,
    /// The connection is dropped.
    Cut,
    /// It goes on until the client leaves.
    Endless,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952
    Gzip,
    /// RFC 7932
    Brotli,
    /// RFC 8878
    Zstd,
}

/// How the end of a plain answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`
    Length,
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// By closing the connection.
    Close,
}

impl Scenario {
    /// Reads a model name.
    ///
    /// # Errors
    /// The word that is not one of the table's, or the whole name when it does not start with `mock`.
    pub fn parse(model: &str) -> Result<Self, String> {
        let mut words = model.split('-');
        if words.next() != Some("mock") {
            return Err(model.to_owned());
        }
        let mut scenario = Self {
            chunks: 8,
            size: None,
            status: 200,
            delay: Duration::ZERO,
            turn: Turn::Never,
            coding: Coding::Identity,
            framing: Framing::Length,
            usage: true,
            cached: false,
            thinking: false,
            echo: false,
        };
        for word in words {
            scenario.apply(word).ok_or_else(|| word.to_owned())?;
        }
        if scenario.turn == Turn::Cut {
            // Half-way through the document is half-way through the content: what ends it is never sent.
            scenario.size = Some(scenario.size.unwrap_or(0).max(4000));
        }
        Ok(scenario)
    }

    fn apply(&mut self, word: &str) -> Option<()> {
        let digits = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
        let (name, number) = word.split_at(digits);
        let number = if number.is_empty() { None } else { Some(number.parse::<u32>().ok()?) };
        match (name, number) {
            ("", Some(status @ (400 | 401 | 404 | 429 | 500 | 503 | 529))) => {
                self.status = u16::try_from(status).ok()?;
            }
            ("chunks", Some(n)) => self.chunks = n as usize,
            ("size", Some(n)) => self.size = Some(n as usize),
            ("slow", Some(ms)) => self.delay = Duration::from_millis(u64::from(ms)),
            ("error", None) => self.turn = Turn::Error,
            ("cut", None) => self.turn = Turn::Cut,
            ("endless", None) => self.turn = Turn::Endless,
            ("gzip", None) => self.coding = Coding::Gzip,
            ("br", None) => self.coding = Coding::Brotli,
            ("zstd", None) => self.coding = Coding::Zstd,
            ("chunked", None) => self.framing = Framing::Chunked,
            ("close", None) => self.framing = Framing::Close,
            ("nousage", None) => self.usage = false,
            ("cached", None) => self.cached = true,
            ("thinking", None) => self.thinking = true,
            ("echo", None) => self.echo = true,
            _ => return None,
        }
        Some(())
    }
}

impl Coding {
    /// The value of `Content-Encoding`, if there is one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_combine_in_any_order() {
        let a = Scenario::parse("mock-chunks300-gzip-slow5").unwrap();
        let b = Scenario::parse("mock-slow5-gzip-chunks300").unwrap();
        assert_eq!(a, b);
        assert_eq!((a.chunks, a.coding, a.delay), (300, Coding::Gzip, Duration::from_millis(5)));
        assert_eq!(Scenario::parse("mock-529").unwrap().status, 529);
    }

    #[test]
    fn an_unknown_word_is_named() {
        assert_eq!(Scenario::parse("mock-gzipp"), Err("gzipp".to_owned()));
        assert_eq!(Scenario::parse("mock-chunks"), Err("chunks".to_owned()));
        assert_eq!(Scenario::parse("mock-999"), Err("999".to_owned()));
        assert_eq!(Scenario::parse("gpt-4o"), Err("gpt-4o".to_owned()));
    }
}
