//! QEMU, and Debian's kernels for it.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{apt, once, place};
use crate::shell::{read, run, run_logged};

/// Series, and the suite of Debian that has it.
const KERNELS: [(&str, &str); 2] = [("6.1", "bookworm"), ("6.12", "bookworm-backports")];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The series that can be booted.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    KERNELS.iter().map(|(series, _)| *series)
}

/// `target/parts/kernels/<series>/vmlinuz`.
pub(crate) fn image(series: &str) -> PathBuf {
    place("kernels").join(series).join("vmlinuz")
}

/// QEMU from the distribution, and every kernel's image.
pub(super) fn install() -> Result<()> {
    apt::install(&["qemu-system-x86", "cpio", "debian-archive-keyring"])?;
    let suites = KERNELS.map(|(_, suite)| suite);
    for (series, _) in KERNELS {
        let what = format!("Debian's kernel {series} into target/parts/kernels");
        once(&format!("kernels/{series}"), series, &what, || fetch(series, &Archive::open(&suites)?))?;
    }
    Ok(())
}

/// Takes the image out of the newest package of the series.
fn fetch(series: &str, archive: &Archive) -> Result<()> {
    let package = newest(&archive.packages()?, series)
        .with_context(|| format!("Debian has no cloud kernel {series} any more"))?;
    let folder = place("kernels").join(series);
    let unpacked = folder.join("unpacked");
    fs::create_dir_all(&unpacked)?;
    archive.download(&package, &folder)?;
    let archive_file = only_file(&folder, ".deb")?;
    run(Command::new("dpkg-deb").arg("--extract").arg(&archive_file).arg(&unpacked))?;
    fs::rename(only_file(&unpacked.join("boot"), "")?, image(series))?;
    fs::remove_dir_all(&unpacked)?;
    fs::remove_file(&archive_file)?;
    Ok(())
}

/// Package lists of suites that the system itself may not be set up for, kept under `target/`.
struct Archive {
    home: PathBuf,
}

impl Archive {
    /// Reads the lists from the mirror that this system uses.
    fn open(suites: &[&str]) -> Result<Self> {
        let archive = Self { home: place("apt") };
        let mirror = mirror()?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(archive.home.join(folder))?;
        }
        let sources: String =
            suites.iter().map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")).collect();
        fs::write(archive.sources(), sources)?;
        run_logged(archive.apt("apt-get").arg("update"), &place("apt.log"))?;
        Ok(archive)
    }

    fn packages(&self) -> Result<String> {
        read(self.apt("apt-cache").args(["pkgnames", "linux-image-"]))
    }

    fn download(&self, package: &str, folder: &Path) -> Result<()> {
        run_logged(self.apt("apt-get").args(["download", package]).current_dir(folder), &place("apt.log"))
    }

    fn sources(&self) -> PathBuf {
        self.home.join("sources.list")
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (setting, value) in [
            ("Dir::Etc::SourceList", self.sources()),
            ("Dir::Etc::SourceParts", "/dev/null".into()),
            ("Dir::State::Lists", self.home.join("lists")),
            ("Dir::Cache", self.home.join("cache")),
            ("Acquire::Languages", "none".into()),
            // The unprivileged download user may not be allowed to write here.
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg("-o").arg(format!("{setting}={}", value.display()));
        }
        command
    }
}

/// The Debian mirror that apt is set up for.
fn mirror() -> Result<String> {
    let sites = read(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    match sites.lines().find(|site| site.trim_end_matches('/').ends_with("/debian")) {
        Some(site) => Ok(site.to_owned()),
        None => bail!("apt knows no Debian mirror to take kernels from; add one to its sources"),
    }
}

/// The newest package of a series among `names`, one per line.
fn newest(names: &str, series: &str) -> Option<String> {
    let prefix = format!("linux-image-{series}.");
    names
        .lines()
        .filter(|name| name.starts_with(&prefix) && name.ends_with("-cloud-amd64"))
        .max_by(|a, b| by_numbers(a, b))
        .map(str::to_owned)
}

/// Compares the numbers in two package names, in order.
fn by_numbers(a: &str, b: &str) -> Ordering {
    let numbers = |name: &str| -> Vec<u64> {
        name.split(|character: char| !character.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect()
    };
    numbers(a).cmp(&numbers(b))
}

/// The one file in `folder` whose name starts with `vmlinuz` or ends with the suffix.
fn only_file(folder: &Path, suffix: &str) -> Result<PathBuf> {
    let wanted =
        |name: &str| if suffix.is_empty() { name.starts_with("vmlinuz") } else { name.ends_with(suffix) };
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if wanted(&entry.file_name().to_string_lossy()) {
            return Ok(entry.path());
        }
    }
    bail!("nothing to take from {}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn picks_the_newest_of_the_series() {
        let names = "linux-image-6.1.0-47-cloud-amd64\nlinux-image-6.1.0-50-cloud-amd64\nlinux-image-6.12.9+deb12-cloud-amd64\n\
                     linux-image-6.12.43+deb12-cloud-amd64\nlinux-image-6.12.43+deb12-amd64";
        assert_eq!(newest(names, "6.1").as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(newest(names, "6.12").as_deref(), Some("linux-image-6.12.43+deb12-cloud-amd64"));
        assert_eq!(newest(names, "6.6"), None);
    }
}
