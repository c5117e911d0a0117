//! How far a direction has been seen: captured calls in, new bytes and gaps out.

/// The next expected offset of a direction, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    next: u64,
}

/// What a call adds to a direction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Advance<'a> {
    /// How many bytes are missing before `bytes`.
    pub(crate) missing: u64,
    /// The bytes of the call that were not seen before.
    pub(crate) bytes: &'a [u8],
    /// `bytes` begins where the call began.
    pub(crate) starts_call: bool,
}

impl Position {
    /// Takes the bytes of a captured call.
    pub(crate) fn take<'a>(&mut self, offset: u64, bytes: &'a [u8]) -> Advance<'a> {
        let next = self.next;
        let seen = usize::try_from(next.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        let end = offset.saturating_add(bytes.len() as u64);
        self.next = next.max(end);
        Advance { missing: offset.saturating_sub(next), bytes: &bytes[seen..], starts_call: seen == 0 }
    }

    /// Takes a known loss; returns how many bytes are missing that were not seen before.
    pub(crate) fn lose(&mut self, offset: u64, len: u64) -> u64 {
        let next = self.next;
        self.next = offset.saturating_add(len).max(next);
        self.next - next
    }
}

/// Takes the first `len` bytes off the input.
pub(crate) fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(len);
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_in_order_pass_whole_overlap_is_dropped_and_a_jump_is_a_gap() {
        #[track_caller]
        fn check(at: &mut Position, offset: u64, bytes: &[u8], want: (u64, &[u8], bool)) {
            let run = at.take(offset, bytes);
            assert_eq!((run.missing, run.bytes, run.starts_call), want);
        }
        let mut at = Position::default();
        check(&mut at, 10, b"abc", (10, b"abc", true));
        check(&mut at, 13, b"def", (0, b"def", true));
        check(&mut at, 14, b"efgh", (0, b"gh", false));
        check(&mut at, 10, b"abc", (0, b"", false));
        check(&mut at, 20, b"x", (2, b"x", true));
        assert_eq!(at.lose(18, 10), 7);
        assert_eq!(at.lose(18, 10), 0);
        check(&mut at, 28, b"y", (0, b"y", true));
        check(&mut at, u64::MAX, b"yz", (u64::MAX - 29, b"yz", true));
    }
}
