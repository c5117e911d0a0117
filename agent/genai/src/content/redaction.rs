//! Secrets and personal data in content: replaced before anything leaves the process.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex, RegexBuilder, RegexSet};

/// What is replaced: what [`Redaction::default`] knows, and the user's own patterns.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    own: Vec<Regex>,
}

/// A pattern that is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not a regular expression: {0}")]
pub struct PatternError(String);

/// What the matches of the user's own patterns become.
const OWN: &str = "<REDACTED>";
/// Memory that one pattern may take, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

impl Redaction {
    /// Replaces the matches of a regular expression, too.
    ///
    /// # Errors
    /// [`PatternError`] where it is none, or takes too much memory.
    pub fn add(&mut self, pattern: &str) -> Result<(), PatternError> {
        let built = RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build();
        self.own.push(built.map_err(|why| PatternError(why.to_string()))?);
        Ok(())
    }

    /// The text without secrets.
    pub(crate) fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for index in &KNOWN.set.matches(&text) {
            let (regex, kind) = &KNOWN.each[index];
            replace(&mut text, regex, |found| kind.replacement(found));
        }
        for regex in &self.own {
            replace(&mut text, regex, |_| Some(OWN.into()));
        }
        text
    }
}

fn replace(text: &mut Cow<'_, str>, regex: &Regex, by: impl Fn(&Captures<'_>) -> Option<String>) {
    let replaced =
        regex.replace_all(text, |found: &Captures<'_>| by(found).unwrap_or_else(|| found[0].to_owned()));
    if let Cow::Owned(replaced) = replaced {
        *text = Cow::Owned(replaced);
    }
}

/// What a pattern finds.
#[derive(Clone, Copy)]
enum Kind {
    /// The whole match goes.
    All(&'static str),
    /// What the first group has stays: it says what the rest is.
    After(&'static str),
    Card,
    Ip,
    /// Digits that may be a telephone number.
    Phone,
}

impl Kind {
    fn replacement(self, found: &Captures<'_>) -> Option<String> {
        let text = &found[0];
        let digits = || text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0');
        match self {
            Self::All(mark) => Some(mark.into()),
            Self::After(mark) => Some(format!("{}{mark}", &found[1])),
            Self::Card => {
                (is_card_length(digits().count()) && luhn(digits())).then(|| "<CREDIT_CARD>".into())
            }
            Self::Ip => text.parse::<std::net::IpAddr>().is_ok().then(|| "<IP_ADDRESS>".into()),
            Self::Phone => (9..=15).contains(&digits().count()).then(|| "<PHONE_NUMBER>".into()),
        }
    }
}

const fn is_card_length(digits: usize) -> bool {
    digits >= 13 && digits <= 19
}

/// The check digit of payment cards (ISO/IEC 7812-1, annex B).
fn luhn(digits: impl Iterator<Item = u8> + Clone) -> bool {
    let count = digits.clone().count();
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| match ((count - at).is_multiple_of(2), digit) {
            (false, digit) => u32::from(digit),
            (true, digit) => u32::from(digit * 2 / 10 + digit * 2 % 10),
        })
        .sum();
    sum.is_multiple_of(10)
}

struct Known {
    /// Which of them are in a text: one pass rules all out for most texts.
    set: RegexSet,
    each: Vec<(Regex, Kind)>,
}

/// In the order in which they are replaced: what a later one would find in a part of an earlier one is gone then.
const PATTERNS: &[(&str, Kind)] = &[
    (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        Kind::All("<PRIVATE_KEY>"),
    ),
    (r"\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?", Kind::All("<JWT>")),
    (r"(?i)(\b(?:bearer|basic|token)\s+)[\w.~+/-]{16,}=*", Kind::After("<TOKEN>")),
    (r"(?i)(\bbearer\s+)[\w.~+/-]{6,}=*", Kind::After("<TOKEN>")),
    // `name=value` and `"name": "value"`, also inside JSON that is text.
    (
        r#"(?i)((?:api[_-]?key|secret[_-]?(?:access[_-]?)?key|access[_-]?key|client[_-]?secret|private[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token|session[_-]?token|passw(?:or)?d|passphrase|authorization)\\?["']?\s*(?:[:=]|=>|\bis\b)\s*\\?["']?)[^\s"'\\,;<>]{6,}"#,
        Kind::After("<SECRET>"),
    ),
    (r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]{3,}@", Kind::After("<SECRET>@")),
    (
        r"\b(?:sk|pk|rk|whsec|key|gsk|xai|nvapi|pplx|csk|fw|r8|tgp|lsv2|phc|sess|ak|rg)[-_][\w-]{16,}",
        Kind::All("<API_KEY>"),
    ),
    (r"\bAIza[\w-]{30,}", Kind::All("<API_KEY>")),
    (r"\b(?:ya29|1//)[\w.-]{20,}", Kind::All("<API_KEY>")),
    (r"\b(?:gh[opusr]_|github_pat_|glpat-|hf_|dop_v1_|npm_|pypi-)[\w-]{16,}", Kind::All("<API_KEY>")),
    (r"\bxox[abeoprs]-[\w-]{10,}", Kind::All("<API_KEY>")),
    (r"\bSG\.[\w-]{16,}\.[\w-]{16,}", Kind::All("<API_KEY>")),
    (r"\b(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}\b", Kind::All("<AWS_KEY>")),
    (r"\bABSK[A-Za-z0-9+/]{30,}=*", Kind::All("<AWS_KEY>")),
    (r"\b[\w.%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b", Kind::All("<EMAIL_ADDRESS>")),
    (r"\b\d(?:[ -]?\d){12,18}\b", Kind::Card),
    (r"\b\d{3}-\d{2}-\d{4}\b", Kind::All("<SSN>")),
    (r"\b(?:\d{1,3}\.){3}\d{1,3}\b", Kind::Ip),
    (r"(?i)\b(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4}){1,7}\b", Kind::Ip),
    (r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)|\d{1,4})(?:[ .-]?\d{2,4}){2,4}\b", Kind::Phone),
    (r"(?:\(\d{3}\) ?|\b\d{3}[ .-])\d{3}[ .-]\d{4}\b", Kind::Phone),
];

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let patterns = || PATTERNS.iter().map(|(pattern, _)| *pattern);
    let each = PATTERNS.iter().map(|(pattern, kind)| (Regex::new(pattern).expect("checked by tests"), *kind));
    Known { set: RegexSet::new(patterns()).expect("checked by tests"), each: each.collect() }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_personal_data_are_replaced() {
        for (text, expected) in [
            ("key sk-proj-abcdefghijklmnop1234 end", "key <API_KEY> end"),
            ("sk_live_abcdefghijklmnop1234", "<API_KEY>"),
            ("AIzaSyA-1234567890abcdefghijklmnopqrstuv", "<API_KEY>"),
            ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "<API_KEY>"),
            ("hf_abcdefghijklmnopqrstuvwxyz01234567", "<API_KEY>"),
            ("Authorization: Bearer abc.def-123456789012", "Authorization: <SECRET> <TOKEN>"),
            ("use bearer tok3n-xyz", "use bearer <TOKEN>"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-bmF0", "<JWT>"),
            ("AKIAIOSFODNN7EXAMPLE", "<AWS_KEY>"),
            ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "aws_secret_access_key = <SECRET>"),
            (r#"{"password": "hunter22"}"#, r#"{"password": "<SECRET>"}"#),
            (r#"{\"api_key\":\"abcdef123\"}"#, r#"{\"api_key\":\"<SECRET>\"}"#),
            ("postgres://app:s3cret@db/x", "postgres://app:<SECRET>@db/x"),
            ("mail jo.doe+x@mail.example.org!", "mail <EMAIL_ADDRESS>!"),
            ("card 4111 1111 1111 1111.", "card <CREDIT_CARD>."),
            ("card 4111-1111-1111-1111", "card <CREDIT_CARD>"),
            ("378282246310005", "<CREDIT_CARD>"),
            ("SSN 078-05-1120", "SSN <SSN>"),
            ("from 10.0.0.1:80", "from <IP_ADDRESS>:80"),
            ("v6 2001:db8:85a3::8a2e:370:7334", "v6 <IP_ADDRESS>"),
            ("call (555) 123-4567", "call <PHONE_NUMBER>"),
            ("call +49 30 123456 78", "call <PHONE_NUMBER>"),
            ("call 555-123-4567", "call <PHONE_NUMBER>"),
            ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----x", "<PRIVATE_KEY>x"),
        ] {
            assert_eq!(Redaction::default().apply(text), expected, "{text}");
        }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in [
            "What is the capital of France?",
            "order 1234567890123456",
            "version 1.2.3, at 12:30:45 on 2026-11-27",
            "call_abcdef and msg_0123456789",
            "300.400.500.600",
            "a skeleton key, a basic idea, the token is used",
            "1, 2, 3, 10000000",
        ] {
            assert_eq!(Redaction::default().apply(text), text);
        }
    }

    #[test]
    fn own_patterns_are_replaced_and_bad_ones_refused() {
        let mut redaction = Redaction::default();
        redaction.add(r"EMP-\d+").expect("a pattern");
        assert_eq!(redaction.apply("ask EMP-77 or a@b.example"), "ask <REDACTED> or <EMAIL_ADDRESS>");
        assert!(redaction.add("(").is_err());
        assert!(redaction.add(r"\w{1000}{1000}").is_err());
    }
}
