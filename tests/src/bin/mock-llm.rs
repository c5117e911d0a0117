//! The mock LLM server as a process: prints where it listens as one line of JSON, then answers until killed.

use std::{path::PathBuf, thread};

use anyhow::Context as _;
use clap::Parser;
use tokentap_tests::{
    ledger::Ledger,
    mock::{Mock, Options},
};

/// A server that answers as LLM APIs do. Model names choose what it does: `mock-chunks300`, `mock-429`, ...
#[derive(Parser)]
struct Args {
    /// Writes the certificate authority to trust here (PEM).
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Writes one line of JSON here for each answer and each connection.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Port for plain HTTP, 0 for any.
    #[arg(long, default_value_t = 0)]
    plain_port: u16,
    /// Port for TLS, 0 for any.
    #[arg(long, default_value_t = 0)]
    tls_port: u16,
    /// Ids, token counts and content follow from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let Args { ca, ledger, plain_port, tls_port, seed } = Args::parse();
    let ledger = ledger.as_deref().map_or_else(
        || Ok(Ledger::forgetful()),
        |path| Ledger::to_file(path).with_context(|| format!("cannot create the ledger {}", path.display())),
    )?;
    let mock = Mock::start(Options { plain_port, tls_port, seed, ledger }, &ca)
        .with_context(|| format!("cannot listen, or cannot write {}", ca.display()))?;
    println!(
        "{}",
        serde_json::json!({"plain": mock.plain().port(), "tls": mock.tls().port(), "ca": ca,
            "pid": std::process::id()})
    );
    loop {
        thread::park();
    }
}
