//! OTLP receivers: what is sent, how, and to where.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

/// What of a call is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Its span.
    Traces,
    /// The event with its content, where it has one.
    Logs,
    /// Metrics of the calls of each process.
    Metrics,
}

impl Signal {
    /// Where the specification puts the signal at an OTLP/HTTP receiver.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }
}

/// How spans are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with binary protobuf bodies.
    HttpProtobuf,
    /// OTLP/HTTP with JSON bodies.
    HttpJson,
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http/protobuf" => Ok(Self::HttpProtobuf),
            "http/json" => Ok(Self::HttpJson),
            _ => Err("use grpc, http/protobuf or http/json".into()),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        })
    }
}

/// Content coding of what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl FromStr for Compression {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err("use gzip, zstd or none"),
        }
    }
}

/// A header of every request. The value is a secret: neither `Debug` nor [`OtlpConfig`]'s `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderSetting {
    /// Field name, lower case.
    pub name: HeaderName,
    /// Field value.
    pub value: HeaderValue,
}

impl HeaderSetting {
    /// A header of this name and value.
    ///
    /// # Errors
    /// When one of them is none; what is wrong.
    pub fn new(name: &str, value: &str) -> Result<Self, String> {
        // The name is not shown: what is malformed may be a secret in the wrong place.
        let name: HeaderName = name.trim().parse().map_err(|_| "its name is not a header name")?;
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| format!("the value of {name} has a control character"))?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

/// `name=value`, taken literally.
impl FromStr for HeaderSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
        Self::new(name, value)
    }
}

impl fmt::Debug for HeaderSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=****", self.name)
    }
}

/// PEM files for TLS, beside the built-in behaviour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub authorities: Option<PathBuf>,
    /// Our certificate chain and its key, for mutual TLS.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// One OTLP receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// What is sent there.
    pub signal: Signal,
    /// How spans are carried.
    pub protocol: Protocol,
    /// Absolute URL: for gRPC the origin, for HTTP with the path to post to.
    pub endpoint: Uri,
    /// The Unix socket that connections go to, instead of the host of the endpoint.
    pub socket: Option<PathBuf>,
    /// Sent with every request.
    pub headers: Vec<HeaderSetting>,
    /// Longest time for one attempt.
    pub timeout: Duration,
    /// Coding of what is sent.
    pub compression: Compression,
    /// TLS files.
    pub tls: TlsFiles,
    /// The proxy that connections go through.
    pub proxy: Option<Proxy>,
}

/// An HTTP proxy. What it is authorized by is a secret: neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is.
    pub uri: Uri,
    /// For its `Proxy-Authorization` field.
    pub authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy that these variables name for an endpoint: `HTTPS_PROXY`, `HTTP_PROXY` by its scheme, else `ALL_PROXY`, unless
    /// `NO_PROXY` lists its host; each also in lower case.
    #[must_use]
    pub fn for_endpoint(endpoint: &Uri, variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let value =
            |name: &str| variable(name).or_else(|| variable(&name.to_ascii_lowercase())).unwrap_or_default();
        let matcher = Matcher::builder()
            .all(value("ALL_PROXY"))
            .http(value("HTTP_PROXY"))
            .https(value("HTTPS_PROXY"))
            .no(value("NO_PROXY"))
            .build();
        let proxy = matcher.intercept(endpoint)?;
        Some(Self { uri: proxy.uri().clone(), authorization: proxy.basic_auth().cloned() })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uri)
    }
}

impl OtlpConfig {
    /// A receiver with default settings.
    #[must_use]
    pub fn new(signal: Signal, protocol: Protocol, endpoint: Uri) -> Self {
        Self {
            signal,
            protocol,
            endpoint,
            socket: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            compression: Compression::None,
            tls: TlsFiles::default(),
            proxy: None,
        }
    }

    /// Kind and destination, as `otlp/grpc http://collector:4317/`, with `logs` where it is not for spans: the exporter's name.
    #[must_use]
    pub fn name(&self) -> String {
        let signal = match self.signal {
            Signal::Traces => "",
            Signal::Logs => "logs ",
            Signal::Metrics => "metrics ",
        };
        let destination = match &self.socket {
            Some(socket) => format!("unix://{}", socket.display()),
            None => self.endpoint.to_string(),
        };
        format!("otlp/{} {signal}{destination}", self.protocol)
    }
}

/// What is used, for people; header values are masked.
impl fmt::Display for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} timeout={:?}", self.name(), self.timeout)?;
        f.write_str(match self.compression {
            Compression::None => "",
            Compression::Gzip => " gzip",
            Compression::Zstd => " zstd",
        })?;
        if let Some(proxy) = &self.proxy {
            write!(f, " proxy={proxy:?}")?;
        }
        self.headers.iter().try_for_each(|header| write!(f, " {header:?}"))
    }
}
