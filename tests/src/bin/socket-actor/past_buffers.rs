//! Bytes that move between descriptors, past every buffer of the process.

use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _},
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde_json::json;
use tokentap_tests::messages::{body_start, exchange, missing, post, read_message, request};

use crate::connect::connect;

/// What moves the bytes.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Way {
    /// `splice` moves most of an answer
    SpliceAnswer,
    /// `splice` moves the body of a request
    SpliceRequest,
    /// `sendfile` moves the body of a request
    SendfileRequest,
}

/// A call of which a part moves so, and then two ordinary ones on the same connection; prints how many bytes that were.
pub(crate) fn call(how: Way, server: SocketAddr) -> anyhow::Result<()> {
    let connection = connect(server)?;
    exchange(&connection, &request("mock", server))?;
    let bytes = match how {
        Way::SpliceAnswer => splice_answer(&connection, server)?,
        Way::SpliceRequest => send(&connection, server, |body| {
            let (out, mut into) = std::io::pipe()?;
            into.write_all(body)?;
            splice(out, &connection, body.len())
        })?,
        Way::SendfileRequest => send(&connection, server, |body| {
            let mut file = tempfile::tempfile()?;
            file.write_all(body)?;
            file.rewind()?;
            // SAFETY: descriptors and a number; without an offset, the file's own is used.
            let sent = unsafe {
                libc::sendfile(connection.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut(), body.len())
            };
            usize::try_from(sent).context("sendfile fails")
        })?,
    };
    for _ in 0..2 {
        exchange(&connection, &request("mock", server))?;
    }
    println!("{}", json!({ "bytes": bytes }));
    Ok(())
}

fn splice_answer(mut connection: &File, server: SocketAddr) -> anyhow::Result<usize> {
    connection.write_all(&request("mock-size200000", server))?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 512]);
    while body_start(&answer).is_none() {
        let read = connection.read(&mut buffer)?;
        ensure!(read > 0, "no answer");
        answer.extend_from_slice(&buffer[..read]);
    }
    let bytes = missing(&answer);
    let (mut out, into) = std::io::pipe()?;
    let mut left = bytes;
    while left > 0 {
        let moved = splice(connection, &into, left.min(32 << 10))?;
        ensure!(moved > 0, "the answer ends early");
        out.read_exact(&mut vec![0; moved])?;
        left -= moved;
    }
    Ok(bytes)
}

/// A request whose body is sent by a function, which says how much it sent.
fn send(
    mut connection: &File,
    server: SocketAddr,
    body_sender: impl FnOnce(&[u8]) -> anyhow::Result<usize>,
) -> anyhow::Result<usize> {
    let message = post(
        &json!({"messages": [{"role": "user", "content": "x".repeat(20_000)}], "model": "mock"}),
        server,
    );
    let (head, body) = message.split_at(body_start(&message).context("a head")?);
    connection.write_all(head)?;
    let sent = body_sender(body)?;
    ensure!(sent == body.len(), "{sent} of {} bytes were sent", body.len());
    read_message(connection)?.context("no answer")?;
    Ok(sent)
}

fn splice(from: impl AsFd, to: impl AsFd, bytes: usize) -> anyhow::Result<usize> {
    let none = std::ptr::null_mut();
    // SAFETY: descriptors and numbers only.
    let moved =
        unsafe { libc::splice(from.as_fd().as_raw_fd(), none, to.as_fd().as_raw_fd(), none, bytes, 0) };
    usize::try_from(moved).context("splice fails")
}
