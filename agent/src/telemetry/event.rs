//! What user space counts.

use super::metric::{Metric, bytes, count};

/// What user space counts, apart from the exporters, the recorder and the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Event {
    /// Frames taken off the ring or read from a tape.
    FramesRead,
    /// Frames that are not of this build's ABI.
    FramesMalformed,
    /// Payload bytes given up because a worker's queue was full.
    WorkerFullBytes,
    /// Frames without payload given up because a worker's queue was full.
    WorkerFullEvents,
    /// Streams seen.
    Streams,
    /// Streams not followed because the table of streams was full.
    StreamTableFull,
    /// Calls that became a span.
    Calls,
    /// Targets (a library of a process) in which probes were placed.
    Attached,
    /// Targets in which no probe could be placed.
    AttachFailed,
    /// Files that were not searched for TLS code: too large, or on a file system that cannot be probed safely.
    FilesRefused,
    /// Looks at a process or file that were given up because the kernel or a file system did not answer.
    FilesUnanswered,
    /// Probed files that changed, so that their probes were taken away.
    FilesChanged,
    /// Probed files on which no lease could be had, so that a process that maps one in the moment after it was changed
    /// can get breakpoints in wrong places.
    FilesUnleased,
    /// Observed processes that ended after they had loaded a TLS library and before it was probed.
    ProcessesMissed,
    /// Observed processes that ended before it could be seen what they had loaded.
    ProcessesUnread,
    /// TLS libraries that an observed process had mapped before they were probed: calls in between are not seen.
    ProbesLate,
    /// The longest time between such a mapping and its probes, in microseconds.
    ProbeDelayMaxMicros,
    /// Bytes at the end of a tape that are not a whole frame: its writer was killed.
    TapeTruncatedBytes,
    /// Requests to the targets thread given up because its queue was full: it then checks all processes.
    TargetsQueueFull,
    /// Bytes of processes that no rule selected, captured before that was known.
    RefusedBytes,
    /// Bytes given up because it was not decided in time whether their process is observed.
    UndecidedBytes,
    /// Frames of processes for which the table of processes had no room.
    ProcessTableFull,
    /// Addresses of peers that the table of peers had no room for.
    PeerTableFull,
    /// Bytes of processes that had ended, or that nothing is known of.
    UnknownProcessBytes,
    /// Reads of a process's memory or descriptors that did not return in time.
    StuckReads,
    /// Spans exported before it was known what their process is.
    UndescribedSpans,
    /// Spans that were not exported, because sampling passed them over.
    NotSampledSpans,
    /// Threads that did not end by the drain deadline.
    AbandonedThreads,
}

impl Event {
    /// All, in order.
    pub const ALL: [Self; 28] = [
        Self::FramesRead,
        Self::FramesMalformed,
        Self::WorkerFullBytes,
        Self::WorkerFullEvents,
        Self::Streams,
        Self::StreamTableFull,
        Self::Calls,
        Self::Attached,
        Self::AttachFailed,
        Self::FilesRefused,
        Self::FilesUnanswered,
        Self::FilesChanged,
        Self::FilesUnleased,
        Self::ProcessesMissed,
        Self::ProcessesUnread,
        Self::ProbesLate,
        Self::ProbeDelayMaxMicros,
        Self::TapeTruncatedBytes,
        Self::TargetsQueueFull,
        Self::RefusedBytes,
        Self::UndecidedBytes,
        Self::ProcessTableFull,
        Self::PeerTableFull,
        Self::UnknownProcessBytes,
        Self::StuckReads,
        Self::UndescribedSpans,
        Self::NotSampledSpans,
        Self::AbandonedThreads,
    ];

    /// What it is called outside.
    #[must_use]
    pub const fn metric(self) -> Metric {
        match self {
            Self::FramesRead => count("tokentap.frames.read", &[]),
            Self::FramesMalformed => count("tokentap.frames.malformed", &[]).loss(),
            Self::WorkerFullBytes => {
                bytes("tokentap.bytes.lost", &[("stage", "worker"), ("reason", "queue_full")]).loss()
            }
            Self::WorkerFullEvents => {
                count("tokentap.events.lost", &[("stage", "worker"), ("reason", "queue_full")]).loss()
            }
            Self::Streams => count("tokentap.streams", &[]),
            Self::StreamTableFull => {
                bytes("tokentap.bytes.lost", &[("stage", "worker"), ("reason", "stream_table_full")]).loss()
            }
            Self::Calls => count("tokentap.calls", &[]),
            Self::Attached => count("tokentap.probes.libraries", &[("outcome", "attached")]),
            Self::AttachFailed => count("tokentap.probes.libraries", &[("outcome", "failed")]),
            Self::FilesRefused => count("tokentap.files", &[("outcome", "refused")]),
            Self::FilesUnanswered => count("tokentap.files", &[("outcome", "unanswered")]),
            Self::FilesChanged => count("tokentap.files", &[("outcome", "changed")]),
            Self::FilesUnleased => count("tokentap.files", &[("outcome", "unleased")]),
            Self::ProcessesMissed => count("tokentap.processes.missed", &[("reason", "ended_before_probes")]),
            Self::ProcessesUnread => count("tokentap.processes.missed", &[("reason", "ended_before_search")]),
            Self::ProbesLate => count("tokentap.probes.late", &[]),
            Self::ProbeDelayMaxMicros => Metric::highest("tokentap.probes.delay.max", "us"),
            Self::TapeTruncatedBytes => bytes("tokentap.tape.bytes.truncated", &[]).loss(),
            Self::TargetsQueueFull => {
                count("tokentap.events.lost", &[("stage", "targets"), ("reason", "queue_full")]).loss()
            }
            Self::RefusedBytes => bytes("tokentap.bytes.refused", &[("reason", "not_selected")]),
            Self::UndecidedBytes => {
                bytes("tokentap.bytes.lost", &[("stage", "targets"), ("reason", "undecided")]).loss()
            }
            Self::ProcessTableFull => {
                count("tokentap.events.lost", &[("stage", "targets"), ("reason", "process_table_full")])
                    .loss()
            }
            Self::PeerTableFull => count("tokentap.peers.lost", &[("reason", "table_full")]),
            Self::UnknownProcessBytes => {
                bytes("tokentap.bytes.lost", &[("stage", "targets"), ("reason", "unknown_process")]).loss()
            }
            Self::StuckReads => count("tokentap.reads.abandoned", &[("reason", "unanswered")]),
            Self::UndescribedSpans => count("tokentap.spans.undescribed", &[]),
            Self::NotSampledSpans => count("tokentap.spans.not_sampled", &[]),
            Self::AbandonedThreads => count("tokentap.threads.abandoned", &[]).loss(),
        }
    }
}
