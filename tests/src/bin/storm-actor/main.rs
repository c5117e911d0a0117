//! The actors of the storm test: processes that do what is hard on an observer, and know what every byte that they
//! get must be. `storm-actor act <ACTOR>` plays rounds until standard input ends and prints a hash of all that it
//! got, which depends on the seed and the number of rounds only. The other commands are what actors start.

mod arguments;
mod content;
mod descriptors;
mod files;
mod http;
mod processes;

use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use openssl::sha::Sha256;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokentap_tests::{random::Random, storm::Actor};

use arguments::{Act, Contain, Load, Once, Server};

#[derive(Parser)]
enum Command {
    /// Plays rounds, prints the number of them and the hash
    Act(Act),
    /// Fetches over TLS and in the clear, prints the hash
    Once(Once),
    /// Reads streams without end until it is killed
    Victim(Server),
    /// Loses threads that are in the middle of a call, then fetches
    Threads(Once),
    /// Loads a library, prints the hash of its code or of what it fetches
    Load(Load),
    /// Runs `once` in a container, whose file system is an overlay
    Contain(Contain),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Act(act) => play(&act),
        Command::Once(once) => processes::once(&once),
        Command::Victim(server) => processes::victim(&server),
        Command::Threads(once) => processes::threads(&once),
        Command::Load(load) => files::load(&load),
        Command::Contain(contain) => files::contain(&contain),
    }
}

fn play(act: &Act) -> anyhow::Result<()> {
    let mut got = Sha256::new();
    let mut rounds = 0;
    while rounds < act.rounds && !stdin_ended(Duration::from_millis(act.pace))? {
        // Each round has numbers of its own: what one does not use is not the next one's.
        let mut random = Random::new(act.seed, rounds);
        let round = match act.actor {
            Actor::Fork => processes::fork_round,
            Actor::Exec => processes::exec_round,
            Actor::Threads => processes::threads_round,
            Actor::Kill => processes::kill_round,
            Actor::Connect => descriptors::connect_round,
            Actor::Dup => descriptors::dup_round,
            Actor::Pass => descriptors::pass_round,
            Actor::Library => files::library_round,
            Actor::Container => files::container_round,
        };
        got.update(&round(act, &mut random).with_context(|| format!("round {rounds}"))?);
        rounds += 1;
    }
    println!("{}", serde_json::json!({"rounds": rounds, "hash": content::hex(&got.finish())}));
    Ok(())
}

/// Waits so long for the end of standard input.
fn stdin_ended(patience: Duration) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
    Ok(poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timeout))? > 0)
}
