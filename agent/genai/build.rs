//! Says where recorded traffic of real providers lies, which is no part of the repository. Tests that need it are ignored
//! where there is none.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(recordings)");
    println!("cargo::rerun-if-env-changed=TOKENTAP_RECORDINGS");
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cassettes");
    let folder = env::var_os("TOKENTAP_RECORDINGS").map_or_else(beside, PathBuf::from);
    println!("cargo::rerun-if-changed={}", folder.display());
    if folder.is_dir() {
        println!("cargo::rustc-cfg=recordings");
        println!("cargo::rustc-env=RECORDINGS={}", folder.display());
    }
}
