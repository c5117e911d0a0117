use std::{cell::RefCell, fs::File, os::fd::AsRawFd as _, path::Path, rc::Rc};

use rustix::fs::{MemfdFlags, memfd_create};
use tokentap_tls::OpenFile;

use super::*;

/// What is in the kernel: probes by number, each with the file below and its scope.
#[derive(Default)]
struct Kernel {
    next: u32,
    probes: HashMap<u32, (String, Scope)>,
    refuses: bool,
    changes: bool,
    busy: bool,
    /// Taken away by the place itself, because of a writer.
    broken: HashSet<u32>,
    /// In files that were deleted.
    deleted: HashSet<u32>,
}

/// A place that is looked into from outside. A file below several identities is recognized by its name.
#[derive(Clone, Default)]
struct Fake(Rc<RefCell<Kernel>>);

impl ProbeBackend for Fake {
    type Probes = u32;

    fn place(&mut self, found: &Found, scope: Scope) -> Result<u32, NotPlaced> {
        let mut kernel = self.0.borrow_mut();
        if kernel.refuses {
            return Err(NotPlaced::Refused("no".into()));
        }
        if kernel.changes {
            return Err(NotPlaced::Changed);
        }
        if kernel.busy {
            return Err(NotPlaced::Busy);
        }
        kernel.next += 1;
        let probe = kernel.next;
        kernel.probes.insert(probe, (found.name.clone(), scope));
        Ok(probe)
    }

    fn is_probed(&self, found: &Found) -> bool {
        self.0.borrow().probes.values().any(|(name, scope)| *name == found.name && *scope == Scope::Host)
    }

    fn is_of_deleted(&self, probe: &u32) -> bool {
        self.0.borrow().deleted.contains(probe)
    }

    fn remove(&mut self, probes: Vec<u32>) {
        for probe in probes {
            let mut kernel = self.0.borrow_mut();
            let gone = kernel.probes.remove(&probe).is_none();
            assert_eq!(gone, kernel.broken.remove(&probe), "taken away twice");
        }
    }
}

impl Fake {
    fn probes(&self) -> Vec<(String, Scope)> {
        let mut probes: Vec<_> = self.0.borrow().probes.values().cloned().collect();
        probes.sort_by_key(|(name, scope)| (name.clone(), format!("{scope:?}")));
        probes
    }

    /// A writer comes: what is probed in this file is gone before anybody decides it.
    fn write(&self, file: &str) {
        let mut kernel = self.0.borrow_mut();
        let gone: Vec<u32> =
            kernel.probes.extract_if(|_, (name, _)| name == file).map(|(probe, _)| probe).collect();
        kernel.broken.extend(gone);
    }

    fn host(&self) -> Vec<String> {
        self.probes().into_iter().filter(|(_, scope)| *scope == Scope::Host).map(|(name, _)| name).collect()
    }
}

fn placements() -> (Fake, Placements<Fake>) {
    let fake = Fake::default();
    (fake.clone(), Placements::new(fake, MAX_PROCESS_PROBES))
}

/// A file with this code, changed at this time.
fn file(inode: u64, name: &str, code: &[u8], changed: i64) -> Found {
    let file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
    let mut file = OpenFile::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))).unwrap();
    file.stamp = Stamp { device: 1, inode, size: 100, changed: (changed, 0) };
    file.mount = 1;
    let id = FileId { device: 1, inode };
    Found {
        id,
        name: name.to_owned(),
        file,
        code: Arc::new(TlsCode::new("test", Vec::new(), Vec::new(), code.to_vec())),
    }
}

/// The same through an overlay: another device, which is also its mount.
fn through(mount: u64, mut found: Found) -> Found {
    found.id.device = mount;
    found.file.stamp.device = mount;
    found.file.mount = mount;
    found.file.stacked = true;
    found
}

fn lib() -> Found {
    file(7, "lib", b"code", 10)
}

fn seen(
    placements: &mut Placements<Fake>,
    pid: u32,
    found: &[Found],
    stay: Retention,
) -> Vec<PlacementOutcome> {
    placements.update_process(pid, found, &vec![stay; found.len()], true)
}

