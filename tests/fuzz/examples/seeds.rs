//! Writes the inputs that fuzzing begins with: `seeds TAPES TO`. `cargo xtask fuzz` runs it.

use std::{env, io, path::Path};

fn main() -> io::Result<()> {
    let mut folders = env::args_os().skip(1);
    let (Some(tapes), Some(to)) = (folders.next(), folders.next()) else {
        return Err(io::Error::other("usage: seeds TAPES TO"));
    };
    tokentap_fuzz::seeds::write(Path::new(&tapes), Path::new(&to))
}
