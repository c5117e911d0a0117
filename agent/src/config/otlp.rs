//! Settings of OTLP receivers: flags, then `OTEL_EXPORTER_OTLP_TRACES_*` or `_LOGS_*`, then `OTEL_EXPORTER_OTLP_*`.

use std::{path::PathBuf, time::Duration};

use http::{Uri, uri::PathAndQuery};
use percent_encoding::percent_decode_str;
use tokentap_export::config::{HeaderSetting, OtlpConfig, Protocol, Proxy, Signal, TlsFiles};

use super::{env::Env, error::ConfigError};
use crate::cli;

/// A variable of the environment for one signal, and the one for all.
fn variables(signal: Signal, what: &str) -> [String; 2] {
    let own = match signal {
        Signal::Traces => "TRACES",
        Signal::Logs => "LOGS",
        Signal::Metrics => "METRICS",
    };
    [format!("OTEL_EXPORTER_OTLP_{own}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
}

fn names(variables: &[String; 2]) -> [&str; 2] {
    [&variables[0], &variables[1]]
}

/// Every receiver of a signal that flags and environment name; `wanted` when `OTEL_TRACES_EXPORTER` asks for OTLP by
/// name (then there is a default one), `unwanted` when it leaves OTLP out (then only flags count).
pub(super) fn resolve(
    signal: Signal,
    flags: &cli::Export,
    env: &mut Env<'_>,
    wanted: bool,
    unwanted: bool,
) -> Result<Vec<OtlpConfig>, ConfigError> {
    let stated = protocols(signal, flags, env)?;
    let insecure = env.flag(&names(&variables(signal, "INSECURE")));
    let receiver = |setting: &str, url: &str, form: Form, protocol: Option<Protocol>| {
        let (url, socket) = unix_socket(url);
        endpoint(signal, url, form, protocol, insecure)
            .map(|(protocol, uri)| OtlpConfig { socket, ..OtlpConfig::new(signal, protocol, uri) })
            .map_err(|why| ConfigError::Endpoint { setting: setting.to_owned(), why })
    };
    let mut found = Vec::new();
    for (i, url) in flags.otlp_endpoint.iter().enumerate() {
        let protocol = if stated.len() > 1 { stated.get(i) } else { stated.first() };
        found.push(receiver("--otlp-endpoint", url, Form::Base, protocol.copied())?);
    }
    if found.is_empty() && !unwanted {
        let protocol = stated.first().copied();
        let [own, common] = variables(signal, "ENDPOINT");
        if let Some(url) = env.text(&own) {
            found.push(receiver(&own, &url, Form::Exact, protocol)?);
        } else if let Some(url) = env.text(&common) {
            found.push(receiver(&common, &url, Form::Base, protocol)?);
        } else if wanted {
            let url = match protocol {
                Some(Protocol::Grpc) => "http://localhost:4317",
                Some(Protocol::HttpProtobuf | Protocol::HttpJson) | None => "http://localhost:4318",
            };
            found.push(receiver("the default endpoint", url, Form::Base, protocol)?);
        }
    }
    if !found.is_empty() {
        complete(signal, &mut found, flags, env)?;
    }
    Ok(found)
}

/// Whether an endpoint is a base to which OTLP/HTTP appends its path, or the URL to post to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Base,
    Exact,
}

fn protocols(signal: Signal, flags: &cli::Export, env: &mut Env<'_>) -> Result<Vec<Protocol>, ConfigError> {
    let (protocols, endpoints) = (flags.otlp_protocol.len(), flags.otlp_endpoint.len());
    if protocols > 1 && protocols != endpoints {
        return Err(ConfigError::Protocols { protocols, endpoints });
    }
    if protocols > 0 {
        return Ok(flags.otlp_protocol.clone());
    }
    let named = env.parsed(&names(&variables(signal, "PROTOCOL")));
    Ok(named.into_iter().collect())
}

/// The settings that all receivers share.
fn complete(
    signal: Signal,
    found: &mut [OtlpConfig],
    flags: &cli::Export,
    env: &mut Env<'_>,
) -> Result<(), ConfigError> {
    let mut headers = env_headers(signal, env);
    for header in &flags.otlp_header {
        headers.retain(|h| h.name != header.name);
    }
    headers.extend(flags.otlp_header.iter().cloned());
    let timeout = env
        .millis(&names(&variables(signal, "TIMEOUT")), 1)
        .unwrap_or(Duration::from_secs(10))
        .min(env.millis(&["OTEL_BSP_EXPORT_TIMEOUT"], 1).unwrap_or(Duration::from_secs(30)));
    let compression = env.parsed(&names(&variables(signal, "COMPRESSION"))).unwrap_or_default();
    let file = |what: &str| env.first(&names(&variables(signal, what))).map(|(_, path)| PathBuf::from(path));
    let client = match (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(ConfigError::HalfClientCertificate),
    };
    let tls = TlsFiles { authorities: file("CERTIFICATE"), client };
    for receiver in found {
        receiver.headers.clone_from(&headers);
        receiver.timeout = timeout;
        receiver.compression = compression;
        receiver.tls.clone_from(&tls);
        if receiver.socket.is_none() {
            receiver.proxy = Proxy::for_endpoint(&receiver.endpoint, &|name| env.text(name));
        }
    }
    Ok(())
}

/// `k=v,k=v`, percent-encoded as in W3C Baggage; bad members are left out.
fn env_headers(signal: Signal, env: &mut Env<'_>) -> Vec<HeaderSetting> {
    let variables = variables(signal, "HEADERS");
    let Some((name, list)) = env.first(&names(&variables)) else { return Vec::new() };
    let mut headers: Vec<HeaderSetting> = Vec::new();
    for (i, member) in list.split(',').enumerate().filter(|(_, member)| !member.trim().is_empty()) {
        // A member may be a secret even when it is malformed: it is named by its place.
        let parsed =
            member.split_once('=').ok_or_else(|| "is not name=value".to_owned()).and_then(|(key, value)| {
                let value = percent_decode_str(value).decode_utf8().map_err(|_| "is not UTF-8".to_owned())?;
                HeaderSetting::new(key, &value)
            });
        match parsed {
            Ok(header) => {
                headers.retain(|h| h.name != header.name);
                headers.push(header);
            }
            Err(why) => env.ignored(name, &format!("member {}: {why}", i + 1)),
        }
    }
    headers
}

fn endpoint(
    signal: Signal,
    url: &str,
    form: Form,
    protocol: Option<Protocol>,
    insecure: Option<bool>,
) -> Result<(Protocol, Uri), String> {
    const EXAMPLE: &str = "write it as http://host:4317, https://host:4318 or unix:///run/otel.sock";
    let url = url.trim();
    let with_scheme =
        if url.contains("://") { url.to_owned() } else { format!("{}://{url}", scheme(url, insecure)) };
    let uri: Uri = with_scheme.parse().map_err(|e| format!("not a URL ({e}): {EXAMPLE}"))?;
    let authority = uri.authority().ok_or_else(|| format!("no host: {EXAMPLE}"))?.clone();
    if authority.as_str().contains('@') {
        return Err("holds credentials: pass them with --otlp-header authorization=…".into());
    }
    if authority.host().is_empty() {
        return Err(format!("no host: {EXAMPLE}"));
    }
    let port = &authority.as_str()[authority.host().len()..];
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(format!("'{}' is not a port: {EXAMPLE}", port.trim_start_matches(':')));
    }
    let scheme = match uri.scheme_str() {
        Some("http") => "http",
        Some("https") => "https",
        other => return Err(format!("unknown scheme '{}': {EXAMPLE}", other.unwrap_or_default())),
    };
    let protocol = match (protocol, authority.port_u16()) {
        (Some(stated), _) => stated,
        (None, Some(4317)) => Protocol::Grpc,
        (None, _) => Protocol::HttpProtobuf,
    };
    let path = match (protocol, form) {
        (Protocol::Grpc, _) => "/".into(),
        (Protocol::HttpProtobuf | Protocol::HttpJson, Form::Exact) => {
            uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned()
        }
        (Protocol::HttpProtobuf | Protocol::HttpJson, Form::Base) => {
            let base = uri.path().trim_end_matches('/');
            let base = base.strip_suffix(Signal::Traces.path()).unwrap_or(base);
            format!("{base}{}", signal.path())
        }
    };
    let path: PathAndQuery = path.parse().map_err(|e| format!("not a URL ({e}): {EXAMPLE}"))?;
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map(|uri| (protocol, uri))
        .map_err(|e| format!("not a URL ({e}): {EXAMPLE}"))
}

/// The path of a `unix:` endpoint, and the URL that requests to it have.
fn unix_socket(url: &str) -> (&str, Option<PathBuf>) {
    let path = url.trim().strip_prefix("unix:").map(|path| path.strip_prefix("//").unwrap_or(path));
    match path.filter(|path| path.starts_with('/')) {
        Some(path) => ("http://localhost", Some(path.into())),
        None => (url, None),
    }
}

/// The scheme of an endpoint that has none: the specification says https unless told otherwise; a receiver
/// on this machine has no certificate.
fn scheme(url: &str, insecure: Option<bool>) -> &'static str {
    let local = ["localhost", "127.", "[::1]"].iter().any(|host| url.starts_with(host));
    if insecure.unwrap_or(local) { "http" } else { "https" }
}