fn seen_narrow(placements: &mut Placements<Fake>, pid: u32, found: &[Found]) -> Vec<PlacementOutcome> {
    placements.update_process(pid, found, &vec![Retention::WhileUsed; found.len()], false)
}

#[test]
fn a_probe_goes_with_the_last_process_that_has_its_file() {
    let (kernel, mut placements) = placements();
    assert_eq!(seen(&mut placements, 1, &[lib()], Retention::WhileUsed), [PlacementOutcome::Placed]);
    assert_eq!(seen(&mut placements, 2, &[lib()], Retention::WhileUsed), [PlacementOutcome::Known]);
    placements.forget(1);
    assert_eq!(kernel.host(), ["lib"]);
    placements.forget(2);
    assert_eq!(kernel.host(), [""; 0]);
}

#[test]
fn a_process_that_maps_a_file_no_more_does_not_hold_its_probe() {
    let (kernel, mut placements) = placements();
    seen(&mut placements, 1, &[lib()], Retention::WhileUsed);
    seen(&mut placements, 1, &[file(8, "other", b"other", 10)], Retention::WhileUsed);
    assert_eq!(kernel.host(), ["other"]);
    seen_narrow(&mut placements, 2, &[file(9, "own", b"own", 10)]);
    seen_narrow(&mut placements, 2, &[]);
    assert_eq!(kernel.host(), ["other"]);
}

#[test]
fn what_processes_to_come_may_use_stays_within_a_bound() {
    let (kernel, mut placements) = placements();
    let system = file(1, "system", b"system", 10);
    placements.place_in_host_files(&[system]);
    let count = u64::try_from(MAX_KEPT).unwrap() + 3;
    for inode in 0..count {
        let found = file(100 + inode, &format!("lib{inode:02}"), &inode.to_le_bytes(), 10);
        seen(&mut placements, 5, &[found], Retention::Kept);
    }
    placements.forget(5);
    let names = kernel.host();
    assert_eq!(names.len(), MAX_KEPT + 1);
    assert_eq!(&names[..2], ["lib03", "lib04"], "those that were used last are left");
    assert_eq!(names.last().unwrap(), "system");
}

#[test]
fn a_file_that_was_deleted_is_not_kept_for_others() {
    let (kernel, mut placements) = placements();
    seen(&mut placements, 1, &[lib()], Retention::Kept);
    let probe = kernel.0.borrow().next;
    kernel.0.borrow_mut().deleted.insert(probe);
    placements.evict();
    assert_eq!(kernel.host(), ["lib"], "a process has it");
    placements.forget(1);
    assert_eq!(kernel.host(), [""; 0]);
}

#[test]
fn a_library_of_the_system_that_was_replaced_makes_room() {
    let (kernel, mut placements) = placements();
    placements.place_in_host_files(&[lib()]);
    placements.place_in_host_files(&[file(8, "newer", b"newer", 20)]);
    assert_eq!(kernel.host(), ["lib", "newer"], "it may still be in use");
    seen(&mut placements, 1, &[lib()], Retention::WhileUsed);
    placements.forget(1);
    assert_eq!(kernel.host(), ["newer"]);
}

#[test]
fn one_file_below_many_overlays_is_probed_once() {
    let (kernel, mut placements) = placements();
    for mount in 10..50_u64 {
        let pid = u32::try_from(mount).unwrap();
        seen(&mut placements, pid, &[through(mount, lib())], Retention::WhileUsed);
    }
    assert_eq!(kernel.host(), ["lib"]);
    // Equal in all that a file says of itself, but no breakpoint shows: it is another one.
    let twin = Found { name: "twin".into(), ..through(60, lib()) };
    seen(&mut placements, 60, &[twin], Retention::WhileUsed);
    assert_eq!(kernel.host(), ["lib", "twin"]);
}

