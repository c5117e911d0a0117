//! Which exchanges are LLM calls: by method, path suffix, host and headers. Where these do not decide, the bodies do at
//! the end of the exchange ([`crate::call::Call::end`]).

use std::net::{IpAddr, SocketAddr};

use tokentap_wire::{Headers, RequestHead, Role};

use crate::{
    Api, Options, Transport,
    apis::mcp,
    provider,
    route::{Captures, Confidence, Framing, Route},
};

/// The server that a request names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Host name or address, in lower case, without brackets; empty when unknown.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// An exchange that may be a call.
#[derive(Debug)]
pub(crate) struct CallCandidate<'p> {
    /// The APIs that it may belong to, in the order in which they are tried, with the route where the path shows it.
    pub(crate) readers: Vec<(Api, Option<&'static Route>, Captures<'p>)>,
    /// It is a call, whatever its bodies are.
    pub(crate) certain: bool,
    pub(crate) destination: Destination,
}

/// Classifies a request by its head. Allocates nothing for other requests than LLM calls, unless there are rules.
pub(crate) fn recognise<'h>(
    options: &Options,
    head: &RequestHead<'h>,
    transport: &Transport,
) -> Option<CallCandidate<'h>> {
    let unresolved = head.target.is_empty() && (head.method == b"POST" || head.method.is_empty());
    let path = path(head.target);
    let mut claims = claims(head, path).peekable();
    let post = head.method == b"POST";
    let rpc = post && claims.peek().is_none() && mcp::may_be(&head.headers);
    if claims.peek().is_none() && !rpc && !unresolved && !(post && !options.include.is_empty()) {
        return None;
    }
    let destination = Destination::of(head, transport);
    let matches = |rule: &crate::Rule| rule.matches(&destination.host, destination.port, path);
    if options.exclude.iter().any(matches) {
        return None;
    }
    let included = options.include.iter().filter(|_| post).find(|include| matches(&include.rule));
    let (readers, certain) = match included.map(|include| include.api) {
        Some(Some(api)) => (vec![with_route(api, head, path)], true),
        included => {
            let (mut readers, certain) = match among(claims.collect(), &destination, path, head) {
                Some(chosen) => chosen,
                None if included.is_some() || unresolved => (by_bodies(&head.headers), false),
                None => (Vec::new(), false),
            };
            // Its servers may have the path of another API.
            if !certain && (rpc || post && mcp::may_be(&head.headers)) {
                readers.push(mcp_claim());
            }
            if readers.is_empty() {
                return None;
            }
            (readers, certain)
        }
    };
    Some(CallCandidate { readers, certain, destination })
}

/// The Model Context Protocol, which has no path of its own.
fn mcp_claim<'p>() -> Claim<'p> {
    let api = Api::all().find(|api| std::ptr::eq(api.spec(), &mcp::API)).expect("it is registered");
    (api, None, Captures::default())
}

type Claim<'p> = (Api, Option<&'static Route>, Captures<'p>);

/// The APIs that have such a method and path.
fn claims<'h>(head: &RequestHead<'h>, path: &'h str) -> impl Iterator<Item = Claim<'h>> {
    let method = head.method;
    Api::claiming(path)
        .filter(move |(_, route)| {
            // Over HTTP/2, a WebSocket is opened by CONNECT (RFC 8441 §4).
            route.method.as_bytes() == method || route.response == Framing::WebSocket && method == b"CONNECT"
        })
        .filter_map(move |(api, route)| Some((api, Some(route), route.captures(path)?)))
}

/// The readers among the claims, and whether the exchange is a call whatever its bodies are.
fn among<'p>(
    claims: Vec<Claim<'p>>,
    destination: &Destination,
    path: &str,
    head: &RequestHead<'_>,
) -> Option<(Vec<Claim<'p>>, bool)> {
    let mut likely: Vec<Claim<'p>> = Vec::new();
    for claim in claims {
        let Some(route) = claim.1 else { continue };
        let certain = match route.confidence {
            Confidence::Certain => true,
            Confidence::WithHeader(name) if head.headers.get(name).is_some() => true,
            Confidence::At(hosts) if hosts.iter().any(|host| provider::is_host(host, &destination.host)) => {
                true
            }
            Confidence::WithHeader(_) | Confidence::At(_) => continue,
            Confidence::Likely | Confidence::ByBodies => false,
        };
        if certain {
            return Some((vec![claim], true));
        }
        if !likely.iter().any(|(api, ..)| *api == claim.0) {
            likely.push(claim);
        }
    }
    if likely.iter().any(|(_, route, _)| route.is_some_and(|r| r.confidence == Confidence::ByBodies)) {
        return Some((likely, false));
    }
    let host = provider::by_host(&destination.host, path);
    let own = likely.iter().position(|(api, ..)| host == Some(api.spec().provider));
    match (own, host) {
        _ if likely.is_empty() => None,
        (Some(own), _) => Some((vec![likely.swap_remove(own)], true)),
        (None, Some(_)) if likely.len() == 1 => Some((likely, true)),
        (None, _) => Some((likely, false)),
    }
}

/// An API that a rule names, by the route of the path if it has one.
fn with_route<'h>(api: Api, head: &RequestHead<'h>, path: &'h str) -> Claim<'h> {
    let claim = claims(head, path).find(|claim| claim.0 == api);
    claim.unwrap_or_else(|| (api, None, Captures::default()))
}

fn by_bodies<'p>(headers: &Headers<'_>) -> Vec<Claim<'p>> {
    let anthropic = headers.get("anthropic-version").is_some();
    let apis = Api::all().filter(|api| api.spec().by_bodies && (!anthropic || api.name() == "anthropic"));
    apis.map(|api| (api, None, Captures::default())).collect()
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
    ) -> Option<(Vec<&'static str>, bool)> {
        let fields = [(&b"Host"[..], host.as_bytes()), (field.as_bytes(), &b"x"[..])];
        let transport = Transport { tls: true, peer: None };
        recognise(options, &head(method, target, &fields), &transport)
            .map(|c| (c.readers.iter().map(|(api, ..)| api.name()).collect(), c.certain))
    }

    fn by_bodies() -> Vec<&'static str> {
        Api::all().filter(|api| api.spec().by_bodies).map(Api::name).collect()
    }

    #[test]
    fn calls_are_told_from_everything_else_by_method_path_host_and_headers() {
        let openai = || Some((vec!["openai-chat"], true));
        let anthropic = |certain| Some((vec!["anthropic"], certain));
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
            ("POST", "", "h", "", Some((by_bodies(), false))),
            ("", "", "h", "", Some((by_bodies(), false))),
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
            ("POST", "/", "example.com", "Mcp-Session-Id", Some((vec!["mcp"], false))),
            ("POST", "/any", "example.com", "mcp-method", Some((vec!["mcp"], false))),
            ("POST", "/v1/messages", "h", "Mcp-Protocol-Version", Some((vec!["anthropic", "mcp"], false))),
            ("POST", "/v1/chat/completions", "h", "Mcp-Method", openai()),
            ("GET", "/", "example.com", "Mcp-Session-Id", None),
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
            ..Options::default()
        };
        for (target, host, expected) in [
            ("/ask?x", "llm.corp", Some((vec!["anthropic"], true))),
            ("/ask", "llm.corp:8443", None),
            ("/inner/x", "h", Some((by_bodies(), false))),
            ("/inner/v1/chat/completions", "h", Some((vec!["openai-chat"], true))),
            ("/v1/chat/completions", "api.openai.com", None),
            ("/v1/chat/completions", "h", Some((vec!["openai-chat"], true))),
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
