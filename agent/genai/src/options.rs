//! What the user may change about recognition.

use std::str::FromStr;

use crate::{Api, ContentOptions, Dialect, IdentityRules, Propagator};

/// Which exchanges are LLM calls, beyond what recognition finds by itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Exchanges that are calls wherever they go; the first that matches counts.
    pub include: Vec<Include>,
    /// Exchanges that are never reported; wins over `include`.
    pub exclude: Vec<Rule>,
    /// What of prompts and completions is exported; `None`: nothing, and nothing of them is kept.
    pub content: Option<ContentOptions>,
    /// In which dialects spans are written; none: that of OpenTelemetry's conventions.
    pub dialects: Vec<Dialect>,
    /// Where the session and the user of a call are found.
    pub identity: IdentityRules,
    /// The request header whose value `true` asks for the trace to be kept, in lower case.
    pub force_header: Option<String>,
    /// In which formats headers carry the trace context, the first that is valid counts; none: W3C Trace Context.
    pub propagators: Vec<Propagator>,
}

/// An exchange that is an LLM call although its path does not say so. Parses from `[API=]RULE`, as in
/// `openai-chat=llm.example.com/ask`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// Where it goes.
    pub rule: Rule,
    /// Its API; `None`: recognised by its bodies.
    pub api: Option<Api>,
}

/// A host and path pattern, in which `*` stands for any run of characters, `/` included. Parses from
/// `HOST[:PORT][/PATH]` or `/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Host, or host and port, in lower case; empty matches every host.
    pub host: String,
    /// Path without query; empty matches every path.
    pub path: String,
}

/// Why a rule could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Nothing in it.
    #[error("empty rule: expected HOST[:PORT][/PATH] or /PATH")]
    Empty,
    /// A URL instead of a host and path.
    #[error("`{0}` is a URL: leave out the scheme and what follows `?`")]
    Url(String),
    /// No such API.
    #[error("unknown API `{0}`: expected one of {known}", known = names())]
    Api(String),
}

fn names() -> String {
    Api::all().map(Api::name).collect::<Vec<_>>().join(", ")
}

impl Rule {
    /// Whether an exchange with this host, port and path (without query) is meant.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16, path: &str) -> bool {
        let host_matches = self.host.is_empty()
            || glob(&self.host, host)
            || self.host.contains(':') && glob(&self.host, &format!("{host}:{port}"));
        host_matches && (self.path.is_empty() || glob(&self.path, path))
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.is_empty() {
            return Err(RuleError::Empty);
        }
        if text.contains("://") || text.contains('?') {
            return Err(RuleError::Url(text.to_owned()));
        }
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        Ok(Self { host: host.to_ascii_lowercase(), path: path.to_owned() })
    }
}

impl FromStr for Include {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let Some((api, rule)) = text.split_once('=') else {
            return Ok(Self { rule: text.parse()?, api: None });
        };
        let known = Api::all().find(|known| known.name() == api);
        Ok(Self { api: Some(known.ok_or_else(|| RuleError::Api(api.to_owned()))?), rule: rule.parse()? })
    }
}

/// Whether a shell-like pattern matches the whole of `text`: `*` is any run of characters, `/` included, `?` any
/// one. Goes back to the last `*` on a mismatch: linear in practice, no recursion.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                t += 1 + text[t + 1..].iter().take_while(|&&byte| byte & 0xc0 == 0x80).count();
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star_p, star_t)) = star else { return false };
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_match_host_port_and_path() {
        for (rule, host, port, path, expected) in [
            ("llm.example.com", "llm.example.com", 443, "/any", true),
            ("LLM.example.com", "llm.example.com", 443, "/any", true),
            ("llm.example.com", "x.llm.example.com", 443, "/any", false),
            ("*.example.com", "a.b.example.com", 80, "/", true),
            ("*.example.com", "example.com", 80, "/", false),
            ("127.0.0.1:9000", "127.0.0.1", 9000, "/", true),
            ("127.0.0.1:9000", "127.0.0.1", 8000, "/", false),
            ("/v1/*/ask", "h", 80, "/v1/a/b/ask", true),
            ("/v1/*/ask", "h", 80, "/v1/a/asks", false),
            ("h/p", "h", 80, "/p", true),
            ("h/p", "h", 80, "/p/q", false),
            ("h/*", "g", 80, "/p", false),
            ("*", "h", 80, "/p", true),
            ("/a*b*c", "h", 80, "/abbcbc", true),
        ] {
            let parsed: Rule = rule.parse().expect(rule);
            assert_eq!(parsed.matches(host, port, path), expected, "{rule} {host}:{port}{path}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_what_would_be_one() {
        let include: Include = "anthropic=h/ask".parse().expect("valid");
        assert_eq!((include.api.map(Api::name), include.rule.path.as_str()), (Some("anthropic"), "/ask"));
        assert_eq!("h".parse::<Include>().map(|include| include.api), Ok(None));
        for (text, message) in [
            ("", "empty rule: expected HOST[:PORT][/PATH] or /PATH"),
            ("https://h/p", "`https://h/p` is a URL: leave out the scheme and what follows `?`"),
            ("gpt=h", "unknown API `gpt`: expected one of openai-chat, anthropic"),
        ] {
            let error = text.parse::<Include>().expect_err(text).to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
