//! The agent: everything that touches the operating system.

pub mod cli;
pub mod config;
pub mod export;
pub mod resource;
pub mod telemetry;
