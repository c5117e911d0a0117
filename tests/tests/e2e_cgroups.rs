//! The kernel side alone: what executes in a selected cgroup is tracked from its first instruction.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use tokentap::kernel::{self, LoadOptions};
use tokentap_abi::tracked;
use tokentap_tests::process::PATIENCE;

/// A cgroup of its own in the version 2 hierarchy, wherever that is mounted; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("this process has mounts");
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let (path, kind) = (fields.nth(1)?, fields.next()?);
            (kind == "cgroup2").then(|| Path::new(path).to_owned())
        });
        let folder =
            mount.expect("cgroups of version 2 are mounted").join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&folder).expect("a cgroup can be made");
        Self(folder)
    }

    /// What `bpf_get_current_cgroup_id` gives for it.
    fn id(&self) -> u64 {
        fs::metadata(&self.0).expect("the cgroup is there").ino()
    }

    /// Runs `sleep` in it: a shell moves itself here, then executes.
    fn sleep(&self) -> std::process::Child {
        let script = format!("echo $$ > {}/cgroup.procs && exec sleep 60", self.0.display());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).stdin(Stdio::null()).spawn().expect("there is a shell")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let begin = Instant::now();
        // Its processes take a moment to leave.
        while fs::remove_dir(&self.0).is_err() && begin.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
    }
}

/// Whether it executes `sleep`, and sleeps: it bears the name before its execve is over.
fn sleeps(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(sleep) S"))
}

#[test]
fn what_executes_in_a_selected_cgroup_is_tracked_and_nothing_else() {
    let (selected, other) = (Cgroup::new("selected"), Cgroup::new("other"));
    let options = LoadOptions { ring_bytes: 1 << 20, cgroups: true, ..LoadOptions::default() };
    let mut kernel = kernel::load(&options).expect("the kernel takes the programs");
    kernel.attacher.attach_tracepoints().expect("the programs are attached");
    kernel.maps.select_cgroup(selected.id(), tracked::FOLLOW | tracked::BY_RULE).expect("there is room");
    let mut sleepers = [selected.sleep(), other.sleep()];
    let begin = Instant::now();
    while !sleepers.iter().all(|sleeper| sleeps(sleeper.id())) {
        assert!(begin.elapsed() < PATIENCE, "the shells do not get to sleep");
        std::thread::yield_now();
    }
    let tracked = sleepers.each_ref().map(|sleeper| kernel.maps.generation(sleeper.id()).is_some());
    for sleeper in &mut sleepers {
        sleeper.kill().expect("it runs");
        sleeper.wait().expect("it ends");
    }
    assert_eq!(tracked, [true, false]);
}
