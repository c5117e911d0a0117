//! The agent: everything that touches the operating system.

pub mod cli;
pub mod commands;
pub mod config;
pub mod kernel;
pub mod pipeline;
pub mod privileges;
pub mod signals;
pub mod targets;
pub mod telemetry;
pub mod threads;
