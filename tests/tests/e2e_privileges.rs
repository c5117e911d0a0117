//! The agent runs with what SECURITY.md's table says and with nothing less, and keeps what the table says and
//! nothing more.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use rustix::thread::CapabilitySet;
use tempfile::TempDir;
use tokentap_tests::{
    agent::Agent,
    bodies,
    client::{self, Via},
    expect::check_calls,
    identity::{Identity, capability},
    mock::Mock,
    parts,
    process::Process,
};

/// A row of the table.
#[derive(Debug)]
struct Row {
    name: String,
    set: CapabilitySet,
    /// The agent does its work without it, less well.
    optional: bool,
    /// `CAP_SYS_ADMIN` includes it.
    in_sys_admin: bool,
    /// Names of the threads that keep it.
    kept_by: Vec<String>,
}

const OPTIONAL: &str = ", optional";

/// The rows of SECURITY.md that are about this kernel.
fn table() -> Vec<Row> {
    let text = fs::read_to_string(parts::root().join("SECURITY.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `CAP_"));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let here = cells.filter(|cells| is_here(cells[2]));
    let rows: Vec<Row> = here
        .map(|cells| {
            let name = cells[0].trim_matches('`').to_owned();
            let set = capability(&name).unwrap_or_else(|| panic!("no capability {name}"));
            let always = cells[4].split('(').next().unwrap_or_default();
            let kept_by = if kernel() < (5, 19) { cells[4] } else { always };
            let kept_by = kept_by.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let optional = cells[2].ends_with(OPTIONAL);
            Row { name, set, optional, in_sys_admin: cells[3] == "yes", kept_by }
        })
        .collect();
    assert!(rows.len() >= 5, "{rows:?}");
    rows
}

fn all(table: &[Row]) -> CapabilitySet {
    table.iter().fold(CapabilitySet::empty(), |set, row| set | row.set)
}

/// `all kernels`, `kernels before 6.6`, `kernels from 6.6`; or `, optional` after one of them.
fn is_here(kernels: &str) -> bool {
    let kernels = kernels.strip_suffix(OPTIONAL).unwrap_or(kernels);
    let number = |text: &str| {
        let (major, minor) = text.split_once('.').unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    };
    match kernels.split(' ').collect::<Vec<_>>()[..] {
        ["all", "kernels"] => true,
        ["kernels", "before", version] => kernel() < number(version),
        ["kernels", "from", version] => kernel() >= number(version),
        _ => panic!("SECURITY.md: which kernels are {kernels:?}?"),
    }
}

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// A folder that everyone may enter.
fn public_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The agent sees every call of clients that run as root, over TLS and in the clear. The TLS library is one that it
/// has to find in the client, and in a folder that is not public.
fn sees_calls(identity: Identity, folder: &Path, check: impl FnOnce(&Agent)) {
    let (mock, libraries) = (Mock::for_test(), tempfile::tempdir().unwrap());
    copy_tls_library(libraries.path());
    let mut clients = Via::BOTH.map(|via| {
        let mut job = via.job(&mock, bodies::assorted(client::CURL.api));
        job.wait = true;
        job.env = vec![("LD_LIBRARY_PATH".into(), libraries.path().to_string_lossy().into_owned())];
        client::CURL.start(&job)
    });
    let pids = clients.each_ref().map(|client| client.process().id().to_string());
    let arguments = ["run", "--console=json", "--pid", &pids[0], "--pid", &pids[1]];
    let agent = Agent::start_as(identity, folder, &arguments);
    agent.wait_until_ready();
    check(&agent);
    clients.iter_mut().for_each(client::Running::go);
    let calls = clients.into_iter().map(|client| client.finish().len()).sum();
    let answers = mock.ledger().wait_for_answers(calls);
    check_calls(&agent.finish(), &answers);
}

/// This process has it mapped, too.
fn copy_tls_library(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let files = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5)).map(Path::new);
    let files = files.filter(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libssl.so") || name.starts_with("libcrypto.so")
    });
    for file in files.collect::<BTreeSet<_>>() {
        fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    assert!(fs::read_dir(folder).unwrap().count() >= 2, "no TLS library is mapped");
}

/// What `/proc/<pid>/status` says of a thread, by label.
struct Thread {
    name: String,
    status: String,
}

impl Thread {
    fn all(process: u32) -> Vec<Self> {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        tasks
            .map(|task| task.unwrap().path())
            .map(|task| Self {
                name: read(&task.join("comm")).trim().to_owned(),
                status: read(&task.join("status")),
            })
            .collect()
    }

    fn field(&self, label: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {label} in {}", self.status)).trim()
    }

    fn set(&self, label: &str) -> CapabilitySet {
        CapabilitySet::from_bits_retain(u64::from_str_radix(self.field(label), 16).unwrap())
    }
}

