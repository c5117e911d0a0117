//! The HTTP client under both protocols: plain or TLS, HTTP/1.1 or HTTP/2.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::connect::Connector;
use crate::{
    config::{OtlpConfig, TlsFiles},
    error::StartError,
};

/// What every request says about who sends it.
pub(super) const USER_AGENT: &str = concat!("tokentap/", env!("CARGO_PKG_VERSION"));

/// A pooling client with bodies of type `B`.
pub(super) type HttpClient<B> = Client<HttpsConnector<Connector>, B>;

/// The HTTP version that a protocol needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A client for one receiver. Connects when it is first used, and again whenever it has to.
pub(super) fn client<B>(config: &OtlpConfig, version: Version) -> Result<HttpClient<B>, StartError>
where
    B: hyper::body::Body + Send,
    B::Data: Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(config.timeout));
    let tcp = Connector::new(tcp, config);
    let tls = tls(&config.tls, config.endpoint.scheme_str() == Some("https"))?;
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let connector = match version {
        Version::Http1 => builder.enable_http1().wrap_connector(tcp),
        Version::Http2 => builder.enable_http2().wrap_connector(tcp),
    };
    Ok(Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90))
        .pool_max_idle_per_host(1)
        .http2_only(version == Version::Http2)
        // A connection on which an attempt timed out may lead nowhere: it must not serve the next one, too.
        .http2_keep_alive_interval(config.timeout / 2)
        .http2_keep_alive_timeout(config.timeout / 2)
        .build(connector))
}

/// An error with its causes, outermost first.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Wrappers often repeat what they wrap.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn tls(files: &TlsFiles, used: bool) -> Result<ClientConfig, StartError> {
    let roots = if used { authorities(files.authorities.as_deref())? } else { RootCertStore::empty() };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| StartError::Tls(e.to_string()))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = files.client.as_ref().filter(|_| used) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| StartError::File {
        path: key.clone(),
        why: format!("no private key in PEM form: {e}"),
    })?;
    builder.with_client_auth_cert(chain, key).map_err(|e| StartError::Tls(e.to_string()))
}

/// The file's, else the system's, else (in an image that has none) those built in.
fn authorities(file: Option<&Path>) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|e| StartError::File { path: path.into(), why: e.to_string() })?;
        }
        return Ok(roots);
    }
    let (added, _unusable) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let bad = |why: String| StartError::File { path: path.into(), why };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| bad(format!("no certificates in PEM form: {e}")))?;
    if found.is_empty() { Err(bad("no certificates in PEM form".into())) } else { Ok(found) }
}
