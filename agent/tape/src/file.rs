//! The file of a tape: a new one, for its owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::process::geteuid;

/// Makes a file that only this user may read and write, in place of a regular file of that name.
///
/// A file that is there is removed, not written over: others may have it open, under this or another name, and
/// would read what is written to it whatever its mode becomes.
///
/// # Errors
/// When the name is something else than a regular file, the old one cannot be removed, or the file system does
/// not keep others out.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => fs::remove_file(path).map_err(|error| {
            let why =
                format!("the file is there and cannot be replaced ({error}): remove it, or use another name");
            io::Error::new(error.kind(), why)
        })?,
        Ok(_) => {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it is there and not a regular file: a tape needs a file of its own, use another name",
            ));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Whatever has taken the name since, a link too, is an error.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let made = file.metadata()?;
    if made.mode() & 0o077 != 0 || made.uid() != geteuid().as_raw() {
        fs::remove_file(path)?;
        return Err(io::Error::new(
            ErrorKind::Unsupported,
            "this file system does not keep a file to its owner: use a folder on another one",
        ));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_that_was_open_to_others_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape");
        let other = folder.path().join("other");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        fs::hard_link(&path, &other).unwrap();
        let mut reader = File::open(&path).unwrap();
        create_private(&path).unwrap().write_all(b"secret").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        let mut seen = String::new();
        reader.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "old", "who had it open sees nothing of the tape");
        assert_eq!(fs::read(&other).unwrap(), b"old", "nor does its other name");
    }

    #[test]
    fn a_new_file_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape");
        create_private(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "precious").unwrap();
        let name = |name: &str| folder.path().join(name);
        symlink(&target, name("link")).unwrap();
        symlink(name("absent"), name("dangling")).unwrap();
        fs::create_dir(name("folder")).unwrap();
        // Opening a FIFO would wait for a reader.
        mknodat(CWD, name("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in ["link", "dangling", "folder", "fifo"].map(name).iter().chain([&"/dev/null".into()]) {
            let before = fs::symlink_metadata(path).unwrap();
            let error = create_private(path).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{}: {error}", path.display());
            let after = fs::symlink_metadata(path).unwrap();
            assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
        }
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        assert!(!name("absent").exists());
    }
}
