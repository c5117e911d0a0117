//! An OTLP receiver that follows a script.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::PrivateKeyDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// What the receiver does with one request, in order; when the script is over it takes everything.
pub(super) enum Answer {
    /// Takes it.
    Take,
    /// Takes it, but for so many spans.
    TakeBut(i64),
    /// Never answers.
    Hang,
    /// An HTTP status, perhaps with `Retry-After`.
    Http(u16, Option<&'static str>),
    /// A gRPC status with details.
    Grpc(tonic::Code, Vec<u8>),
}

/// How the receiver speaks.
#[derive(Clone)]
pub(super) enum Speaks {
    Http1,
    Grpc,
    Tls(TlsAcceptor, Box<Self>),
}

impl Speaks {
    pub(super) fn tls(certified: &Certified, alpn: &str, inner: Self) -> Self {
        Self::with(certified, WebPkiClientVerifier::no_client_auth(), alpn, inner)
    }

    /// The same, for clients with this certificate only.
    pub(super) fn mutual_tls(certified: &Certified, client: &Certified, alpn: &str, inner: Self) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(client.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        Self::with(certified, verifier, alpn, inner)
    }

    fn with(certified: &Certified, clients: Arc<dyn ClientCertVerifier>, alpn: &str, inner: Self) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![alpn.into()];
        Self::Tls(Arc::new(config).into(), Box::new(inner))
    }
}

/// A certificate with its key.
type Certified = rcgen::CertifiedKey<rcgen::KeyPair>;

/// A request that arrived, whatever became of it.
pub(super) struct Arrival {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) message: ExportTraceServiceRequest,
}

impl Arrival {
    /// The last byte of each span id.
    pub(super) fn ids(&self) -> Vec<u8> {
        let scopes = self.message.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| &scope.spans).map(|span| span.span_id[7]).collect()
    }
}

/// A running receiver; it stops when this is dropped.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    arrivals: mpsc::Receiver<Arrival>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Receiver {
    pub(super) fn start(speaks: Speaks, script: impl IntoIterator<Item = Answer>) -> Self {
        Self::start_on(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), speaks, script)
    }

    pub(super) fn start_on(
        listener: std::net::TcpListener,
        speaks: Speaks,
        script: impl IntoIterator<Item = Answer>,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        Self::run(address, move |arrived| async move {
            listener.set_nonblocking(true).unwrap();
            accept(TcpListener::from_std(listener).unwrap(), speaks, script, arrived).await;
        })
    }

    /// Serves a connection that was accepted elsewhere.
    pub(super) fn serve_one(stream: std::net::TcpStream, speaks: Speaks) -> Self {
        Self::run(stream.local_addr().unwrap(), move |arrived| async move {
            stream.set_nonblocking(true).unwrap();
            serve(TcpStream::from_std(stream).unwrap(), &speaks, Arc::default(), arrived).await;
            std::future::pending().await
        })
    }

    fn run<F: Future<Output = ()>>(
        address: SocketAddr,
        work: impl FnOnce(mpsc::Sender<Arrival>) -> F + Send + 'static,
    ) -> Self {
        let (arrived, arrivals) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::select! {
                    () = work(arrived) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, arrivals, _stop: stop }
    }

    /// The next request, whatever becomes of it.
    pub(super) fn arrival(&self) -> Arrival {
        self.arrivals.recv_timeout(Duration::from_secs(20)).expect("a request within 20 s")
    }

    /// Requests that arrived and were not looked at.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.try_iter().collect()
    }
}

async fn accept(
    listener: TcpListener,
    speaks: Speaks,
    script: Arc<Mutex<VecDeque<Answer>>>,
    arrived: mpsc::Sender<Arrival>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (speaks, script, arrived) = (speaks.clone(), Arc::clone(&script), arrived.clone());
        tokio::spawn(async move {
            match speaks {
                Speaks::Tls(acceptor, inner) => {
                    // A client that does not trust us hangs up here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    serve(stream, &inner, script, arrived).await;
                }
                plain => serve(stream, &plain, script, arrived).await,
            }
        });
    }
}

async fn serve<S>(
    stream: S,
    speaks: &Speaks,
    script: Arc<Mutex<VecDeque<Answer>>>,
    arrived: mpsc::Sender<Arrival>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let grpc = matches!(speaks, Speaks::Grpc);
    let service = service_fn(move |request: Request<Incoming>| {
        let (script, arrived) = (Arc::clone(&script), arrived.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let message = decoded(&head.headers, body, grpc);
            let answer = script.lock().unwrap().pop_front().unwrap_or(Answer::Take);
            // The test may have seen enough.
            arrived.send(Arrival { path: head.uri.path().into(), headers: head.headers, message }).ok();
            Ok::<_, Infallible>(respond(answer, grpc).await)
        }
    });
    let io = TokioIo::new(stream);
    // How a connection ends is the client's business.
    if grpc {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await
            .ok();
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await.ok();
    }
}

fn decoded(headers: &HeaderMap, body: Bytes, grpc: bool) -> ExportTraceServiceRequest {
    let (coding, body) = if grpc {
        assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5);
        let coding = headers.get("grpc-encoding").filter(|_| body[0] == 1);
        (coding.cloned(), body.slice(5..))
    } else {
        (headers.get(header::CONTENT_ENCODING).cloned(), body)
    };
    let mut plain = Vec::new();
    match coding {
        Some(coding) if coding == "gzip" => GzDecoder::new(&*body).read_to_end(&mut plain).unwrap(),
        Some(coding) if coding == "zstd" => {
            plain = zstd::stream::decode_all(&*body).unwrap();
            0
        }
        Some(other) => panic!("unexpected coding {other:?}"),
        None => (&*body).read_to_end(&mut plain).unwrap(),
    };
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json") {
        return serde_json::from_slice(&plain).unwrap();
    }
    ExportTraceServiceRequest::decode(&*plain).unwrap()
}

async fn respond(answer: Answer, grpc: bool) -> Response<BoxBody<Bytes, Infallible>> {
    let rejected = match answer {
        Answer::Take => None,
        Answer::TakeBut(n) => Some(n),
        Answer::Hang => std::future::pending().await,
        Answer::Http(status, retry_after) => {
            let mut response = Response::new(Full::default().boxed());
            *response.status_mut() = status.try_into().unwrap();
            if let Some(value) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            }
            return response;
        }
        Answer::Grpc(code, details) => {
            let status = tonic::Status::with_details(code, "as the script says", details.into());
            return status.into_http::<Full<Bytes>>().map(|body| body.boxed());
        }
    };
    let partial_success = rejected.map(|rejected_spans| ExportTracePartialSuccess {
        rejected_spans,
        error_message: "as the script says".into(),
    });
    let message = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    if !grpc {
        let mut response = Response::new(Full::from(message).boxed());
        let kind = HeaderValue::from_static("application/x-protobuf");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        return response;
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::<Bytes>::from(framed).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
