//! Who made a call: the session and the user, from where the user of the agent says they are.

use std::str::FromStr;

use percent_encoding::percent_decode;
use tokentap_wire::Headers;

/// Where the session and the user of a call are found: for each, the first source that has something counts. Nothing is taken
/// unless a source is named: both may be personal data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityRules {
    /// Of `session.id`.
    pub session: Vec<IdentitySource>,
    /// Of `user.id`.
    pub user: Vec<IdentitySource>,
}

/// Where a request says something. Parses from `header:NAME`, `baggage:KEY` or `body:FIELD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// A header field.
    Header(String),
    /// A member of W3C Baggage.
    Baggage(String),
    /// A field of the body.
    Body(IdentityField),
}

/// A field of the body that says who made the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityField {
    /// `user` (OpenAI).
    User,
    /// `safety_identifier` (OpenAI).
    SafetyIdentifier,
    /// `prompt_cache_key` (OpenAI).
    PromptCacheKey,
    /// `metadata.user_id` (Anthropic, and applications at OpenAI).
    MetadataUserId,
    /// `metadata.session_id`
    MetadataSessionId,
}

const FIELDS: [(&str, IdentityField); 5] = [
    ("user", IdentityField::User),
    ("safety_identifier", IdentityField::SafetyIdentifier),
    ("prompt_cache_key", IdentityField::PromptCacheKey),
    ("metadata.user_id", IdentityField::MetadataUserId),
    ("metadata.session_id", IdentityField::MetadataSessionId),
];

impl FromStr for IdentitySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || FIELDS.map(|(name, _)| name).join(", ");
        match text.split_once(':') {
            Some((_, "")) | None => Err("use header:NAME, baggage:KEY or body:FIELD".into()),
            Some(("header", name)) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("baggage", key)) => Ok(Self::Baggage(key.to_owned())),
            Some(("body", field)) => {
                let field = FIELDS.iter().find(|(name, _)| *name == field).map(|(_, field)| *field);
                field.map(Self::Body).ok_or_else(|| format!("of bodies, use one of {}", known()))
            }
            Some((other, _)) => Err(format!("'{other}' is no source: use header, baggage or body")),
        }
    }
}

/// Longer values are no ids, in bytes.
const LONGEST: usize = 256;

/// What one source says; of the body later.
#[derive(Clone, Debug)]
enum Found {
    Value(String),
    InBody(IdentityField),
}

/// Who made a call, as far as the head of its request says: the values, and which fields of the body count before or
/// instead of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    session: Vec<Found>,
    user: Vec<Found>,
}

impl Identity {
    pub(crate) fn of(rules: &IdentityRules, headers: &Headers<'_>) -> Self {
        let read =
            |sources: &[IdentitySource]| sources.iter().filter_map(|source| find(source, headers)).collect();
        Self { session: read(&rules.session), user: read(&rules.user) }
    }

    /// The session and the user. `body`: what fields of the body say.
    pub(crate) fn resolve(&self, body: &[(IdentityField, String)]) -> [Option<String>; 2] {
        [&self.session, &self.user].map(|sources| {
            sources.iter().find_map(|found| match found {
                Found::Value(value) => Some(value.clone()),
                Found::InBody(field) => {
                    body.iter().find(|(known, _)| known == field).map(|(_, value)| value.clone())
                }
            })
        })
    }
}

fn find(source: &IdentitySource, headers: &Headers<'_>) -> Option<Found> {
    let value = match source {
        IdentitySource::Header(name) => str::from_utf8(headers.get(name)?).ok()?.trim().to_owned(),
        IdentitySource::Baggage(key) => headers.all("baggage").find_map(|list| baggage(list, key))?,
        IdentitySource::Body(field) => return Some(Found::InBody(*field)),
    };
    (!value.is_empty() && value.len() <= LONGEST).then_some(Found::Value(value))
}

/// A member of W3C Baggage (<https://www.w3.org/TR/baggage/>, § 3.2.1): `key = value ; property`, percent-encoded.
fn baggage(list: &[u8], key: &str) -> Option<String> {
    let members = list.split(|&byte| byte == b',');
    let value = members
        .filter_map(|member| {
            let member = member.split(|&byte| byte == b';').next()?;
            let equals = member.iter().position(|&byte| byte == b'=')?;
            (member[..equals].trim_ascii() == key.as_bytes()).then(|| member[equals + 1..].trim_ascii())
        })
        .next()?;
    Some(percent_decode(value).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_baggage_are_found_and_decoded() {
        let list = b"a=1,  user.id = jo%20doe ;p=1, session.id=s-1";
        assert_eq!(baggage(list, "user.id").as_deref(), Some("jo doe"));
        assert_eq!(baggage(list, "session.id").as_deref(), Some("s-1"));
        assert_eq!(baggage(list, "user"), None);
        assert_eq!(baggage(b"user.id=%ff", "user.id"), None);
    }

    #[test]
    fn what_is_no_source_says_what_would_be_one() {
        for (text, part) in [
            ("user", "header:NAME"),
            ("body:name", "metadata.user_id"),
            ("cookie:x", "'cookie'"),
            ("header:", "header:NAME"),
        ] {
            assert!(text.parse::<IdentitySource>().is_err_and(|why| why.contains(part)), "{text}");
        }
        assert_eq!("body:user".parse(), Ok(IdentitySource::Body(IdentityField::User)));
        assert_eq!("header:X-Session-Id".parse(), Ok(IdentitySource::Header("x-session-id".into())));
    }
}
