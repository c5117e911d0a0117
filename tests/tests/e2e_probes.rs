//! Probes are placed where they belong and nowhere else, and go when nobody needs them.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;
use tokentap_tests::{
    agent::Agent,
    bodies::call,
    client::Via,
    expect::check_calls,
    kernel::ProgramRuns,
    ledger::Api,
    mapper::{Mapper, folder_with_library, is_probed, python, system_library},
    mock::Mock,
    parts,
    process::{PATIENCE, Process, wait_until},
};

/// Overlay mounts of one folder, as containers of one image have them.
struct Overlays {
    folder: TempDir,
    count: usize,
}

impl Overlays {
    fn mount(count: usize) -> Self {
        let (folder, library) = folder_with_library();
        let image = folder.path().join("image");
        fs::create_dir(&image).expect("a folder");
        fs::rename(library, image.join("libown.so")).expect("a library");
        let overlays = Self { folder, count };
        for number in 0..count {
            let [upper, work, at] = ["upper", "work", "at"].map(|kind| overlays.path(kind, number));
            [&upper, &work, &at].into_iter().for_each(|folder| fs::create_dir(folder).expect("a folder"));
            let options = [("lowerdir", &image), ("upperdir", &upper), ("workdir", &work)];
            let options = options.map(|(name, folder)| format!("{name}={}", folder.display())).join(",");
            let options = std::ffi::CString::new(options).expect("no zero in it");
            mount("overlay", &at, "overlay", MountFlags::empty(), &*options)
                .unwrap_or_else(|e| panic!("cannot mount an overlay with {options:?}: {e}"));
        }
        overlays
    }

    fn path(&self, kind: &str, number: usize) -> PathBuf {
        self.folder.path().join(format!("{kind}{number}"))
    }

    fn library(&self, number: usize) -> PathBuf {
        self.path("at", number).join("libown.so")
    }
}

impl Drop for Overlays {
    fn drop(&mut self) {
        for number in 0..self.count {
            // What a test unmounted is gone already.
            let _gone = unmount(self.path("at", number), UnmountFlags::DETACH);
        }
    }
}

const CONTAINERS: usize = 8;
const CALLS: u64 = 1000;

#[test]
fn containers_of_one_image_share_a_probe_and_leave_no_mount_busy() {
    let overlays = Overlays::mount(CONTAINERS);
    let name = overlays.folder.path().join("containerised");
    std::os::unix::fs::symlink(python(), &name).expect("a link");
    let agent = Agent::run(&["--exe", "containerised"]);
    let before = agent.descriptors();
    let mut processes: Vec<Mapper> = (0..CONTAINERS)
        .map(|number| {
            let mut process = Mapper::start_as(&name);
            process.load(&overlays.library(number));
            process
        })
        .collect();
    for (number, process) in processes.iter_mut().enumerate() {
        wait_until("the library is probed", || !process.is_intact(&overlays.library(number)));
    }
    let runs = ProgramRuns::of(agent.process().id());
    let last = processes.last_mut().expect("some");
    wait_until("each call runs one program", || {
        let before = runs.count();
        assert_eq!(last.ask("free", CALLS), "called");
        // What the library does at its own calls is not ours to count.
        (CALLS..CALLS + CALLS / 2).contains(&(runs.count() - before))
    });
    // The first is the one whose mount was used for all of them.
    for (number, process) in processes.into_iter().enumerate() {
        process.end();
        wait_until("the mount can go", || {
            unmount(overlays.path("at", number), UnmountFlags::empty()).is_ok()
        });
    }
    assert!(agent.descriptors() <= before, "none is left of a container");
    assert_eq!(agent.stop().status.code(), Some(0));
}

#[test]
fn one_container_goes_and_the_others_are_still_seen() {
    let overlays = Overlays::mount(2);
    let [mut first, mut second] = [0, 1].map(|number| {
        let mut process = Mapper::start();
        process.load(&overlays.library(number));
        process
    });
    let agent = Agent::run(&["--pid", &first.id(), "--pid", &second.id(), "--exe", "no-such-program"]);
    wait_until("both are probed", || {
        !first.is_intact(&overlays.library(0)) && !second.is_intact(&overlays.library(1))
    });
    first.end();
    wait_until("the mount can go", || unmount(overlays.path("at", 0), UnmountFlags::empty()).is_ok());
    assert!(!second.is_intact(&overlays.library(1)));
    second.end();
    wait_until("the other can, too", || unmount(overlays.path("at", 1), UnmountFlags::empty()).is_ok());
    assert_eq!(agent.stop().status.code(), Some(0));
}

#[test]
fn a_library_that_claims_gigabytes_of_symbols_costs_no_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = folder.path().join("huge.so");
    sparse_library(&library);
    let mut process = Mapper::start();
    let agent = Agent::run(&["--no-follow", "--pid", &process.id()]);
    let before = agent.peak_memory();
    assert_eq!(process.ask("map", library.display()), "mapped");
    agent.process().wait_for_complaint("reason", |line| line.contains("huge.so").then_some(()));
    assert!(agent.peak_memory() - before < 16 << 20, "{} bytes, {before} before", agent.peak_memory());
    process.end();
    let ended = agent.wait();
    assert_eq!(ended.counter("tokentap.files{outcome=refused}"), 1);
}

