//! What an actor is told.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use tokentap_tests::storm::Actor;

/// Where the server is.
#[derive(Args, Clone)]
pub(crate) struct Server {
    #[arg(long)]
    pub(crate) tls: SocketAddr,
    #[arg(long)]
    pub(crate) plain: SocketAddr,
    #[arg(long)]
    pub(crate) ca: PathBuf,
}

#[derive(Args)]
pub(crate) struct Act {
    #[arg(value_enum)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) server: Server,
    /// A folder for this actor alone
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// The root file system of containers
    #[arg(long)]
    pub(crate) image: PathBuf,
    #[arg(long)]
    pub(crate) seed: u64,
    /// Ends after so many rounds
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    pub(crate) rounds: u64,
    /// Milliseconds between rounds
    #[arg(long, default_value_t = 0)]
    pub(crate) pace: u64,
}

#[derive(Args)]
pub(crate) struct Once {
    #[command(flatten)]
    pub(crate) server: Server,
    #[arg(long)]
    pub(crate) seed: u64,
    /// A connection in the clear that is open already
    #[arg(long)]
    pub(crate) connection: Option<i32>,
}

#[derive(Args)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) once: Once,
    #[arg(long)]
    pub(crate) library: PathBuf,
    /// The library's code is not what is probed: its hash counts
    #[arg(long)]
    pub(crate) code: bool,
    /// Waits for a line on standard input between loading and fetching
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Args)]
pub(crate) struct Contain {
    #[command(flatten)]
    pub(crate) once: Once,
    #[arg(long)]
    pub(crate) folder: PathBuf,
    #[arg(long)]
    pub(crate) image: PathBuf,
}
