//! Calls that move their bytes in unusual portions.

use std::{
    io::{IoSlice, IoSliceMut, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, ensure};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
use serde_json::json;
use tokentap_tests::messages::{exchange, missing, post, read_message, request};

use crate::connect::connect;

/// Answers whose end is the connection's, which `recvmsg` finds.
pub(crate) fn recvmsg_to_the_end(server: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..2 {
        let mut connection = TcpStream::connect(server)?;
        connection.write_all(&request("mock-close", server))?;
        let mut buffer = [0; 1024];
        loop {
            let mut control = RecvAncillaryBuffer::default();
            let mut into = [IoSliceMut::new(&mut buffer)];
            if recvmsg(&connection, &mut into, &mut control, RecvFlags::empty())?.bytes == 0 {
                break;
            }
        }
        // That the connection is closed is not what ends the answer.
        std::mem::forget(connection);
    }
    Ok(())
}

/// As many as one call takes.
const PIECES: usize = 1024;

/// A request in as many pieces as one `writev` takes, and its answer in as many of `readv`.
pub(crate) fn in_pieces(server: SocketAddr) -> anyhow::Result<()> {
    let connection = connect(server)?;
    for _ in 0..3 {
        let body =
            json!({"messages": [{"role": "user", "content": "x".repeat(20_000)}], "model": "mock-size3000"});
        let message = post(&body, server);
        let mut pieces: Vec<IoSlice<'_>> =
            message.chunks(message.len().div_ceil(PIECES - 1)).map(IoSlice::new).collect();
        // Pieces of no bytes are pieces, too.
        pieces.splice(5..5, (pieces.len()..PIECES).map(|_| IoSlice::new(&[])).collect::<Vec<_>>());
        let written = rustix::io::writev(&connection, &pieces)?;
        ensure!(pieces.len() == PIECES && written == message.len(), "{written} bytes were written");
        let mut answer = Vec::new();
        while missing(&answer) > 0 {
            let mut buffer = [0; 16 * PIECES];
            let mut pieces: Vec<_> = buffer.chunks_mut(16).map(IoSliceMut::new).collect();
            let read = rustix::io::readv(&connection, &mut pieces)?;
            ensure!(read > 0, "the answer ends early");
            answer.extend_from_slice(&buffer[..read]);
        }
    }
    Ok(())
}

/// A request in one call, whose model comes last, and an ordinary one on the same connection.
pub(crate) fn large(bytes: usize, server: SocketAddr) -> anyhow::Result<()> {
    let body = json!({"messages": [{"role": "user", "content": "A".repeat(bytes)}], "model": "mock"});
    let message = post(&body, server);
    let connection = connect(server)?;
    let written = (&connection).write(&message)?;
    ensure!(written == message.len(), "{written} bytes were written");
    read_message(&connection)?.context("no answer")?;
    exchange(&connection, &request("mock", server))?;
    Ok(())
}
