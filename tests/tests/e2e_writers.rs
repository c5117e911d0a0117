//! Files that change while they are probed, and files that take another's place: no process is harmed by a probe.

use std::{
    cell::Cell,
    ffi::CString,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    thread::{UnshareFlags, unshare_unsafe},
};
use tempfile::TempDir;
use tokentap_tests::{
    agent::Agent,
    mapper::{Mapper, folder_with_library, is_probed, system_library},
    process::wait_until,
};

/// A file system of its own that uses an inode number again at once (ext4 gives the lowest that is free), where only
/// the processes that are started by this thread from here on see it.
struct FileSystem(TempDir);

impl FileSystem {
    fn mount() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // SAFETY: only the mount namespace changes, and only this thread's.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.expect("root has a mount namespace of its own");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).expect("mounts that stay here");
        let (image, at) = (folder.path().join("image"), folder.path().join("at"));
        File::create(&image).and_then(|image| image.set_len(64 << 20)).expect("a sparse file");
        fs::create_dir(&at).expect("a folder");
        let run = |command: &mut Command| {
            let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        // All of it is one group of blocks, of which each has inodes of its own.
        run(Command::new("mkfs.ext4").args(["-q", "-b", "4096"]).arg(&image));
        // The loop device goes with the mount.
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at));
        Self(folder)
    }

    fn at(&self) -> PathBuf {
        self.0.path().join("at")
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        // What a test unmounted is gone already.
        let _gone = unmount(self.at(), UnmountFlags::DETACH);
    }
}

#[test]
fn another_file_with_the_same_inode_is_left_alone() {
    let file_system = FileSystem::mount();
    let library = file_system.at().join("libown.so");
    fs::copy(system_library("libssl"), &library).expect("a copy");
    let inode = fs::metadata(&library).expect("the copy").ino();
    let (mut first, mut second) = (Mapper::start(), Mapper::start());
    let agent = Agent::run(&["--no-follow", "--pid", &first.id(), "--pid", &second.id()]);
    first.load(&library);
    wait_until("the first process's library is probed", || !first.is_intact(&library));
    first.end();
    let other = system_library("libcrypto");
    wait_until("no probe keeps the inode, and its number is used again", || {
        fs::remove_file(&library).expect("the copy");
        fs::copy(&other, &library).expect("a copy");
        fs::metadata(&library).expect("the copy").ino() == inode
    });
    second.load(&library);
    // What comes later than this is probed: everything before it has been looked at.
    let own = file_system.at().join("libother.so");
    fs::copy(system_library("libssl"), &own).expect("a copy");
    second.load(&own);
    wait_until("another library is probed", || !second.is_intact(&own));
    assert!(second.is_intact(&library));
    second.end();
    wait_until("the file system can go", || unmount(file_system.at(), UnmountFlags::empty()).is_ok());
    assert_eq!(agent.finish().len(), 0);
}

#[test]
fn a_library_overwritten_while_it_is_probed_is_probed_no_more() {
    let (_folder, library) = folder_with_library();
    let mut running = Mapper::start();
    running.load(&library);
    let agent = Agent::run(&["--pid", &running.id(), "--exe", "no-such-program"]);
    wait_until("the library is probed", || !running.is_intact(&library));
    assert!(is_probed(&library), "for everybody, because of the rule");
    // As `cp` does it: the same inode, emptied and written again.
    fs::write(&library, fs::read(system_library("libcrypto")).expect("a library")).expect("overwritten");
    wait_until("the change is seen", || agent.process().stderr().text().contains("are being written to"));
    wait_until("the running process has what the file has", || running.is_intact(&library));
    wait_until("others have it as well", || !is_probed(&library));
    // Its library's code is gone under it: it does not end well, with or without an agent.
    drop(running);
    assert_eq!(agent.stop().status.code(), Some(0));
}

#[test]
fn a_library_overwritten_in_place_by_one_byte_loses_its_probes() {
    let (_folder, library) = folder_with_library();
    let mut running = Mapper::start();
    running.load(&library);
    let agent = Agent::run(&["--pid", &running.id(), "--exe", "no-such-program"]);
    wait_until("the library is probed", || is_probed(&library));
    let length = fs::metadata(&library).expect("the copy").len();
    let file = File::options().write(true).open(&library).expect("the copy");
    file.write_all_at(b"!", length - 1).expect("written");
    drop(file);
    wait_until("the change is seen", || agent.process().stderr().text().contains("are being written to"));
    wait_until("the code is the same, and probed again", || is_probed(&library));
    running.end();
    assert_eq!(agent.stop().status.code(), Some(0));
}

/// A file in this process's memory.
struct Mapped(*mut std::ffi::c_void, usize);

