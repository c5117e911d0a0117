//! Where hosts keep TLS libraries.

use std::path::PathBuf;

use crate::openssl;

/// Where hosts keep shared libraries, for code that no process has mapped yet.
#[must_use]
pub fn system_libraries() -> Vec<PathBuf> {
    const FOLDERS: &[&str] =
        &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/opt/lib"];
    let mut found = Vec::new();
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if openssl::is_library_name(&name.to_string_lossy()) {
                found.push(path);
            } else if name.to_string_lossy().ends_with("-linux-gnu") {
                let Ok(inner) = std::fs::read_dir(path) else { continue };
                found.extend(
                    inner
                        .flatten()
                        .filter(|e| openssl::is_library_name(&e.file_name().to_string_lossy()))
                        .map(|e| e.path()),
                );
            }
        }
    }
    found
}
