//! Which exchanges are LLM calls: by method, path suffix, host and headers. Where these do not decide, the bodies do at
//! the end of the exchange ([`crate::call::Call::end`]).

use std::net::{IpAddr, SocketAddr};

use tokentap_wire::{Headers, RequestHead, Role};

use crate::{Api, Options, Transport, family::Confidence, provider};

/// The server that a request names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Host name or address, in lower case, without brackets; empty when unknown.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// An exchange that may be a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CallCandidate {
    /// The APIs that it may belong to, in the order in which they are tried.
    pub(crate) apis: Vec<Api>,
    /// It is a call, whatever its bodies are.
    pub(crate) certain: bool,
    pub(crate) destination: Destination,
}

/// Classifies a request by its head. Allocates nothing for other requests than LLM calls, unless there are rules.
pub(crate) fn recognise(
    options: &Options,
    head: &RequestHead<'_>,
    transport: &Transport,
) -> Option<CallCandidate> {
    let unresolved = head.target.is_empty();
    if !(head.method == b"POST" || unresolved && head.method.is_empty()) {
        return None;
    }
    let path = path(head.target);
    let matched = Api::ALL.into_iter().find_map(|api| Some((api, api.match_path(path, &head.headers)?)));
    if matched.is_none() && options.include.is_empty() && !unresolved {
        return None;
    }
    let destination = Destination::of(head, transport);
    let matches = |rule: &crate::Rule| rule.matches(&destination.host, destination.port, path);
    if options.exclude.iter().any(matches) {
        return None;
    }
    let included = options.include.iter().find(|include| matches(&include.rule));
    let (apis, certain) = match (included.map(|include| include.api), matched) {
        (Some(Some(api)), _) => (vec![api], true),
        (_, Some((api, confidence))) => {
            let known = provider::by_host(&destination.host, path).is_some();
            (vec![api], confidence == Confidence::Certain || known)
        }
        (Some(None), None) => (by_headers(&head.headers), false),
        (None, None) if unresolved => (by_headers(&head.headers), false),
        (None, None) => return None,
    };
    Some(CallCandidate { apis, certain, destination })
}

fn by_headers(headers: &Headers<'_>) -> Vec<Api> {
    match headers.get("anthropic-version") {
        Some(_) => vec![Api::Anthropic],
        None => Api::ALL.to_vec(),
    }
}

/// The path of a request target in origin or absolute form, without query; empty when there is none.
pub(crate) fn path(target: &[u8]) -> &str {
    let target = str::from_utf8(target).unwrap_or_default();
    let target = target.split(['?', '#']).next().unwrap_or_default();
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |slash| &rest[slash..]),
        None => target,
    }
    .trim_end_matches('/')
}

impl Destination {
    /// `Host` or `:authority`, which names the server also where the peer is a proxy. Else the address of the peer, if
    /// that is the server.
    fn of(head: &RequestHead<'_>, transport: &Transport) -> Self {
        let https = match head.target.split(|&b| b == b':').next() {
            Some(b"http") if head.target.starts_with(b"http://") => false,
            Some(b"https") if head.target.starts_with(b"https://") => true,
            _ => transport.tls,
        };
        let default_port = if https { 443 } else { 80 };
        let named = head.authority.and_then(|authority| authority_parts(authority, default_port));
        let peer = transport.peer.filter(|_| head.role == Role::Client);
        let (host, port) =
            named.or_else(|| peer.map(by_address)).unwrap_or_else(|| (String::new(), default_port));
        Self { host, port }
    }
}

/// Host and port of the server's address, for a request that does not name a server.
pub(crate) fn by_address(peer: SocketAddr) -> (String, u16) {
    let ip = match peer.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip @ IpAddr::V4(_) => ip,
    };
    (ip.to_string(), peer.port())
}

