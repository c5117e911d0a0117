//! Spans and metrics leave the process here: OTLP, files and console, several at once, none waiting for another.
//!
//! [`prepare`] gives the work of one thread with its own current-thread runtime. Every exporter has its own bounded queue
//! and its own task there, so that one that hangs costs the others nothing. Nothing in here blocks the threads that make
//! spans: a full queue drops the newest span and counts it.

pub mod config;
mod console;
mod counters;
mod drain;
mod error;
mod file;
mod handle;
mod metrics;
mod otlp;
mod outcome;
mod queue;
mod record;
mod sampling;
mod worker;

pub use counters::{ExporterCounters, ExporterReport, Loss};
pub use error::StartError;
pub use handle::{DrainReport, ExportHandle, prepare};
pub use metrics::{DocumentedMetric, documented_metrics};
pub use record::{Link, Record};

#[cfg(test)]
mod tests;
