//! `cargo xtask vm`: the eBPF object and the agent on other kernels, in QEMU.
//!
//! The machine has no disk and no network: its initramfs holds `vm-init` of the tests as `/init` and a few
//! programs in `/bin`, each with the shared libraries that it is linked to, at their usual paths. `vm-init` says
//! on the serial console when it starts and how it ended ([`STARTED`], [`PASSED`], [`FAILED`]), then powers off.

mod initramfs;

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::setup::Part;
use crate::setup::kernels::{self, Architecture, Image};
use crate::tree;

/// The first line of `vm-init`.
const STARTED: &str = "vm-init: started";
/// The last line of `vm-init` when all is well.
const PASSED: &str = "vm-init: passed";
/// The last line of `vm-init` when it is not, with the reason after it.
const FAILED: &str = "vm-init: failed";

/// Emulated, a boot and the test take 4 to 15 s where nothing else runs.
const LIMIT: Duration = Duration::from_secs(240);

/// Lines of the console that a failure prints: a kernel's report of a fault with its two call traces fits.
const CONSOLE_TAIL: usize = 120;

/// A virtual machine: a kernel, how it is booted, and what is tested on it.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    kernel: Image,
    /// More of the kernel's command line. What the kernel does not know, it hands to `vm-init` as environment.
    options: &'static str,
}

pub(crate) const MACHINES: [Machine; 6] = [
    Machine { name: "6.1", kernel: kernels::LINUX_6_1, options: "" },
    Machine { name: "6.12", kernel: kernels::LINUX_6_12, options: "" },
    // Programs that run in a process's context can be preempted at any instruction.
    Machine {
        name: "6.12-preempt",
        kernel: kernels::LINUX_6_12,
        options: "preempt=full TOKENTAP_VM_TEST=load",
    },
    // Its verifier does the most work for a loop.
    Machine { name: "6.19", kernel: kernels::LINUX_6_19, options: "" },
    // Programs at tracepoints can be preempted too.
    Machine { name: "7.0", kernel: kernels::LINUX_7_0, options: "TOKENTAP_VM_TEST=load" },
    Machine { name: "6.12-arm64", kernel: kernels::LINUX_6_12_ARM64, options: "" },
];

/// Boots the machines of these names, or all of them when there are none; each must pass.
pub(crate) fn run_all(names: &[String]) -> Result<()> {
    for name in names {
        if !MACHINES.iter().any(|machine| machine.name == name) {
            bail!("no machine {name}; there are {}", MACHINES.map(|machine| machine.name).join(", "));
        }
    }
    let chosen: Vec<&Machine> = MACHINES
        .iter()
        .filter(|machine| names.is_empty() || names.iter().any(|name| name == machine.name))
        .collect();
    prepare(&chosen)?;
    let failed: Vec<&str> =
        chosen.iter().filter(|machine| !machine.passes()).map(|machine| machine.name).collect();
    ensure!(failed.is_empty(), "failed on {}", failed.join(", "));
    Ok(())
}

/// Installs and builds everything that these machines need.
pub(crate) fn prepare(machines: &[&Machine]) -> Result<()> {
    Part::Packages.install()?;
    Part::Kernels.install()?;
    for architecture in [Architecture::X86_64, Architecture::Arm64] {
        if machines.iter().any(|machine| machine.kernel.architecture == architecture) {
            initramfs::pack(architecture)?;
        }
    }
    Ok(())
}

