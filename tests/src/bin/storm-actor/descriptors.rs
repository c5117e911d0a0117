//! Connections under changing numbers, in changing processes.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::{
        fd::{AsRawFd as _, IntoRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use anyhow::{Context as _, ensure};
use rustix::io::{DupFlags, dup, dup2, dup3, fcntl_dupfd_cloexec};
use tokentap_tests::{
    passing::{pass, receive},
    random::Random,
    storm::FILE_MODEL,
};

use crate::{
    arguments::Act,
    content::{Got, hash, join},
    http::{begin_stream, call, fetch, file},
    processes::in_child,
};

/// Connections that come and go: used, unused, left in the middle of an answer, closed by halves.
pub(crate) fn connect_round(act: &Act, random: &mut Random) -> anyhow::Result<Got> {
    let mut got = Vec::new();
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut connection = act.server.plain()?;
        match random.below(4) {
            0 => drop(connection),
            1 => begin_stream(&mut connection, "mock-chunks300")?,
            2 => {
                got.push(file(&mut connection, random)?);
                connection.shutdown(Shutdown::Both)?;
            }
            _ => open.push(connection),
        }
    }
    for mut connection in open {
        got.push(fetch(&mut connection, random)?);
    }
    let mut tls = act.server.tls()?;
    got.push(fetch(&mut tls, random)?);
    if random.below(2) == 0 {
        begin_stream(&mut tls, "mock-chunks300")?;
    } else {
        tls.shutdown()?;
    }
    Ok(join(got))
}

/// A connection under several numbers, and a file under one that was the connection's.
pub(crate) fn dup_round(act: &Act, random: &mut Random) -> anyhow::Result<Got> {
    let mut connection = act.server.plain()?;
    let mut got = vec![call(&mut connection, random)?];
    let mut second = TcpStream::from(dup(&connection)?);
    got.push(fetch(&mut second, random)?);
    let mut third = TcpStream::from(fcntl_dupfd_cloexec(&connection, 100)?);
    got.push(fetch(&mut third, random)?);

    // What it holds looks like a call. It is no traffic.
    let path = act.folder.join("no-traffic");
    let body = format!(r#"{{"model":"{FILE_MODEL}","messages":[{{"role":"user","content":"x"}}]}}"#);
    let text = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    fs::write(&path, &text)?;
    let mut number = OwnedFd::from(second);
    dup2(File::open(&path)?, &mut number)?;
    got.push(read_file(number, &text)?);
    let mut number = OwnedFd::from(TcpStream::from(dup(&connection)?));
    dup3(File::open(&path)?, &mut number, DupFlags::CLOEXEC)?;
    got.push(read_file(number, &text)?);
    let raw = third.into_raw_fd();
    // SAFETY: closes one descriptor, which was given up the line before.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, raw, raw, 0) };
    ensure!(closed == 0, "cannot close descriptor {raw}");
    let number = fcntl_dupfd_cloexec(File::open(&path)?, raw)?;
    ensure!(number.as_raw_fd() == raw, "descriptor {raw} is taken");
    got.push(read_file(number, &text)?);
    got.push(fetch(&mut connection, random)?);
    Ok(join(got))
}

fn read_file(descriptor: OwnedFd, text: &str) -> anyhow::Result<Got> {
    let mut read = String::new();
    File::from(descriptor).read_to_string(&mut read)?;
    ensure!(read == text, "the descriptor is not the file's");
    Ok(hash(read.as_bytes()))
}

/// A connection that another process opened.
pub(crate) fn pass_round(act: &Act, random: &mut Random) -> anyhow::Result<Got> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut own = random.clone();
    let worker = in_child(|| {
        let mut got = Vec::new();
        for _ in 0..2 {
            got.push(fetch(&mut ReadWrite(receive(&theirs)?.context("no connection")?), &mut own)?);
        }
        Ok(join(got))
    })?;
    let mut connection = act.server.plain()?;
    let before = call(&mut connection, random)?;
    pass(&ours, &connection)?;
    pass(&ours, act.server.plain()?)?;
    drop(connection);
    Ok(join([before, worker.wait()?]))
}

/// A descriptor, used with read() and write().
struct ReadWrite(OwnedFd);

impl Read for ReadWrite {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(&self.0, buffer)?)
    }
}

impl Write for ReadWrite {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(rustix::io::write(&self.0, buffer)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
