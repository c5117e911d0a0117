//! The targets thread with a kernel side, a prober and processes of the test's own.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::AtomicBool,
        mpsc::{Receiver, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokentap_abi::{COUNTERS, Verdict};
use tokentap_genai::Value;
use tokentap_tape::ProcessKey;

use super::{
    attributes::{Describer, Facts},
    describe::{MAX_STUCK, READ_DEADLINE, ReadJob, Readers},
    procfs::Identity,
    *,
};
use crate::{
    kernel::KernelError,
    telemetry::{Event, Telemetry},
    threads::join_until,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the thread did to the kernel side and the prober.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<Vec<String>>>);

impl Done {
    fn add(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn has(&self, what: &str) -> bool {
        self.0.lock().unwrap().iter().any(|done| done == what)
    }
}

struct FakeKernel(Done);

impl KernelSide for FakeKernel {
    fn track(&mut self, pid: u32, _bits: u32) -> Result<u64, KernelError> {
        self.0.add(format!("track {pid}"));
        Ok(u64::from(pid) * 10)
    }

    fn adopt(&mut self, key: ProcessKey, _bits: u32) -> Result<(), KernelError> {
        self.0.add(format!("adopt {}", key.pid));
        Ok(())
    }

    fn sweep(&mut self) {}

    fn untrack(&mut self, pid: u32) {
        self.0.add(format!("untrack {pid}"));
    }

    fn untrack_all(&mut self) {
        self.0.add("untrack all".into());
    }

    fn names_descriptors(&self) -> bool {
        true
    }

    fn name_socket(&mut self, key: ProcessKey, fd: u32) {
        self.0.add(format!("name {} {fd}", key.pid));
    }

    fn copy(&mut self, stream: u64, verdict: Verdict) {
        self.0.add(format!("copy {stream} {verdict:?}"));
    }

    fn counters(&self) -> [u64; COUNTERS as usize] {
        [0; COUNTERS as usize]
    }
}

struct FakeProber(Done);

impl Probes for FakeProber {
    fn scan(&self, pid: u32) {
        self.0.add(format!("scan {pid}"));
    }

    fn bind(&self, pid: u32) {
        self.0.add(format!("bind {pid}"));
    }

    fn forget(&self, pid: u32) {
        self.0.add(format!("forget {pid}"));
    }

    fn probe_host_wide(&self) {}
}

/// Processes, of which some do not let their memory be read.
#[derive(Default)]
struct FakeProcesses {
    identities: Mutex<HashMap<u32, Identity>>,
    dead: Mutex<Vec<u32>>,
    /// None of this process and above is answered, until it is set to 0.
    blocked_from: Mutex<u32>,
    unblocked: Condvar,
}

impl FakeProcesses {
    fn add(&self, pid: u32, executable: &str, parent: u32) {
        let executable = Some(executable.to_owned());
        let identity = Identity { executable, parent, start_ticks: u64::from(pid), kernel_thread: false };
        self.identities.lock().unwrap().insert(pid, identity);
    }

    fn unblock(&self) {
        *self.blocked_from.lock().unwrap() = 0;
        self.unblocked.notify_all();
    }
}

impl ProcessSource for FakeProcesses {
    fn pids(&self) -> Vec<u32> {
        self.identities.lock().unwrap().keys().copied().collect()
    }

    fn identity(&self, pid: u32) -> Option<Identity> {
        self.identities.lock().unwrap().get(&pid).cloned()
    }

    fn is_alive(&self, pid: u32) -> bool {
        !self.dead.lock().unwrap().contains(&pid)
    }

    fn is_socket(&self, _pid: u32, _fd: u32) -> bool {
        true
    }

    fn sockets(&self, _pid: u32) -> Vec<u32> {
        (0..1000).collect()
    }

    fn kernel_facts(&self, pid: u32) -> Facts {
        Facts { executable: self.identity(pid).and_then(|it| it.executable), ..Facts::default() }
    }

    fn strings(&self, pid: u32) -> (Vec<String>, Vec<(String, String)>) {
        let mut blocked = self.blocked_from.lock().unwrap();
        while *blocked != 0 && pid >= *blocked {
            blocked = self.unblocked.wait(blocked).unwrap();
        }
        (Vec::new(), vec![("OTEL_SERVICE_NAME".into(), format!("service-{pid}"))])
    }
}

struct Rig {
    requests: Requests,
    process_events: Receiver<ProcessEvent>,
    done: Done,
    processes: Arc<FakeProcesses>,
    telemetry: Arc<Telemetry>,
    thread: JoinHandle<FakeKernel>,
}

impl Rig {
    fn new(selector: Selector) -> Self {
        let telemetry = Telemetry::new();
        let (requests, inbox) = requests(&telemetry);
        let (answers, process_events) = channel();
        let (done, processes) = (Done::default(), Arc::<FakeProcesses>::default());
        let tracker = Tracker {
            selector,
            kernel: FakeKernel(done.clone()),
            probes: FakeProber(done.clone()),
            source: Arc::<FakeProcesses>::clone(&processes),
            describer: Arc::new(Describer::default()),
            process_events: answers,
            telemetry: Arc::clone(&telemetry),
            idle: Arc::new(AtomicBool::new(false)),
        };
        let asked = requests.clone();
        let thread = std::thread::spawn(move || tracker.run(&inbox, &asked));
        Self { requests, process_events, done, processes, telemetry, thread }
    }

    fn named(pattern: &str) -> Self {
        Self::new(Selector::new(vec![], vec![pattern.parse().unwrap()], false, true))
    }

    fn executed(&self, pid: u32, name: &str) {
        let key = key(pid);
        self.requests.send(Request::Executed {
            key,
            started_as: name.into(),
            accepted: false,
            tracked: true,
        });
    }

    fn forked(&self, child: u32, parent: u32) {
        self.requests.send(Request::Forked { child: key(child), parent, accepted: false });
    }

    /// The next process_event, as text.
    fn next(&self) -> String {
        match self.process_events.recv_timeout(PATIENCE).unwrap() {
            ProcessEvent::Accepted(key) => format!("accepted {}", key.pid),
            ProcessEvent::Refused(key) => format!("refused {}", key.pid),
            ProcessEvent::Ended(key) => format!("ended {}", key.pid),
            ProcessEvent::Described(process) => match process.resource.get("service.name") {
                Some(Value::Str(name)) => format!("{} is {name}", process.key.pid),
                other => panic!("{other:?}"),
            },
        }
    }

    fn stop(self) {
        self.requests.send(Request::Stop);
        assert!(join_until(self.thread, Instant::now() + PATIENCE).is_ok());
    }
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, generation: u64::from(pid) * 10 }
}

#[test]
fn rules_decide_and_children_of_refused_processes_are_refused_unless_they_match() {
    let rig = Rig::named("curl");
    for (pid, executable) in [(7, "/bin/sh"), (8, "/bin/sh"), (9, "/bin/curl"), (10, "/bin/curl")] {
        rig.processes.add(pid, executable, 1);
    }
    rig.executed(7, "/bin/sh");
    assert_eq!(rig.next(), "refused 7");
    rig.forked(8, 7);
    assert_eq!(rig.next(), "refused 8");
    assert!(rig.done.has("untrack 7") && rig.done.has("untrack 8"));
    rig.executed(9, "/bin/curl");
    assert_eq!([rig.next(), rig.next()], ["accepted 9", "9 is service-9"]);
    // Of an observed one, whatever it is.
    rig.processes.add(11, "/bin/sh", 9);
    rig.forked(11, 9);
    assert_eq!([rig.next(), rig.next()], ["accepted 11", "11 is service-11"]);
    rig.forked(10, 7);
    assert_eq!(rig.next(), "accepted 10");
    rig.stop();
}

#[test]
fn the_agent_its_children_and_kernel_threads_are_never_observed() {
    let rig = Rig::new(Selector::new(vec![], vec![], true, true));
    let agent = std::process::id();
    rig.processes.add(agent, "/bin/tokentap", 1);
    rig.processes.add(7, "/bin/true", agent);
    rig.processes
        .identities
        .lock()
        .unwrap()
        .insert(8, Identity { kernel_thread: true, ..Identity::default() });
    rig.processes.add(9, "/bin/true", 1);
    for pid in [agent, 7, 8] {
        rig.executed(pid, "/bin/true");
        assert_eq!(rig.next(), format!("refused {pid}"));
    }
    let (answer, answered) = channel();
    rig.requests.send(Request::Start(answer));
    assert_eq!(answered.recv_timeout(PATIENCE).unwrap().keys, [key(9)]);
    rig.stop();
}

/// A process that cannot be read delays no other one, and is described with what is known.
#[test]
fn a_process_that_blocks_its_reader_is_left_behind() {
    let rig = Rig::named("*");
    *rig.processes.blocked_from.lock().unwrap() = 100;
    rig.processes.add(100, "/bin/stuck", 1);
    rig.processes.add(7, "/bin/good", 1);
    rig.executed(100, "/bin/stuck");
    assert_eq!(rig.next(), "accepted 100");
    rig.executed(7, "/bin/good");
    assert_eq!([rig.next(), rig.next()], ["accepted 7", "7 is service-7"]);
    assert!(rig.requests.are_pending());
    assert_eq!(rig.next(), "100 is stuck");
    assert_eq!(rig.telemetry.count(Event::StuckReads), 1);
    // Once more of the same process: no other thread is lost to it.
    rig.executed(100, "/bin/stuck");
    assert_eq!([rig.next(), rig.next()], ["accepted 100", "100 is stuck"]);
    let processes = Arc::clone(&rig.processes);
    rig.stop();
    processes.unblock();
}

#[test]
fn readers_that_are_left_behind_are_bounded() {
    let telemetry = Telemetry::new();
    let (requests, _inbox) = requests(&telemetry);
    let processes = Arc::<FakeProcesses>::default();
    *processes.blocked_from.lock().unwrap() = 1;
    let source = Arc::<FakeProcesses>::clone(&processes);
    let mut readers = Readers::new(
        source,
        Arc::new(move |report| requests.send(Request::Reader(report))),
        Arc::clone(&telemetry),
    );
    let count = u32::try_from(MAX_STUCK).unwrap() + 20;
    for pid in 1..=count {
        readers.read(ReadJob { key: key(pid), sockets: false, facts: true });
    }
    let mut now = Instant::now();
    let mut found = Vec::new();
    while readers.pending() > 0 {
        found.extend(readers.assign(now));
        now += READ_DEADLINE;
    }
    assert_eq!(found.len(), count as usize, "each is answered");
    assert_eq!(telemetry.count(Event::StuckReads), u64::from(count));
    processes.unblock();
}

#[test]
fn a_process_is_observed_until_its_last_thread_ends() {
    let rig = Rig::named("*");
    rig.processes.add(7, "/bin/a", 1);
    rig.executed(7, "/bin/a");
    assert_eq!([rig.next(), rig.next()], ["accepted 7", "7 is service-7"]);
    rig.requests.send(Request::Exited { key: key(7), last: None });
    rig.requests.send(Request::Exited { key: ProcessKey { pid: 7, generation: 1 }, last: Some(true) });
    // All that was asked before is answered by then.
    rig.processes.add(8, "/bin/b", 1);
    rig.executed(8, "/bin/b");
    assert_eq!([rig.next(), rig.next()], ["accepted 8", "8 is service-8"]);
    rig.processes.dead.lock().unwrap().push(7);
    assert_eq!(rig.next(), "ended 7");
    assert!(rig.done.has("forget 7") && rig.done.has("untrack 7"));
    rig.requests.send(Request::Exited { key: key(8), last: Some(true) });
    assert_eq!(rig.next(), "ended 8", "where the kernel side knows, nothing is read");
    rig.stop();
}

/// Its end was not reported, and its id is another process's by now.
#[test]
fn frames_of_an_id_that_is_used_again_are_decided_anew() {
    let rig = Rig::named("curl");
    rig.processes.add(7, "/bin/curl", 1);
    rig.executed(7, "/bin/curl");
    assert_eq!([rig.next(), rig.next()], ["accepted 7", "7 is service-7"]);
    rig.requests.send(Request::Unknown(ProcessKey { pid: 7, generation: 0 }));
    assert_eq!(rig.next(), "accepted 7");
    rig.processes.add(7, "/bin/sh", 1);
    rig.processes.identities.lock().unwrap().get_mut(&7).unwrap().start_ticks = 99;
    rig.requests.send(Request::Unknown(ProcessKey { pid: 7, generation: 0 }));
    assert_eq!(rig.next(), "refused 7");
    rig.stop();
}

#[test]
fn ciphertext_is_followed_of_observed_processes_only() {
    let rig = Rig::named("curl");
    rig.processes.add(7, "/bin/curl", 1);
    rig.executed(7, "/bin/curl");
    assert_eq!([rig.next(), rig.next()], ["accepted 7", "7 is service-7"]);
    rig.requests.send(Request::Unbound(8));
    rig.requests.send(Request::Unbound(7));
    // Requests are served in order: the answer to this one comes after them.
    rig.requests.send(Request::Unknown(key(8)));
    assert_eq!(rig.next(), "refused 8");
    assert!(rig.done.has("bind 7") && !rig.done.has("bind 8"));
    rig.stop();
}

#[test]
fn sockets_are_named_and_decisions_passed_on() {
    let rig = Rig::named("*");
    rig.processes.add(7, "/bin/a", 1);
    rig.executed(7, "/bin/a");
    rig.requests.send(Request::Copy(5, Verdict::Ignore));
    let deadline = Instant::now() + PATIENCE;
    while !(rig.done.has("name 7 0") && rig.done.has("name 7 999")) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(rig.done.has("copy 5 Ignore"));
    rig.requests.send(Request::Quiesce);
    let done = rig.done.clone();
    rig.stop();
    assert!(done.has("untrack all"));
}
