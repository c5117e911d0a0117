//! What is measured of a call: what metrics are made of, whatever dialect its span is in.

use std::{borrow::Cow, time::Duration};

use tokentap_wire::Nanos;

/// What is measured of one finished call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurements {
    /// `gen_ai.operation.name`; empty where the call is no operation of a model (the Model Context Protocol).
    pub operation: Cow<'static, str>,
    /// `gen_ai.provider.name`; empty where nobody is the provider.
    pub provider: Cow<'static, str>,
    /// `gen_ai.request.model`; empty: unknown.
    pub request_model: String,
    /// `gen_ai.response.model`; empty: unknown.
    pub response_model: String,
    /// `openai.response.service_tier`; empty: unknown, or another provider.
    pub service_tier: String,
    /// `mcp.method.name`, of calls of the Model Context Protocol.
    pub mcp_method: Option<String>,
    /// `gen_ai.tool.name`, of calls of the Model Context Protocol.
    pub tool: Option<String>,
    /// Host and port of the server.
    pub server: Option<(String, u16)>,
    /// `error.type`
    pub error: Option<Cow<'static, str>>,
    /// The exchange, where the call had one of its own.
    pub http: Option<HttpMeasurements>,
    /// From the first byte of the request to the last byte of the response; `None`: the end was not seen.
    pub duration: Option<Duration>,
    /// The response was streamed.
    pub streamed: bool,
    /// From the first byte of the request to the first chunk of a streamed response.
    pub time_to_first_chunk: Option<Duration>,
    /// From the first byte of the request to the first generated content of a streamed response.
    pub time_to_first_token: Option<Duration>,
    /// Times between the chunks of a streamed response.
    pub chunks: Option<Box<ChunkTimes>>,
    /// Tokens.
    pub usage: TokenUsage,
}

/// Tokens of a call in the conventions' terms; `None`: nobody said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Cached ones included.
    pub input: Option<u64>,
    /// Reasoning included.
    pub output: Option<u64>,
    /// Of the input.
    pub cache_read: Option<u64>,
    /// Of the input.
    pub cache_write: Option<u64>,
    /// Of the output.
    pub reasoning: Option<u64>,
    /// Of the input, by modality: text, image, audio.
    pub input_by_modality: [Option<u64>; 3],
    /// Of the output, by modality: text, image, audio.
    pub output_by_modality: [Option<u64>; 3],
}

/// An HTTP exchange that was one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpMeasurements {
    /// `http.request.method`
    pub method: &'static str,
    /// `http.response.status_code`; 0: there was none.
    pub status: u16,
    /// `url.scheme`: https, else http.
    pub tls: bool,
    /// `network.protocol.version`: 2, else 1.1.
    pub http2: bool,
}

/// Upper bounds of the conventions' buckets for times per chunk, in seconds; one more bucket is above them.
pub const CHUNK_TIME_BOUNDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const BUCKETS: usize = CHUNK_TIME_BOUNDS.len() + 1;

/// Times from chunk to chunk, by bucket: what is kept of a stream does not grow with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkTimes {
    counts: [u32; BUCKETS],
    /// Their sum, in steps of 8.192 µs: enough for ten hours.
    steps: [u32; BUCKETS],
}

/// Nanoseconds of a step, as a power of two.
const STEP: u32 = 13;

impl ChunkTimes {
    /// Counts the time from a chunk to the next one.
    #[inline]
    pub fn add(&mut self, time: Nanos) {
        if time.0 == 0 {
            // They came together, as most do.
            self.counts[0] = self.counts[0].saturating_add(1);
        } else {
            self.add_some(time);
        }
    }

    fn add_some(&mut self, time: Nanos) {
        // The bounds double.
        const FIRST: u64 = 10_000_000;
        let bucket = match time.0.div_ceil(FIRST) {
            0 | 1 => 0,
            tens => (tens.next_power_of_two().trailing_zeros() as usize).min(BUCKETS - 1),
        };
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        let steps = time.0.saturating_add(1 << (STEP - 1)) >> STEP;
        self.steps[bucket] = self.steps[bucket].saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
    }

    /// Of each bucket that is not empty: how many times, and their mean, which lies in it.
    pub fn buckets(&self) -> impl Iterator<Item = (u32, Duration)> + '_ {
        let used = self.counts.iter().zip(self.steps).filter(|(count, _)| **count > 0);
        used.map(|(&count, steps)| {
            (count, Duration::from_nanos((u64::from(steps) << STEP) / u64::from(count)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_bucket_that_their_bounds_say() {
        const MILLI: u64 = 1_000_000;
        for (millis, bucket) in [
            (0, 0),
            (10, 0),
            (11, 1),
            (20, 1),
            (21, 2),
            (40, 2),
            (1280, 7),
            (1281, 8),
            (81_920, 13),
            (81_921, 14),
            (900_000, 14),
        ] {
            let mut times = ChunkTimes::default();
            times.add(Nanos(millis * MILLI));
            assert_eq!(times.counts.iter().position(|&count| count == 1), Some(bucket), "{millis}");
            let seconds = millis as f64 / 1e3;
            let bound = CHUNK_TIME_BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BUCKETS - 1);
            assert_eq!(bound, bucket, "{millis}");
        }
        let mut times = ChunkTimes::default();
        for millis in [2, 4, 300] {
            times.add(Nanos(millis * MILLI));
        }
        let buckets: Vec<_> = times.buckets().collect();
        let near =
            |time: Duration, millis| time.abs_diff(Duration::from_millis(millis)) < Duration::from_micros(9);
        let [(2, first), (1, second)] = buckets[..] else { panic!("{buckets:?}") };
        assert!(near(first, 3) && near(second, 300), "{buckets:?}");
    }
}