/// A page of code, and a symbol table of 3 GiB in which nothing is written.
fn sparse_library(path: &Path) {
    const STRINGS: u64 = 4096;
    const SECTIONS: u64 = 8192;
    const SYMBOLS: u64 = 16384;
    let words = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let halves = |halves: &[u16]| -> Vec<u8> { halves.iter().flat_map(|half| half.to_le_bytes()).collect() };
    // See elf(5): the header, one segment; no section, a symbol table, its strings.
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0".to_vec();
    header.extend(words(&[0, 64, SECTIONS]));
    header.extend(halves(&[0, 0, 64, 56, 1, 64, 3, 0]));
    header.extend(words(&[1 | 5 << 32, 0, 0, 0, 4096, 4096, 4096]));
    let size = 3_u64 << 30;
    let mut sections = vec![0; 64];
    sections.extend(words(&[2 << 32, 0, 0, SYMBOLS, size, 2, 8, 24]));
    sections.extend(words(&[3 << 32, 0, 0, STRINGS, 20, 0, 1, 0]));
    let file = File::create(path).expect("a file");
    for (offset, bytes) in [(0, &header[..]), (STRINGS, b"\0SSL_read\0SSL_write\0"), (SECTIONS, &sections)] {
        file.write_all_at(bytes, offset).expect("written");
    }
    file.set_len(SYMBOLS + size).expect("a sparse file");
}

/// A file system over FUSE (clients/stuck_fs.py).
struct Stuck {
    process: Process,
    folder: TempDir,
}

impl Stuck {
    fn mount() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(python());
        command.arg(parts::file("clients/stuck_fs.py")).arg(folder.path());
        let process = Process::spawn(command);
        process.wait_for_line("mount", |line| (line == "mounted").then_some(()));
        Self { process, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("file")
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _gone = unmount(self.folder.path(), UnmountFlags::DETACH | UnmountFlags::FORCE);
    }
}

/// curl with one call, with libraries from a folder of its own if there is one.
fn curl(mock: &Mock, libraries: Option<&Path>) {
    let job = Via::Tls.job(mock, Vec::new());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--cacert"]).arg(&job.ca);
    curl.args(["--data", &call(Api::OpenaiChat, "mock").to_string()]);
    curl.arg(format!("{}/v1/chat/completions", job.base_url));
    curl.envs(libraries.map(|folder| ("LD_LIBRARY_PATH", folder)));
    let mut curl = Process::spawn(curl);
    curl.close_stdin();
    assert!(curl.wait(PATIENCE).success(), "{}", curl.transcript());
}

#[test]
fn a_file_system_that_does_not_answer_holds_up_nobody_else() {
    // It ends last: its end waits for the file system.
    let mut process = Mapper::start();
    let mut stuck = Stuck::mount();
    assert_eq!(process.ask("map", stuck.file().display()), "mapped");
    stuck.process.write("stop\n");
    stuck.process.wait_for_line("end of answers", |line| (line == "stuck").then_some(()));
    let mock = Mock::for_test();
    let agent = Agent::run(&["--pid", &process.id(), "--exe", "curl"]);
    curl(&mock, None);
    let answers = mock.ledger().wait_for_answers(1);
    check_calls(&agent.wait_for_spans(1), &answers);
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert_eq!(ended.counter("tokentap.files{outcome=refused}"), 1, "{}", ended.log);
    assert!(ended.log.contains(stuck.file().to_str().expect("UTF-8")), "{}", ended.log);
}

#[test]
fn a_file_that_a_process_answers_for_is_named_and_not_probed() {
    let stuck = Stuck::mount();
    let mut process = Mapper::start();
    assert_eq!(process.ask("map", stuck.file().display()), "mapped");
    let agent = Agent::run(&["--no-follow", "--pid", &process.id()]);
    agent.process().wait_for_complaint("reason", |line| line.contains("FUSE").then_some(()));
    process.end();
    assert_eq!(agent.wait().counter("tokentap.files{outcome=refused}"), 1);
}

/// A process that ends before it could be looked into teaches nothing but that it was missed: on a busy machine the first
/// one does.
#[test]
fn a_library_that_nobody_could_foresee_is_seen_once_a_process_could_be_looked_into() {
    const SEEN: usize = 10;
    let mock = Mock::for_test();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for library in ["libssl", "libcrypto"].map(system_library) {
        fs::copy(&library, folder.path().join(library.file_name().expect("a name"))).expect("a copy");
    }
    let library = folder.path().join(system_library("libssl").file_name().expect("a name"));
    let agent = Agent::run(&["--exe", "curl"]);
    assert!(!is_probed(&library));
    let mut first = 0;
    wait_until("what one process had is probed for the others", || {
        curl(&mock, Some(folder.path()));
        first += 1;
        let patience = Instant::now() + Duration::from_secs(1);
        while !is_probed(&library) && Instant::now() < patience {
            thread::sleep(Duration::from_millis(10));
        }
        is_probed(&library)
    });
    for _ in 0..SEEN {
        curl(&mock, Some(folder.path()));
    }
    let answers = mock.ledger().wait_for_answers(first + SEEN);
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    let missed = answers.len() - ended.spans.len();
    assert!(missed <= first, "{missed} missed, of which {first} at first\n{}", ended.log);
    check_calls(&ended.spans, &answers[missed..]);
    let counted = ended.counter("tokentap.processes.missed{reason=ended_before_probes}")
        + ended.counter("tokentap.probes.late");
    assert!(
        counted + ended.counter("tokentap.processes.missed{reason=ended_before_search}") >= missed as u64,
        "{}",
        ended.log
    );
}