impl Machine {
    /// Boots it and says how it went, with the place of the console's output when it did not pass.
    pub(crate) fn passes(&self) -> bool {
        let started = Instant::now();
        let result = self.boot();
        let seconds = started.elapsed().as_secs_f64();
        let why = match result {
            Ok(Outcome::Passed) => {
                println!("kernel {} ... ok ({seconds:.1} s)", self.name);
                return true;
            }
            Ok(Outcome::Failed(why)) => why,
            Ok(Outcome::NeverStarted) => "did not reach vm-init".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        println!("kernel {} ... FAILED ({seconds:.1} s): {why}", self.name);
        println!("the end of the console's output, which is in {}:", self.console().display());
        let console = fs::read_to_string(self.console()).unwrap_or_default();
        for line in tail(&console, CONSOLE_TAIL) {
            println!("  {line}");
        }
        false
    }

    fn boot(&self) -> Result<Outcome> {
        let mut qemu = self.emulator();
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut qemu = qemu.spawn().context("cannot start QEMU")?;
        let output = qemu.stdout.take().context("QEMU has no output")?;
        let outcome = watch(output, &self.console());
        if qemu.try_wait()?.is_none() {
            qemu.kill()?;
        }
        qemu.wait()?;
        outcome
    }

    /// Emulation everywhere: not every machine lets us use KVM, and some only pretend to.
    fn emulator(&self) -> Command {
        let (program, board, console): (_, &[&str], _) = match self.kernel.architecture {
            Architecture::X86_64 => ("qemu-system-x86_64", &["-cpu", "max"], "ttyS0 noapic"),
            // Pointer authentication by the architecture's own algorithm takes most of the time.
            Architecture::Arm64 => {
                ("qemu-system-aarch64", &["-machine", "virt", "-cpu", "max,pauth-impdef=on"], "ttyAMA0")
            }
        };
        let mut qemu = kernels::qemu(program);
        qemu.args(board)
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"])
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kernel.path())
            .arg("-initrd")
            .arg(initramfs::place(self.kernel.architecture))
            .arg("-append")
            .arg(format!(
                "console={console} panic=-1 loglevel=4 random.trust_cpu=on PATH=/bin TOKENTAP_BIN=/bin/tokentap {}",
                self.options
            ));
        qemu
    }

    fn console(&self) -> PathBuf {
        tree::target("vm").join(format!("{}.log", self.name))
    }
}

/// The last `count` lines of `text`.
fn tail(text: &str, count: usize) -> impl Iterator<Item = &str> {
    text.lines().skip(text.lines().count().saturating_sub(count))
}

enum Outcome {
    Passed,
    Failed(String),
    NeverStarted,
}

/// Reads the console until the machine is off or the time is up, and keeps what it says in `log`.
fn watch(console: impl Read + Send + 'static, log: &Path) -> Result<Outcome> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + LIMIT;
    let mut seen = String::new();
    let mut outcome = Outcome::NeverStarted;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                // The console has more than one writer: our lines may not begin at the left margin.
                if line.contains(STARTED) {
                    outcome = Outcome::Failed("ended without a verdict".to_owned());
                } else if line.contains(PASSED) {
                    outcome = Outcome::Passed;
                } else if let Some((_, why)) = line.split_once(FAILED) {
                    outcome = Outcome::Failed(why.trim_start_matches(':').trim().to_owned());
                }
                seen.push_str(&line);
                seen.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                outcome = Outcome::Failed(format!("not done after {} s", LIMIT.as_secs()));
                break;
            }
        }
    }
    fs::write(log, seen).with_context(|| format!("cannot write {}", log.display()))?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::{Outcome, tail, watch};

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(tail("a\n", 2).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn judges_by_the_console() {
        let log = std::env::temp_dir().join(format!("tokentap-console-{}", std::process::id()));
        let verdict = |console: &'static str| match watch(console.as_bytes(), &log).unwrap() {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed(why) => why,
            Outcome::NeverStarted => "never started".to_owned(),
        };
        assert_eq!(verdict("[ 1.0] vm-init: started\r\nvm-init: passed\r\n"), "passed");
        assert_eq!(verdict("vm-init: started\nvm-init: failed: no span came\n"), "no span came");
        assert_eq!(verdict("vm-init: started\nKernel panic - not syncing\n"), "ended without a verdict");
        assert_eq!(verdict("Kernel panic - not syncing\n"), "never started");
        std::fs::remove_file(log).unwrap();
    }
}
