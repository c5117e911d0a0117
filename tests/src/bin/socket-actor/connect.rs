//! The connection that a program uses.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
};

/// A connection that is used by `read` and `write`.
pub(crate) fn connect(server: SocketAddr) -> io::Result<File> {
    Ok(OwnedFd::from(TcpStream::connect(server)?).into())
}
