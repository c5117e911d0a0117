//! The content coding `gzip` (RFC 1952): one or more members.

use flate2::Decompress;

use super::{deflate::inflate, progress::Progress};
use crate::Reason;

pub(super) struct Gzip {
    state: MemberState,
    inflate: Decompress,
}

/// Where in a member the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MemberState {
    /// In the fixed part of the header, after this many bytes; and its flags.
    Header(u8, Flags),
    /// In the length of the extra field, whose first byte may be known.
    ExtraLength(Option<u8>, Flags),
    /// In the extra field, with this many bytes to come.
    Extra(u16, Flags),
    /// In the file name or the comment.
    Text(Flags),
    /// In the header's checksum, with this many bytes to come.
    Checksum(u8),
    Data,
    /// In the checksum and length after the data, with this many bytes to come.
    Trailer(u8),
    /// After a member: another member, or bytes that are ignored.
    Between,
    Padding,
}

/// The parts of the header that are still to come.
type Flags = u8;
const CHECKSUM: Flags = 1 << 1;
const EXTRA: Flags = 1 << 2;
const NAME: Flags = 1 << 3;
const COMMENT: Flags = 1 << 4;

impl Gzip {
    pub(super) fn new() -> Self {
        Self { state: MemberState::Header(0, 0), inflate: Decompress::new(false) }
    }

    pub(super) fn reset(&mut self) {
        self.state = MemberState::Header(0, 0);
        self.inflate.reset(false);
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.state, MemberState::Between | MemberState::Padding)
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, Reason> {
        let mut taken = 0;
        loop {
            if self.state == MemberState::Data {
                let (progress, over) = inflate(&mut self.inflate, &input[taken..], out)?;
                taken += progress.taken;
                if over {
                    self.inflate.reset(false);
                    self.state = MemberState::Trailer(8);
                }
                if !over || progress.given > 0 {
                    return Ok(Progress { taken, given: progress.given });
                }
                continue;
            }
            if self.state == MemberState::Padding {
                taken = input.len();
            }
            let Some(&byte) = input.get(taken) else { return Ok(Progress { taken, given: 0 }) };
            self.state = self.state.after(byte)?;
            taken += 1;
        }
    }
}

impl MemberState {
    /// The state after a byte that is not compressed data.
    fn after(self, byte: u8) -> Result<Self, Reason> {
        Ok(match self {
            Self::Header(0, _) if byte != 0x1f => return Err(Reason::ContentCodingCorrupt),
            Self::Header(1, _) if byte != 0x8b => return Err(Reason::ContentCodingCorrupt),
            // 8 is deflate, the only method there is.
            Self::Header(2, _) if byte != 8 => return Err(Reason::ContentCodingCorrupt),
            Self::Header(3, _) => Self::Header(4, byte),
            Self::Header(9, flags) => Self::next_part(flags),
            Self::Header(seen, flags) => Self::Header(seen + 1, flags),
            Self::ExtraLength(None, flags) => Self::ExtraLength(Some(byte), flags),
            Self::ExtraLength(Some(low), flags) => match u16::from_le_bytes([low, byte]) {
                0 => Self::next_part(flags),
                length => Self::Extra(length, flags),
            },
            Self::Extra(1, flags) => Self::next_part(flags),
            Self::Extra(left, flags) => Self::Extra(left - 1, flags),
            Self::Text(flags) if byte == 0 => Self::next_part(flags),
            Self::Checksum(1) => Self::Data,
            Self::Checksum(left) => Self::Checksum(left - 1),
            Self::Trailer(1) => Self::Between,
            Self::Trailer(left) => Self::Trailer(left - 1),
            Self::Between if byte == 0x1f => Self::Header(1, 0),
            Self::Between => Self::Padding,
            Self::Text(_) | Self::Data | Self::Padding => self,
        })
    }

    const fn next_part(flags: Flags) -> Self {
        if flags & EXTRA != 0 {
            Self::ExtraLength(None, flags & !EXTRA)
        } else if flags & NAME != 0 {
            Self::Text(flags & !NAME)
        } else if flags & COMMENT != 0 {
            Self::Text(flags & !COMMENT)
        } else if flags & CHECKSUM != 0 {
            Self::Checksum(2)
        } else {
            Self::Data
        }
    }
}