#[test]
fn a_mount_is_let_go_with_the_last_process_that_uses_it() {
    let (kernel, mut placements) = placements();
    seen(&mut placements, 1, &[through(10, lib())], Retention::WhileUsed);
    seen(&mut placements, 2, &[through(11, lib())], Retention::WhileUsed);
    seen(&mut placements, 3, &[through(10, lib())], Retention::WhileUsed);
    assert_eq!(placements.forget(1), [0; 0]);
    let first = kernel.0.borrow().next;
    // The probe went through the mount of 1 and 3; 2 has it through its own.
    assert_eq!(placements.forget(3), [2]);
    assert_eq!(
        seen(&mut placements, 2, &[through(11, lib())], Retention::WhileUsed),
        [PlacementOutcome::Known]
    );
    assert_eq!(kernel.0.borrow().next, first + 1, "placed anew");
    assert_eq!(kernel.host(), ["lib"]);
    placements.forget(2);
    assert_eq!(kernel.host(), [""; 0]);
}

#[test]
fn a_file_that_changed_loses_its_probes_and_gets_those_of_its_new_contents() {
    let (kernel, mut placements) = placements();
    seen(&mut placements, 1, &[lib()], Retention::Kept);
    let probe = kernel.0.borrow().next;
    assert_eq!(placements.changed(|placed| *placed == probe), [1]);
    assert_eq!(kernel.host(), [""; 0]);
    // The same without a notice.
    seen(&mut placements, 1, &[lib()], Retention::Kept);
    assert_eq!(
        seen(&mut placements, 1, &[file(7, "new", b"new code", 20)], Retention::Kept),
        [PlacementOutcome::Placed]
    );
    assert_eq!(kernel.host(), ["new"]);
    // For one process, too.
    seen_narrow(&mut placements, 2, &[file(8, "own", b"own", 10)]);
    seen_narrow(&mut placements, 2, &[file(8, "own, new", b"own, new", 20)]);
    assert_eq!(kernel.probes().last().unwrap(), &("own, new".to_owned(), Scope::Process(2)));
    assert_eq!(kernel.probes().len(), 2);
}

#[test]
fn a_file_with_a_writer_loses_its_probes_and_is_tried_again_until_there_is_none() {
    let (kernel, mut placements) = placements();
    seen(&mut placements, 1, &[lib()], Retention::WhileUsed);
    seen(&mut placements, 2, &[lib(), file(8, "other", b"other", 10)], Retention::WhileUsed);
    kernel.write("lib");
    kernel.0.borrow_mut().busy = true;
    let broken = kernel.0.borrow().broken.clone();
    assert_eq!(placements.changed(|probe| broken.contains(probe)), [1, 2]);
    for _ in 0..2 {
        let tried = seen(&mut placements, 1, &[lib()], Retention::WhileUsed);
        assert_eq!(tried, [PlacementOutcome::Failed(NotPlaced::Busy)]);
    }
    assert_eq!(kernel.host(), ["other"]);
    kernel.0.borrow_mut().busy = false;
    assert_eq!(seen(&mut placements, 1, &[lib()], Retention::WhileUsed), [PlacementOutcome::Placed]);
    // A process that ends meanwhile, before it is known that a writer came.
    kernel.write("lib");
    placements.forget(1);
    assert!(kernel.0.borrow().broken.is_empty());
    // Probes of single processes go together.
    seen_narrow(&mut placements, 3, &[lib()]);
    seen_narrow(&mut placements, 4, &[lib()]);
    kernel.write("lib");
    let broken = kernel.0.borrow().broken.clone();
    assert_eq!(placements.changed(|probe| broken.contains(probe)), [3, 4]);
    assert_eq!(seen_narrow(&mut placements, 3, &[lib()]), [PlacementOutcome::Placed]);
}

#[test]
fn a_new_change_time_alone_is_no_change() {
    let (kernel, mut placements) = placements();
    seen(&mut placements, 1, &[lib()], Retention::WhileUsed);
    assert_eq!(
        seen(&mut placements, 1, &[file(7, "renamed", b"code", 99)], Retention::WhileUsed),
        [PlacementOutcome::Known]
    );
    assert_eq!(kernel.host(), ["lib"]);
}

