//! TLS libraries: plaintext as the application hands it over.
//!
//! Bytes are copied when the call returns: only then is it known how many were accepted (a write that is
//! retried after `WANT_WRITE` counts once), and only then is the buffer certain to be resident, which a
//! fault-free copy needs. The time is that of the entry for writes and of the return for reads.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_probe_read_user},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tokentap_abi::{Class, Direction, Opened, TlsFunction, flags};

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
    /// A [`TlsFunction`].
    pub shape: u64,
    pub copy: stream::Copy,
}

/// The probed function, from the cookie of the probe that is running (bpf_get_attach_cookie).
#[inline(always)]
fn function(ctx: &impl EbpfContext) -> Option<TlsFunction> {
    // SAFETY: `ctx` is the context of the running program, which is what the helper wants.
    TlsFunction::from_cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })
}

/// Entry of every probed function, one perf event per function.
#[uprobe]
pub fn tls_enter(ctx: ProbeContext) -> u32 {
    enter(&ctx).unwrap_or(0)
}

/// Return of every probed function, one perf event per function.
#[uretprobe]
pub fn tls_return(ctx: RetProbeContext) -> u32 {
    leave(&ctx).unwrap_or(0)
}

/// Entry of every probed function, one link per library (6.6 and later).
#[uprobe(multi)]
pub fn tls_enter_multi(ctx: ProbeContext) -> u32 {
    enter(&ctx).unwrap_or(0)
}

/// Return of every probed function, one link per library (6.6 and later).
#[uretprobe(multi)]
pub fn tls_return_multi(ctx: RetProbeContext) -> u32 {
    leave(&ctx).unwrap_or(0)
}

#[inline(always)]
fn free(who: &Watched, handle: u64) {
    let key = who.handle(handle);
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { HANDLES.get(&key) }).copied() else { return };
    HANDLES.remove(&key).unwrap_or(());
    stream::close(who, id);
}

#[inline(always)]
fn enter(ctx: &ProbeContext) -> Option<u32> {
    let who = Watched::current()?;
    let (handle, buffer) = (ctx.arg::<u64>(0)?, ctx.arg::<u64>(1)?);
    let function = function(ctx)?;
    if function == TlsFunction::Free {
        free(&who, handle);
        return None;
    }
    let out = if function.has_count() { ctx.arg::<u64>(3).unwrap_or(0) } else { 0 };
    // One call a thread: where SSL_read_ex is built on SSL_read the inner one replaces the outer one, whose
    // return then finds nothing, so that the bytes count once.
    let call =
        TlsCall { handle, buffer, out, time: now(), shape: function as u64, copy: stream::Copy::default() };
    if TLS_CALLS.insert(&who.pid_tgid, &call, 0).is_err() {
        count(tokentap_abi::Counter::MapFull, 1);
    }
    None
}

#[inline(always)]
fn leave(ctx: &RetProbeContext) -> Option<u32> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let call = TLS_CALLS.get_ptr_mut(&pid_tgid)?;
    // SAFETY: only this thread uses its entry, which stays until it is removed below.
    let call = unsafe { &mut *call };
    let function = function(ctx)?;
    if call.shape != function as u64 {
        return None;
    }
    copy_plaintext(ctx, call, function);
    TLS_CALLS.remove(&pid_tgid).unwrap_or(());
    None
}

#[inline(always)]
fn copy_plaintext(ctx: &RetProbeContext, call: &mut TlsCall, function: TlsFunction) -> Option<()> {
    let returned = ctx.ret::<u64>() as i32;
    if returned <= 0 {
        return None;
    }
    let total = if function.has_count() {
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
    let dir = function.direction()?;
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