impl Mapped {
    /// To write into it.
    fn shared(file: &File, length: usize) -> Self {
        Self::map(file, length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    /// As a program's code is mapped.
    fn code(library: &Path, length: usize) -> Self {
        let file = File::open(library).expect("the library");
        Self::map(&file, length, ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE)
    }

    fn map(file: &File, length: usize, access: ProtFlags, flags: MapFlags) -> Self {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe { mmap(std::ptr::null_mut(), length, access, flags, file, 0) };
        Self(at.expect("mapped"), length)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.1);
        // SAFETY: the mapping has these bytes, the file is as long, and no reference into it is ever made.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.cast::<u8>().add(at), bytes.len()) };
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.1];
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(self.0.cast::<u8>(), bytes.as_mut_ptr(), self.1) };
        bytes
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `map` mapped.
        unsafe { munmap(self.0, self.1) }.expect("unmapped");
    }
}

/// Ways to write other contents into a file that stays the same one.
#[derive(Clone, Copy, Debug)]
enum Writer {
    InPlace,
    Truncate,
    Copy,
    HardLink,
    SharedMapping,
}

impl Writer {
    const ALL: [Self; 5] = [Self::InPlace, Self::Truncate, Self::Copy, Self::HardLink, Self::SharedMapping];

    /// Writes; in the middle of it, this is called.
    fn write(self, library: &Path, contents: &[u8], middle: impl FnOnce()) {
        let (first, second) = contents.split_at(contents.len() / 2);
        let open = |path: &Path| File::options().read(true).write(true).open(path).expect("opened");
        let write = |file: &File, middle: &dyn Fn()| {
            file.write_all_at(first, 0).expect("written");
            middle();
            file.write_all_at(second, first.len() as u64).expect("written");
        };
        let middle = Cell::new(Some(middle));
        let middle = || {
            if let Some(middle) = middle.take() {
                middle()
            }
        };
        match self {
            Self::InPlace => write(&open(library), &middle),
            Self::Truncate => {
                // By its path: no descriptor is there before.
                let path = CString::new(library.as_os_str().as_bytes()).expect("no zero in it");
                // SAFETY: a string that ends with zero.
                let result = unsafe { libc::truncate(path.as_ptr(), 0) };
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
                write(&open(library), &middle);
            }
            Self::Copy => write(&File::create(library).expect("opened"), &middle),
            Self::HardLink => {
                let link = library.with_extension("link");
                fs::hard_link(library, &link).expect("a link");
                write(&open(&link), &middle);
                fs::remove_file(link).expect("the link");
            }
            Self::SharedMapping => {
                let file = open(library);
                file.set_len(contents.len() as u64).expect("a length");
                let mut mapped = Mapped::shared(&file, contents.len());
                drop(file);
                mapped.write(0, first);
                middle();
                mapped.write(first.len(), second);
            }
        }
    }
}

const OVERWRITTEN: usize = 50;

#[test]
fn a_library_that_is_overwritten_again_and_again_harms_no_process_that_maps_it() {
    let (_folder, library) = folder_with_library();
    let [tls, other] = ["libssl", "libcrypto"].map(|name| fs::read(system_library(name)).expect("a library"));
    let mut running = Mapper::start();
    running.load(&library);
    let agent = Agent::run(&["--pid", &running.id(), "--exe", "no-such-program"]);
    for (round, writer) in (0..OVERWRITTEN).zip(Writer::ALL.into_iter().cycle()) {
        // Whatever it maps, it is looked at anew.
        assert_eq!(running.ask("map", library.display()), "mapped");
        wait_until("the library is probed for everybody", || {
            Mapped::code(&library, tls.len()).bytes() != tls
        });
        let mut during = None;
        writer.write(&library, &other, || during = Some(Mapped::code(&library, other.len())));
        let mut after = Mapper::start();
        assert_eq!(after.ask("code", library.display()), "mapped");
        assert_eq!(after.ask("differs", library.display()), "differs 0", "round {round}, {writer:?}");
        let during = during.expect("called").bytes();
        let differs = during.iter().zip(&other).position(|(memory, file)| memory != file);
        assert_eq!(differs, None, "round {round}, {writer:?}: mapped while it was written");
        Writer::InPlace.write(&library, &tls, || ());
        File::options()
            .write(true)
            .open(&library)
            .and_then(|f| f.set_len(tls.len() as u64))
            .expect("shorter");
    }
    // Its library was changed under it: it does not end well, with or without an agent.
    drop(running);
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    // Some writers come while the probes are being placed: then they never were there.
    assert!(ended.counter("tokentap.files{outcome=changed}") > OVERWRITTEN as u64 / 2, "{}", ended.log);
    assert_eq!(ended.counter("tokentap.files{outcome=unleased}"), 0, "{}", ended.log);
}

#[test]
fn a_library_that_is_open_for_writing_is_probed_when_it_is_not() {
    let (_folder, library) = folder_with_library();
    let file = File::options().write(true).open(&library).expect("the copy");
    let mut running = Mapper::start();
    running.load(&library);
    let agent = Agent::run(&["--pid", &running.id()]);
    agent.process().wait_for_complaint("reason", |line| line.contains("open for writing").then_some(()));
    assert!(running.is_intact(&library));
    drop(file);
    wait_until("the library is probed", || !running.is_intact(&library));
    running.end();
    assert_eq!(agent.wait().status.code(), Some(0));
}
