//! What the program can be told to do: one file per command.

mod config;
mod exporters;
mod observe;
mod outcome;
mod record;
mod replay;
mod run;

pub use config::configure;
pub use outcome::ExitOutcome;

use crate::config::{Action, Config};

/// Does what the configuration says, until it is done or a signal comes.
///
/// # Errors
/// When it cannot: the message says what is missing and how to mend it.
pub fn execute(config: Config) -> anyhow::Result<ExitOutcome> {
    match config.action {
        Action::Run(config) => run::run(config),
        Action::Record(config) => record::record(&config),
        Action::Replay(config) => replay::replay(config),
    }
}
