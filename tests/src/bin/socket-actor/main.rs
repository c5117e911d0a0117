//! Programs that use connections in the ways that the system has. Each one prints `ready`, reads a line, does one thing,
//! prints what it did, and stays until standard input ends. `serve` prints its port instead, and goes on.

mod calls;
mod connect;
mod descriptors;
mod handles;
mod past_buffers;
mod serve;
mod uring;

use std::{io, net::SocketAddr, path::PathBuf};

use clap::Parser;

#[derive(Parser)]
enum Command {
    /// A server that forwards each request, and each answer back
    Serve {
        #[arg(long, value_enum)]
        how: serve::How,
        #[arg(long)]
        to: SocketAddr,
    },
    /// The same for one connection, which is standard input
    Relay {
        #[arg(long)]
        to: SocketAddr,
    },
    /// A connection under several numbers
    Dup { server: SocketAddr },
    /// A file under a number that was a connection's
    File {
        #[arg(long, value_enum)]
        how: descriptors::Replace,
        #[arg(long)]
        file: PathBuf,
        server: SocketAddr,
    },
    /// Bytes that reach no buffer of the process
    Past {
        #[arg(long, value_enum)]
        how: past_buffers::Way,
        server: SocketAddr,
    },
    /// Transfers by io_uring
    Uring {
        #[arg(long, value_enum)]
        how: uring::Way,
        server: SocketAddr,
    },
    /// An answer that ends with its connection, read by `recvmsg`
    RecvmsgEnd { server: SocketAddr },
    /// A request and its answer in 1,024 pieces each
    Pieces { server: SocketAddr },
    /// A request of so many bytes in one call
    Large {
        #[arg(long)]
        bytes: usize,
        server: SocketAddr,
    },
    /// Calls on the handles of a library that is TLS in name only (clients/fake_ssl.c)
    Handles {
        #[arg(long, value_enum)]
        how: handles::Way,
        #[arg(long, default_value_t = 1)]
        count: usize,
        library: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Serve { how, to } => serve::serve(how, to),
        Command::Relay { to } => serve::relay_standard_input(to),
        Command::Dup { server } => at_go(|| descriptors::dup_all(server)),
        Command::File { how, file, server } => at_go(|| descriptors::file_on_number(how, &file, server)),
        Command::Past { how, server } => at_go(|| past_buffers::call(how, server)),
        Command::Uring { how, server } => at_go(|| uring::calls(how, server)),
        Command::RecvmsgEnd { server } => at_go(|| calls::recvmsg_to_the_end(server)),
        Command::Pieces { server } => at_go(|| calls::in_pieces(server)),
        Command::Large { bytes, server } => at_go(|| calls::large(bytes, server)),
        Command::Handles { how, count, library } => {
            let library = handles::Library::load(&library)?;
            at_go(|| handles::calls(how, count, &library))
        }
    }
}

/// Waits for a line, acts, says so, and stays until standard input ends.
fn at_go(act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("ready");
    io::stdin().read_line(&mut String::new())?;
    act()?;
    println!("done");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
