//! The agent: everything that touches the operating system.

pub mod agent;
pub mod cli;
pub mod config;
pub mod export;
pub mod kernel;
pub mod pipeline;
pub mod privileges;
pub mod redact;
pub mod signals;
pub mod tape;
pub mod targets;
pub mod telemetry;
pub mod threads;
pub mod tls;
