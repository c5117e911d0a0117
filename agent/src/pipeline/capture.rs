//! The thread that owns the ring. It reads the ring and nothing else: what frames say of processes goes to the
//! targets thread, and its answers come back here, to be put in order with the frames.

use std::{
    sync::{Arc, OnceLock, mpsc::Receiver},
    time::{Duration, Instant},
};

use tokentap_abi::decode;

use super::{FrameSink, admission::Admission};
use crate::{
    kernel::Ring,
    targets::{ProcessEvent, Requests},
    telemetry::{Event, Telemetry},
};

/// Most frames that are taken before batches are handed on and answers of the targets thread are read.
const FRAMES_PER_ROUND: usize = 1024;
/// Interval of the check for requests that were not answered.
const TICK: Duration = Duration::from_secs(1);
/// At the end, longest time that frames and answers are waited for when they do not stop coming.
const MAX_DRAIN: Duration = Duration::from_secs(1);

/// Tells the ring thread when it has to be done; set once.
pub type StopBy = Arc<OnceLock<Instant>>;

/// Everything that the ring thread owns.
pub struct Capture<S> {
    /// Frames come from here.
    pub ring: Ring,
    /// Frames go here.
    pub sink: S,
    /// What the targets thread finds.
    pub process_events: Receiver<ProcessEvent>,
    /// What the targets thread is asked.
    pub requests: Requests,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
}

impl<S: FrameSink> Capture<S> {
    /// Runs until `stop` is set; then reads the ring until it is empty and all processes in it are decided.
    pub fn run(self, stop: &OnceLock<Instant>) -> S {
        let Self { mut ring, mut sink, process_events, requests, telemetry } = self;
        let mut admission = Admission::new(requests.clone(), Arc::clone(&telemetry));
        let mut tick = Instant::now();
        let mut give_up = None;
        loop {
            let frames = ring.drain(FRAMES_PER_ROUND, |record| match decode(record) {
                Ok(frame) => admission.frame(&frame, record, &mut sink),
                Err(error) => {
                    telemetry.add(Event::FramesMalformed, 1);
                    tracing::debug!(%error, "frame dropped");
                }
            });
            telemetry.add(Event::FramesRead, frames as u64);
            // Asked before the answers are taken: what is answered after that is not there yet.
            let pending = requests.are_pending();
            process_events
                .try_iter()
                .for_each(|process_event| admission.process_event(process_event, &mut sink));
            sink.flush();
            let now = Instant::now();
            telemetry.health().ring_read(now);
            if now.duration_since(tick) >= TICK {
                tick = now;
                admission.tick(now);
            }
            match (stop.get(), give_up) {
                (Some(deadline), None) => give_up = Some((*deadline).min(now + MAX_DRAIN)),
                (_, Some(give_up))
                    if now >= give_up || frames == 0 && !pending && !admission.is_waiting() =>
                {
                    break;
                }
                _ => {}
            }
            if frames == 0 {
                ring.wait();
            }
        }
        sink
    }
}
