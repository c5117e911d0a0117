//! A tape through the same path as live traffic.

use std::io::Read;

use tokentap_tape::{Entry, TapeError, TapeReader};

use super::{FrameSink as _, Pipeline};
use crate::telemetry::{Event, Telemetry};

/// Runs a tape through a pipeline, up to its end.
///
/// # Errors
/// [`TapeError`] when it is damaged or cannot be read; what was before that has gone through.
pub fn play<R: Read>(
    tape: &mut TapeReader<R>,
    pipeline: &mut Pipeline,
    telemetry: &Telemetry,
) -> Result<(), TapeError> {
    while let Some(entry) = tape.next_entry()? {
        match entry {
            Entry::Frame(frame, bytes) => {
                telemetry.add(Event::FramesRead, 1);
                pipeline.frame(&frame, bytes);
            }
            Entry::Event(event) => pipeline.event(event),
        }
    }
    let cut = tape.cut();
    if cut > 0 {
        telemetry.add(Event::TapeTruncatedBytes, cut);
        tracing::warn!("the tape ends in the middle of an entry ({cut} bytes): the recorder was killed");
    }
    Ok(())
}
