//! hyper on either side of HTTP/2 in the clear: `hyper-peer serve` forwards to an LLM server, `hyper-peer call`
//! calls an LLM API over one connection. The command line of the latter is that of the Python clients.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, Parser};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http2::SendRequest,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinSet, spawn_blocking},
};

/// hyper, as a client or as a server.
#[derive(Parser)]
enum Command {
    /// Prints its port as a line of JSON, and forwards until it is killed
    Serve {
        /// HTTP/1 server to forward to
        #[arg(long)]
        to: SocketAddr,
    },
    /// Prints a line of JSON for each call
    Call(Job),
}

#[derive(Args)]
struct Job {
    /// Scheme, host and port of the server
    #[arg(long)]
    base_url: String,
    /// Not used: there is no TLS
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Body of a call; may be repeated
    #[arg(long, required = true)]
    request: Vec<String>,
    /// How often the bodies are gone through
    #[arg(long, default_value_t = 1)]
    calls: usize,
    /// Calls in flight
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// Leaves a streamed answer after so many events
    #[arg(long)]
    cancel_after: Option<usize>,
    /// Calls before it waits
    #[arg(long, default_value_t = 0)]
    before: usize,
    /// Opens a connection, prints 'ready' and starts at a line on standard input
    #[arg(long)]
    wait: bool,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Command::parse() {
        Command::Serve { to } => runtime.block_on(serve(to)),
        Command::Call(job) => runtime.block_on(call(job)),
    }
}

async fn serve(to: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", json!({"port": listener.local_addr()?.port()}));
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = service_fn(move |request| forward(to, request));
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
    }
}

async fn forward(to: SocketAddr, request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
    let socket = TcpStream::connect(to).await?;
    let (mut server, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = head.uri.path_and_query().context("a request without a path")?.as_str();
    let mut forwarded = Request::builder().method(head.method).uri(path).header(HOST, to.to_string());
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        forwarded = forwarded.header(name, value);
    }
    let mut response = server.send_request(forwarded.body(Full::new(body))?).await?;
    response.headers_mut().remove("transfer-encoding");
    response.headers_mut().remove("connection");
    Ok(response)
}

async fn call(job: Job) -> anyhow::Result<()> {
    let base: Uri = job.base_url.parse()?;
    let socket = TcpStream::connect(base.authority().context("no host and port")?.as_str()).await?;
    socket.set_nodelay(true)?;
    let (server, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let client = Client { server, base: job.base_url, cancel_after: job.cancel_after };
    if job.wait {
        for number in 0..job.before {
            client.clone().exchange(format!("-{number}"), job.request[0].clone()).await?;
        }
        println!("{}", json!({"ready": true}));
        spawn_blocking(|| io::stdin().read_line(&mut String::new())).await??;
    }
    let mut waiting = (0..job.calls).flat_map(|_| &job.request).enumerate();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < job.concurrency
            && let Some((number, body)) = waiting.next()
        {
            under_way.spawn(client.clone().exchange(number.to_string(), body.clone()));
        }
        let Some(answer) = under_way.join_next().await else { break };
        let (status, events) = answer??;
        println!("{}", json!({"status": status, "events": events}));
        io::stdout().flush()?;
    }
    drop(client);
    connection.await??;
    Ok(())
}

#[derive(Clone)]
struct Client {
    server: SendRequest<Full<Bytes>>,
    base: String,
    cancel_after: Option<usize>,
}

impl Client {
    /// Status and number of events.
    async fn exchange(mut self, id: String, body: String) -> anyhow::Result<(u16, usize)> {
        let request = Request::post(format!("{}/v1/chat/completions", self.base))
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, "Bearer test-key")
            .header("x-request-id", format!("{id:0>6}").repeat(10))
            .body(Full::new(body.into()))?;
        self.server.ready().await?;
        let mut response = self.server.send_request(request).await?;
        let mut events = 0;
        let mut last = b'\n';
        while let Some(frame) = response.frame().await {
            for byte in frame?.data_ref().map(Bytes::as_ref).unwrap_or_default() {
                events += usize::from([last, *byte] == *b"\n\n");
                last = *byte;
            }
            if self.cancel_after.is_some_and(|most| events >= most) {
                break;
            }
        }
        Ok((response.status().as_u16(), events))
    }
}
