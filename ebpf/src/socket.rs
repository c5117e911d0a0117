//! Sockets: descriptors to streams, plaintext to the ring, TLS handles to sockets.

use aya_ebpf::helpers::bpf_probe_read_user;
use tokentap_abi::{Class, Counter, Direction, Kind, MAX_CHUNK, Open, Opened, flags};

use crate::{
    maps::{CALLS, FDS, STREAMS, TLS_CALLS, Watched, count, now},
    ring,
    stream::{self, GO_ON, Moved, STOP, Stream},
    syscalls::Call,
    tls,
};

const MSG_OOB: u64 = 0x1;
const MSG_PEEK: u64 = 0x2;
const MSG_TRUNC: u64 = 0x20;
const MSG_ERRQUEUE: u64 = 0x2000;
const EINPROGRESS: i64 = 115;
const EPIPE: i64 = 32;
/// The network's errors, from `ENETDOWN` to `EHOSTUNREACH`.
const NETWORK_ERRORS: core::ops::RangeInclusive<i64> = 100..=113;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// Sizes and offsets of `struct user_msghdr` and `struct mmsghdr` on 64-bit.
const MSG_IOV: u64 = 16;
const MSG_IOVLEN: u64 = 24;
const MMSG_SIZE: u64 = 64;
const MMSG_LEN: u64 = 56;

/// How a call points at its bytes.
#[derive(Clone, core::marker::Copy, PartialEq, Eq)]
pub enum Pieces {
    /// One buffer.
    Flat,
    /// `struct iovec[count]`
    Vector,
    /// `struct msghdr`
    Message,
    /// `struct mmsghdr[count]`, of which the result says how many were used.
    Messages,
}

/// Remembers a call until it returns.
#[inline(always)]
pub fn remember(fd: u32, pointer: u64, count_: u64) -> u32 {
    let Some(who) = Watched::current() else { return 0 };
    keep(&who, Call { pointer, count: count_, time: now(), fd, ..Call::default() })
}

#[inline(always)]
fn keep(who: &Watched, call: Call) -> u32 {
    if CALLS.insert(&who.pid_tgid, &call, 0).is_err() {
        count(Counter::MapFull, 1);
    }
    0
}

/// A call that will move bytes. `socket_only`: no other kind of descriptor takes this call.
#[inline(always)]
pub fn enter_transfer(fd: u32, pointer: u64, count_: u64, msg_flags: u64, socket_only: bool) -> u32 {
    let Some(who) = Watched::current() else { return 0 };
    // Bytes that are only looked at will be read again; the other two are not the stream.
    if msg_flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE) != 0 {
        return 0;
    }
    // Bytes that are thrown away reach no buffer: they count as unreadable.
    let pointer = if msg_flags & MSG_TRUNC != 0 { 0 } else { pointer };
    // SAFETY: copied out at once.
    let id = match (unsafe { FDS.get(&who.fd(fd)) }).copied() {
        Some(id) => id,
        None if socket_only => 0,
        None => return 0,
    };
    if id != 0
        && let Some(socket) = STREAMS.get_ptr_mut(&id)
        // SAFETY: a live map value.
        && unsafe { (*socket).class } == Class::Tls as u8
    {
        bind(&who, id, socket);
        return 0;
    }
    keep(&who, Call { stream: id, pointer, count: count_, time: now(), fd, ..Call::default() })
}

/// A socket call inside a TLS call of the same thread is that connection's socket, whatever else the thread
/// does. Only the first such call is looked at.
#[inline(always)]
fn bind(who: &Watched, id: u64, socket: *mut Stream) {
    // SAFETY: a live map value.
    if unsafe { (*socket).bound } != 0 {
        return;
    }
    // SAFETY: only this thread writes its entry.
    let Some(handle) = (unsafe { TLS_CALLS.get(&who.pid_tgid) }).map(|call| call.handle) else { return };
    let Some((tls_id, tls)) = tls::stream_of(who, handle) else { return };
    // SAFETY: live map values.
    unsafe {
        (*socket).bound = tls_id;
        if (*tls).bound != 0 {
            return;
        }
        (*tls).bound = id;
        (*tls).open.how = (*socket).open.how;
        stream::announce(who, id, socket);
        stream::announce(who, tls_id, tls);
    }
    let mut header = ring::header(Kind::Bind, who, 8);
    header.stream = tls_id;
    header.flags = flags::TLS;
    ring::event(&header, id);
}

