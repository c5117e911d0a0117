//! HTTP/1.1 messages with a length, over whatever can be read and written.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
};

use serde_json::{Value, json};

/// A call with a model name that says what the mock does; the model comes last.
#[must_use]
pub fn request(model: &str, server: SocketAddr) -> Vec<u8> {
    post(&json!({"messages": [{"role": "user", "content": "hi"}], "model": model}), server)
}

/// A request to Chat Completions.
#[must_use]
pub fn post(body: &Value, server: SocketAddr) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    (head + &body).into_bytes()
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// When the connection fails, or ends before the answer does.
pub fn exchange(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    read_message(stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Reads one message, and nothing of the next one unless it is sent before it is asked for; `None` at the end of the
/// connection.
///
/// # Errors
/// When the connection fails, or ends in the middle.
pub fn read_message(mut stream: impl Read) -> io::Result<Option<Vec<u8>>> {
    let (mut message, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while missing(&message) > 0 {
        match stream.read(&mut buffer)? {
            0 if message.is_empty() => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => message.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(Some(message))
}

/// How many bytes a message lacks at least.
#[must_use]
pub fn missing(message: &[u8]) -> usize {
    let Some(body) = body_start(message) else { return 1 };
    let head = String::from_utf8_lossy(&message[..body]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    (body + length).saturating_sub(message.len())
}

/// Where the body of a message begins, once its head is whole.
#[must_use]
pub fn body_start(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4)
}
