//! Frames: what each kind carries, and the decoder that trusts none of it.

use crate::{ABI_VERSION, Direction, HEADER_LEN, HEADER_LEN_V1, Header};

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a stream.
    Data = 1,
    /// A socket was connected or accepted, or a stream was first seen.
    Open = 2,
    /// A stream ended; carries its final offsets.
    Close = 3,
    /// A TLS handle was seen to use a socket stream.
    Bind = 4,
    /// A process replaced its image; carries the file name it was started as.
    Exec = 5,
    /// A tracked process made a child, which is tracked from its first instruction.
    Fork = 6,
    /// A tracked process ended.
    Exit = 7,
    /// Bytes of a stream that could not be delivered; `orig` says how many.
    Loss = 8,
    /// A tracked process mapped a file as executable: its TLS code may have changed.
    Map = 9,
    /// One direction of a stream was shut down (`shutdown(2)`, or an end of file was read).
    HalfClose = 10,
    /// A descriptor was used that the kernel side cannot place (only on kernels without BTF); carries its number.
    UnknownDescriptor = 11,
    /// The process has as many open streams as one process may have: further ones are not captured.
    OverQuota = 12,
    /// The process uses io_uring, whose transfers are not all seen.
    IoUring = 13,
    /// Bytes of a TLS stream passed whose socket is not known: its library moves ciphertext through memory.
    Unbound = 14,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Data,
            2 => Self::Open,
            3 => Self::Close,
            4 => Self::Bind,
            5 => Self::Exec,
            6 => Self::Fork,
            7 => Self::Exit,
            8 => Self::Loss,
            9 => Self::Map,
            10 => Self::HalfClose,
            11 => Self::UnknownDescriptor,
            12 => Self::OverQuota,
            13 => Self::IoUring,
            14 => Self::Unbound,
            _ => return None,
        })
    }
}

/// How a stream came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opened {
    /// `connect(2)`: the process is the client of the transport.
    Connect = 1,
    /// `accept(2)`: the process is the server of the transport.
    Accept = 2,
    /// Seen in use first.
    Seen = 3,
}

/// Address family of an [`Open`] payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// An IPv4 address in the first four bytes.
    V4,
    /// An IPv6 address.
    V6,
    /// A Unix socket.
    Unix,
    /// Not known to the kernel side.
    Unknown,
}

/// Payload of [`Kind::Open`]: 28 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Open {
    /// An [`Opened`].
    pub how: u8,
    /// Zero.
    pub reserved: u8,
    /// `AF_*` of the peer, 0 when unknown.
    pub family: u16,
    /// Peer port in host order.
    pub port: u16,
    /// Zero.
    pub reserved2: u16,
    /// File descriptor, or -1 for a TLS handle.
    pub fd: i32,
    /// Peer address, network order; the first four bytes for IPv4.
    pub addr: [u8; 16],
}

impl Open {
    /// Size on the wire.
    pub const LEN: usize = size_of::<Self>();

    /// The family as a type.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.family {
            2 => Family::V4,
            10 => Family::V6,
            1 => Family::Unix,
            _ => Family::Unknown,
        }
    }
}

/// Payload of [`Kind::Close`]: 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Close {
    /// Bytes that passed in each direction since the stream was first seen.
    pub offsets: [u64; 2],
    /// Bytes of those that a verdict left out.
    pub skipped: [u64; 2],
}

impl Close {
    /// Size on the wire.
    pub const LEN: usize = size_of::<Self>();
}

/// Payload of [`Kind::Bind`]: 40 bytes; of version 1 the first 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bind {
    /// The socket stream.
    pub socket: u64,
    /// How the socket was opened and to whom.
    pub open: Open,
    /// Zero.
    pub reserved: u32,
}

impl Bind {
    /// Size on the wire.
    pub const LEN: usize = size_of::<Self>();
}