/// Whether a call's result says that the connection failed.
#[inline(always)]
fn ends(result: i64) -> bool {
    result == -EPIPE || NETWORK_ERRORS.contains(&-result)
}

/// The return of a call on a TLS connection's socket, which is not remembered. Inside a TLS call it may tell
/// that the connection is over.
#[inline(always)]
pub fn exit_ciphertext(pid_tgid: u64, result: i64, dir: Direction) {
    if ends(result) || (result == 0 && dir == Direction::Read) {
        tls::over(pid_tgid);
    }
}

/// Copies what a call moved.
#[inline(always)]
pub fn exit_transfer(
    who: &Watched,
    call: &mut Call,
    result: i64,
    dir: Direction,
    pieces: Pieces,
) -> Option<()> {
    if result < 0 {
        if ends(result)
            && let Some(state) = STREAMS.get_ptr_mut(&call.stream)
        {
            // SAFETY: a live map value.
            unsafe { (*state).over = 1 };
        }
        return None;
    }
    if result == 0 && call.stream == 0 {
        return None;
    }
    let id = stream_of(who, call)?;
    let state = stream::state(id)?;
    // SAFETY: a live map value. A stream that user space named does not know its descriptor yet.
    let (class, late) = unsafe {
        if (*state).open.fd < 0 {
            (*state).open.fd = call.fd as i32;
        }
        ((*state).class, (*state).flags & flags::LATE != 0)
    };
    if result == 0 {
        if dir == Direction::Read && call.count != 0 {
            // SAFETY: a live map value.
            unsafe { (*state).over = 1 };
            stream::half_close(who, id, state, dir);
        }
        return None;
    }
    let mut total = result as u64;
    if pieces == Pieces::Flat {
        call.cursor.base = call.pointer;
        call.cursor.len = total;
    } else {
        start(call, total, pieces);
    }
    if class == Class::Tls as u8 {
        return None;
    }
    if class != Class::Http as u8 {
        let len = call.cursor.len.min(call.cursor.left.max(total));
        let seen = stream::classify(call.cursor.base, len, late);
        if seen == Class::Tls {
            // SAFETY: a live map value.
            unsafe { (*state).class = Class::Tls as u8 };
            bind(who, id, state);
            return None;
        }
        if class == Class::Unknown as u8 {
            if seen == Class::Unknown {
                return None;
            }
            // SAFETY: a live map value.
            unsafe { (*state).class = seen as u8 };
        }
    }
    stream::announce(who, id, state);
    let time = if dir == Direction::Write { call.time } else { now() };
    if pieces == Pieces::Messages {
        total = lengths(call);
    }
    stream::begin(&mut call.copy, who, id, state, &Moved { dir, total, from: call.cursor.base, time });
    if pieces == Pieces::Flat {
        stream::flat(&mut call.copy);
    } else {
        gather(call);
    }
    Some(())
}

/// Puts the cursor on the first vector.
#[inline(always)]
fn start(call: &mut Call, total: u64, pieces: Pieces) {
    let cursor = &mut call.cursor;
    cursor.message = call.pointer;
    cursor.left = total;
    cursor.messages = 0;
    if pieces == Pieces::Vector {
        cursor.vector = call.pointer;
        cursor.vectors = call.count;
    } else {
        cursor.open();
    }
    if pieces == Pieces::Messages {
        cursor.messages = total.wrapping_sub(1);
        cursor.left = user::<u32>(call.pointer.wrapping_add(MMSG_LEN)).map_or(0, u64::from);
    }
    cursor.next();
}

#[repr(C)]
struct Gather<'a> {
    call: &'a mut Call,
}

/// Copies piece by piece; what does not fit the bound of pieces is declared lost.
#[inline(always)]
fn gather(call: &mut Call) {
    let mut state = Gather { call };
    stream::repeat(&mut state, gather_step);
    stream::finish(&mut state.call.copy, Counter::LostTooLarge);
}

