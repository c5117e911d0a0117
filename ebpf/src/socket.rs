//! Sockets: descriptors to streams, TLS handles to sockets, and what opens and closes them.

use tokentap_abi::{Class, Counter, FD_ASKED, FD_NAMED, Kind, Open, Opened, flags};

use crate::{
    current::{self, Watched, count},
    files::{self, Descriptor},
    maps::{FDS, STREAMS},
    ring,
    state::Stream,
    stream::{self, READ, WRITE},
    tls, user,
};

const EINPROGRESS: i64 = 115;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The stream that a descriptor names now. `socket_only`: the call that used it takes sockets only.
///
/// A number whose socket was closed in a way that no program sees, and that names something else now, is found here by
/// the kernel's own table: the old stream ends, and what is no socket is not looked at.
#[inline(always)]
pub fn stream_of(who: &Watched, fd: u32, socket_only: bool) -> Option<(u64, *mut Stream)> {
    let key = who.fd(fd);
    // SAFETY: copied out at once.
    let known = (unsafe { FDS.get(&key) }).copied();
    let is = files::descriptor(fd);
    match is.kind {
        files::UNKNOWN if known.is_none() && !socket_only => {
            ask(who, fd);
            return None;
        }
        files::OTHER => {
            if let Some(id) = known {
                unname(who, fd, id);
            }
            return None;
        }
        // Closed since by another thread: what moved was the known stream's.
        _ => {}
    }
    if let Some(id) = known
        && let Some(state) = STREAMS.get_ptr_mut(&id)
    {
        let inode = is.inode;
        // SAFETY: a live map value.
        unsafe {
            if (*state).inode == 0 {
                (*state).inode = inode;
            }
            // A stream that user space named does not know its descriptor yet.
            if (*state).open.fd < 0 {
                (*state).open.fd = fd as i32;
            }
            if inode == 0 || (*state).inode == inode {
                return Some((id, state));
            }
        }
        unname(who, fd, id);
    }
    if is.kind != files::SOCKET && !socket_only && known != Some(FD_NAMED) {
        return None;
    }
    let mut new = Stream::new(Opened::Seen, Class::Unknown, flags::LATE);
    opened(who, fd, &mut new, &is)
}

/// Asks user space about a descriptor, once; only where the kernel's tables are not known.
#[inline(always)]
fn ask(who: &Watched, fd: u32) {
    const NOEXIST: u64 = 1;
    if FDS.insert(&who.fd(fd), &FD_ASKED, NOEXIST).is_ok() {
        ring::event(&current::header(Kind::UnknownDescriptor, who, 4), fd);
    }
}

/// A descriptor does not name this stream any more.
#[inline(always)]
fn unname(who: &Watched, fd: u32, id: u64) {
    FDS.remove(&who.fd(fd)).unwrap_or(());
    release(who, id);
}

/// Gives a descriptor a new stream.
#[inline(always)]
fn opened(who: &Watched, fd: u32, stream: &mut Stream, is: &Descriptor) -> Option<(u64, *mut Stream)> {
    stream.open.fd = fd as i32;
    stream.inode = is.inode;
    is.peer(&mut stream.open);
    let id = stream::create(who, stream)?;
    if FDS.insert(&who.fd(fd), &id, 0).is_err() {
        count(Counter::MapFull, 1);
        stream::close(who, id);
        return None;
    }
    Some((id, STREAMS.get_ptr_mut(&id)?))
}

/// A new connection has this number: whatever had it before is over.
#[inline(always)]
fn connected(who: &Watched, fd: u32, how: Opened, address: u64) {
    // SAFETY: copied out at once.
    if let Some(old) = (unsafe { FDS.get(&who.fd(fd)) }).copied() {
        unname(who, fd, old);
    }
    let mut stream = Stream::new(how, Class::Unknown, 0);
    if address != 0 {
        peer(&mut stream.open, address);
    }
    let is = files::descriptor(fd);
    // Not when it was closed or replaced since, by another thread.
    if is.kind == files::SOCKET || is.kind == files::UNKNOWN {
        opened(who, fd, &mut stream, &is);
    }
}

/// `connect(fd, address, length)`
#[inline(always)]
pub fn connect(who: &Watched, fd: u32, address: u64, result: i64) {
    if result == 0 || result == -EINPROGRESS {
        connected(who, fd, Opened::Connect, address);
    }
}

/// `accept(fd, address, length)`: the result is the new descriptor.
#[inline(always)]
pub fn accept(who: &Watched, address: u64, result: i64) {
    if result >= 0 {
        connected(who, result as u32, Opened::Accept, address);
    }
}

