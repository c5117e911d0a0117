//! TLS libraries: plaintext as the application hands it over.
//!
//! Bytes are copied when the call returns: only then is it known how many were accepted (a write that is
//! retried after `WANT_WRITE` counts once), and only then is the buffer certain to be resident, which a
//! fault-free copy needs. The time is that of the entry for writes and of the return for reads.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tokentap_abi::{Class, Direction, Opened, flags};

use crate::{
    maps::{HANDLES, TLS_CALLS, Watched, count, now},
    stream::{self, Moved, Stream},
};

/// A TLS library call in progress.
#[repr(C)]
pub struct TlsCall {
    pub handle: u64,
    pub buffer: u64,
    /// Where the `_ex` functions put the count; 0 for the others.
    pub out: u64,
    /// Entry time.
    pub time: u64,
    /// A [`Shape`].
    pub shape: u64,
    pub copy: stream::Copy,
}

/// Which function: how it takes its buffer and tells its count.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Shape {
    Read = 0,
    Write = 1,
    ReadEx = 2,
    WriteEx = 3,
}

impl Shape {
    const fn direction(self) -> Direction {
        match self {
            Self::Read | Self::ReadEx => Direction::Read,
            Self::Write | Self::WriteEx => Direction::Write,
        }
    }

    const fn ex(self) -> bool {
        matches!(self, Self::ReadEx | Self::WriteEx)
    }
}

/// abi: libssl `int SSL_read(SSL *ssl, void *buf, int num)`
#[uprobe]
pub fn ssl_read(ctx: ProbeContext) -> u32 {
    enter(&ctx, Shape::Read)
}

/// abi: libssl `int SSL_write(SSL *ssl, const void *buf, int num)`
#[uprobe]
pub fn ssl_write(ctx: ProbeContext) -> u32 {
    enter(&ctx, Shape::Write)
}

/// abi: libssl `int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)`
#[uprobe]
pub fn ssl_read_ex(ctx: ProbeContext) -> u32 {
    enter(&ctx, Shape::ReadEx)
}

/// abi: libssl `int SSL_write_ex(SSL *ssl, const void *buf, size_t num, size_t *written)`
#[uprobe]
pub fn ssl_write_ex(ctx: ProbeContext) -> u32 {
    enter(&ctx, Shape::WriteEx)
}

#[uretprobe]
pub fn ssl_read_ret(ctx: RetProbeContext) -> u32 {
    leave(&ctx, Shape::Read)
}

#[uretprobe]
pub fn ssl_write_ret(ctx: RetProbeContext) -> u32 {
    leave(&ctx, Shape::Write)
}

#[uretprobe]
pub fn ssl_read_ex_ret(ctx: RetProbeContext) -> u32 {
    leave(&ctx, Shape::ReadEx)
}

#[uretprobe]
pub fn ssl_write_ex_ret(ctx: RetProbeContext) -> u32 {
    leave(&ctx, Shape::WriteEx)
}

/// abi: libssl `void SSL_free(SSL *ssl)`
#[uprobe]
pub fn ssl_free(ctx: ProbeContext) -> u32 {
    let Some(who) = Watched::current() else { return 0 };
    let Some(handle) = ctx.arg::<u64>(0) else { return 0 };
    let key = who.handle(handle);
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { HANDLES.get(&key) }).copied() else { return 0 };
    HANDLES.remove(&key).unwrap_or(());
    stream::close(&who, id);
    0
}

#[inline(always)]
fn enter(ctx: &ProbeContext, shape: Shape) -> u32 {
    let Some(who) = Watched::current() else { return 0 };
    let (Some(handle), Some(buffer)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else { return 0 };
    let out = if shape.ex() { ctx.arg::<u64>(3).unwrap_or(0) } else { 0 };
    // One call a thread: where SSL_read_ex is built on SSL_read the inner one replaces the outer one, whose
    // return then finds nothing, so that the bytes count once.
    let call =
        TlsCall { handle, buffer, out, time: now(), shape: shape as u64, copy: stream::Copy::default() };
    if TLS_CALLS.insert(&who.pid_tgid, &call, 0).is_err() {
        count(tokentap_abi::Counter::MapFull, 1);
    }
    0
}

#[inline(always)]
fn leave(ctx: &RetProbeContext, shape: Shape) -> u32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(call) = TLS_CALLS.get_ptr_mut(&pid_tgid) else { return 0 };
    // SAFETY: only this thread uses its entry, which stays until it is removed below.
    let call = unsafe { &mut *call };
    if call.shape != shape as u64 {
        return 0;
    }
    copy_plaintext(ctx, call, shape);
    TLS_CALLS.remove(&pid_tgid).unwrap_or(());
    0
}

#[inline(always)]
fn copy_plaintext(ctx: &RetProbeContext, call: &mut TlsCall, shape: Shape) -> Option<()> {
    let returned = ctx.ret::<u64>() as i32;
    if returned <= 0 {
        return None;
    }
    let total = if shape.ex() {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_user(call.out as *const u64) }.ok()?
    } else {
        returned as u64
    };
    if total == 0 {
        return None;
    }
    let who = Watched::current()?;
    let (id, state) = stream_of(&who, call.handle)?;
    stream::announce(&who, id, state);
    let dir = shape.direction();
    let time = if dir == Direction::Write { call.time } else { now() };
    stream::begin(&mut call.copy, &who, id, state, &Moved { dir, total, from: call.buffer, time });
    stream::flat(&mut call.copy);
    Some(())
}

/// The connection of the call in progress is over, says its socket.
#[inline(always)]
pub fn over(pid_tgid: u64) {
    // SAFETY: only this thread writes its entry.
    let Some(handle) = (unsafe { TLS_CALLS.get(&pid_tgid) }).map(|call| call.handle) else { return };
    if let Some(who) = Watched::current()
        && let Some((_, state)) = stream_of(&who, handle)
    {
        // SAFETY: a live map value.
        unsafe { (*state).over = 1 };
    }
}

/// The stream of a TLS handle, made when it is first seen.
#[inline(always)]
pub fn stream_of(who: &Watched, handle: u64) -> Option<(u64, *mut Stream)> {
    let key = who.handle(handle);
    // SAFETY: copied out at once.
    let id = match (unsafe { HANDLES.get(&key) }).copied() {
        Some(id) => id,
        None => {
            let id = stream::create(&Stream::new(Opened::Seen, Class::Http, flags::TLS))?;
            if HANDLES.insert(&key, &id, 0).is_err() {
                count(tokentap_abi::Counter::MapFull, 1);
                return None;
            }
            id
        }
    };
    Some((id, stream::state(id)?))
}