const _: () = {
    assert!(Bind::LEN == 40);
    assert!(Open::LEN == 28);
    assert!(Close::LEN == 32);
};

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than a header, or than the header's length says.
    Short,
    /// Written by another version of the kernel side.
    Version(u8),
    /// No such kind.
    Kind(u8),
    /// No such direction.
    Direction(u8),
    /// The payload is too short for its kind.
    Payload(Kind),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Short => write!(f, "frame is shorter than its header says"),
            Self::Version(v) => write!(f, "frame has ABI version {v}, this build reads {ABI_VERSION}"),
            Self::Kind(k) => write!(f, "unknown frame kind {k}"),
            Self::Direction(d) => write!(f, "unknown direction {d}"),
            Self::Payload(kind) => write!(f, "payload too short for a {kind:?} frame"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A decoded frame; the payload borrows from the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The fixed part.
    pub header: Header,
    /// `header.kind`, checked.
    pub kind: Kind,
    /// `header.dir`, checked.
    pub dir: Direction,
    /// Exactly `header.len` bytes.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// [`Header::turns`], where it is known.
    #[must_use]
    pub fn turns(&self) -> Option<u32> {
        let [a, b, c] = self.header.turns;
        Some(u32::from_le_bytes([a, b, c, 0])).filter(|&turns| turns != 0)
    }

    /// The payload of an [`Kind::Open`] frame; of a [`Kind::Bind`] frame, that of the socket.
    #[must_use]
    pub fn open(&self) -> Option<Open> {
        let p = match self.kind {
            Kind::Open => self.payload,
            Kind::Bind => self.payload.get(8..)?,
            _ => return None,
        };
        if p.len() < Open::LEN {
            return None;
        }
        let mut addr = [0; 16];
        addr.copy_from_slice(&p[12..28]);
        Some(Open {
            how: p[0],
            reserved: 0,
            family: u16_at(p, 2),
            port: u16_at(p, 4),
            reserved2: 0,
            fd: u32_at(p, 8).cast_signed(),
            addr,
        })
    }

    /// The payload of a [`Kind::Close`] frame.
    #[must_use]
    pub fn close(&self) -> Option<Close> {
        let p = self.payload;
        if self.kind != Kind::Close || p.len() < Close::LEN {
            return None;
        }
        Some(Close { offsets: [u64_at(p, 0), u64_at(p, 8)], skipped: [u64_at(p, 16), u64_at(p, 24)] })
    }

    /// The socket stream of a [`Kind::Bind`] frame.
    #[must_use]
    pub fn bound(&self) -> Option<u64> {
        (self.kind == Kind::Bind && self.payload.len() >= 8).then(|| u64_at(self.payload, 0))
    }

    /// The child of a [`Kind::Fork`] frame.
    #[must_use]
    pub fn child(&self) -> Option<u32> {
        (self.kind == Kind::Fork && self.payload.len() >= 4).then(|| u32_at(self.payload, 0))
    }

    /// The descriptor of a [`Kind::UnknownDescriptor`] frame.
    #[must_use]
    pub fn descriptor(&self) -> Option<u32> {
        (self.kind == Kind::UnknownDescriptor && self.payload.len() >= 4).then(|| u32_at(self.payload, 0))
    }

    /// Bytes of the frame from its start: header and payload.
    #[must_use]
    pub fn total_len(&self) -> usize {
        usize::from(self.header.header_len) + self.payload.len()
    }

    /// The file name of a [`Kind::Exec`] frame, up to its first NUL.
    #[must_use]
    pub fn filename(&self) -> Option<&[u8]> {
        (self.kind == Kind::Exec).then(|| self.payload.split(|b| *b == 0).next().unwrap_or_default())
    }

    /// Whether the flag bits are all set.
    #[must_use]
    pub const fn has(&self, flag: u16) -> bool {
        self.header.flags & flag == flag
    }
}

