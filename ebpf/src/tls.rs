//! TLS libraries: plaintext as the application hands it over.
//!
//! Bytes are copied when the call returns: only then is it known how many were accepted (a write that is
//! retried after `WANT_WRITE` counts once), and only then is the buffer certain to be resident, which a
//! fault-free copy needs. The time is that of the entry for writes and of the return for reads.
//!
//! Calls under way are kept per thread, outermost first. Which entry a return belongs to is told by the stack pointer,
//! so that TLS inside TLS, a function built upon another, and a call that was left by a jump are all told apart.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_get_attach_cookie, bpf_tail_call},
    macros::map,
    maps::ProgramArray,
};
use tokentap_abi::{Class, Counter, Opened, TlsFunction, flags};

use crate::{
    ciphertext,
    current::{TrackedThread, count, now},
    maps::{HANDLES, NEW_THREAD, STREAMS, THREADS},
    state::{Copy, DEPTH, Stream, Thread, TlsCall},
    stream::{self, TransferredBytes},
    target::{self, arg0, arg1, arg2, arg3, arg4},
};

/// Defines a program. Not by aya's macros: their wrapper makes a function of the body, from which the kernel allows no tail
/// call.
macro_rules! program {
    ($name:ident, $section:literal, $body:ident) => {
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub extern "C" fn $name(ctx: *mut c_void) -> i32 {
            keep_own_stack(ctx);
            $body(ctx).unwrap_or(());
            0
        }
    };
}

program!(tls_enter, "uprobe", entered);
program!(tls_return, "uretprobe", returned);
program!(tls_enter_multi, "uprobe.multi", entered);
program!(tls_return_multi, "uretprobe.multi", returned);

/// Always 0.
#[unsafe(no_mangle)]
static NEVER: Global<u8> = Global::new(0);

/// Holds nothing.
#[map]
static NO_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Makes the kernel run the program on the stack of its task. From 6.13 on it gives programs a stack per CPU instead, which
/// a uprobe program that is preempted shares with the next one on that CPU; not so programs that could make a tail call
/// (kernel/bpf/verifier.c, `check_max_stack_depth`).
#[inline(always)]
fn keep_own_stack(ctx: *mut c_void) {
    if NEVER.load() != 0 {
        // SAFETY: the program's own context, and a map that lives as long as the program.
        unsafe { bpf_tail_call(ctx, (&raw const NO_PROGRAMS).cast_mut().cast(), 0) };
    }
}

/// What a probe was placed on: the low 8 bits of its cookie.
#[inline(always)]
fn cookie(ctx: *mut c_void) -> u64 {
    // SAFETY: the program's own context.
    unsafe { bpf_get_attach_cookie(ctx) }
}

const READ: u8 = TlsFunction::Read as u8;
const READ_EX: u8 = TlsFunction::ReadEx as u8;
const WRITE_EX: u8 = TlsFunction::WriteEx as u8;
const WRITE_EX2: u8 = TlsFunction::WriteEx2 as u8;
const READ_EARLY: u8 = TlsFunction::ReadEarlyData as u8;
const WRITE_EARLY: u8 = TlsFunction::WriteEarlyData as u8;
const SENDFILE: u8 = TlsFunction::Sendfile as u8;
const FREE: u8 = TlsFunction::Free as u8;
const UP_REF: u8 = TlsFunction::UpRef as u8;
const CLEAR: u8 = TlsFunction::Clear as u8;
const BIO_WRITE: u8 = TlsFunction::BioWrite as u8;
const BIO_READ: u8 = TlsFunction::BioRead as u8;

const fn direction(function: u8) -> u8 {
    match function {
        READ | READ_EX | READ_EARLY => stream::READ,
        _ => stream::WRITE,
    }
}

