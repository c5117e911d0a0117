//! `cargo xtask`: everything about this repository that is more than one `cargo` command.

mod bench;
mod build;
mod conventions;
mod demo;
mod dist;
mod ebpf;
mod fuzz;
mod instructions;
mod lint;
mod mutants;
mod pages;
mod recordings;
mod setup;
mod shell;
mod test;
mod toolchain;
mod tree;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum as _};

use setup::Part;

/// Builds, tests, demonstrates and checks tokentap.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the agent at work: real clients, a TLS LLM server, spans
    Demo,
    /// Measure what tokentap costs
    Bench(bench::Options),
    /// Build the eBPF object into target/ebpf/tokentap
    BuildEbpf {
        /// Build from scratch
        #[arg(long)]
        force: bool,
    },
    /// Run every test; the last line is the sum
    Test(test::Options),
    /// Run the fuzz targets: every parser on inputs that nobody thought of
    Fuzz(fuzz::Options),
    /// Make every call that the recordings in a folder hold, against a server that answers as recorded, and check its span
    Recordings {
        /// The folder of VCR cassettes; looked through whole
        folder: std::path::PathBuf,
        /// Print one JSON object for each recording
        #[arg(long)]
        json: bool,
    },
    /// Boot other kernels in QEMU and test the agent there
    Vm {
        /// As 6.1 or 6.12-arm64; all of them when none is given
        machines: Vec<String>,
    },
    /// Run every check of format, code, documentation, dependencies, spelling and architecture
    Lint {
        /// Only the checks whose name contains one of these
        only: Vec<String>,
    },
    /// Make agent/conventions.tsv anew from the semantic conventions in ../shared/semconv
    Conventions,
    /// Make REFERENCE.md anew: every attribute, counter and reason, from the tables in the code
    Reference,
    /// Build a release into target/dist: static binary, manual pages, completions, checksums
    Dist,
    /// Install what the tests, the demo and the benchmarks need, into target/parts
    Setup {
        /// Only these parts
        #[arg(long, value_delimiter = ',')]
        only: Vec<Part>,
    },
}

fn main() -> ExitCode {
    shell::start();
    let result = match Args::parse().command {
        Task::Demo => demo::show(),
        Task::Bench(options) => bench::measure(options),
        Task::BuildEbpf { force } => ebpf::build(force),
        Task::Test(options) => return test::run(options),
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Recordings { folder, json } => recordings::check(&folder, json),
        Task::Vm { machines } => vm::run_all(&machines),
        Task::Conventions => conventions::refresh(),
        Task::Reference => pages::write_reference(),
        Task::Dist => dist::make(),
        Task::Lint { only } => lint::run(only),
        Task::Setup { only } if only.is_empty() => setup::install(Part::value_variants()),
        Task::Setup { only } => setup::install(&only),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