/// Reads one frame. Bytes behind the payload are ignored: ring records are rounded up to size classes.
///
/// # Errors
/// [`DecodeError`] when the bytes are not a frame of this ABI; nothing is trusted before it is checked.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, DecodeError> {
    if bytes.len() < HEADER_LEN_V1 {
        return Err(DecodeError::Short);
    }
    let version = bytes[0];
    let header_len = match version {
        1 => HEADER_LEN_V1,
        ABI_VERSION => usize::from(u16_at(bytes.get(..HEADER_LEN).ok_or(DecodeError::Short)?, HEADER_LEN_V1)),
        _ => return Err(DecodeError::Version(version)),
    };
    let kind = Kind::from_byte(bytes[1]).ok_or(DecodeError::Kind(bytes[1]))?;
    let dir = Direction::from_index(bytes[44]).ok_or(DecodeError::Direction(bytes[44]))?;
    let mut header = Header {
        version,
        kind: bytes[1],
        flags: u16_at(bytes, 2),
        len: u32_at(bytes, 4),
        time: u64_at(bytes, 8),
        tgid: u32_at(bytes, 16),
        tid: u32_at(bytes, 20),
        stream: u64_at(bytes, 24),
        offset: u64_at(bytes, 32),
        orig: u32_at(bytes, 40),
        dir: bytes[44],
        turns: [bytes[45], bytes[46], bytes[47]],
        header_len: header_len as u16,
        ..Header::default()
    };
    if version != 1 {
        if header_len < HEADER_LEN {
            return Err(DecodeError::Short);
        }
        header.epoch = u32_at(bytes, 52);
        header.generation = u64_at(bytes, 56);
        header.cgroup = u64_at(bytes, 64);
    }
    let end = usize::try_from(header.len)
        .ok()
        .and_then(|len| header_len.checked_add(len))
        .ok_or(DecodeError::Short)?;
    let payload = bytes.get(header_len..end).ok_or(DecodeError::Short)?;
    let needed = match kind {
        Kind::Open => Open::LEN,
        Kind::Close => Close::LEN,
        Kind::Bind => 8,
        Kind::Fork | Kind::UnknownDescriptor => 4,
        Kind::Data
        | Kind::Exec
        | Kind::Exit
        | Kind::Loss
        | Kind::Map
        | Kind::HalfClose
        | Kind::OverQuota
        | Kind::IoUring
        | Kind::Unbound => 0,
    };
    if payload.len() < needed {
        return Err(DecodeError::Payload(kind));
    }
    Ok(Frame { header, kind, dir, payload })
}

/// The header's bytes as this version writes them, for tapes and tests; the kernel side writes the struct itself.
#[must_use]
pub fn encode(header: &Header) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[0] = ABI_VERSION;
    out[1] = header.kind;
    out[2..4].copy_from_slice(&header.flags.to_le_bytes());
    out[4..8].copy_from_slice(&header.len.to_le_bytes());
    out[8..16].copy_from_slice(&header.time.to_le_bytes());
    out[16..20].copy_from_slice(&header.tgid.to_le_bytes());
    out[20..24].copy_from_slice(&header.tid.to_le_bytes());
    out[24..32].copy_from_slice(&header.stream.to_le_bytes());
    out[32..40].copy_from_slice(&header.offset.to_le_bytes());
    out[40..44].copy_from_slice(&header.orig.to_le_bytes());
    out[44] = header.dir;
    out[45..48].copy_from_slice(&header.turns);
    out[48..50].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
    out[52..56].copy_from_slice(&header.epoch.to_le_bytes());
    out[56..64].copy_from_slice(&header.generation.to_le_bytes());
    out[64..72].copy_from_slice(&header.cgroup.to_le_bytes());
    out
}

