//! Plaintext that system calls move: from the call's buffers to the ring.

use tokentap_abi::{Class, Counter, MAX_CHUNK, Syscall, flags};

use crate::{
    ciphertext,
    classify::classify,
    current::{TrackedThread, now, zero},
    preempted, socket,
    state::{Call, Cursor, Stream, Transfer},
    stream::{self, GO_ON, READ, STOP, TransferredBytes},
    target, tls,
};

const MSG_OOB: u64 = 0x1;
const MSG_PEEK: u64 = 0x2;
const MSG_TRUNC: u64 = 0x20;
const MSG_ERRQUEUE: u64 = 0x2000;
const EPIPE: i64 = 32;
/// The network's errors, from `ENETDOWN` to `EHOSTUNREACH`.
const NETWORK_ERRORS: core::ops::RangeInclusive<i64> = 100..=113;
/// Sizes and offsets of `struct user_msghdr` and `struct mmsghdr` on 64-bit.
const MSG_IOV: u64 = 16;
const MSG_IOVLEN: u64 = 24;
const MMSG_SIZE: u64 = 64;
const MMSG_LEN: u64 = 56;

impl Call {
    #[inline(always)]
    const fn pieces(&self) -> u8 {
        self.kind & Syscall::PIECES
    }

    #[inline(always)]
    const fn direction(&self) -> u8 {
        self.kind & Syscall::RECEIVES
    }
}

/// Whether a call's result says that the connection failed.
#[inline(always)]
fn failed(result: i64) -> bool {
    result == -EPIPE || NETWORK_ERRORS.contains(&-result)
}

/// Copies what a call moved.
#[inline(always)]
pub fn transferred(who: &TrackedThread, call: &Call) -> Option<()> {
    gather(begin::<true>(who, call)?, who);
    Some(())
}

/// Takes in what a call moved, up to where its bytes are copied; `None` when none are.
///
/// `SYSCALL`: an operation of an io_uring is none. Only of a system call, ciphertext is looked at, where it says which TLS
/// stream the socket carries, and a call can have moved several messages.
#[inline(always)]
fn begin<const SYSCALL: bool>(who: &TrackedThread, call: &Call) -> Option<&'static mut Transfer> {
    // Bytes that are only looked at will be read again; the other two are not the stream.
    if call.flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE) != 0 {
        return None;
    }
    // A call that only says "not now" says nothing about the descriptor.
    if call.result < 0 && !failed(call.result) {
        return None;
    }
    let state = socket::stream_of(who, call.fd, call.kind & Syscall::SOCKET_ONLY != 0 && call.result > 0);
    if state.is_null() {
        return None;
    }
    // SAFETY: a live map value.
    let (class, late) = unsafe { ((*state).class, (*state).flags & flags::LATE != 0) };
    if call.result <= 0 {
        ended(who, state, call);
        return None;
    }
    if class == Class::Tls as u8 && !(SYSCALL && ciphertext::wanted(who, state)) {
        socket::bind(who, state);
        return None;
    }
    // SAFETY: nobody else uses it meanwhile.
    let transfer = unsafe { &mut *preempted::transfer(who)? };
    // Bytes that are thrown away reach no buffer: they count as unreadable.
    transfer.pointer = if call.flags & MSG_TRUNC != 0 { 0 } else { call.pointer };
    transfer.count = call.count;
    let mut total = call.result as u64;
    if call.pieces() == 0 {
        transfer.cursor.base = transfer.pointer;
        transfer.cursor.len = total;
        transfer.cursor.left = total;
        transfer.cursor.messages = zero();
        transfer.cursor.vectors = zero();
    } else {
        start(transfer, total, call.pieces());
    }
    if SYSCALL && class == Class::Tls as u8 {
        let len = transfer.cursor.len.min(transfer.cursor.left);
        ciphertext::moved(who, state, transfer.cursor.base, len, call.direction());
        return None;
    }
    if class != Class::Http as u8 {
        let len = transfer.cursor.len.min(transfer.cursor.left);
        let seen = classify(transfer.cursor.base, len, late);
        if seen as u8 == Class::Tls as u8 {
            // SAFETY: a live map value.
            unsafe { (*state).class = Class::Tls as u8 };
            socket::bind(who, state);
            return None;
        }
        if class == Class::Unknown as u8 {
            if seen as u8 == Class::Unknown as u8 {
                return None;
            }
            // SAFETY: a live map value.
            unsafe { (*state).class = seen as u8 };
        }
    }
    stream::announce(state);
    if SYSCALL && call.pieces() == Syscall::MESSAGES {
        total = lengths(transfer);
    }
    let moved = TransferredBytes { dir: call.direction(), total, from: transfer.cursor.base, time: now() };
    stream::begin(&mut transfer.copy, who, state, &moved);
    Some(transfer)
}

