//! Makes calls of one kind in a tight loop when asked to, and says how long each took. A line on standard input
//! is a kind of call and a number of batches; the answer is a line of JSON. Without a line it only waits, which
//! makes it a process of which there can be thousands.
//!
//! Calls on a socket go through a pair of connected sockets of this process, so that nothing else is measured.

use std::{
    ffi::{c_int, c_void},
    fs::File,
    hint::black_box,
    io::{self, BufRead as _, Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use openssl::ssl::{Ssl, SslContext, SslMethod, SslStream, SslVersion};

/// Calls between two looks at the clock: few enough for a socket's buffer.
const BATCH: usize = 100;
/// Bytes that one TLS call moves.
const PIECE: usize = 64;

fn main() -> anyhow::Result<()> {
    let mut machinery = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (kind, batches) = line.split_once(' ').context("a kind of call and a number of batches")?;
        let batches: usize = batches.parse().context("a number of batches")?;
        ensure!(batches > 0, "at least one batch");
        let machinery = match &mut machinery {
            Some(machinery) => machinery,
            none => none.insert(Machinery::new()?),
        };
        let mut times = Vec::with_capacity(batches);
        for _ in 0..batches {
            times.push(machinery.batch(kind)?);
        }
        times.sort_unstable();
        let median = times[times.len() / 2].as_secs_f64() * 1e9 / BATCH as f64;
        println!("{}", serde_json::json!({"kind": kind, "nanoseconds": median, "calls": BATCH * batches}));
    }
    Ok(())
}

/// What the calls are made on.
struct Machinery {
    null: File,
    sockets: (UnixStream, UnixStream),
    /// One connection for writes, which the other end does not decrypt, and one for reads of what the other end
    /// wrote with a single call.
    writing: (SslStream<UnixStream>, SslStream<UnixStream>),
    reading: (SslStream<UnixStream>, SslStream<UnixStream>),
}

impl Machinery {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            null: File::options().write(true).open("/dev/null")?,
            sockets: UnixStream::pair()?,
            writing: tls_pair()?,
            reading: tls_pair()?,
        })
    }

    /// How long [`BATCH`] calls take; what they need and what they leave behind does not count.
    fn batch(&mut self, kind: &str) -> anyhow::Result<Duration> {
        let Self { null, sockets: (near, far), writing, reading } = self;
        let mut many = [0; BATCH];
        let mut one = [0; 1];
        let mut piece = [0; PIECE];
        let took = match kind {
            "getppid" => timed(|| {
                // SAFETY: takes nothing, cannot fail.
                black_box(unsafe { libc::getppid() });
                Ok(())
            })?,
            "write" => timed(|| null.write_all(&one))?,
            "write_socket" => {
                let took = timed(|| near.write_all(&one))?;
                far.read_exact(&mut many)?;
                took
            }
            "read_socket" => {
                near.write_all(&many)?;
                timed(|| far.read_exact(&mut one))?
            }
            "SSL_write" | "SSL_write_ex" => {
                let write = if kind == "SSL_write" { tls::write } else { tls::write_ex };
                let (client, server) = writing;
                let took = timed(|| write(client, &piece))?;
                // Not by TLS: those calls would be seen as well.
                let mut unread = [0; 64 << 10];
                server.get_mut().set_nonblocking(true)?;
                while server.get_mut().read(&mut unread).is_ok() {}
                took
            }
            "SSL_read" | "SSL_read_ex" => {
                let read = if kind == "SSL_read" { tls::read } else { tls::read_ex };
                let (client, server) = reading;
                client.write_all(&[0; BATCH * PIECE])?;
                timed(|| read(server, &mut piece))?
            }
            _ => bail!("no kind of call {kind}"),
        };
        Ok(took)
    }
}

fn timed(mut call: impl FnMut() -> io::Result<()>) -> io::Result<Duration> {
    let start = Instant::now();
    for _ in 0..BATCH {
        call()?;
    }
    Ok(start.elapsed())
}

/// Both ends of a TLS connection, without certificates.
fn tls_pair() -> anyhow::Result<(SslStream<UnixStream>, SslStream<UnixStream>)> {
    let mut context = SslContext::builder(SslMethod::tls())?;
    context.set_cipher_list("AECDH-AES128-SHA:@SECLEVEL=0")?;
    context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    let context = context.build();
    let (near, far) = UnixStream::pair()?;
    let (client, server) = (Ssl::new(&context)?, Ssl::new(&context)?);
    thread::scope(|scope| {
        let server = scope.spawn(|| server.accept(far));
        let client = client.connect(near).context("the client's handshake failed")?;
        let server = server.join().ok().context("the server's thread failed")?;
        Ok((client, server.context("the server's handshake failed")?))
    })
}

/// OpenSSL's functions by name: the crate's own methods choose among them.
mod tls {
    use super::*;

    #[link(name = "ssl")]
    unsafe extern "C" {
        fn SSL_read(ssl: *mut c_void, buffer: *mut c_void, count: c_int) -> c_int;
        fn SSL_write(ssl: *mut c_void, buffer: *const c_void, count: c_int) -> c_int;
        fn SSL_read_ex(ssl: *mut c_void, buffer: *mut c_void, count: usize, done: *mut usize) -> c_int;
        fn SSL_write_ex(ssl: *mut c_void, buffer: *const c_void, count: usize, done: *mut usize) -> c_int;
    }

    type Stream = SslStream<UnixStream>;

    /// An `SslRef` is a reference to the library's own object (`foreign_types::ForeignTypeRef`).
    fn handle(stream: &mut Stream) -> *mut c_void {
        std::ptr::from_ref(stream.ssl()).cast_mut().cast()
    }

    fn whole(done: usize) -> io::Result<()> {
        if done == PIECE { Ok(()) } else { Err(io::Error::other("a TLS call did not move all of its bytes")) }
    }

    pub(super) fn read(stream: &mut Stream, buffer: &mut [u8; PIECE]) -> io::Result<()> {
        // SAFETY: the handle lives as long as the stream, and the buffer is as long as the call is told.
        let done = unsafe { SSL_read(handle(stream), buffer.as_mut_ptr().cast(), PIECE as c_int) };
        whole(done.try_into().unwrap_or(0))
    }

    pub(super) fn write(stream: &mut Stream, buffer: &[u8; PIECE]) -> io::Result<()> {
        // SAFETY: as for `read`.
        let done = unsafe { SSL_write(handle(stream), buffer.as_ptr().cast(), PIECE as c_int) };
        whole(done.try_into().unwrap_or(0))
    }

    pub(super) fn read_ex(stream: &mut Stream, buffer: &mut [u8; PIECE]) -> io::Result<()> {
        let mut done = 0;
        // SAFETY: as for `read`; `done` is written before the call returns.
        unsafe { SSL_read_ex(handle(stream), buffer.as_mut_ptr().cast(), PIECE, &raw mut done) };
        whole(done)
    }

    pub(super) fn write_ex(stream: &mut Stream, buffer: &[u8; PIECE]) -> io::Result<()> {
        let mut done = 0;
        // SAFETY: as for `read_ex`.
        unsafe { SSL_write_ex(handle(stream), buffer.as_ptr().cast(), PIECE, &raw mut done) };
        whole(done)
    }
}
