//! Servers that speak HTTP/2, from Debian. Installed as packages they would run as services of this machine;
//! here they are only unpacked, and what they are linked with is installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{
    apt,
    recipe::{once, place},
};
use crate::shell::{read, run, run_logged};

const PACKAGES: [&str; 2] = ["nginx", "nghttp2-proxy"];

/// `target/parts/servers/usr/sbin/nginx` and `nghttpx`.
pub(super) fn install() -> Result<()> {
    once("servers", &PACKAGES.join(" "), "nginx and nghttpx into target/parts/servers", || {
        let (folder, log) = (place("servers"), place("servers.log"));
        fs::create_dir_all(&folder)?;
        apt::update(&log)?;
        for package in PACKAGES {
            unpack(package, &folder, &log).with_context(|| format!("cannot unpack {package}"))?;
        }
        Ok(())
    })
}

fn unpack(package: &str, folder: &Path, log: &Path) -> Result<()> {
    let download = folder.join(package);
    fs::create_dir_all(&download)?;
    let settings = ["-o", "APT::Sandbox::User=root", "download", package];
    run_logged(Command::new("apt-get").args(settings).current_dir(&download), log)?;
    for file in fs::read_dir(&download)? {
        let file = file?.path();
        let dependencies = read(Command::new("dpkg-deb").arg("--field").arg(&file).arg("Depends"))?;
        apt::install(&libraries(&dependencies))?;
        run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(folder))?;
    }
    fs::remove_dir_all(&download)?;
    Ok(())
}

/// The names in a list of dependencies that are those of libraries.
fn libraries(dependencies: &str) -> Vec<&str> {
    let names = dependencies.split(',').filter_map(|dependency| dependency.split_whitespace().next());
    names.filter(|name| name.starts_with("lib")).collect()
}

#[cfg(test)]
mod tests {
    use super::libraries;

    #[test]
    fn finds_the_libraries_among_dependencies() {
        let dependencies = "libc6 (>= 2.34), iproute2, libssl3 (>= 3.0.0) | libssl4, nginx-common (<< 1.2)";
        assert_eq!(libraries(dependencies), ["libc6", "libssl3"]);
        assert!(libraries("").is_empty());
    }
}
