//! Hands the eBPF object to the crate, or says in one line how to make it.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=TOKENTAP_EBPF_OBJECT");
    let object = std::env::var("TOKENTAP_EBPF_OBJECT")
        .unwrap_or_else(|_unset| concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ebpf/tokentap").to_owned());
    println!("cargo::rerun-if-changed={object}");
    if Path::new(&object).is_file() {
        println!("cargo::rustc-env=TOKENTAP_EBPF_OBJECT={object}");
    } else {
        println!("cargo::error=no eBPF object at {object}: run `cargo xtask build-ebpf` first");
    }
}