#[inline(always)]
fn entered(ctx: *mut c_void) -> Option<()> {
    let who = TrackedThread::current()?;
    let function = cookie(ctx) as u8;
    let handle = arg0(ctx);
    match function {
        FREE => free(&who, handle),
        UP_REF => {
            let state = stream_of(&who, handle);
            if !state.is_null() {
                // SAFETY: a live map value.
                unsafe { (*state).refs = (*state).refs.wrapping_add(1) };
            }
        }
        // The object is used for another connection.
        CLEAR => stream::close_handle(&who, handle),
        BIO_WRITE => ciphertext::emitted(&who, arg1(ctx)),
        BIO_READ => ciphertext::taking(&who, arg1(ctx)),
        _ => {
            let out = match function {
                READ_EX | WRITE_EX | READ_EARLY | WRITE_EARLY => arg3(ctx),
                WRITE_EX2 => arg4(ctx),
                _ => 0,
            };
            let call = TlsCall {
                sp: target::stack(ctx),
                handle,
                buffer: arg1(ctx),
                out,
                time: now(),
                function,
                empty: u8::from(arg2(ctx) == 0),
                ..TlsCall::default()
            };
            if push(&who, &call).is_none() {
                // What this call moves will not be seen, so the offsets of its stream end here.
                count(Counter::MapFull, 1);
                stream::close_handle(&who, handle);
            }
        }
    }
    Some(())
}

/// Remembers a call; `None` when there is no room.
#[inline(always)]
fn push(who: &TrackedThread, call: &TlsCall) -> Option<()> {
    let thread = match THREADS.get_ptr_mut(&who.pid_tgid) {
        Some(thread) => thread,
        None => {
            THREADS.insert(&who.pid_tgid, NEW_THREAD.get(0)?, 0).ok()?;
            THREADS.get_ptr_mut(&who.pid_tgid)?
        }
    };
    // SAFETY: only this thread uses its entry.
    let thread = unsafe { &mut *thread };
    if thread.generation != who.generation {
        thread.generation = who.generation;
        thread.depth = 0;
    }
    // A call within another one lies deeper in the stack; what does not was left by a jump.
    for _ in 0..DEPTH {
        let Some(outer) = top(thread) else { break };
        if outer.sp > call.sp {
            break;
        }
        // The same place on the stack: a function that ends by a jump into this one, or a second probe on it.
        if outer.sp != call.sp {
            count(Counter::CallsAbandoned, 1);
        }
        thread.depth = thread.depth.wrapping_sub(1);
    }
    if thread.depth >= DEPTH as u64 {
        return None;
    }
    thread.calls[(thread.depth as usize) & (DEPTH - 1)] = *call;
    thread.depth = thread.depth.wrapping_add(1);
    Some(())
}

/// The innermost call.
#[inline(always)]
fn top(thread: &mut Thread) -> Option<&mut TlsCall> {
    if thread.depth == 0 {
        return None;
    }
    let index = (thread.depth.wrapping_sub(1) as usize) & (DEPTH - 1);
    Some(&mut thread.calls[index])
}

#[inline(always)]
fn returned(ctx: *mut c_void) -> Option<()> {
    let who = TrackedThread::current()?;
    if cookie(ctx) as u8 == BIO_READ {
        ciphertext::taken(&who, target::returned(ctx) as i32);
        return None;
    }
    let sp = target::stack_at_entry(ctx);
    let Some(thread) = THREADS.get_ptr_mut(&who.pid_tgid) else {
        count(Counter::ReturnsUnmatched, 1);
        return None;
    };
    // SAFETY: only this thread uses its entry, which stays until the thread ends.
    let thread = unsafe { &mut *thread };
    if thread.generation != who.generation {
        return None;
    }
    for _ in 0..DEPTH {
        let Some(call) = top(thread) else { break };
        if call.sp > sp {
            // A call that returned twice: by a function that ended with a jump into the one that was taken for it.
            return None;
        }
        let call = *call;
        thread.depth = thread.depth.wrapping_sub(1);
        if call.sp < sp {
            count(Counter::CallsAbandoned, 1);
            continue;
        }
        let moved = moved(ctx, &call);
        if let Some(total) = moved.filter(|_| call.done == 0) {
            if let Some(outer) = top(thread)
                && outer.handle == call.handle
                && direction(outer.function) == direction(call.function)
            {
                outer.done = 1;
            }
            copy_plaintext(&mut thread.copy, &who, &call, total);
        } else if moved.is_none() && ended(ctx, &call) {
            let state = stream_of(&who, call.handle);
            // SAFETY: a live map value.
            if !state.is_null() && unsafe { (*state).over } == 0 {
                // SAFETY: as above.
                unsafe { (*state).over = 1 };
                stream::half_close(&who, state, stream::READ);
            }
        }
        return Some(());
    }
    None
}

