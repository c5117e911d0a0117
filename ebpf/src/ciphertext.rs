//! TLS over memory: the library emits and takes in ciphertext by `BIO_write` and `BIO_read`, and the application moves it
//! between there and the socket. Which socket that is, the ciphertext says: the first bytes of a record are the same
//! on both sides, and no other record has them.
//!
//! Only records of application data are compared: others carry no ciphertext, or the same more than once.

use tokentap_abi::{Kind, flags, tracked};

use crate::{
    current::{self, TrackedThread},
    maps::{RECEIVED_RECORDS, SENT_RECORDS},
    ring, socket,
    state::{Prefix, Stream},
    stream::{self, GO_ON, READ, STOP},
    target, tls,
};

/// Bytes that are compared.
const PREFIX: u64 = size_of::<[u64; 2]>() as u64;
/// Records of one system call that are looked at.
const RECORDS: u32 = 4;
/// How often user space is notified of one stream: what carries it may be no socket.
const MAX_BIND_REQUESTS: u8 = 8;

/// Notifies user space that the socket of a TLS stream is not known: when bytes move first, and where the direction
/// turns. Probes that find the socket are placed for a while only, and an answer can take longer.
#[inline(always)]
pub fn request_binding(who: &TrackedThread, tls: *mut Stream) {
    // SAFETY: a live map value.
    if unsafe { (*tls).bound } == 0 {
        request_binding_now(who, tls);
    }
}

#[inline(never)]
fn request_binding_now(who: &TrackedThread, tls: *mut Stream) {
    // SAFETY: a live map value.
    let tls = unsafe { &mut *tls };
    if tls.bind_requests >= MAX_BIND_REQUESTS || tls.bind_requests != 0 && tls.bind_requested_at == tls.turns
    {
        return;
    }
    tls.bind_requests += 1;
    tls.bind_requested_at = tls.turns;
    let (id, epoch) = (tls.id, tls.epoch);
    ring::bare(
        |header| {
            current::fill(header, Kind::Unbound, who, 0);
            header.stream = id;
            header.epoch = epoch;
            header.flags = flags::TLS;
        },
        true,
    );
}

/// The stream of the TLS call that the thread is in, when its socket is not known; null else.
#[inline(always)]
fn unbound(who: &TrackedThread) -> *mut Stream {
    let call = tls::under_way(who);
    if call.is_null() {
        return core::ptr::null_mut();
    }
    // SAFETY: the running thread's own entry.
    let tls = tls::stream_of(who, unsafe { (*call).handle });
    // SAFETY: a live map value.
    if tls.is_null() || unsafe { (*tls).bound } != 0 {
        return core::ptr::null_mut();
    }
    tls
}

/// The header of a record: type, version, length.
#[derive(Clone, Copy)]
struct RecordHeader(u64);

impl RecordHeader {
    const LEN: u64 = 5;

    /// What is at an address; no record when it cannot be read.
    #[inline(always)]
    fn at(address: u64) -> Self {
        // What is behind the header comes along.
        Self(target::read::<u64>(address).unwrap_or(0))
    }

    /// Types 20 (change of keys) to 23, and version 3 of SSL, which all that came later bear.
    #[inline(always)]
    const fn is_one(self) -> bool {
        self.0 & 0xfc == 20 && self.0 & 0xff00 == 3 << 8
    }

    #[inline(always)]
    const fn is_application_data(self) -> bool {
        self.0 & 0xffff == 23 | 3 << 8
    }

    #[inline(always)]
    const fn body(self) -> u64 {
        (self.0 >> 24 & 0xff) << 8 | self.0 >> 32 & 0xff
    }
}

/// `BIO_write(bio, data, length)` is called.
#[inline(never)]
pub fn emitted(who: &TrackedThread, data: u64) {
    let tls = unbound(who);
    if tls.is_null() {
        return;
    }
    who.set_flag(tracked::BINDS);
    let header = RecordHeader::at(data);
    if !header.is_application_data() || header.body() < PREFIX {
        return;
    }
    let mut prefix = Prefix { generation: who.generation, bytes: [0; 2] };
    if prefix.read(data.wrapping_add(RecordHeader::LEN)) {
        // SAFETY: a live map value.
        SENT_RECORDS.insert(&prefix, unsafe { &(*tls).id }, 0).unwrap_or(());
    }
}

