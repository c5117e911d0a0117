//! Connections under several numbers, and numbers that name something else.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    net::{Shutdown, SocketAddr},
    os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd},
    path::Path,
    thread,
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use rustix::io::{DupFlags, dup, dup2, dup3, fcntl_dupfd_cloexec};
use serde_json::json;
use tokentap_tests::messages::{exchange, post, request};

use crate::connect::connect;

/// Each way to a second number, twice onto the number of another connection. Three connections, ten calls, of which one
/// is in the middle of its answer when its connection loses its only number.
pub(crate) fn dup_all(server: SocketAddr) -> anyhow::Result<()> {
    let call = |connection: &File| exchange(connection, &request("mock", server));
    let first = connect(server)?;
    call(&first)?;
    let second = File::from(dup(&first)?);
    call(&second)?;
    let third = File::from(fcntl_dupfd_cloexec(&first, 100)?);
    call(&third)?;

    let other = connect(server)?;
    call(&other)?;
    let endless = json!({"messages": [], "stream": true, "model": "mock-endless"});
    (&other).write_all(&post(&endless, server))?;
    (&other).read_exact(&mut [0; 4096])?;
    let mut number = OwnedFd::from(other);
    dup2(&first, &mut number)?;
    let other = File::from(number);
    call(&other)?;

    let another = connect(server)?;
    call(&another)?;
    let mut number = OwnedFd::from(another);
    dup3(&first, &mut number, DupFlags::CLOEXEC)?;
    let another = File::from(number);
    call(&another)?;

    drop(first);
    call(&second)?;
    drop((second, other, another));
    call(&third)?;
    Ok(())
}

/// How a number comes to name a file.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Replace {
    Dup2,
    CloseRange,
    /// Another thread closes the connection
    CloseInThread,
    /// `dup2`, while another thread waits for bytes of the connection
    Dup2WhileReading,
}

/// A call on a connection, then a file on its number, read and written, then a call on another connection.
pub(crate) fn file_on_number(how: Replace, file: &Path, server: SocketAddr) -> anyhow::Result<()> {
    let open = || OpenOptions::new().read(true).write(true).open(file);
    let connection = connect(server)?;
    exchange(&connection, &request("mock", server))?;
    let number = connection.as_raw_fd();
    let mut replaced = match how {
        Replace::Dup2 => {
            let mut number = OwnedFd::from(connection);
            dup2(open()?, &mut number)?;
            File::from(number)
        }
        Replace::CloseRange => {
            let raw = connection.into_raw_fd();
            // SAFETY: closes one descriptor, which was given up the line before.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, raw, raw, 0) };
            ensure!(closed == 0, "cannot close descriptor {raw}");
            open()?
        }
        Replace::CloseInThread => {
            thread::spawn(move || drop(connection)).join().ok().context("a thread failed")?;
            open()?
        }
        Replace::Dup2WhileReading => {
            // The socket lives on under another number, so that the thread's wait can be ended.
            let socket = std::net::TcpStream::from(dup(&connection)?);
            let mut own = OwnedFd::from(connection);
            thread::scope(|scope| -> anyhow::Result<()> {
                let waiting = scope.spawn(move || {
                    // SAFETY: the buffer is as long as the call is told; the number stays open, whatever it names.
                    unsafe { libc::read(number, [0_u8; 512].as_mut_ptr().cast(), 512) }
                });
                wait_until_reading(number)?;
                dup2(open()?, &mut own)?;
                socket.shutdown(Shutdown::Both)?;
                ensure!(waiting.join().is_ok_and(|read| read == 0), "the wait did not end");
                Ok(())
            })?;
            own.into()
        }
    };
    ensure!(replaced.as_raw_fd() == number, "descriptor {number} is taken");
    let mut text = Vec::new();
    replaced.read_to_end(&mut text)?;
    replaced.rewind()?;
    replaced.write_all(&text)?;
    drop(replaced);
    exchange(&connect(server)?, &request("mock", server))?;
    Ok(())
}

/// Until a thread of this process is in the middle of `read` on a descriptor.
fn wait_until_reading(descriptor: i32) -> anyhow::Result<()> {
    let reading = format!("{} {descriptor:#x} ", libc::SYS_read);
    loop {
        for thread in std::fs::read_dir("/proc/self/task")? {
            let call = std::fs::read_to_string(thread?.path().join("syscall")).unwrap_or_default();
            if call.starts_with(&reading) {
                return Ok(());
            }
        }
        thread::yield_now();
    }
}
