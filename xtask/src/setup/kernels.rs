//! QEMU, kernels for it, and what is needed to build and run programs for arm64.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{
    apt,
    recipe::{once, place},
};
use crate::shell::{read, run, run_logged};

/// What a kernel and the programs on it are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Architecture {
    X86_64,
    Arm64,
}

/// A kernel's image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Image {
    /// Its folder below `target/parts/kernels`.
    name: &'static str,
    /// As 6.12.
    series: &'static str,
    pub(crate) architecture: Architecture,
    /// The suite of Debian whose newest cloud kernel of the series it is.
    suite: &'static str,
    /// How the name of the package with the image begins.
    package: &'static str,
}

pub(crate) const LINUX_6_1: Image = Image {
    name: "6.1",
    series: "6.1",
    architecture: Architecture::X86_64,
    suite: "bookworm",
    package: "linux-image",
};
pub(crate) const LINUX_6_12: Image =
    Image { name: "6.12", series: "6.12", suite: "bookworm-backports", ..LINUX_6_1 };
pub(crate) const LINUX_6_12_ARM64: Image =
    Image { name: "6.12-arm64", architecture: Architecture::Arm64, ..LINUX_6_12 };
pub(crate) const LINUX_6_19: Image =
    Image { name: "6.19", series: "6.19", suite: "trixie-backports", package: "linux-binary", ..LINUX_6_1 };
pub(crate) const LINUX_7_0: Image = Image { name: "7.0", series: "7.0", ..LINUX_6_19 };

const IMAGES: [Image; 5] = [LINUX_6_1, LINUX_6_12, LINUX_6_12_ARM64, LINUX_6_19, LINUX_7_0];

/// Programs for arm64 that virtual machines run, and the headers and libraries that ours are built with.
const ARM64_PACKAGES: [&str; 3] = ["curl", "libc6", "libssl-dev"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Image {
    /// `target/parts/kernels/<name>/vmlinuz`.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder().join("vmlinuz")
    }

    fn folder(&self) -> PathBuf {
        place("kernels").join(self.name)
    }

    /// Takes the image out of its package.
    fn fetch(&self) -> Result<()> {
        let folder = self.folder();
        let unpacked = folder.join("unpacked");
        fs::create_dir_all(&unpacked)?;
        let archive = Archive::open(self.architecture, &[self.suite])?;
        let package = newest(&archive.packages(self.package)?, self)
            .with_context(|| format!("Debian has no cloud kernel {} any more", self.series))?;
        archive.download(&package, &folder)?;
        let package = only_file(&folder, |name| name.ends_with(".deb"))?;
        run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&unpacked))?;
        fs::rename(image_below(&unpacked)?, self.path())?;
        fs::remove_dir_all(&unpacked)?;
        fs::remove_file(&package)?;
        Ok(())
    }
}

/// The first QEMU that can be trusted: 7.2 corrupts the memory and the flags of x86-64 machines, which then panic at boot
/// or under load in 3 of 10 runs, with or without the agent.
const FIRST_TRUSTED_QEMU: u32 = 10;
const QEMU_SUITE: &str = "bookworm-backports";
const QEMU_PACKAGES: [&str; 4] = ["qemu-system-x86", "qemu-system-arm", "qemu-system-data", "seabios"];

/// Starts this program of QEMU: the system's own, unless it is too old and `target/parts/qemu` has a newer one.
pub(crate) fn qemu(program: &str) -> Command {
    let newer = place("qemu").join("usr");
    if !newer.join("bin").join(program).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(newer.join("bin").join(program));
    for firmware in ["qemu", "seabios"] {
        command.arg("-L").arg(newer.join("share").join(firmware));
    }
    command
}

/// `QEMU emulator version 7.2.22 (Debian …)`
fn major_version(said: &str) -> Option<u32> {
    said.split_once("version ")?.1.split('.').next()?.parse().ok()
}

/// A newer QEMU into `target/parts/qemu` where the system's is too old; it uses the libraries that the system's brought.
fn install_newer_qemu() -> Result<()> {
    let version = read(Command::new("qemu-system-x86_64").arg("--version"))?;
    if major_version(&version).is_some_and(|major| major >= FIRST_TRUSTED_QEMU) {
        return Ok(());
    }
    let recipe = format!("{QEMU_SUITE}: {}", QEMU_PACKAGES.join(" "));
    once("qemu", &recipe, "a newer QEMU into target/parts/qemu", || {
        let folder = place("qemu");
        fs::create_dir_all(&folder)?;
        let archive = Archive::open(Architecture::X86_64, &[QEMU_SUITE])?;
        for package in QEMU_PACKAGES {
            archive.download(package, &folder)?;
            let file = only_file(&folder, |name| name.ends_with(".deb"))?;
            run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&folder))?;
            fs::remove_file(&file)?;
        }
        Ok(())
    })
}

/// `target/parts/arm64`: Debian's arm64 packages, unpacked.
pub(crate) fn arm64_root() -> PathBuf {
    place("arm64")
}

