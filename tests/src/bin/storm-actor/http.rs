//! Exchanges with the server, over any stream.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, ensure};
use openssl::ssl::{SslConnector, SslMethod, SslStream};
use serde_json::{Value, json};
use tokentap_tests::random::Random;

use crate::{
    arguments::Server,
    content::{Got, hash},
};

impl Server {
    /// A connection in the clear.
    pub(crate) fn plain(&self) -> anyhow::Result<TcpStream> {
        connect(self.plain)
    }

    /// A connection with TLS.
    pub(crate) fn tls(&self) -> anyhow::Result<SslStream<TcpStream>> {
        let mut connector = SslConnector::builder(SslMethod::tls_client())?;
        connector.set_ca_file(&self.ca)?;
        Ok(connector.build().connect("127.0.0.1", connect(self.tls)?)?)
    }

    /// As arguments.
    pub(crate) fn arguments(&self) -> [String; 6] {
        let ca = self.ca.display().to_string();
        ["--tls".into(), self.tls.to_string(), "--plain".into(), self.plain.to_string(), "--ca".into(), ca]
    }
}

fn connect(server: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect(server).with_context(|| format!("cannot connect to {server}"))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A call whose answer repeats its message, and a file: both of a random size.
pub(crate) fn fetch(stream: &mut (impl Read + Write), random: &mut Random) -> anyhow::Result<Got> {
    let mut got = call(stream, random)?;
    got.extend(file(stream, random)?);
    Ok(got)
}

/// A call whose answer repeats its message.
pub(crate) fn call(stream: &mut (impl Read + Write), random: &mut Random) -> anyhow::Result<Got> {
    let text = format!("{:016x}", random.next()).repeat(1 + usize::try_from(random.below(200))?);
    let body = json!({"model": "mock-echo", "messages": [{"role": "user", "content": text}]}).to_string();
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let answer: Value = serde_json::from_slice(&exchange(stream, request.as_bytes())?)?;
    let content = answer["choices"][0]["message"]["content"].as_str().context("an answer without content")?;
    ensure!(content == text, "the answer to another call");
    Ok(hash(content.as_bytes()))
}

/// A file.
pub(crate) fn file(stream: &mut (impl Read + Write), random: &mut Random) -> anyhow::Result<Got> {
    let bytes = random.below(60_000);
    let body =
        exchange(stream, format!("GET /files/{bytes} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes())?;
    ensure!(body.len() as u64 == bytes, "a file of {} instead of {bytes} bytes", body.len());
    Ok(hash(&body))
}

/// Begins a call that is answered with a stream.
pub(crate) fn begin_stream(stream: &mut impl Write, model: &str) -> anyhow::Result<()> {
    let body =
        json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "x"}]}).to_string();
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    Ok(stream.write_all(request.as_bytes())?)
}

/// Sends a request, and gives the body of the answer, which has a length.
fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> anyhow::Result<Vec<u8>> {
    stream.write_all(request)?;
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the server closed the connection after {} bytes of an answer", answer.len());
        answer.extend_from_slice(&buffer[..read]);
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(body) = head.parse(&answer)? else { continue };
        ensure!(head.code == Some(200), "the server answered {:?}", head.code);
        let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let length: usize = str::from_utf8(length.context("an answer without a length")?.value)?.parse()?;
        if answer.len() >= body + length {
            ensure!(answer.len() == body + length, "more than one answer");
            return Ok(answer.split_off(body));
        }
    }
}