/// `BIO_read(bio, data, length)` is called.
#[inline(always)]
pub fn taking(who: &TrackedThread, data: u64) {
    let call = tls::under_way(who);
    if !call.is_null() {
        // SAFETY: the running thread's own entry.
        unsafe { (*call).incoming = data };
    }
}

/// `BIO_read` returns. The library reads a record's header first, and then what is behind it.
#[inline(never)]
pub fn taken(who: &TrackedThread, len: i32) {
    let tls = unbound(who);
    if tls.is_null() {
        return;
    }
    who.set_flag(tracked::BINDS);
    if i64::from(len) < PREFIX as i64 {
        return;
    }
    let call = tls::under_way(who);
    if call.is_null() {
        return;
    }
    // SAFETY: the running thread's own entry.
    let data = unsafe { (*call).incoming };
    let skip = if RecordHeader::at(data).is_application_data() { RecordHeader::LEN } else { 0 };
    let mut prefix = Prefix { generation: who.generation, bytes: [0; 2] };
    if !prefix.read(data.wrapping_add(skip)) {
        return;
    }
    // SAFETY: copied out at once.
    if let Some(id) = (unsafe { RECEIVED_RECORDS.get(&prefix) }).copied() {
        // SAFETY: a live map value.
        socket::bind_streams(id, unsafe { (*tls).id });
    }
}

/// Whether the ciphertext that a socket moves may say whose it is. Inside a TLS call it is known.
#[inline(always)]
pub fn wanted(who: &TrackedThread, socket: *mut Stream) -> bool {
    // SAFETY: a live map value.
    let unbound = unsafe { (*socket).bound } == 0;
    who.flags() & tracked::BINDS != 0 && unbound && tls::under_way(who).is_null()
}

#[repr(C)]
struct Walk {
    prefix: Prefix,
    /// Where the next record begins.
    at: u64,
    end: u64,
    /// The socket stream.
    socket: u64,
    /// The TLS stream, once it is found.
    tls: u64,
    dir: u8,
}

/// A socket moved ciphertext.
#[inline(never)]
pub fn moved(who: &TrackedThread, socket: *mut Stream, base: u64, len: u64, dir: u8) {
    let mut walk = Walk {
        prefix: Prefix { generation: who.generation, bytes: [0; 2] },
        at: base,
        end: base.wrapping_add(len),
        // SAFETY: a live map value.
        socket: unsafe { (*socket).id },
        tls: current::zero(),
        dir,
    };
    stream::repeat(&mut walk, next_record);
    if walk.tls != 0 {
        socket::bind_streams(walk.socket, walk.tls);
    }
}

#[inline(never)]
extern "C" fn next_record(index: u32, walk: &mut Walk) -> u64 {
    let header = RecordHeader::at(walk.at);
    let body = walk.at.wrapping_add(RecordHeader::LEN);
    if index >= RECORDS || !header.is_one() || body.wrapping_add(PREFIX) > walk.end {
        return STOP;
    }
    walk.at = body.wrapping_add(header.body());
    if !header.is_application_data() || header.body() < PREFIX || !walk.prefix.read(body) {
        return GO_ON;
    }
    if walk.dir == READ {
        RECEIVED_RECORDS.insert(&walk.prefix, &walk.socket, 0).unwrap_or(());
        return GO_ON;
    }
    // SAFETY: copied out at once.
    walk.tls = (unsafe { SENT_RECORDS.get(&walk.prefix) }).copied().unwrap_or(0);
    if walk.tls == 0 { GO_ON } else { STOP }
}

impl Prefix {
    /// Takes the bytes at an address; false when they cannot be read.
    #[inline(always)]
    fn read(&mut self, address: u64) -> bool {
        target::read_into(address, &mut self.bytes)
    }
}