#[test]
fn processes_have_probes_of_their_own_until_they_are_many() {
    let (kernel, mut placements) = placements();
    let most = u32::try_from(MAX_PROCESS_PROBES).unwrap();
    for pid in 0..most {
        assert_eq!(seen_narrow(&mut placements, pid, &[lib()]), [PlacementOutcome::Placed]);
        assert_eq!(seen_narrow(&mut placements, pid, &[lib()]), [PlacementOutcome::Known]);
    }
    assert_eq!(kernel.host(), [""; 0]);
    seen_narrow(&mut placements, most, &[lib()]);
    assert_eq!(kernel.probes(), [("lib".to_owned(), Scope::Host)]);
    for pid in 0..most {
        placements.forget(pid);
    }
    assert_eq!(kernel.host(), ["lib"]);
    placements.forget(most);
    assert_eq!(kernel.probes(), []);
}

#[test]
fn what_is_refused_is_said_once_and_what_changed_is_tried_again() {
    let (kernel, mut placements) = placements();
    kernel.0.borrow_mut().changes = true;
    for _ in 0..2 {
        assert_eq!(
            seen(&mut placements, 1, &[lib()], Retention::WhileUsed),
            [PlacementOutcome::Failed(NotPlaced::Changed)]
        );
    }
    *kernel.0.borrow_mut() = Kernel { refuses: true, ..Kernel::default() };
    let refused = PlacementOutcome::Failed(NotPlaced::Refused("no".into()));
    assert_eq!(seen(&mut placements, 1, &[lib()], Retention::WhileUsed), [refused]);
    assert_eq!(seen(&mut placements, 1, &[lib()], Retention::WhileUsed), [PlacementOutcome::Refused]);
    // A process that could not be probed says nothing of others with the same file.
    let refused = PlacementOutcome::Failed(NotPlaced::Refused("no".into()));
    assert_eq!(seen_narrow(&mut placements, 2, &[lib()]), [refused]);
    kernel.0.borrow_mut().refuses = false;
    assert_eq!(seen_narrow(&mut placements, 3, &[lib()]), [PlacementOutcome::Placed]);
}

#[test]
fn everything_is_given_back_at_the_end() {
    let (kernel, mut placements) = placements();
    placements.place_in_host_files(&[lib()]);
    seen_narrow(&mut placements, 1, &[file(8, "own", b"own", 10)]);
    assert_eq!(placements.into_probes().len(), kernel.probes().len());
}

#[test]
fn what_ciphertext_passes_is_probed_for_one_process_until_its_sockets_are_known() {
    let (kernel, mut placements) = placements();
    seen(&mut placements, 1, &[lib()], Retention::Kept);
    let crypto = || file(9, "crypto", b"bio", 10);
    assert_eq!(placements.bind(1, &[crypto()]), [PlacementOutcome::Placed]);
    assert_eq!(placements.bind(1, &[crypto()]), [PlacementOutcome::Known]);
    assert_eq!(placements.bind(2, &[crypto()]), [PlacementOutcome::Placed]);
    let narrow = |pid| ("crypto".to_owned(), Scope::Process(pid));
    assert_eq!(kernel.probes(), [narrow(1), narrow(2), ("lib".to_owned(), Scope::Host)]);
    placements.unbind(1);
    assert_eq!(kernel.probes(), [narrow(2), ("lib".to_owned(), Scope::Host)]);
    placements.forget(2);
    assert_eq!(kernel.host(), ["lib"]);
    assert_eq!(kernel.probes().len(), 1);
    // A writer takes these away, too.
    placements.bind(1, &[crypto()]);
    kernel.write("crypto");
    let gone: HashSet<u32> = kernel.0.borrow().broken.clone();
    assert_eq!(placements.changed(|probe| gone.contains(probe)), [1]);
    assert_eq!(placements.bind(1, &[crypto()]), [PlacementOutcome::Placed]);
}
