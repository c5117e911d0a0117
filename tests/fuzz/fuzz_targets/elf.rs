//! A file that a process has mapped can be anything: what is found in it lies in it, where a symbol says.
#![no_main]

use std::{collections::HashSet, fs::File, io::Write as _, os::fd::AsRawFd as _};

use libfuzzer_sys::fuzz_target;
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use rustix::fs::{MemfdFlags, memfd_create};
use tokentap_tls::Finder;

fuzz_target!(|image: &[u8]| {
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.write_all(image).expect("a file in memory");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let Ok(Some(found)) = Finder::default().at_path(path.as_ref()) else { return };
    let symbols = symbols(image);
    for point in &found.code.points {
        assert!(point.offset < image.len() as u64, "{point:?} lies behind the end of the file");
        if let Some(symbols) = &symbols {
            assert!(symbols.contains(&point.offset), "{point:?} is where no function of the library is");
        }
    }
});

/// Where the functions lie that a TLS library exports, as another reader of the file says; `None` when it reads nothing.
fn symbols(image: &[u8]) -> Option<HashSet<u64>> {
    let file = object::File::parse(image).ok()?;
    let offset = |address: u64| {
        file.segments().find_map(|segment| {
            let (start, size) = segment.file_range();
            let inside = address.checked_sub(segment.address())?;
            (inside < size).then(|| start + inside)
        })
    };
    let of_library = |name: &str| name.starts_with("SSL_") || name.starts_with("BIO_");
    let symbols = file.dynamic_symbols().chain(file.symbols());
    let symbols = symbols.filter(|symbol| symbol.name().is_ok_and(of_library));
    Some(symbols.filter_map(|symbol| offset(symbol.address())).collect())
}