/// QEMU and a compiler for arm64 from the distribution, every kernel's image, and arm64 programs.
pub(super) fn install() -> Result<()> {
    apt::install(&[
        "qemu-system-x86",
        "qemu-system-arm",
        "cpio",
        "debian-archive-keyring",
        "gcc-aarch64-linux-gnu",
        "libc6-dev-arm64-cross",
    ])?;
    install_newer_qemu()?;
    for image in IMAGES {
        let what = format!("kernel {} into target/parts/kernels", image.name);
        once(&format!("kernels/{}", image.name), &format!("{image:?}"), &what, || image.fetch())?;
    }
    let what = "curl and OpenSSL for arm64 into target/parts/arm64";
    once("arm64", &ARM64_PACKAGES.join(" "), what, || {
        let archive = Archive::open(Architecture::Arm64, &["bookworm"])?;
        for package in archive.download_with_dependencies(&ARM64_PACKAGES)? {
            run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(arm64_root()))?;
        }
        Ok(())
    })
}

/// Package lists of an architecture and suites that the system itself may not be set up for, kept under
/// `target/`. No package counts as installed.
struct Archive {
    home: PathBuf,
    architecture: Architecture,
}

impl Archive {
    /// Reads the lists from the mirror that this system uses.
    fn open(architecture: Architecture, suites: &[&str]) -> Result<Self> {
        let archive = Self { home: place("apt").join(architecture.debian()), architecture };
        let mirror = mirror()?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(archive.home.join(folder))?;
        }
        let sources: String =
            suites.iter().map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")).collect();
        fs::write(archive.sources(), sources)?;
        fs::write(archive.status(), "")?;
        run_logged(archive.apt("apt-get").arg("update"), &place("apt.log"))?;
        Ok(archive)
    }

    fn packages(&self, prefix: &str) -> Result<String> {
        read(self.apt("apt-cache").args(["pkgnames", prefix]))
    }

    fn download(&self, package: &str, folder: &Path) -> Result<()> {
        run_logged(self.apt("apt-get").args(["download", package]).current_dir(folder), &place("apt.log"))
    }

    /// The files of these packages and of everything that they depend on.
    fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let install = ["install", "--yes", "--no-install-recommends", "--download-only"];
        run_logged(self.apt("apt-get").args(install).args(packages), &place("apt.log"))?;
        let files = fs::read_dir(self.home.join("cache/archives"))?;
        let files: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
        Ok(files.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "deb")).collect())
    }

    fn sources(&self) -> PathBuf {
        self.home.join("sources.list")
    }

    fn status(&self) -> PathBuf {
        self.home.join("status")
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (setting, value) in [
            ("Dir::Etc::SourceList", self.sources()),
            ("Dir::Etc::SourceParts", "/dev/null".into()),
            ("Dir::State::Lists", self.home.join("lists")),
            ("Dir::State::Status", self.status()),
            ("Dir::Cache", self.home.join("cache")),
            ("APT::Architecture", self.architecture.debian().into()),
            ("APT::Architectures", self.architecture.debian().into()),
            ("Acquire::Languages", "none".into()),
            // The unprivileged download user may not be allowed to write here.
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg("-o").arg(format!("{setting}={}", value.display()));
        }
        command
    }
}

impl Architecture {
    /// Debian's name of it.
    const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
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

/// The newest package with an image among `names`, one per line.
fn newest(names: &str, image: &Image) -> Option<String> {
    let prefix = format!("{}-{}.", image.package, image.series);
    let suffix = format!("-cloud-{}", image.architecture.debian());
    names
        .lines()
        .filter(|name| name.starts_with(&prefix) && name.ends_with(&suffix))
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

/// Where a package has its image: in `boot`, or with the modules.
fn image_below(unpacked: &Path) -> Result<PathBuf> {
    let wanted = |name: &str| name.starts_with("vmlinuz");
    let boot = unpacked.join("boot");
    if boot.exists() {
        return only_file(&boot, wanted);
    }
    only_file(&only_file(&unpacked.join("usr/lib/modules"), |_| true)?, wanted)
}

/// The file in `folder` whose name is as wanted.
fn only_file(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
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
    use super::{
        Image, LINUX_6_1, LINUX_6_12, LINUX_6_12_ARM64, LINUX_6_19, LINUX_7_0, major_version, newest,
    };

    #[test]
    fn reads_the_version_of_qemu() {
        assert_eq!(major_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"), Some(7));
        assert_eq!(major_version("QEMU emulator version 10.0.2\n"), Some(10));
        assert_eq!(major_version("no QEMU"), None);
    }

    #[test]
    fn picks_the_newest_of_the_series() {
        let names = "linux-image-6.1.0-47-cloud-amd64\nlinux-image-6.1.0-50-cloud-amd64\nlinux-image-6.12.9+deb12-cloud-amd64\n\
                     linux-image-6.12.43+deb12-cloud-amd64\nlinux-image-6.12.43+deb12-amd64\n\
                     linux-image-6.12.95+deb12-cloud-arm64\nlinux-image-6.12.95+deb12-cloud-arm64-unsigned\n\
                     linux-binary-7.0.9+deb13-cloud-amd64\nlinux-binary-7.0.12+deb13-cloud-amd64";
        let newest = |image: Image| newest(names, &image);
        assert_eq!(newest(LINUX_6_1).as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(newest(LINUX_6_12).as_deref(), Some("linux-image-6.12.43+deb12-cloud-amd64"));
        assert_eq!(newest(LINUX_6_12_ARM64).as_deref(), Some("linux-image-6.12.95+deb12-cloud-arm64"));
        assert_eq!(newest(LINUX_7_0).as_deref(), Some("linux-binary-7.0.12+deb13-cloud-amd64"));
        assert_eq!(newest(LINUX_6_19), None);
    }
}