/// The sum of what each message of an `mmsghdr` array carried.
#[inline(always)]
fn lengths(call: &mut Call) -> u64 {
    call.copy.total = 0;
    let mut state = Gather { call };
    stream::repeat(&mut state, lengths_step);
    state.call.copy.total
}

extern "C" fn lengths_step(index: u32, state: &mut Gather<'_>) -> u64 {
    let Call { pointer, copy, cursor, .. } = &mut *state.call;
    if u64::from(index) > cursor.messages {
        return STOP;
    }
    let length = pointer.wrapping_add(u64::from(index) * MMSG_SIZE + MMSG_LEN);
    copy.total = copy.total.wrapping_add(user::<u32>(length).map_or(0, u64::from));
    GO_ON
}

extern "C" fn gather_step(_index: u32, state: &mut Gather<'_>) -> u64 {
    let Call { copy, cursor, .. } = &mut *state.call;
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
        cursor.left = user::<u32>(cursor.message.wrapping_add(MMSG_LEN)).map_or(0, u64::from);
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
    stream::piece(copy, len);
    cursor.base = cursor.base.wrapping_add(len);
    cursor.len = cursor.len.wrapping_sub(len);
    cursor.left = cursor.left.wrapping_sub(len);
    GO_ON
}

/// Where the next byte of a scattered call is.
#[derive(Default)]
#[repr(C)]
pub struct Cursor {
    message: u64,
    /// Messages behind this one.
    messages: u64,
    vector: u64,
    vectors: u64,
    base: u64,
    len: u64,
    /// Bytes of this message that were moved and not yet copied.
    left: u64,
}

impl Cursor {
    /// Starts with the vectors of the current message header.
    #[inline(always)]
    fn open(&mut self) {
        self.vector = user::<u64>(self.message.wrapping_add(MSG_IOV)).unwrap_or(0);
        self.vectors = user::<u64>(self.message.wrapping_add(MSG_IOVLEN)).unwrap_or(0);
    }

    /// Goes on to the next vector.
    #[inline(always)]
    fn next(&mut self) {
        self.base = 0;
        self.len = 0;
        if self.vectors == 0 {
            return;
        }
        self.base = user::<u64>(self.vector).unwrap_or(0);
        self.len = user::<u64>(self.vector.wrapping_add(8)).unwrap_or(0);
        self.vector = self.vector.wrapping_add(16);
        self.vectors -= 1;
    }
}

/// `sendfile`: bytes that pass no buffer of the process.
#[inline(always)]
pub fn exit_sendfile(who: &Watched, call: &mut Call, result: i64) -> Option<()> {
    if result <= 0 || call.stream == 0 {
        return None;
    }
    let state = STREAMS.get_ptr_mut(&call.stream)?;
    // SAFETY: a live map value.
    let class = unsafe { (*state).class };
    if class != Class::Http as u8 && class != Class::Tunnel as u8 {
        return None;
    }
    let moved = Moved { dir: Direction::Write, total: result as u64, from: 0, time: call.time };
    stream::begin(&mut call.copy, who, call.stream, state, &moved);
    stream::finish(&mut call.copy, Counter::LostSendfile);
    Some(())
}

#[inline(always)]
pub fn enter_connect(fd: u32, address: u64, len: u64) -> u32 {
    remember(fd, address, len)
}

#[inline(always)]
pub fn exit_connect(who: &Watched, call: &mut Call, result: i64) -> Option<()> {
    if result != 0 && result != -EINPROGRESS {
        return None;
    }
    let mut stream = Stream::new(Opened::Connect, Class::Unknown, 0);
    peer(&mut stream.open, call.pointer);
    opened(who, call.fd, &mut stream);
    Some(())
}

#[inline(always)]
pub fn exit_accept(who: &Watched, call: &mut Call, result: i64) -> Option<()> {
    if result < 0 {
        return None;
    }
    let mut stream = Stream::new(Opened::Accept, Class::Unknown, 0);
    if call.pointer != 0 {
        peer(&mut stream.open, call.pointer);
    }
    opened(who, result as u32, &mut stream);
    Some(())
}

