//! Running other programs, and saying what is going on.

use std::fmt::Display;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Starts the clock of [`say`].
pub(crate) fn start() {
    LazyLock::force(&START);
}

/// Prints one progress line with the time since [`start`].
pub(crate) fn say(message: impl Display) {
    let elapsed = START.elapsed().as_secs_f64();
    eprintln!("[{elapsed:6.1}s] {message}");
}

/// Runs `command` with our standard streams; anything but success is an error that names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    check(command, status)
}

/// Runs `command` and returns its standard output, trimmed.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", line(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Runs `command` with its output in the file `log`, with a sign of life every 15 seconds. On failure
/// the error carries the log's last lines.
pub(crate) fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {}", line(command)))?;
    let started = Instant::now();
    let mut next_sign = Duration::from_secs(15);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > next_sign {
            next_sign += Duration::from_secs(15);
            say(format_args!("  ... {}", last_line(log)));
        }
        thread::sleep(Duration::from_millis(100));
    };
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(60)..].join("\n");
    bail!("{tail}\n{} failed ({status}); the whole output is in {}", line(command), log.display())
}

/// The program `name` on PATH.
pub(crate) fn which(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("{} failed ({status})", line(command))
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    words.join(" ")
}

fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output yet");
    line.trim().chars().take(100).collect()
}
