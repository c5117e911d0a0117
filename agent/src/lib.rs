//! The agent: everything that touches the operating system.

pub mod agent;
pub mod bpf;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod export;
pub mod pipeline;
pub mod probes;
pub mod redact;
pub mod resource;
pub mod signals;
pub mod tape;
pub mod telemetry;
pub mod tls;
pub mod worker;