#[inline(always)]
fn opened(who: &Watched, fd: u32, stream: &mut Stream) {
    stream.open.fd = fd as i32;
    let key = who.fd(fd);
    // The descriptor may have been closed by a way that no probe sees (`close_range`).
    // SAFETY: copied out at once.
    if let Some(old) = (unsafe { FDS.get(&key) }).copied() {
        stream::close(who, old);
    }
    if let Some(id) = stream::create(stream)
        && FDS.insert(&key, &id, 0).is_err()
    {
        count(Counter::MapFull, 1);
    }
}

/// Reads a `struct sockaddr`.
#[inline(always)]
fn peer(open: &mut Open, address: u64) {
    let Some(family) = user::<u16>(address) else { return };
    open.family = family;
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    open.port = user::<u16>(address.wrapping_add(2)).map_or(0, u16::from_be);
    if family == AF_INET {
        if let Some(addr) = user::<[u8; 4]>(address.wrapping_add(4)) {
            open.addr[0] = addr[0];
            open.addr[1] = addr[1];
            open.addr[2] = addr[2];
            open.addr[3] = addr[3];
        }
    } else if let Some(addr) = user::<[u8; 16]>(address.wrapping_add(8)) {
        open.addr = addr;
    }
}

#[inline(always)]
pub fn enter_close(fd: u32) -> u32 {
    let Some(who) = Watched::current() else { return 0 };
    let key = who.fd(fd);
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { FDS.get(&key) }).copied() else { return 0 };
    FDS.remove(&key).unwrap_or(());
    release(&who, id);
    0
}

/// One descriptor fewer names this stream.
#[inline(always)]
fn release(who: &Watched, id: u64) {
    if let Some(state) = STREAMS.get_ptr_mut(&id) {
        // SAFETY: a live map value.
        unsafe {
            if (*state).refs > 1 {
                (*state).refs -= 1;
                return;
            }
        }
    }
    stream::close(who, id);
}

#[inline(always)]
pub fn enter_shutdown(fd: u32, how: u64) -> u32 {
    let Some(who) = Watched::current() else { return 0 };
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { FDS.get(&who.fd(fd)) }).copied() else { return 0 };
    let Some(state) = STREAMS.get_ptr_mut(&id) else { return 0 };
    // SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2.
    if how != 1 {
        stream::half_close(&who, id, state, Direction::Read);
    }
    if how != 0 {
        stream::half_close(&who, id, state, Direction::Write);
    }
    0
}

#[inline(always)]
pub fn enter_dup(fd: u32) -> u32 {
    let Some(who) = Watched::current() else { return 0 };
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { FDS.get(&who.fd(fd)) }).copied() else { return 0 };
    keep(&who, Call { stream: id, fd, ..Call::default() })
}

#[inline(always)]
pub fn exit_dup(who: &Watched, call: &mut Call, result: i64) -> Option<()> {
    if result < 0 || result as u32 == call.fd {
        return None;
    }
    let key = who.fd(result as u32);
    // `dup2` onto an open descriptor closes it.
    // SAFETY: copied out at once.
    if let Some(old) = (unsafe { FDS.get(&key) }).copied() {
        release(who, old);
    }
    if FDS.insert(&key, &call.stream, 0).is_err() {
        count(Counter::MapFull, 1);
        return None;
    }
    if let Some(state) = stream::state(call.stream) {
        // SAFETY: a live map value.
        unsafe { (*state).refs += 1 };
    }
    Some(())
}

/// The stream of a call: known at its entry, or a socket that is seen in use first.
#[inline(always)]
fn stream_of(who: &Watched, call: &Call) -> Option<u64> {
    if call.stream != 0 {
        return Some(call.stream);
    }
    let mut stream = Stream::new(Opened::Seen, Class::Unknown, flags::LATE);
    stream.open.fd = call.fd as i32;
    let id = stream::create(&stream)?;
    if FDS.insert(&who.fd(call.fd), &id, 0).is_err() {
        count(Counter::MapFull, 1);
        return None;
    }
    Some(id)
}

/// Reads a value from the target's memory.
#[inline(always)]
fn user<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and reports a fault.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}