/// A read that found the end, or a call that found the connection broken. On the socket of a TLS connection the TLS call
/// that it is part of will say so.
#[inline(never)]
fn ended(who: &TrackedThread, state: *mut Stream, call: &Call) {
    let end_of_file = call.result == 0 && call.direction() == READ;
    if call.result == 0 && (!end_of_file || call.pieces() == 0 && call.count == 0) {
        return;
    }
    // SAFETY: a live map value.
    let class = unsafe {
        (*state).over = 1;
        (*state).class
    };
    if class == Class::Tls as u8 {
        let inside = tls::under_way(who);
        if inside.is_null() {
            return;
        }
        // SAFETY: the running thread's own entry.
        let inside = unsafe { &mut *inside };
        inside.end_of_file = 1;
        let above = tls::stream_of(who, inside.handle);
        if !above.is_null() {
            // SAFETY: a live map value.
            unsafe { (*above).over = 1 };
        }
    } else if end_of_file {
        stream::half_close(who, state, READ);
    }
}

/// Takes in the operation of an io_uring that is in the running program's [`Transfer`]; whether bytes are to be copied, by
/// [`copy_piece`].
///
/// A global function, which the verifier follows once and by itself: for the same in the loop that calls it, those of Linux
/// 6.19 and 7.0 take minutes and gigabytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn begin_operation() -> u64 {
    let Some(who) = TrackedThread::current() else { return 0 };
    let Some(transfer) = preempted::transfer(&who) else { return 0 };
    // SAFETY: a live map value, of which this part is not written meanwhile.
    let call = unsafe { &(*transfer).operation };
    u64::from(begin::<false>(&who, call).is_some())
}

/// Bytes that a call moved past every buffer that could be read, for `reason`, a [`Counter`]. They count where the
/// connection is known to carry what is copied. `kind`: bits of [`Syscall`].
#[inline(never)]
pub fn unseen(who: &TrackedThread, fd: u32, kind: u8, result: i64, reason: u8) -> u64 {
    let state = socket::stream_of(who, fd, kind & Syscall::SOCKET_ONLY != 0);
    if result <= 0 || state.is_null() {
        return 0;
    }
    // SAFETY: a live map value.
    let class = unsafe { (*state).class };
    if class == Class::Tls as u8 {
        socket::bind(who, state);
    } else if class != Class::Unknown as u8
        && let Some(transfer) = preempted::transfer(who)
    {
        // SAFETY: nobody else uses it meanwhile.
        let copy = unsafe { &mut (*transfer).copy };
        stream::announce(state);
        let moved =
            TransferredBytes { dir: kind & Syscall::RECEIVES, total: result as u64, from: 0, time: now() };
        stream::unseen(copy, who, state, &moved, reason);
    }
    0
}

/// Puts the cursor on the first vector.
#[inline(always)]
fn start(transfer: &mut Transfer, total: u64, pieces: u8) {
    let cursor = &mut transfer.cursor;
    cursor.message = transfer.pointer;
    cursor.left = total;
    cursor.messages = 0;
    if pieces == Syscall::VECTOR {
        cursor.vector = transfer.pointer;
        cursor.vectors = transfer.count;
    } else {
        cursor.open();
    }
    if pieces == Syscall::MESSAGES {
        cursor.messages = total.wrapping_sub(1);
        cursor.left = target::read::<u32>(transfer.pointer.wrapping_add(MMSG_LEN)).map_or(0, u64::from);
    }
    cursor.next();
}