// Callers have checked the length.
fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            version: ABI_VERSION,
            kind: kind as u8,
            flags: crate::flags::TLS,
            len: u32::try_from(payload.len()).unwrap(),
            time: 7,
            tgid: 42,
            tid: 43,
            stream: u64::MAX - 1,
            offset: 1 << 40,
            orig: 99,
            dir: 1,
            turns: [1, 2, 3],
            header_len: HEADER_LEN as u16,
            epoch: 9,
            generation: 1 << 50,
            cgroup: 77,
            ..Header::default()
        };
        let mut bytes = Vec::from(encode(&header));
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_frame_survives_the_ring() {
        let bytes = frame(Kind::Data, b"hello");
        let got = decode(&bytes).unwrap();
        assert_eq!(got.payload, b"hello");
        assert_eq!(got.dir, Direction::Read);
        assert_eq!(got.header.stream, u64::MAX - 1);
        assert_eq!(got.header.offset, 1 << 40);
        assert_eq!(got.turns(), Some(0x03_0201));
        assert!(got.has(crate::flags::TLS));
        assert_eq!((got.header.epoch, got.header.generation, got.header.cgroup), (9, 1 << 50, 77));
        assert_eq!(encode(&got.header), bytes[..HEADER_LEN]);
        assert_eq!(got.total_len(), bytes.len());
    }

    #[test]
    fn slack_behind_the_payload_is_ignored() {
        let mut bytes = frame(Kind::Data, b"hello");
        bytes.extend_from_slice(&[0xff; 200]);
        assert_eq!(decode(&bytes).unwrap().payload, b"hello");
    }

    #[test]
    fn a_longer_header_of_a_newer_kernel_side_is_skipped_by_its_length() {
        let mut bytes = frame(Kind::Data, b"hello");
        bytes[48..50].copy_from_slice(&(HEADER_LEN as u16 + 16).to_le_bytes());
        bytes.splice(HEADER_LEN..HEADER_LEN, [0xee; 16]);
        let got = decode(&bytes).unwrap();
        assert_eq!((got.payload, got.total_len()), (&b"hello"[..], bytes.len()));
        bytes[48..50].copy_from_slice(&(HEADER_LEN as u16 - 1).to_le_bytes());
        assert_eq!(decode(&bytes), Err(DecodeError::Short));
    }

    #[test]
    fn frames_of_tapes_of_version_1_are_read() {
        let mut bytes = frame(Kind::Data, b"hello");
        bytes[0] = 1;
        bytes.drain(HEADER_LEN_V1..HEADER_LEN);
        let got = decode(&bytes).unwrap();
        assert_eq!((got.payload, got.header.offset, got.total_len()), (&b"hello"[..], 1 << 40, bytes.len()));
        assert_eq!((got.header.epoch, got.header.generation, got.header.cgroup), (0, 0, 0));
        bytes[0] = 3;
        assert_eq!(decode(&bytes), Err(DecodeError::Version(3)));
    }

    #[test]
    fn a_lying_length_is_refused() {
        let mut bytes = frame(Kind::Data, b"hello");
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&bytes), Err(DecodeError::Short));
        assert_eq!(decode(&bytes[..20]), Err(DecodeError::Short));
    }

    #[test]
    fn a_payload_too_short_for_its_kind_is_refused() {
        assert_eq!(decode(&frame(Kind::Open, &[0; 27])), Err(DecodeError::Payload(Kind::Open)));
        assert_eq!(decode(&frame(Kind::Fork, &[])), Err(DecodeError::Payload(Kind::Fork)));
    }

    #[test]
    fn payloads_read_back() {
        let open = frame(
            Kind::Open,
            &[1, 0, 2, 0, 0xbb, 0x01, 0, 0, 9, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        );
        let got = decode(&open).unwrap().open().unwrap();
        assert_eq!((got.family(), got.port, got.fd), (Family::V4, 443, 9));
        assert_eq!(got.addr[..4], [127, 0, 0, 1]);
        let bind = [&7u64.to_le_bytes()[..], &open[HEADER_LEN..], &[0; 4]].concat();
        let bind = frame(Kind::Bind, &bind);
        let bind = decode(&bind).unwrap();
        assert_eq!((bind.bound(), bind.open()), (Some(7), Some(got)));
        assert_eq!(
            decode(&frame(Kind::Bind, &7u64.to_le_bytes())).unwrap().open(),
            None,
            "version 1 had no address"
        );
        let exec = frame(Kind::Exec, b"/usr/bin/curl\0junk");
        assert_eq!(decode(&exec).unwrap().filename(), Some(&b"/usr/bin/curl"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(frame) = decode(&bytes) {
                let _used = (frame.open(), frame.close(), frame.bound(), frame.child(), frame.filename());
            }
        }
    }

    const KINDS: [Kind; 14] = [
        Kind::Data,
        Kind::Open,
        Kind::Close,
        Kind::Bind,
        Kind::Exec,
        Kind::Fork,
        Kind::Exit,
        Kind::Loss,
        Kind::Map,
        Kind::HalfClose,
        Kind::UnknownDescriptor,
        Kind::OverQuota,
        Kind::IoUring,
        Kind::Unbound,
    ];

    #[test]
    fn every_kind_comes_back_and_no_other_does() {
        for kind in KINDS {
            assert_eq!(decode(&frame(kind, &[0; 128])).unwrap().kind, kind);
        }
        for byte in [0, 15, 255] {
            let mut bytes = frame(Kind::Data, b"");
            bytes[1] = byte;
            assert_eq!(decode(&bytes).unwrap_err(), DecodeError::Kind(byte));
        }
    }

    #[test]
    fn a_payload_is_read_by_its_kind_alone_and_only_whole() {
        let payload: Vec<u8> = (1..=128).collect();
        let word = |at: usize| u64_at(&payload, at);
        for kind in KINDS {
            let bytes = frame(kind, &payload);
            let frame = decode(&bytes).unwrap();
            let close = frame.close().map(|close| (close.offsets, close.skipped));
            let whole = ([word(0), word(8)], [word(16), word(24)]);
            assert_eq!(close, (kind == Kind::Close).then_some(whole), "{kind:?}");
            assert_eq!(frame.bound(), (kind == Kind::Bind).then_some(word(0)), "{kind:?}");
            assert_eq!(frame.child(), (kind == Kind::Fork).then_some(0x0403_0201), "{kind:?}");
            let descriptor = (kind == Kind::UnknownDescriptor).then_some(0x0403_0201);
            assert_eq!(frame.descriptor(), descriptor, "{kind:?}");
        }
        for (kind, least) in [(Kind::Close, Close::LEN), (Kind::Fork, 4), (Kind::UnknownDescriptor, 4)] {
            assert_eq!(decode(&frame(kind, &payload[..least - 1])).unwrap_err(), DecodeError::Payload(kind));
            assert!(decode(&frame(kind, &payload[..least])).is_ok(), "{kind:?}");
        }
        let shortest = frame(Kind::Close, &payload[..Close::LEN]);
        assert!(decode(&shortest).unwrap().close().is_some());
    }

    #[test]
    fn flags_and_families_have_their_own_bits_and_numbers() {
        use crate::flags::{LAST_THREAD, LATE, LEFT, SKIPPED, TLS, UNTRACKED};
        let all = [TLS, LATE, SKIPPED, LEFT, LAST_THREAD, UNTRACKED];
        assert!(all.iter().all(|flag| flag.is_power_of_two()));
        assert_eq!(all.iter().fold(0, |sum, flag| sum | flag).count_ones() as usize, all.len());
        let bytes = frame(Kind::Data, b"");
        let frame = decode(&bytes).unwrap();
        assert!(frame.has(TLS) && !frame.has(LATE) && !frame.has(TLS | LATE));
        let family = |family: u16| Open { family, ..Open::default() }.family();
        assert_eq!([2, 10, 1, 7].map(family), [Family::V4, Family::V6, Family::Unix, Family::Unknown]);
    }

    #[test]
    fn directions_are_indices() {
        use crate::Direction;
        for (index, direction) in Direction::ALL.into_iter().enumerate() {
            assert_eq!(direction.index(), index);
            assert_eq!(Direction::from_index(index as u8), Some(direction));
            assert_eq!(direction.opposite().index(), 1 - index);
        }
        assert_eq!(Direction::from_index(2), None);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        use std::string::ToString as _;
        for (error, part) in
            [(DecodeError::Version(9), "9"), (DecodeError::Kind(77), "77"), (DecodeError::Direction(5), "5")]
        {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(!DecodeError::Short.to_string().is_empty());
        use crate::OLDEST_ABI_VERSION;
        let mut oldest = frame(Kind::HalfClose, b"")[..HEADER_LEN_V1].to_vec();
        oldest[0] = OLDEST_ABI_VERSION;
        let header = decode(&oldest).unwrap().header;
        assert_eq!((header.version, usize::from(header.header_len)), (OLDEST_ABI_VERSION, HEADER_LEN_V1));
        assert_eq!(decode(&frame(Kind::Data, b"")[..HEADER_LEN_V1 - 1]).unwrap_err(), DecodeError::Short);
        assert_eq!(decode(&frame(Kind::Data, b"")[..HEADER_LEN_V1]).unwrap_err(), DecodeError::Short);
    }
}
