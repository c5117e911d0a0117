//! How benchmarks of the parsers measure time and allocations, and the table that they print.
//!
//! Times are those of the best round and of the median one, as the machine may be shared. Allocations are those
//! of a further exchange on a connection, and of a further chunk in an exchange, to two digits: what it costs to
//! begin is not counted, nor is a buffer that grows to its size once.

#[path = "../../tests/counting/mod.rs"]
mod counting;

use std::time::{Duration, Instant};

use counting::cost;

/// Rounds of a row take this long together.
const TIME: Duration = Duration::from_millis(1500);
const LEAST_ROUNDS: usize = 5;

/// What is measured: one round of it.
pub(crate) struct Load {
    /// Bytes that it goes through, exchanges that they make, and chunks that all of these are sent in.
    pub(crate) bytes: usize,
    pub(crate) exchanges: usize,
    pub(crate) chunks: usize,
    pub(crate) round: Box<dyn Fn()>,
}

/// What one core has to do at least. No row may allocate for a further chunk.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// Only that.
    Steady,
    /// This many times 10⁶ bytes in a second.
    Megabytes(u32),
}

/// A benchmark with the options of its command line: `--json`, and parts of the names of rows, or a whole one behind `=`.
/// `--list` prints the names, and `--rounds=N` plays so many rounds of each row and measures nothing, for those who count
/// instructions.
pub(crate) struct Table {
    json: bool,
    list: bool,
    rounds: Option<usize>,
    only: Vec<String>,
}

/// What came out, for a round.
struct Figures {
    best: Duration,
    median: Duration,
    bytes: f64,
    exchanges: f64,
    per_exchange: f64,
    /// `None` where nothing is streamed.
    per_chunk: Option<f64>,
}

impl Table {
    pub(crate) fn new() -> Self {
        let (options, only): (Vec<String>, Vec<String>) =
            std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
        let has = |name: &str| options.iter().any(|option| option == name);
        let (json, list) = (has("--json"), has("--list"));
        let rounds = options.iter().find_map(|option| option.strip_prefix("--rounds=")?.parse().ok());
        if !json && !list && rounds.is_none() {
            println!(
                "{:<36} {:>8} {:>8} {:>12} {:>11} {:>11}  {:<12} ok",
                "", "MB/s", "median", "ns/exchange", "allocs/exch", "allocs/chunk", "target"
            );
        }
        Self { json, list, rounds, only }
    }

    /// Measures a row. `make` gives the load of this many exchanges of this many chunks.
    pub(crate) fn row(
        &self,
        name: &str,
        target: Target,
        (exchanges, chunks): (usize, usize),
        make: impl Fn(usize, usize) -> Load,
    ) {
        let is_named = |part: &String| match part.strip_prefix('=') {
            Some(whole) => name == whole,
            None => name.contains(part.as_str()),
        };
        if !self.only.is_empty() && !self.only.iter().any(is_named) {
            return;
        }
        if self.list {
            println!("{name}");
            return;
        }
        let load = make(exchanges, chunks);
        if let Some(rounds) = self.rounds {
            (0..rounds).for_each(|_| (load.round)());
            return;
        }
        let further = |with: Load| {
            (load.round)();
            (with.round)();
            let allocations = cost(&with.round).0 as f64 - cost(&load.round).0 as f64;
            (allocations, with)
        };
        let (allocations, more) = further(make(exchanges * 2, chunks));
        let per_exchange = two_digits(allocations / (more.exchanges - load.exchanges) as f64);
        let (allocations, more) = further(make(exchanges, chunks * 2));
        let per_chunk =
            (more.chunks > load.chunks).then(|| two_digits(allocations / (more.chunks - load.chunks) as f64));
        let (best, median) = times(&load.round);
        let (bytes, exchanges) = (load.bytes as f64, load.exchanges as f64);
        self.print(name, target, &Figures { best, median, bytes, exchanges, per_exchange, per_chunk });
    }

    fn print(&self, name: &str, target: Target, figures: &Figures) {
        let speed = |time: Duration| (figures.bytes / time.as_secs_f64() / 1e6).round();
        let (best, median) = (speed(figures.best), speed(figures.median));
        let exchange = figures.best.as_secs_f64() * 1e9 / figures.exchanges;
        let (least, fast) = match target {
            Target::Steady => ("-".to_owned(), true),
            Target::Megabytes(least) => (format!("{least} MB/s"), best >= f64::from(least)),
        };
        let ok = fast && figures.per_chunk.is_none_or(|allocations| allocations == 0.0);
        let per_exchange = figures.per_exchange;
        if self.json {
            let line = serde_json::json!({
                "name": name,
                "mb_per_s": best,
                "mb_per_s_median": median,
                "ns_per_exchange": exchange.round(),
                "exchanges_per_s": (1e9 / exchange).round(),
                "allocations_per_exchange": per_exchange,
                "allocations_per_chunk": figures.per_chunk,
                "target": least,
                "ok": ok,
            });
            println!("{line}");
        } else {
            let chunk = figures.per_chunk.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"));
            let ok = if ok { "yes" } else { "NO" };
            println!(
                "{name:<36} {best:>8.0} {median:>8.0} {exchange:>12.0} {per_exchange:>11.2} {chunk:>11}  {least:<12} {ok}"
            );
        }
    }
}

fn two_digits(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// The best and the median time of a round.
fn times(round: &dyn Fn()) -> (Duration, Duration) {
    let mut times = Vec::with_capacity(1 << 20);
    let end = Instant::now() + TIME;
    while Instant::now() < end || times.len() < LEAST_ROUNDS {
        let start = Instant::now();
        round();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    (times[0], times[times.len() / 2])
}
