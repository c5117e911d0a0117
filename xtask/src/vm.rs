//! `cargo xtask vm`: the eBPF object and the agent on other kernels, in QEMU.
//!
//! The machine has no disk and no network: its initramfs holds `vm-init` of the tests as `/init` and a few
//! programs in `/bin`, each with the shared libraries that it is linked to, at their usual paths. `vm-init` says
//! on the serial console when it starts and how it ended ([`STARTED`], [`PASSED`], [`FAILED`]), then powers off.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::build;
use crate::setup::{Part, kernels};
use crate::shell::{read, run, say};
use crate::tree;

/// The first line of `vm-init`. A kernel that panics before it is started once more: emulated boots fail now
/// and then, tests do not.
const STARTED: &str = "vm-init: started";
/// The last line of `vm-init` when all is well.
const PASSED: &str = "vm-init: passed";
/// The last line of `vm-init` when it is not, with the reason after it.
const FAILED: &str = "vm-init: failed";

/// Emulated, a boot and the test take about half a minute.
const LIMIT: Duration = Duration::from_secs(240);

/// Boots `series`, or every kernel when it is empty; each must pass.
pub(crate) fn run_all(series: &[String]) -> Result<()> {
    let initramfs = prepare()?;
    let chosen: Vec<&str> = if series.is_empty() {
        kernels::all().collect()
    } else {
        series.iter().map(String::as_str).collect()
    };
    let failed: Vec<&str> = chosen.into_iter().filter(|series| !passes(series, &initramfs)).collect();
    ensure!(failed.is_empty(), "failed on {}", failed.join(", "));
    Ok(())
}

/// Installs and builds everything, and returns the initramfs.
pub(crate) fn prepare() -> Result<PathBuf> {
    Part::Packages.install()?;
    Part::Kernels.install()?;
    let agent = build::agent()?;
    let tests = build::test_programs(&["vm-init"])?;
    pack(&[("init", tests.join("vm-init")), ("bin/tokentap", agent), ("bin/curl", "/usr/bin/curl".into())])
}

/// Boots one kernel and says how it went, with the console's output when it did not pass.
pub(crate) fn passes(series: &str, initramfs: &Path) -> bool {
    let started = Instant::now();
    let result = match boot(series, initramfs) {
        Ok(Outcome::NeverStarted) => {
            say(format_args!("kernel {series} did not reach vm-init; booting it once more"));
            boot(series, initramfs)
        }
        result => result,
    };
    let seconds = started.elapsed().as_secs_f64();
    let why = match result {
        Ok(Outcome::Passed) => {
            println!("kernel {series} ... ok ({seconds:.1} s)");
            return true;
        }
        Ok(Outcome::Failed(why)) => why,
        Ok(Outcome::NeverStarted) => "did not reach vm-init".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    println!("kernel {series} ... FAILED ({seconds:.1} s): {why}");
    println!("the console's output is in {}", console(series).display());
    false
}

enum Outcome {
    Passed,
    Failed(String),
    NeverStarted,
}

fn boot(series: &str, initramfs: &Path) -> Result<Outcome> {
    let kernel = kernels::image(series);
    ensure!(
        kernel.is_file(),
        "no kernel {series}; there are {}",
        kernels::all().collect::<Vec<_>>().join(" and ")
    );
    let mut qemu = Command::new("qemu-system-x86_64")
        // Emulation everywhere: not every machine lets us use KVM, and some only pretend to.
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"])
        .arg("-kernel")
        .arg(&kernel)
        .arg("-initrd")
        .arg(initramfs)
        // What the kernel does not know, it hands to vm-init as environment.
        .args(["-append", "console=ttyS0 panic=-1 noapic loglevel=4 random.trust_cpu=on PATH=/bin TOKENTAP_BIN=/bin/tokentap"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let output = qemu.stdout.take().context("QEMU has no output")?;
    let outcome = watch(output, &console(series));
    if qemu.try_wait()?.is_none() {
        qemu.kill()?;
    }
    qemu.wait()?;
    outcome
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

fn console(series: &str) -> PathBuf {
    tree::target("vm").join(format!("{series}.log"))
}

/// Makes an initramfs of `programs`, given by their path in it.
fn pack(programs: &[(&str, PathBuf)]) -> Result<PathBuf> {
    let home = tree::target("vm");
    let tree = home.join("root");
    if tree.is_dir() {
        fs::remove_dir_all(&tree)?;
    }
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "usr/lib"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    // As on the systems that the libraries come from.
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib")] {
        symlink(target, tree.join(link))?;
    }
    for (path, program) in programs {
        install(program, &tree.join(path))?;
        for library in libraries(program)? {
            let place = tree.join(library.strip_prefix("/").unwrap_or(&library));
            if let Some(folder) = place.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy(&library, &place).with_context(|| format!("cannot copy {}", library.display()))?;
        }
    }
    let initramfs = home.join("initramfs.cpio");
    run(Command::new("sh")
        .args(["-c", "find . -print0 | cpio --quiet --null --create --format=newc"])
        .current_dir(&tree)
        .stdout(File::create(&initramfs)?))?;
    Ok(initramfs)
}

/// Copies a program without what only a debugger reads.
fn install(program: &Path, place: &Path) -> Result<()> {
    run(Command::new("strip").arg("--strip-debug").arg("-o").arg(place).arg(program))
}

/// The shared libraries that `program` is linked to, the loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    Ok(parse_ldd(&read(Command::new("ldd").arg(program))?))
}

/// Paths in the output of `ldd`: `name => /path (address)`, or `/path (address)` for the loader.
fn parse_ldd(output: &str) -> Vec<PathBuf> {
    output
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Outcome, parse_ldd, watch};

    #[test]
    fn finds_libraries_and_loader() {
        let output = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            parse_ldd(output),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(std::path::PathBuf::from)
        );
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
