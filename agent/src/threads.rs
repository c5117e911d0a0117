//! Threads that may never end: what waits for them waits until a moment, and then goes on without them.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Longest pause between two looks at a thread that is waited for.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a thread gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJoined {
    /// It was still running when the deadline passed. It is left to itself.
    #[error("did not end in time and was left behind")]
    Late,
    /// It panicked.
    #[error("failed")]
    Failed,
}

/// Waits for a thread until a deadline; at least once is looked whether it has ended.
///
/// # Errors
/// [`NotJoined`] when there is no result.
pub fn join_until<T>(thread: JoinHandle<T>, deadline: Instant) -> Result<T, NotJoined> {
    let mut pause = Duration::from_micros(100);
    while !thread.is_finished() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NotJoined::Late);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE);
    }
    thread.join().map_err(|_panic| NotJoined::Failed)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::privileges::Thread;

    #[test]
    fn a_thread_that_ends_gives_its_result() {
        let soon = Instant::now() + Duration::from_secs(60);
        assert_eq!(join_until(Thread::named("test").spawn(|| 7).unwrap(), soon), Ok(7));
    }

    #[test]
    fn a_thread_that_does_not_end_is_left_behind() {
        let (keep, never) = channel::<()>();
        let thread = Thread::named("test").spawn(move || never.recv().is_ok()).unwrap();
        assert_eq!(join_until(thread, Instant::now()), Err(NotJoined::Late));
        drop(keep);
    }
}