#[repr(C)]
struct Gather<'a> {
    transfer: &'a mut Transfer,
    who: &'a TrackedThread,
}

/// Copies piece by piece; what does not fit the bound of pieces is declared lost.
#[inline(always)]
fn gather(transfer: &mut Transfer, who: &TrackedThread) {
    let mut state = Gather { transfer, who };
    stream::repeat(&mut state, gather_step);
    stream::finish(&mut state.transfer.copy, Counter::LostTooLarge as u8);
}

/// The sum of what each message of an `mmsghdr` array carried.
#[inline(always)]
fn lengths(transfer: &mut Transfer) -> u64 {
    transfer.copy.total = 0;
    let mut state = Lengths { transfer };
    stream::repeat(&mut state, lengths_step);
    state.transfer.copy.total
}

#[repr(C)]
struct Lengths<'a> {
    transfer: &'a mut Transfer,
}

#[inline(never)]
extern "C" fn lengths_step(index: u32, state: &mut Lengths<'_>) -> u64 {
    let Transfer { pointer, copy, cursor, .. } = &mut *state.transfer;
    if u64::from(index) > cursor.messages {
        return STOP;
    }
    let length = pointer.wrapping_add(u64::from(index) * MMSG_SIZE + MMSG_LEN);
    copy.total = copy.total.wrapping_add(target::read::<u32>(length).map_or(0, u64::from));
    GO_ON
}

#[inline(never)]
extern "C" fn gather_step(_index: u32, state: &mut Gather<'_>) -> u64 {
    copy_piece(state.transfer, state.who)
}

/// Copies the next piece of what a call moved; [`STOP`] when there is none.
#[inline(always)]
pub fn copy_piece(transfer: &mut Transfer, who: &TrackedThread) -> u64 {
    let Transfer { copy, cursor, .. } = transfer;
    if copy.left == 0 {
        return STOP;
    }
    if cursor.left == 0 {
        if cursor.messages == 0 {
            return STOP;
        }
        cursor.messages -= 1;
        cursor.message = cursor.message.wrapping_add(MMSG_SIZE);
        cursor.open();
        cursor.len = 0;
        cursor.left = target::read::<u32>(cursor.message.wrapping_add(MMSG_LEN)).map_or(0, u64::from);
    }
    if cursor.len == 0 {
        if cursor.vectors == 0 {
            return STOP;
        }
        cursor.next();
    }
    let len = cursor.len.min(cursor.left).min(copy.left).min(u64::from(MAX_CHUNK));
    if len == 0 {
        return GO_ON;
    }
    copy.from = cursor.base;
    stream::piece(copy, who, len);
    cursor.base = cursor.base.wrapping_add(len);
    cursor.len = cursor.len.wrapping_sub(len);
    cursor.left = cursor.left.wrapping_sub(len);
    if copy.left == 0 { STOP } else { GO_ON }
}

impl Cursor {
    /// Starts with the vectors of the current message header.
    #[inline(always)]
    fn open(&mut self) {
        self.vector = target::read::<u64>(self.message.wrapping_add(MSG_IOV)).unwrap_or(0);
        self.vectors = target::read::<u64>(self.message.wrapping_add(MSG_IOVLEN)).unwrap_or(0);
    }

    /// Goes on to the next vector.
    #[inline(always)]
    fn next(&mut self) {
        self.base = 0;
        self.len = 0;
        if self.vectors == 0 {
            return;
        }
        self.base = target::read::<u64>(self.vector).unwrap_or(0);
        self.len = target::read::<u64>(self.vector.wrapping_add(8)).unwrap_or(0);
        self.vector = self.vector.wrapping_add(16);
        self.vectors -= 1;
    }
}