/// Every thread has what the table says that it keeps, and nothing else.
fn check_threads(agent: &Agent, table: &[Row]) {
    let threads = Thread::all(agent.process().id());
    for thread in &threads {
        let kept = table.iter().filter(|row| row.kept_by.contains(&thread.name));
        let expected = kept.fold(CapabilitySet::empty(), |set, row| set | row.set);
        for (label, expected) in [
            ("CapEff", expected),
            ("CapPrm", expected),
            ("CapInh", CapabilitySet::empty()),
            ("CapAmb", CapabilitySet::empty()),
        ] {
            assert_eq!(thread.set(label), expected, "{label} of thread {}", thread.name);
        }
        assert_eq!(thread.field("NoNewPrivs"), "1", "of thread {}", thread.name);
    }
    let there: BTreeSet<&str> = threads.iter().map(|thread| thread.name.as_str()).collect();
    for name in table.iter().flat_map(|row| &row.kept_by) {
        assert!(there.contains(name.as_str()), "no thread {name}, there are {there:?}");
    }
}

#[test]
fn the_table_is_enough() {
    let (table, folder) = (table(), public_folder());
    for root in [false, true] {
        let identity = Identity { root, capabilities: all(&table) };
        sees_calls(identity, folder.path(), |agent| check_threads(agent, &table));
    }
}

#[test]
fn what_the_table_calls_optional_can_be_left_out() {
    let (table, folder) = (table(), public_folder());
    let needed: Vec<Row> = table.into_iter().filter(|row| !row.optional).collect();
    let identity = Identity { root: false, capabilities: all(&needed) };
    sees_calls(identity, folder.path(), |agent| check_threads(agent, &needed));
}

#[test]
fn each_capability_of_the_table_is_needed() {
    let (table, folder) = (table(), public_folder());
    for row in table.iter().filter(|row| !row.optional) {
        let mut rest = all(&table) - row.set;
        if row.in_sys_admin {
            rest -= CapabilitySet::SYS_ADMIN;
        }
        for root in [false, true] {
            let me = std::process::id().to_string();
            let identity = Identity { root, capabilities: rest };
            let ended =
                Agent::start_as(identity, folder.path(), &["run", "--console=json", "--pid", &me]).wait();
            assert_eq!(ended.status.code(), Some(1), "without {}: {}", row.name, ended.log);
            assert!(ended.log.contains(&row.name), "without {}: {}", row.name, ended.log);
            assert_eq!(ended.log.lines().count(), 1, "{}", ended.log);
        }
    }
}

#[test]
fn sys_admin_stands_in_for_what_it_includes() {
    let (table, folder) = (table(), public_folder());
    let others = table.iter().filter(|row| !row.in_sys_admin);
    let capabilities = others.fold(CapabilitySet::SYS_ADMIN, |set, row| set | row.set);
    sees_calls(Identity { root: false, capabilities }, folder.path(), |_| {});
}

#[test]
fn root_gives_up_what_it_does_not_need() {
    let (table, folder) = (table(), public_folder());
    let capabilities = rustix::thread::capabilities(None).unwrap().permitted;
    sees_calls(Identity { root: true, capabilities }, folder.path(), |agent| {
        check_threads(agent, &table);
        for thread in Thread::all(agent.process().id()) {
            assert_eq!(thread.set("CapBnd"), CapabilitySet::empty(), "of thread {}", thread.name);
        }
    });
}

/// Root of a namespace has every capability there, and none that counts.
#[test]
fn capabilities_of_another_user_namespace_are_not_taken_for_the_hosts() {
    let mut agent = Command::new("unshare");
    agent.args(["--user", "--map-root-user"]).arg(parts::agent()).args(["run", "--console=json", "--all"]);
    let output = agent.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("user namespace"), "{log}");
}

/// Whether a process of user `nobody` can read the environment of another.
fn nobody_reads_environment_of(process: u32) -> bool {
    let mut command = Command::new("cat");
    command.arg(format!("/proc/{process}/environ"));
    Identity { root: false, capabilities: CapabilitySet::empty() }.apply(&mut command);
    command.output().unwrap().status.success()
}

#[test]
fn the_agents_memory_is_closed_to_its_own_user_and_to_core_files() {
    let (table, folder) = (table(), public_folder());
    let identity = Identity { root: false, capabilities: all(&table) };
    sees_calls(identity, folder.path(), |agent| {
        assert!(!nobody_reads_environment_of(agent.process().id()));
        let limits = fs::read_to_string(format!("/proc/{}/limits", agent.process().id())).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            (fields[0].to_owned(), fields[1].to_owned())
        };
        assert_eq!(limit("Max core file size"), ("0".into(), "0".into()));
        let (soft, hard) = limit("Max open files");
        assert!(soft == hard || soft.parse::<u64>().unwrap() >= 1 << 18, "{soft} of {hard} open files");
    });
    let mut sleep = Command::new("sleep");
    sleep.arg("60");
    Identity { root: false, capabilities: CapabilitySet::empty() }.apply(&mut sleep);
    let sleep = Process::spawn(sleep);
    assert!(nobody_reads_environment_of(sleep.id()), "that of an ordinary process can be read");
}
