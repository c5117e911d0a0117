//! What the agent says about itself over HTTP: `/metrics`, `/healthz`, `/readyz`. Few connections, short ones, on a thread of
//! its own: whoever connects and says nothing takes one of them for some seconds.

mod prometheus;

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{sync::Semaphore, time::timeout};

use super::{Event, Telemetry};

/// Connections that are served at the same time; others wait to be accepted.
const CONNECTIONS: usize = 16;
/// Longest that a head may take to come.
const HEAD: Duration = Duration::from_secs(5);
/// Longest that a connection may take as a whole.
const WHOLE: Duration = Duration::from_secs(10);
/// Most bytes of a head, at least what hyper asks for.
const BUFFER: usize = 8 << 10;

const PATHS: &str = "/metrics  the agent's own numbers, for Prometheus\n\
                     /healthz  whether the process answers\n\
                     /readyz   whether it observes, with the state of its exporters as JSON\n";

/// Listens; gives the address, and the work of a thread that serves until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub fn prepare(
    address: SocketAddr,
    telemetry: &Arc<Telemetry>,
) -> io::Result<(SocketAddr, impl FnOnce() + Send + 'static + use<>)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let telemetry = Arc::clone(telemetry);
    Ok((address, move || runtime.block_on(accept(listener, telemetry))))
}

async fn accept(listener: TcpListener, telemetry: Arc<Telemetry>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("the admin address is not served: {error}");
            return;
        }
    };
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Nobody closes it.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, for example: it may pass.
                tracing::debug!(%error, "cannot accept a connection to the admin address");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let telemetry = Arc::clone(&telemetry);
        tokio::spawn(async move {
            let service =
                service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, &telemetry))));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(BUFFER)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // How it ended is the client's affair.
            let _ended = timeout(WHOLE, connection).await;
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, telemetry: &Telemetry) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n".into());
        refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => response(StatusCode::OK, prometheus::CONTENT_TYPE, prometheus::text(&telemetry.rows())),
        "/healthz" => response(StatusCode::OK, TEXT, "ok\n".into()),
        "/readyz" => readiness(telemetry),
        "/" => response(StatusCode::OK, TEXT, PATHS.into()),
        _ => response(StatusCode::NOT_FOUND, TEXT, PATHS.into()),
    }
}

/// A collector that is not there does not make the agent unready: restarting it would lose what waits.
fn readiness(telemetry: &Telemetry) -> Response<Full<Bytes>> {
    let (attached, failed) = (telemetry.count(Event::Attached), telemetry.count(Event::AttachFailed));
    let faults = telemetry.health().faults(attached, failed);
    let exporters: Vec<_> = telemetry
        .exporters()
        .iter()
        .map(|report| {
            json!({
                "name": report.name,
                "exported": report.exported,
                "lost": report.lost_total(),
                "waiting": report.waiting,
                "seconds_since_delivery": report.since_delivery.map(|time| time.as_secs_f64()),
            })
        })
        .collect();
    let status = if faults.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": faults.is_empty(),
        "faults": faults,
        "uptime_seconds": telemetry.health().uptime().as_secs(),
        "probed_libraries": attached,
        "exporters": exporters,
    });
    response(status, "application/json", format!("{body:#}\n"))
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
