//! Inputs that are more than one run of bytes: where they are cut, and what happens between the pieces.
//!
//! A [`MARK`] begins a step, the byte after it says which, and the step's bytes go up to the next mark. A mark
//! twice is that byte itself. A change inside a step so leaves all others as they are, which lengths in front
//! would not; and the mark is a byte that UTF-8 never has.

use std::fmt::Debug;

/// Begins a step.
pub const MARK: u8 = 0xf5;

/// A step of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptStep {
    /// What is done; 0 for what comes before the first mark.
    pub code: u8,
    /// With what.
    pub bytes: Vec<u8>,
}

/// Reads an input. Any bytes are one.
#[must_use]
pub fn read(input: &[u8]) -> Vec<ScriptStep> {
    let mut steps = Vec::new();
    let mut step = ScriptStep { code: 0, bytes: Vec::new() };
    let mut rest = input.iter().copied();
    while let Some(byte) = rest.next() {
        match (byte, byte == MARK) {
            (_, false) => step.bytes.push(byte),
            _ => match rest.next() {
                Some(MARK) => step.bytes.push(MARK),
                Some(code) => {
                    let begun = std::mem::replace(&mut step, ScriptStep { code, bytes: Vec::new() });
                    steps.extend((begun.code != 0 || !begun.bytes.is_empty()).then_some(begun));
                }
                None => {}
            },
        }
    }
    steps.push(step);
    steps
}

/// Adds a step to an input.
pub fn write(input: &mut Vec<u8>, code: u8, bytes: &[u8]) {
    assert_ne!(code, MARK, "no step has this code");
    input.extend([MARK, code]);
    for &byte in bytes {
        input.extend((byte == MARK).then_some(MARK));
        input.push(byte);
    }
}

/// A body in pieces: code 0 is a piece, odd codes say that bytes are missing before it.
#[must_use]
pub fn pieces(steps: &[ScriptStep]) -> Vec<(bool, &[u8])> {
    steps.iter().map(|step| (step.code & 1 == 1, &step.bytes[..])).collect()
}

/// Checks that a body in pieces, if none is missing, says what it says as a whole.
///
/// # Panics
/// When it does not.
pub fn check_pieces<T: PartialEq + Debug>(input: &[u8], read: impl Fn(&[(bool, &[u8])]) -> T) {
    let steps = self::read(input);
    let pieces = pieces(&steps);
    let in_pieces = read(&pieces);
    if !pieces.iter().any(|(gap, _)| *gap) {
        let body: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        assert_eq!(in_pieces, read(&[(false, &body)]));
    }
}

/// Cuts bytes into runs of up to 7, in a pattern that the bytes make.
pub fn recut(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&first, len) = (rest.first()?, rest.len());
        let (piece, tail) = rest.split_at((1 + usize::from(first % 7)).min(len));
        rest = tail;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let steps = [(3, &b"GET /"[..]), (4, &[MARK, b'x', MARK]), (5, b"")];
        let mut input = Vec::new();
        for (code, bytes) in steps {
            write(&mut input, code, bytes);
        }
        let read = read(&input);
        assert!(read.iter().map(|step| (step.code, &step.bytes[..])).eq(steps));
    }

    #[test]
    fn any_bytes_are_an_input() {
        for (input, want) in [
            (&b""[..], vec![(0, &b""[..])]),
            (b"plain", vec![(0, b"plain")]),
            (b"a\xf5", vec![(0, b"a")]),
            (b"a\xf5\x01\xf5\x02b", vec![(0, b"a"), (1, b""), (2, b"b")]),
        ] {
            assert!(read(input).iter().map(|step| (step.code, &step.bytes[..])).eq(want), "{input:?}");
        }
    }

    #[test]
    fn a_recut_loses_nothing() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(recut(&bytes).collect::<Vec<_>>().concat(), bytes);
    }
}
