//! What a number of the agent is called outside: a name of OpenTelemetry's form, a unit, and labels.

use tokentap_abi::Counter;

/// Keys and values that tell numbers of one name apart.
pub type Labels = &'static [(&'static str, &'static str)];

/// A number that the agent keeps about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As `tokentap.bytes.lost`.
    pub name: &'static str,
    /// In UCUM, as OpenTelemetry wants it: `By`, `us`, or `1` for a number of things.
    pub unit: &'static str,
    /// Those that are always the same; an exporter's name is added to them.
    pub labels: Labels,
    /// Above zero, it says that something was lost.
    pub is_loss: bool,
    /// The highest value so far, not a sum.
    pub is_highest: bool,
    /// A state of now, not a sum.
    pub is_state: bool,
}

/// A number of things.
pub(super) const fn count(name: &'static str, labels: Labels) -> Metric {
    Metric { name, unit: "1", labels, is_loss: false, is_highest: false, is_state: false }
}

/// A number of bytes.
pub(super) const fn bytes(name: &'static str, labels: Labels) -> Metric {
    Metric { unit: "By", ..count(name, labels) }
}

impl Metric {
    /// The highest value so far.
    pub(super) const fn highest(name: &'static str, unit: &'static str) -> Self {
        Self { unit, is_highest: true, ..count(name, &[]) }
    }

    /// A state of now.
    pub(super) const fn state(name: &'static str, unit: &'static str) -> Self {
        Self { unit, is_state: true, ..count(name, &[]) }
    }

    /// Whether it can go down, or says nothing when it is added up.
    #[must_use]
    pub const fn is_gauge(&self) -> bool {
        self.is_highest || self.is_state
    }

    /// One that says that something was lost.
    pub(super) const fn loss(self) -> Self {
        Self { is_loss: true, ..self }
    }

    /// What a counter of the kernel side is called outside.
    #[must_use]
    pub const fn of_kernel(counter: Counter) -> Self {
        const fn lost(labels: Labels) -> Metric {
            bytes("tokentap.bytes.lost", labels).loss()
        }
        match counter {
            Counter::Seen => bytes("tokentap.bytes.seen", &[]),
            Counter::Delivered => bytes("tokentap.bytes.delivered", &[]),
            Counter::Skipped => bytes("tokentap.bytes.skipped", &[("reason", "verdict")]),
            Counter::LostRingFull => lost(&[("stage", "kernel"), ("reason", "ring_full")]),
            Counter::LostShare => lost(&[("stage", "kernel"), ("reason", "ring_share")]),
            Counter::LostUnreadable => lost(&[("stage", "kernel"), ("reason", "unreadable")]),
            Counter::LostTooLarge => lost(&[("stage", "kernel"), ("reason", "too_large")]),
            Counter::LostSendfile => lost(&[("stage", "kernel"), ("reason", "sendfile")]),
            Counter::LostSplice => lost(&[("stage", "kernel"), ("reason", "splice")]),
            Counter::LostIoUring => lost(&[("stage", "kernel"), ("reason", "io_uring")]),
            Counter::LostQuota => lost(&[("stage", "kernel"), ("reason", "stream_quota")]),
            Counter::EventsLost => {
                count("tokentap.events.lost", &[("stage", "kernel"), ("reason", "ring_full")]).loss()
            }
            Counter::MapFull => count("tokentap.entries.lost", &[("reason", "map_full")]).loss(),
            Counter::StreamsOverQuota => {
                count("tokentap.streams.refused", &[("reason", "stream_quota")]).loss()
            }
            Counter::ReturnsUnmatched => count("tokentap.tls.returns.unmatched", &[]),
            Counter::CallsAbandoned => count("tokentap.tls.calls.abandoned", &[]),
            Counter::ProgramsSkipped => count("tokentap.programs.skipped", &[]).loss(),
        }
    }
}