/// Host and port of `[userinfo@]host[:port]` (RFC 3986 §3.2); the user info is dropped, never kept.
fn authority_parts(authority: &[u8], default_port: u16) -> Option<(String, u16)> {
    const LONGEST_NAME: usize = 253;
    let authority = str::from_utf8(authority).ok()?.trim();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (host, rest) = literal.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let named = !host.is_empty() && host.len() <= LONGEST_NAME && host.bytes().all(|b| b.is_ascii_graphic());
    let port = match port {
        None | Some("") => default_port,
        Some(port) => port.parse().ok()?,
    };
    named.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use tokentap_wire::Version;

    use super::*;

    fn head<'a>(method: &'a str, target: &'a str, fields: &'a [(&'a [u8], &'a [u8])]) -> RequestHead<'a> {
        let headers = Headers::new(fields, true);
        RequestHead {
            role: Role::Client,
            version: Version::Http11,
            method: method.as_bytes(),
            target: target.as_bytes(),
            authority: headers.get("host"),
            headers,
        }
    }

    fn classify(
        options: &Options,
        method: &str,
        target: &str,
        host: &str,
        field: &str,
    ) -> Option<(Vec<Api>, bool)> {
        let fields = [(&b"Host"[..], host.as_bytes()), (field.as_bytes(), &b"x"[..])];
        let transport = Transport { tls: true, peer: None };
        recognise(options, &head(method, target, &fields), &transport).map(|c| (c.apis, c.certain))
    }

    #[test]
    fn calls_are_told_from_everything_else_by_method_path_host_and_headers() {
        let openai = || Some((vec![Api::OpenAiChat], true));
        let anthropic = |certain| Some((vec![Api::Anthropic], certain));
        for (method, target, host, field, expected) in [
            ("POST", "/v1/chat/completions", "api.openai.com", "", openai()),
            ("POST", "/v1/chat/completions", "127.0.0.1:8000", "", openai()),
            ("POST", "/chat/completions", "api.deepseek.com", "", openai()),
            ("POST", "/proxy/openai/v1/chat/completions/?a=/b", "gateway", "", openai()),
            (
                "POST",
                "//openai/deployments/d/chat/completions?api-version=1",
                "r.openai.azure.com",
                "",
                openai(),
            ),
            ("POST", "http://localhost:8000/v1/chat/completions?x#y", "localhost:8000", "", openai()),
            ("POST", "/v1/messages", "api.anthropic.com", "", anthropic(true)),
            ("POST", "/v1/messages?beta=true", "localhost", "Anthropic-Version", anthropic(true)),
            ("POST", "/anthropic/messages", "localhost", "anthropic-version", anthropic(true)),
            ("POST", "/v1/messages", "chat.example.com", "", anthropic(false)),
            ("POST", "", "h", "", Some((Api::ALL.to_vec(), false))),
            ("", "", "h", "", Some((Api::ALL.to_vec(), false))),
            ("POST", "", "h", "anthropic-version", anthropic(false)),
            ("GET", "/v1/chat/completions", "api.openai.com", "", None),
            ("GET", "", "h", "", None),
            ("POST", "/v1/models", "api.openai.com", "", None),
            ("POST", "/v1/messages/count_tokens", "api.anthropic.com", "anthropic-version", None),
            ("POST", "/v1/messages/batches", "api.anthropic.com", "anthropic-version", None),
            ("POST", "/messages", "chat.example.com", "", None),
            ("POST", "/v1/chat/completions-not", "api.openai.com", "", None),
            ("POST", "/search?q=/v1/chat/completions", "example.com", "", None),
            ("POST", "/", "example.com", "", None),
        ] {
            let classified = classify(&Options::default(), method, target, host, field);
            assert_eq!(classified, expected, "{method} {target} {host} {field}");
        }
    }

    #[test]
    fn options_add_and_exclude() {
        let include = |text: &str| text.parse().expect("valid");
        let rules = Options {
            include: vec![include("anthropic=llm.corp/ask"), include("/inner/*")],
            exclude: vec!["*.openai.com".parse().expect("valid"), "llm.corp:8443".parse().expect("valid")],
        };
        for (target, host, expected) in [
            ("/ask?x", "llm.corp", Some((vec![Api::Anthropic], true))),
            ("/ask", "llm.corp:8443", None),
            ("/inner/x", "h", Some((Api::ALL.to_vec(), false))),
            ("/inner/v1/chat/completions", "h", Some((vec![Api::OpenAiChat], true))),
            ("/v1/chat/completions", "api.openai.com", None),
            ("/v1/chat/completions", "h", Some((vec![Api::OpenAiChat], true))),
            ("/other", "h", None),
        ] {
            assert_eq!(classify(&rules, "POST", target, host, ""), expected, "{host}{target}");
        }
    }

    #[test]
    fn the_server_is_whom_the_request_names() {
        let peer = Some("[::ffff:10.0.0.1]:8443".parse().expect("valid"));
        for (host, target, tls, peer, expected) in [
            (Some("API.openai.com"), "/p", true, peer, ("api.openai.com", 443)),
            (Some("localhost"), "/p", false, None, ("localhost", 80)),
            (Some("127.0.0.1:8000"), "/p", false, None, ("127.0.0.1", 8000)),
            (Some("[::1]:8000"), "/p", false, None, ("::1", 8000)),
            (Some("[::1]"), "/p", true, None, ("::1", 443)),
            (Some("user:secret@h:1"), "/p", true, None, ("h", 1)),
            (Some("h:"), "/p", true, None, ("h", 443)),
            (Some("h"), "http://h/p", true, None, ("h", 80)),
            (Some("h:70000"), "/p", true, peer, ("10.0.0.1", 8443)),
            (Some("h h"), "/p", true, None, ("", 443)),
            (None, "/p", true, peer, ("10.0.0.1", 8443)),
        ] {
            let fields = host.map(|host| (&b"host"[..], host.as_bytes()));
            let head = head("POST", target, fields.as_slice());
            let found = Destination::of(&head, &Transport { tls, peer });
            assert_eq!((found.host.as_str(), found.port), expected, "{host:?} {target}");
        }
        // Of a server, the peer is a client.
        let head = RequestHead { role: Role::Server, ..head("POST", "/p", &[]) };
        assert_eq!(Destination::of(&head, &Transport { tls: true, peer }).host, "");
    }
}
