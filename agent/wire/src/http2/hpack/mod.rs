//! Header compression (RFC 7541): decodes field blocks, also of a connection that is joined late.

mod huffman;
mod static_table;
mod table;
#[cfg(test)]
mod tests;

use crate::{Limits, Reason};
use table::{FrameSearchResult, Table};

/// Decodes the field blocks of one direction.
///
/// SETTINGS_HEADER_TABLE_SIZE is not needed: it only bounds the size updates in the blocks.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
    /// Most bytes that the fields of a block may have.
    max_block: usize,
}

/// The fields of a block, in order. Its allocations are kept for the next block.
#[derive(Debug, Default)]
pub(super) struct Fields {
    bytes: Vec<u8>,
    /// Where each name and each value ends in `bytes`.
    ends: Vec<(usize, usize)>,
    /// Every field of the block was resolved.
    pub(super) complete: bool,
}

/// Most fields of a block: further ones are skipped.
const MAX_FIELDS: usize = 1024;

impl Decoder {
    /// `from_start`: the first block of the direction will be seen.
    pub(super) const fn new(limits: &Limits, from_start: bool) -> Self {
        Self { table: Table::new(limits.table, from_start), max_block: limits.head }
    }

    /// A block was lost.
    pub(super) fn lose(&mut self) {
        self.table.lose();
    }

    /// Decodes a block, without the fields that refer to entries that were not seen.
    pub(super) fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), Reason> {
        fields.clear();
        fields.complete = true;
        let read = self.fields(block, fields);
        if read.is_err() {
            self.lose();
            fields.clear();
        }
        read
    }

    fn fields(&mut self, mut input: &[u8], fields: &mut Fields) -> Result<(), Reason> {
        let mut starts = true;
        while let Some(&first) = input.first() {
            match first {
                0x80.. => {
                    let index = integer(&mut input, 7)?;
                    match self.table.find(index)? {
                        FrameSearchResult::Field(name, value) => {
                            let begins = fields.bytes.len();
                            fields.bytes.extend_from_slice(name);
                            let ends = fields.bytes.len();
                            fields.bytes.extend_from_slice(value);
                            fields.push(begins, ends, self.max_block);
                        }
                        FrameSearchResult::Unknown => fields.complete = false,
                    }
                }
                0x20..0x40 => {
                    if !starts {
                        return Err(Reason::HpackTableSizeMisplaced);
                    }
                    self.table.resize(integer(&mut input, 5)?);
                    continue;
                }
                0x40..0x80 => self.literal(&mut input, 6, true, fields)?,
                0x00..0x20 => self.literal(&mut input, 4, false, fields)?,
            }
            starts = false;
        }
        Ok(())
    }

    fn literal(
        &mut self,
        input: &mut &[u8],
        bits: u32,
        insert: bool,
        fields: &mut Fields,
    ) -> Result<(), Reason> {
        let begins = fields.bytes.len();
        let known = match integer(input, bits)? {
            0 => {
                string(input, &mut fields.bytes)?;
                true
            }
            index => match self.table.find(index)? {
                FrameSearchResult::Field(name, _) => {
                    fields.bytes.extend_from_slice(name);
                    true
                }
                FrameSearchResult::Unknown => false,
            },
        };
        let ends = fields.bytes.len();
        string(input, &mut fields.bytes)?;
        if insert && known {
            self.table.insert(&fields.bytes[begins..], ends - begins);
        } else if insert {
            self.table.insert_unknown(fields.bytes.len() - ends);
        }
        if known {
            fields.push(begins, ends, self.max_block);
        } else {
            fields.bytes.truncate(begins);
            fields.complete = false;
        }
        Ok(())
    }
}

impl Fields {
    /// Every field as (name, value).
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts
            .zip(&self.ends)
            .map(|(start, &(name, value))| (&self.bytes[start..name], &self.bytes[name..value]))
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.complete = false;
    }

    /// Completes the field that was appended to `bytes`, or removes it if it is over the limit.
    fn push(&mut self, begins: usize, name: usize, most: usize) {
        if self.bytes.len() > most || self.ends.len() == MAX_FIELDS {
            self.bytes.truncate(begins);
            self.complete = false;
        } else {
            self.ends.push((name, self.bytes.len()));
        }
    }
}

/// Whether a block begins a request, as far as its first fields show without the dynamic table. `None` where they do
/// not show it, or the block begins no message.
pub(super) fn begins_request(mut block: &[u8]) -> Option<bool> {
    while let Some(&first) = block.first() {
        let bits = match first {
            0x80.. => 7,
            0x40..0x80 => 6,
            0x20..0x40 => 5,
            0x00..0x20 => 4,
        };
        let index = integer(&mut block, bits).ok()?;
        match (bits, index) {
            (5, _) => {}
            // Pseudo-header fields in the static table.
            (_, 1..=7) => return Some(true),
            (_, 8..=14) => return Some(false),
            (7, 62..) => {}
            _ => return None,
        }
    }
    None
}

/// An integer with a prefix of this many bits (RFC 7541 §5.1).
fn integer(input: &mut &[u8], bits: u32) -> Result<usize, Reason> {
    let most = (1 << bits) - 1;
    let (&first, mut rest) = input.split_first().ok_or(Reason::HpackTruncated)?;
    let mut value = usize::from(first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(Reason::HpackTruncated)?;
            rest = after;
            // More bits than any size here can have.
            if shift > 21 {
                return Err(Reason::HpackIntegerTooLarge);
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *input = rest;
    Ok(value)
}

/// A string (RFC 7541 §5.2), appended to `out`.
fn string(input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let huffman = input.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer(input, 7)?;
    let (coded, rest) = input.split_at_checked(len).ok_or(Reason::HpackTruncated)?;
    *input = rest;
    if huffman {
        return huffman::decode(coded, out);
    }
    out.extend_from_slice(coded);
    Ok(())
}
