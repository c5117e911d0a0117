//! The Huffman code of string literals (RFC 7541 §5.2, Appendix B), four bits at a time.

use crate::Reason;

/// Appends the decoded string to `out`.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut node = 0;
    for &byte in coded {
        for nibble in [byte >> 4, byte & 15] {
            let FrameStep { next, symbol } = MACHINE.steps[node as usize][nibble as usize];
            match symbol {
                Symbol::None => {}
                Symbol::Byte(byte) => out.push(byte),
                Symbol::End => return Err(Reason::HuffmanInvalid),
            }
            node = next;
        }
    }
    if MACHINE.may_end[node as usize] { Ok(()) } else { Err(Reason::HuffmanInvalid) }
}

/// The length of the code of each byte, and of the end of string, in bits. The code is canonical: codes of one length
/// are consecutive, and the first one of a length follows the last one of the length before.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

static MACHINE: Machine = Machine::new();

/// The transitions of each inner node of the code's tree, by the next four bits.
struct Machine {
    steps: [[FrameStep; 16]; 256],
    /// A string may end at this node: the bits since the last symbol are padding (at most 7 ones).
    may_end: [bool; 256],
}

#[derive(Clone, Copy)]
struct FrameStep {
    /// The node after the four bits.
    next: u8,
    /// The symbol that the four bits complete: at most one, as the shortest code has 5 bits.
    symbol: Symbol,
}

#[derive(Clone, Copy)]
enum Symbol {
    None,
    Byte(u8),
    End,
}

/// Children of an inner node; a leaf is `LEAF` and its symbol.
type Tree = [[u16; 2]; 256];
const LEAF: u16 = 1 << 15;
const END: u16 = 256;

impl Machine {
    const fn new() -> Self {
        let tree = tree();
        let mut steps = [[FrameStep { next: 0, symbol: Symbol::None }; 16]; 256];
        let mut node = 0;
        while node < 256 {
            let mut nibble = 0;
            while nibble < 16 {
                steps[node][nibble] = step(&tree, node, nibble);
                nibble += 1;
            }
            node += 1;
        }
        let mut may_end = [false; 256];
        let (mut node, mut ones) = (0, 0);
        while ones < 8 {
            may_end[node] = true;
            node = tree[node][1] as usize;
            ones += 1;
        }
        Self { steps, may_end }
    }
}

const fn step(tree: &Tree, node: usize, nibble: usize) -> FrameStep {
    let (mut at, mut symbol, mut bit) = (node as u16, Symbol::None, 4);
    while bit > 0 {
        bit -= 1;
        at = tree[at as usize][nibble >> bit & 1];
        if at & LEAF != 0 {
            symbol = match at & !LEAF {
                END => Symbol::End,
                byte => Symbol::Byte(byte as u8),
            };
            at = 0;
        }
    }
    FrameStep { next: at as u8, symbol }
}

const fn tree() -> Tree {
    let mut tree = [[0; 2]; 256];
    let (mut nodes, mut code, mut length) = (1, 0_u32, 1);
    while length <= 30 {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == length {
                let (mut at, mut bit) = (0, length - 1);
                while bit > 0 {
                    let side = (code >> bit & 1) as usize;
                    if tree[at][side] == 0 {
                        tree[at][side] = nodes;
                        nodes += 1;
                    }
                    at = tree[at][side] as usize;
                    bit -= 1;
                }
                tree[at][(code & 1) as usize] = LEAF | symbol as u16;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes `text`, padded with ones.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
        order.sort_by_key(|&symbol| (LENGTHS[symbol], symbol));
        let (mut codes, mut code, mut length) = ([0_u32; 257], 0, 0);
        for symbol in order {
            code <<= LENGTHS[symbol] - length;
            length = LENGTHS[symbol];
            codes[symbol] = code;
            code += 1;
        }
        let (mut bits, mut count, mut coded) = (0_u64, 0, Vec::new());
        for &byte in text {
            bits = bits << LENGTHS[byte as usize] | u64::from(codes[byte as usize]);
            count += LENGTHS[byte as usize];
            while count >= 8 {
                count -= 8;
                coded.push((bits >> count) as u8);
            }
        }
        if count > 0 {
            coded.push((bits << (8 - count)) as u8 | 0xff >> count);
        }
        coded
    }

    #[track_caller]
    fn check(coded: &[u8], want: Result<&[u8], Reason>) {
        let mut out = Vec::new();
        assert_eq!(decode(coded, &mut out).map(|()| &out[..]), want);
    }

    #[test]
    fn rfc_7541_appendix_b_every_byte_is_decoded() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        check(&encode(&all), Ok(&all));
        for byte in 0..=255 {
            check(&encode(&[byte]), Ok(&[byte]));
        }
        // As printed there: '0' is 00000, 'z' 1111011, '\n' 30 bits.
        assert_eq!(encode(b"0"), [0b0000_0111]);
        assert_eq!(encode(b"z"), [0b1111_0111]);
        assert_eq!(encode(b"\n"), [0xff, 0xff, 0xff, 0xf3]);
    }

    #[test]
    fn rfc_7541_5_2_padding_is_at_most_seven_ones() {
        check(b"", Ok(b""));
        check(b"\x07", Ok(b"0"));
        check(b"\x06", Err(Reason::HuffmanInvalid));
        check(b"\xff", Err(Reason::HuffmanInvalid));
        check(b"\x07\xff", Err(Reason::HuffmanInvalid));
        check(b"\xff\xff\xff\xff", Err(Reason::HuffmanInvalid));
        check(b"\xff\xff\xff", Err(Reason::HuffmanInvalid));
    }
}
