//! The coding `br` (RFC 7932).

use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, HuffmanCode, SliceWrapper, SliceWrapperMut,
};

use super::progress::Progress;
use crate::Reason;

pub(super) struct Brotli {
    state: BrotliState<Tables<u8>, Tables<u32>, Tables<HuffmanCode>>,
    total: usize,
    over: bool,
}

impl Brotli {
    pub(super) fn new() -> Self {
        // `new` would also take the windows of up to 1 GiB that are no part of RFC 7932.
        let state = BrotliState::new_strict(Tables::new(), Tables::new(), Tables::new());
        Self { state, total: 0, over: false }
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.over
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, Reason> {
        if self.over {
            return Ok(Progress { taken: input.len(), given: 0 });
        }
        let (mut in_left, mut taken, mut out_left, mut given) = (input.len(), 0, out.len(), 0);
        let result = BrotliDecompressStream(
            &mut in_left,
            &mut taken,
            input,
            &mut out_left,
            &mut given,
            out,
            &mut self.total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(Reason::ContentCodingCorrupt),
            BrotliResult::ResultSuccess => self.over = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Progress { taken, given })
    }
}

/// Keeps tables for the next meta-block. Each meta-block has tables of its own, and each flush of the sender begins
/// one: in a stream, every event.
struct Tables<T> {
    spare: Vec<Table<T>>,
}

/// More are not in use at once.
const MOST: usize = 8;
/// Those with more entries are not kept.
const LARGEST: usize = 16 << 10;

/// Entries of a table, or bytes.
struct Table<T>(Vec<T>);

impl<T> Tables<T> {
    const fn new() -> Self {
        Self { spare: Vec::new() }
    }
}

impl<T: Clone + Default> Allocator<T> for Tables<T> {
    type AllocatedMemory = Table<T>;

    fn alloc_cell(&mut self, len: usize) -> Table<T> {
        let fitting = self.spare.iter().enumerate().filter(|(_, table)| table.0.capacity() >= len);
        let least = fitting.min_by_key(|(_, table)| table.0.capacity()).map(|(at, _)| at);
        let mut table = match least {
            Some(at) if len > 0 => self.spare.swap_remove(at),
            _ => Table::default(),
        };
        // What is in it does not matter: the decoder fills a table before it looks anything up.
        table.0.resize(len, T::default());
        table
    }

    fn free_cell(&mut self, table: Table<T>) {
        if (1..=LARGEST).contains(&table.0.capacity()) && self.spare.len() < MOST {
            self.spare.push(table);
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> SliceWrapper<T> for Table<T> {
    fn slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> SliceWrapperMut<T> for Table<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn decode(brotli: &mut Brotli, mut input: &[u8]) -> Result<Vec<u8>, Reason> {
        let (mut whole, mut out) = (Vec::new(), [0; 64]);
        loop {
            let Progress { taken, given } = brotli.step(input, &mut out)?;
            input = &input[taken..];
            whole.extend_from_slice(&out[..given]);
            if given < out.len() && input.is_empty() {
                return Ok(whole);
            }
        }
    }

    #[test]
    fn a_window_of_more_than_16_mib_is_no_br() {
        for (large_window, lgwin) in [(false, 24), (true, 28)] {
            let params = brotli::enc::BrotliEncoderParams { large_window, lgwin, ..Default::default() };
            let mut encoder = brotli::CompressorWriter::with_params(Vec::new(), 4096, &params);
            encoder.write_all(b"data: first\n\n").unwrap();
            let decoded = decode(&mut Brotli::new(), &encoder.into_inner());
            let expected = if large_window {
                Err(Reason::ContentCodingCorrupt)
            } else {
                Ok(b"data: first\n\n".to_vec())
            };
            assert_eq!(decoded, expected, "a window of 2^{lgwin} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Tables of other sizes and other contents, one after the other.
        #[test]
        fn every_meta_block_reads_as_it_was_written(
            parts in vec((vec(any::<u8>(), 1..40), 1..100_usize), 1..12),
            quality in 0..=9_u32,
        ) {
            let (mut brotli, mut encoder) =
                (Brotli::new(), brotli::CompressorWriter::new(Vec::new(), 4096, quality, 18));
            let mut seen = 0;
            for (part, times) in parts {
                let part = part.repeat(times);
                encoder.write_all(&part).and_then(|()| encoder.flush()).unwrap();
                let coded = &encoder.get_ref()[seen..];
                prop_assert_eq!(decode(&mut brotli, coded), Ok(part));
                seen += coded.len();
            }
        }
    }
}
