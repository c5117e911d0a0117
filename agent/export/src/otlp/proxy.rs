//! TCP connections to a receiver, straight or through an HTTP proxy.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Uri, uri::Authority};
use hyper_util::{
    client::legacy::connect::{HttpConnector, proxy::Tunnel},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::config::Proxy;

/// Connects by TCP. Through a proxy, every connection is a tunnel (`CONNECT`): neither TLS nor HTTP/2 could be forwarded.
#[derive(Clone)]
pub(super) enum TcpConnector {
    Direct(HttpConnector),
    Tunnel(Tunnel<HttpConnector>),
}

impl TcpConnector {
    pub(super) fn new(tcp: HttpConnector, proxy: Option<&Proxy>) -> Self {
        let Some(proxy) = proxy else { return Self::Direct(tcp) };
        let tunnel = Tunnel::new(proxy.uri.clone(), tcp);
        Self::Tunnel(match &proxy.authorization {
            Some(authorization) => tunnel.with_auth(authorization.clone()),
            None => tunnel,
        })
    }
}

type BoxedError = Box<dyn Error + Send + Sync>;

impl Service<Uri> for TcpConnector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxedError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxedError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxedError>> {
        match self {
            Self::Direct(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            Self::Tunnel(tunnel) => tunnel.poll_ready(cx).map_err(Into::into),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        match self {
            Self::Direct(tcp) => {
                let connecting = tcp.call(to);
                Box::pin(async { Ok(connecting.await?) })
            }
            Self::Tunnel(tunnel) => {
                let connecting = tunnel.call(with_port(to));
                Box::pin(async { Ok(connecting.await?) })
            }
        }
    }
}

/// A tunnel takes 443 for a port that is not said, whatever the scheme.
fn with_port(uri: Uri) -> Uri {
    let (None, Some("http"), Some(host)) = (uri.port(), uri.scheme_str(), uri.host()) else { return uri };
    let Ok(authority) = format!("{host}:80").parse::<Authority>() else { return uri };
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(authority);
    Uri::from_parts(parts).unwrap_or(uri)
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn the_port_of_a_tunnel_is_that_of_the_scheme() {
        for (uri, want) in [
            ("http://a/v1/traces", "http://a:80/v1/traces"),
            ("http://a:4318/v1/traces", "http://a:4318/v1/traces"),
            ("https://a/v1/traces", "https://a/v1/traces"),
        ] {
            assert_eq!(with_port(uri.parse().unwrap()).to_string(), want);
        }
    }
}