/// How many bytes the call moved; `None` when it moved none.
#[inline(always)]
fn moved(ctx: *mut c_void, call: &TlsCall) -> Option<u64> {
    let returned = target::returned(ctx);
    let total = match call.function {
        READ_EX | WRITE_EX | READ_EARLY | WRITE_EARLY | WRITE_EX2 => {
            // 0 is a failure; 2 (READ_EARLY_DATA_FINISH) comes without bytes or with the last ones.
            if returned as i32 <= 0 {
                return None;
            }
            target::read::<u64>(call.out)?
        }
        SENDFILE => (returned as i64).max(0) as u64,
        _ => (returned as i32).max(0) as u64,
    };
    (total > 0).then_some(total)
}

/// `SSL_RECEIVED_SHUTDOWN`
const RECEIVED_SHUTDOWN: u32 = 2;

/// Whether a call that moved nothing says that the peer ended the connection in good order, by `close_notify`. The end
/// of the socket alone is no such end.
#[inline(always)]
fn ended(ctx: *mut c_void, call: &TlsCall) -> bool {
    if call.end_of_file != 0 || call.empty != 0 {
        return false;
    }
    match call.function {
        READ => target::returned(ctx) as i32 == 0,
        // All failures look alike here; where the library keeps the state is known for some.
        READ_EX => {
            let offset = cookie(ctx) >> 32;
            offset != 0
                && target::read::<u32>(call.handle.wrapping_add(offset))
                    .is_some_and(|state| state & RECEIVED_SHUTDOWN != 0)
        }
        _ => false,
    }
}

#[inline(always)]
fn copy_plaintext(copy: &mut Copy, who: &TrackedThread, call: &TlsCall, total: u64) -> Option<()> {
    let state = stream_of(who, call.handle);
    if state.is_null() {
        count(Counter::Seen, total);
        count(Counter::LostQuota, total);
        return None;
    }
    stream::announce(state);
    if call.nested == 0 {
        ciphertext::request_binding(who, state);
    }
    let dir = direction(call.function);
    let time = if dir == stream::WRITE { call.time } else { now() };
    let moved = TransferredBytes { dir, total, from: call.buffer, time };
    if call.function == SENDFILE {
        stream::unseen(copy, who, state, &moved, Counter::LostSendfile as u8);
    } else {
        stream::begin(copy, who, state, &moved);
        stream::flat(copy, who);
    }
    Some(())
}

/// abi: libssl `void SSL_free(SSL *ssl)`: gives back one reference.
#[inline(always)]
fn free(who: &TrackedThread, handle: u64) {
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { HANDLES.get(&who.handle(handle)) }).copied() else { return };
    if let Some(state) = STREAMS.get_ptr_mut(&id) {
        // SAFETY: a live map value.
        unsafe {
            if (*state).refs > 1 {
                (*state).refs -= 1;
                return;
            }
        }
    }
    stream::close_handle(who, handle);
}

/// The TLS call that the running thread is in, of several the innermost; null when there is none.
#[inline(always)]
pub fn under_way(who: &TrackedThread) -> *mut TlsCall {
    let Some(thread) = THREADS.get_ptr_mut(&who.pid_tgid) else { return ptr::null_mut() };
    // SAFETY: only this thread uses its entry, which stays until the thread ends.
    let thread = unsafe { &mut *thread };
    if thread.generation != who.generation {
        return ptr::null_mut();
    }
    top(thread).map_or(ptr::null_mut(), ptr::from_mut)
}

/// The stream of a TLS handle, made when it is first seen; null when the process has too many.
#[inline(always)]
pub fn stream_of(who: &TrackedThread, handle: u64) -> *mut Stream {
    // SAFETY: copied out at once.
    let known = (unsafe { HANDLES.get(&who.handle(handle)) }).copied().unwrap_or(0);
    let stream = stream::find(known);
    if stream.is_null() { first_seen(who, handle) } else { stream }
}

#[inline(never)]
fn first_seen(who: &TrackedThread, handle: u64) -> *mut Stream {
    let stream = stream::create(who, Opened::Seen as u8, Class::Http as u8, flags::TLS);
    if stream.is_null() {
        return stream;
    }
    // SAFETY: a live map value.
    let new = unsafe { &mut *stream };
    new.handle = handle;
    if HANDLES.insert(&who.handle(handle), &new.id, 0).is_err() {
        count(Counter::MapFull, 1);
        stream::forget(who, new.id);
        return ptr::null_mut();
    }
    stream
}
