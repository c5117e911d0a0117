//! Sockets: descriptors to streams, TLS handles to sockets, and what opens and closes them.

use core::ptr;

use tokentap_abi::{Class, Counter, FD_ASKED, FD_NAMED, FdKey, Kind, Open, Opened, flags};

use crate::{
    current::{self, TrackedThread, count},
    descriptors::{self, Descriptor},
    maps::{FDS, STREAMS},
    ring,
    state::Stream,
    stream::{self, READ, WRITE},
    target, tls,
};

const EINPROGRESS: i64 = 115;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The stream that a descriptor names now; null when there is none. `socket_only`: the call that used it takes sockets
/// only.
///
/// A number whose socket was closed in a way that no program sees, and that names something else now, is found here by
/// the kernel's own table: the old stream ends, and what is no socket is not looked at.
#[inline(always)]
pub fn stream_of(who: &TrackedThread, fd: u32, socket_only: bool) -> *mut Stream {
    let is = descriptors::descriptor(fd);
    let key = who.fd(fd);
    // SAFETY: copied out at once.
    let known = (unsafe { FDS.get(&key) }).copied().unwrap_or(UNNAMED);
    let stream = stream::find(known);
    if !stream.is_null() && is.kind != descriptors::OTHER {
        // SAFETY: a live map value.
        let state = unsafe { &mut *stream };
        // Closed since by another thread: what moved was this stream's. So it was where the kernel side cannot know.
        if is.kind != descriptors::SOCKET || state.inode == is.inode {
            return stream;
        }
    }
    stream::find(seen_first(fd, known, u64::from(socket_only)))
}

/// Value of `known` for a descriptor that is not in the table.
const UNNAMED: u64 = u64::MAX;

/// A descriptor is used whose opening was not seen, or that is something else than before: the id of its stream, 0 when
/// there is none.
///
/// A global function, as all are that are rare and that much leads to: the verifier follows those once and by themselves.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn seen_first(fd: u32, known: u64, socket_only: u64) -> u64 {
    const NOEXIST: u64 = 1;
    let Some(who) = &TrackedThread::current() else { return 0 };
    let is = &descriptors::descriptor(fd);
    let key = &who.fd(fd);
    if is.kind == descriptors::UNKNOWN {
        if known == UNNAMED && socket_only == 0 {
            if FDS.insert(key, &FD_ASKED, NOEXIST).is_ok() {
                ring::event(|header| current::fill(header, Kind::UnknownDescriptor, who, 4), &u64::from(fd));
            }
            return 0;
        }
        if known != FD_NAMED && socket_only == 0 {
            return 0;
        }
    } else if known != UNNAMED {
        unname(who, key, known);
    }
    if is.kind == descriptors::OTHER || is.kind == descriptors::CLOSED {
        return 0;
    }
    let stream = opened(who, key, Opened::Seen as u64 | u64::from(flags::LATE) << 16, is);
    // SAFETY: a live map value.
    if stream.is_null() { 0 } else { unsafe { (*stream).id } }
}

/// A descriptor does not name this stream any more.
#[inline(always)]
fn unname(who: &TrackedThread, key: &FdKey, id: u64) {
    FDS.remove(key).unwrap_or(());
    release(who, id);
}

/// Gives a descriptor a new stream. `how`: an [`Opened`], with flags from bit 16 on.
#[inline(always)]
fn opened(who: &TrackedThread, key: &FdKey, how: u64, is: &Descriptor) -> *mut Stream {
    let stream = stream::create(who, how as u8, Class::Unknown as u8, (how >> 16) as u16);
    if stream.is_null() {
        return stream;
    }
    // SAFETY: a live map value.
    let new = unsafe { &mut *stream };
    new.open.fd = key.fd as i32;
    new.inode = is.inode;
    is.peer(&mut new.open);
    if FDS.insert(key, &new.id, 0).is_err() {
        count(Counter::MapFull, 1);
        stream::forget(who, new.id);
        return ptr::null_mut();
    }
    stream
}

