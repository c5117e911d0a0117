//! A server whose connections come to the process that uses them in different ways.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::{self, Stdio},
};

use anyhow::ensure;
use clap::ValueEnum;
use serde_json::json;
use tokentap_tests::{
    messages::{exchange, read_message},
    passing::{pass, receive},
};

/// Who serves a connection.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum How {
    /// The process that accepts it
    Itself,
    /// A child that is forked for it
    Fork,
    /// A program that is started for it, as inetd does
    Exec,
    /// A worker that gets it by `SCM_RIGHTS`
    Pass,
}

/// Serves one connection after the other.
pub(crate) fn serve(how: How, to: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (ours, theirs) = UnixStream::pair()?;
    if matches!(how, How::Pass) && fork()? {
        drop(ours);
        while let Some(connection) = receive(&theirs)? {
            relay(connection, to)?;
        }
        return Ok(());
    }
    // SAFETY: no handler is run; children that ended leave nothing behind.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    println!("{}", json!({"port": listener.local_addr()?.port()}));
    for connection in listener.incoming() {
        let connection = OwnedFd::from(connection?);
        match how {
            How::Itself => relay(connection, to)?,
            How::Fork => {
                if fork()? {
                    return relay(connection, to);
                }
            }
            How::Exec => {
                let mut program = process::Command::new(std::env::current_exe()?);
                program.args(["relay", "--to", &to.to_string()]).stdin(Stdio::from(connection));
                drop(program.spawn()?);
            }
            How::Pass => pass(&ours, connection)?,
        }
    }
    Ok(())
}

/// `relay`
pub(crate) fn relay_standard_input(to: SocketAddr) -> anyhow::Result<()> {
    relay(std::io::stdin().as_fd().try_clone_to_owned()?, to)
}

/// Whether this is the child, which ends with its parent.
fn fork() -> anyhow::Result<bool> {
    // SAFETY: this program has one thread, so the child may do what the parent may.
    let pid = unsafe { libc::fork() };
    ensure!(pid >= 0, "cannot fork");
    if pid == 0 {
        // SAFETY: a system call with numbers only.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    }
    Ok(pid == 0)
}

/// Answers with what the server behind it answers, until the client leaves.
fn relay(connection: OwnedFd, to: SocketAddr) -> anyhow::Result<()> {
    let front = File::from(connection);
    let mut back = None;
    while let Some(request) = read_message(&front)? {
        let back = match &mut back {
            Some(back) => back,
            none => none.insert(TcpStream::connect(to)?),
        };
        let answer = exchange(&*back, &request)?;
        std::io::Write::write_all(&mut &front, &answer)?;
    }
    Ok(())
}