/// Reads a `struct sockaddr`.
#[inline(always)]
fn peer(open: &mut Open, address: u64) {
    let Some(family) = user::read::<u16>(address) else { return };
    open.family = family;
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    open.port = user::read::<u16>(address.wrapping_add(2)).map_or(0, u16::from_be);
    if family == AF_INET {
        if let Some([a, b, c, d]) = user::read::<[u8; 4]>(address.wrapping_add(4)) {
            open.addr[0] = a;
            open.addr[1] = b;
            open.addr[2] = c;
            open.addr[3] = d;
        }
    } else if let Some(addr) = user::read::<[u8; 16]>(address.wrapping_add(8)) {
        open.addr = addr;
    }
}

/// `close(fd)`. Another thread may have been given the number already: then the table shows another socket.
#[inline(always)]
pub fn close(who: &Watched, fd: u32) {
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { FDS.get(&who.fd(fd)) }).copied() else { return };
    let is = files::descriptor(fd);
    if is.kind == files::SOCKET
        && let Some(state) = STREAMS.get_ptr_mut(&id)
        // SAFETY: a live map value.
        && unsafe { (*state).inode } == is.inode
    {
        return;
    }
    unname(who, fd, id);
}

/// Descriptors that `close_range` looks at from its first one on; streams beyond end when their number is used again.
const RANGE: u32 = 4096;

#[repr(C)]
struct Range<'a> {
    who: &'a Watched,
    first: u32,
    last: u32,
}

/// `close_range(first, last, flags)`
#[inline(always)]
pub fn close_range(who: &Watched, first: u32, last: u32, flags: u64, result: i64) {
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
fn release(who: &Watched, id: u64) {
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
            stream::close_handle(who, (*above).handle);
        }
    }
    stream::close(who, id);
}

/// `shutdown(fd, how)`
#[inline(always)]
pub fn shutdown(who: &Watched, fd: u32, how: u64, result: i64) {
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { FDS.get(&who.fd(fd)) }).copied() else { return };
    let Some(state) = STREAMS.get_ptr_mut(&id) else { return };
    if result != 0 {
        return;
    }
    // SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2.
    if how != 1 {
        stream::half_close(who, id, state, READ);
    }
    if how != 0 {
        stream::half_close(who, id, state, WRITE);
    }
}

/// A descriptor has a second number: `dup`, `dup2`, `dup3`, `fcntl(F_DUPFD)`. Whatever had the number is over.
#[inline(always)]
pub fn duplicated(who: &Watched, fd: u32, result: i64) {
    if result < 0 || result as u32 == fd {
        return;
    }
    let new = result as u32;
    // SAFETY: copied out at once.
    if let Some(old) = (unsafe { FDS.get(&who.fd(new)) }).copied() {
        unname(who, new, old);
    }
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { FDS.get(&who.fd(fd)) }).copied().filter(|&id| id != FD_ASKED) else { return };
    let Some(state) = STREAMS.get_ptr_mut(&id) else { return };
    // SAFETY: a live map value.
    let inode = unsafe { (*state).inode };
    // The old number may have been closed and used again without a program seeing it.
    let is = files::descriptor(new);
    let same = is.kind == files::SOCKET && (inode == 0 || is.inode == inode);
    if !same && is.kind != files::UNKNOWN {
        return;
    }
    if FDS.insert(&who.fd(new), &id, 0).is_err() {
        count(Counter::MapFull, 1);
        return;
    }
    // SAFETY: a live map value.
    unsafe { (*state).refs += 1 };
}

/// A socket call inside a TLS call of the same thread is that connection's socket, whatever else the thread
/// does. Only the first such call is looked at.
#[inline(always)]
pub fn bind(who: &Watched, id: u64, socket: *mut Stream) {
    let Some(call) = tls::under_way(who) else { return };
    call.nested = 1;
    // SAFETY: a live map value.
    if unsafe { (*socket).bound } != 0 {
        return;
    }
    let Some((tls_id, tls)) = tls::stream_of(who, call.handle) else { return };
    bind_streams(who, (id, socket), (tls_id, tls));
}

/// Binds a TLS stream to the socket stream that carries it.
#[inline(always)]
pub fn bind_streams(who: &Watched, (id, socket): (u64, *mut Stream), (tls_id, tls): (u64, *mut Stream)) {
    // SAFETY: live map values.
    unsafe {
        if (*tls).bound != 0 {
            return;
        }
        (*socket).bound = tls_id;
        (*tls).bound = id;
        let fd = (*tls).open.fd;
        (*tls).open = (*socket).open;
        (*tls).open.fd = fd;
        stream::announce(who, id, socket);
        stream::announce(who, tls_id, tls);
        let mut header = current::header(Kind::Bind, who, tokentap_abi::Bind::LEN as u32);
        header.stream = tls_id;
        header.flags = flags::TLS;
        ring::event(&header, tokentap_abi::Bind { socket: id, open: (*tls).open, reserved: 0 });
    }
}