/// A new connection has this number: whatever had it before is over.
#[inline(never)]
fn connected(who: &TrackedThread, fd: u32, how: u64, address: u64) {
    let key = &who.fd(fd);
    // SAFETY: copied out at once.
    if let Some(old) = (unsafe { FDS.get(key) }).copied() {
        unname(who, key, old);
    }
    let is = descriptors::descriptor(fd);
    // Not when it was closed or replaced since, by another thread.
    if is.kind == descriptors::SOCKET || is.kind == descriptors::UNKNOWN {
        let stream = opened(who, key, how, &is);
        if is.kind == descriptors::UNKNOWN && address != 0 && !stream.is_null() {
            // SAFETY: a live map value.
            peer(unsafe { &mut (*stream).open }, address);
        }
    }
}

/// `connect(fd, address, length)`
#[inline(always)]
pub fn connect(who: &TrackedThread, fd: u32, address: u64, result: i64) {
    if result == 0 || result == -EINPROGRESS {
        connected(who, fd, Opened::Connect as u64, address);
    }
}

/// `accept(fd, address, length)`: the result is the new descriptor.
#[inline(always)]
pub fn accept(who: &TrackedThread, address: u64, result: i64) {
    if result >= 0 {
        connected(who, result as u32, Opened::Accept as u64, address);
    }
}

/// Reads a `struct sockaddr`.
#[inline(always)]
fn peer(open: &mut Open, address: u64) {
    let Some(family) = target::read::<u16>(address) else { return };
    open.family = family;
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    open.port = target::read::<u16>(address.wrapping_add(2)).map_or(0, u16::from_be);
    if family == AF_INET {
        if let Some([a, b, c, d]) = target::read::<[u8; 4]>(address.wrapping_add(4)) {
            open.addr[0] = a;
            open.addr[1] = b;
            open.addr[2] = c;
            open.addr[3] = d;
        }
    } else if let Some(addr) = target::read::<[u8; 16]>(address.wrapping_add(8)) {
        open.addr = addr;
    }
}

/// `close(fd)`. Another thread may have been given the number already: then the table shows another socket.
#[inline(never)]
pub fn close(who: &TrackedThread, fd: u32) {
    let key = &who.fd(fd);
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { FDS.get(key) }).copied() else { return };
    let is = descriptors::descriptor(fd);
    if is.kind == descriptors::SOCKET
        && let Some(state) = STREAMS.get_ptr_mut(&id)
        // SAFETY: a live map value.
        && unsafe { (*state).inode } == is.inode
    {
        return;
    }
    unname(who, key, id);
}

/// Descriptors that `close_range` looks at from its first one on; streams beyond end when their number is used again.
const RANGE: u32 = 4096;

#[repr(C)]
struct Range<'a> {
    who: &'a TrackedThread,
    first: u32,
    last: u32,
}

/// `close_range(first, last, flags)`
#[inline(always)]
pub fn close_range(who: &TrackedThread, first: u32, last: u32, flags: u64, result: i64) {
    const CLOSE_RANGE_CLOEXEC: u64 = 4;
    if result != 0 || flags & CLOSE_RANGE_CLOEXEC != 0 {
        return;
    }
    let mut range = Range { who, first, last: last.min(first.saturating_add(RANGE)) };
    stream::repeat(&mut range, close_next);
}

#[inline(never)]
extern "C" fn close_next(index: u32, range: &mut Range<'_>) -> u64 {
    let fd = range.first.saturating_add(index);
    if fd > range.last {
        return stream::STOP;
    }
    close(range.who, fd);
    stream::GO_ON
}

