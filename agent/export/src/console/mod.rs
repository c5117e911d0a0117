//! Spans on standard output: a line for people, or a JSON object per line for programs.

mod json;
mod pretty;

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{config::ConsoleFormat, counters::Loss, outcome::DeliveryOutcome, record::Record};

/// Prints spans.
pub(super) struct Console {
    format: ConsoleFormat,
    color: bool,
    /// The column headings are still to be printed.
    headings: bool,
    out: Arc<Mutex<dyn Write + Send>>,
}

impl Console {
    pub(super) fn stdout(format: ConsoleFormat, color: bool) -> Self {
        Self::new(format, color, io::stdout())
    }

    fn new(format: ConsoleFormat, color: bool, out: impl Write + Send + 'static) -> Self {
        Self { format, color, headings: format == ConsoleFormat::Pretty, out: Arc::new(Mutex::new(out)) }
    }

    /// Prints a batch. The write happens on another thread: a terminal or pipe that nobody reads must not
    /// hold up other exporters.
    pub(super) async fn deliver(&mut self, batch: &[Arc<Record>]) -> DeliveryOutcome {
        let spans = batch.len() as u64;
        let text = self.render(batch);
        let out = Arc::clone(&self.out);
        let write = tokio::task::spawn_blocking(move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_all(text.as_bytes())?;
            out.flush()
        });
        match write.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(()) => DeliveryOutcome::delivered(spans),
            Err(why) => {
                tracing::warn!("cannot print {spans} spans: {why}");
                DeliveryOutcome::lost(Loss::WriteFailed, spans)
            }
        }
    }

    fn render(&mut self, batch: &[Arc<Record>]) -> String {
        let mut text = String::new();
        if std::mem::take(&mut self.headings) {
            text.push_str(&pretty::headings(self.color));
        }
        for record in batch {
            match self.format {
                ConsoleFormat::Pretty => pretty::line(&mut text, record, self.color),
                ConsoleFormat::Json => json::line(&mut text, record),
            }
        }
        text
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("format", &self.format).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::record;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_cannot_be_written_loses_the_batch() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut console = Console::new(ConsoleFormat::Json, false, Full);
        let outcome = runtime.block_on(console.deliver(&[record(1), record(2)]));
        assert_eq!(outcome, DeliveryOutcome::lost(Loss::WriteFailed, 2));
    }

    #[test]
    fn headings_come_once_and_only_for_people() {
        let lines = |format| {
            let mut console = Console::new(format, false, io::sink());
            let text = console.render(&[record(1)]) + &console.render(&[record(2)]);
            text.lines().count()
        };
        assert_eq!(lines(ConsoleFormat::Pretty), 3);
        assert_eq!(lines(ConsoleFormat::Json), 2);
    }
}
