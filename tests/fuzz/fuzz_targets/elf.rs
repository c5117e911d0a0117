//! A file that a target has mapped can be anything.
#![no_main]

use std::{fs::File, io::Write as _, os::fd::AsRawFd as _};

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use tokentap_tls::Finder;

fuzz_target!(|image: &[u8]| {
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.write_all(image).expect("a file in memory");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let Ok(Some(found)) = Finder::default().at_path(path.as_ref()) else { return };
    for point in found.code.points.iter() {
        assert!(point.offset < u64::MAX, "{point:?}");
    }
});