/// One descriptor fewer names this stream.
#[inline(always)]
fn release(who: &TrackedThread, id: u64) {
    let Some(state) = STREAMS.get_ptr_mut(&id) else { return };
    // SAFETY: a live map value.
    unsafe {
        if (*state).refs > 1 {
            (*state).refs -= 1;
            return;
        }
        // Nothing of a TLS connection can move without its socket.
        let bound = (*state).bound;
        if bound != 0
            && let Some(above) = STREAMS.get_ptr_mut(&bound)
        {
            (*above).over |= (*state).over;
            stream::close_under(who, (*above).handle, bound);
        }
    }
    stream::close(who, id);
}

/// `shutdown(fd, how)`
#[inline(always)]
pub fn shutdown(who: &TrackedThread, fd: u32, how: u64, result: i64) {
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { FDS.get(&who.fd(fd)) }).copied() else { return };
    let Some(state) = STREAMS.get_ptr_mut(&id) else { return };
    if result != 0 {
        return;
    }
    // SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2.
    if how != 1 {
        stream::half_close(who, state, READ);
    }
    if how != 0 {
        stream::half_close(who, state, WRITE);
    }
}

/// A descriptor has a second number: `dup`, `dup2`, `dup3`, `fcntl(F_DUPFD)`. Whatever had the number is over.
#[inline(always)]
pub fn duplicated(who: &TrackedThread, fd: u32, result: i64) {
    if result < 0 || result as u32 == fd {
        return;
    }
    let new = result as u32;
    let key = &who.fd(new);
    // SAFETY: copied out at once.
    if let Some(old) = (unsafe { FDS.get(key) }).copied() {
        unname(who, key, old);
    }
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { FDS.get(&who.fd(fd)) }).copied().filter(|&id| id != FD_ASKED) else { return };
    let Some(state) = STREAMS.get_ptr_mut(&id) else { return };
    // SAFETY: a live map value.
    let inode = unsafe { (*state).inode };
    // The old number may have been closed and used again without a program seeing it.
    let is = descriptors::descriptor(new);
    let same = is.kind == descriptors::SOCKET && (inode == 0 || is.inode == inode);
    if !same && is.kind != descriptors::UNKNOWN {
        return;
    }
    if FDS.insert(key, &id, 0).is_err() {
        count(Counter::MapFull, 1);
        return;
    }
    // SAFETY: a live map value.
    unsafe { (*state).refs += 1 };
}

/// A socket call inside a TLS call of the same thread is that connection's socket, whatever else the thread
/// does. Only the first such call is looked at.
#[inline(always)]
pub fn bind(who: &TrackedThread, socket: *mut Stream) {
    let call = tls::under_way(who);
    if call.is_null() {
        return;
    }
    // SAFETY: the running thread's own entry.
    let call = unsafe { &mut *call };
    call.nested = 1;
    // SAFETY: a live map value.
    if unsafe { (*socket).bound } == 0 {
        let tls = tls::stream_of(who, call.handle);
        if !tls.is_null() {
            // SAFETY: live map values.
            unsafe { bind_streams((*socket).id, (*tls).id) };
        }
    }
}

/// Binds a TLS stream to the socket stream that carries it, by their ids; a global function, as [`seen_first`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn bind_streams(socket: u64, tls: u64) -> u64 {
    let Some(who) = &TrackedThread::current() else { return 0 };
    let (socket, tls) = (stream::find(socket), stream::find(tls));
    if socket.is_null() || tls.is_null() {
        return 0;
    }
    // SAFETY: live map values.
    let (below, above) = unsafe { (&mut *socket, &mut *tls) };
    if below.bound != 0 || above.bound != 0 {
        return 0;
    }
    below.bound = above.id;
    above.bound = below.id;
    above.open = Open { fd: above.open.fd, ..below.open };
    stream::announce(socket);
    stream::announce(tls);
    let payload = tokentap_abi::Bind { socket: below.id, open: above.open, reserved: 0 };
    ring::event(
        |header| {
            current::fill(header, Kind::Bind, who, tokentap_abi::Bind::LEN);
            header.stream = above.id;
            header.flags = flags::TLS;
        },
        &payload,
    );
    0
}
