//! Who is observed, for how long, and that no process can hold up the agent.

use std::process::Command;

use serde_json::json;
use tokentap_tests::{
    agent::Agent,
    bodies::call,
    client::Via,
    expect::{INCOMPLETE, check_calls},
    ledger::{Answer, Api},
    mock::Mock,
    process::{PATIENCE, Process},
    span::Span,
};

/// A Python program that says when it is ready and waits for a line before it goes on.
fn python(script: &str, arguments: &[String]) -> Process {
    let mut python = Command::new("python3");
    python.args(["-c", &[COMMON, script].concat()]).args(arguments);
    // Long enough to fill pages of its own, for who plays tricks with that memory.
    python.env("PADDING", "x".repeat(32 << 10));
    let python = Process::spawn(python);
    python.wait_for_line("ready", |line| (line == "ready").then_some(()));
    python
}

const COMMON: &str = r#"
import ctypes, http.client, json, os, resource, select, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def wait_for_go():
    print("ready", flush=True)
    sys.stdin.readline()
def body(model):
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], "model": model})
def calls(address, count, model="mock"):
    connection = http.client.HTTPConnection(address)
    for _ in range(count):
        connection.request("POST", "/v1/chat/completions", body(model))
        connection.getresponse().read()
"#;

fn address(mock: &Mock) -> String {
    Via::Plain.job(mock, Vec::new()).base_url.trim_start_matches("http://").to_owned()
}

/// An application that makes a call for each line that it reads.
fn steady(mock: &Mock) -> Process {
    python(STEADY, &[address(mock)])
}

const STEADY: &str = r#"
wait_for_go()
while True:
    calls(sys.argv[1], 1)
    if not sys.stdin.readline():
        break
"#;

/// So many calls of a steady application, seen while it runs on.
fn call_and_see(steady: &mut Process, agent: &Agent, mock: &Mock, count: usize) {
    for done in 1..=count {
        steady.write("go\n");
        check_calls(&agent.wait_for_spans(done), &mock.ledger().wait_for_answers(done));
    }
}

fn pid(process: &Process) -> String {
    process.id().to_string()
}

#[test]
fn a_process_is_observed_until_its_last_thread_ends() {
    let mock = Mock::for_test();
    let mut client = python(LEADER_ENDS, &[address(&mock), "6".into()]);
    let agent = Agent::run(&["--no-follow", "--pid", &pid(&client)]);
    client.write("go\n");
    client.wait_for_line("end of the first thread", |line| (line == "leader gone").then_some(()));
    client.write("go\n");
    let answers = mock.ledger().wait_for_answers(6);
    client.close_stdin();
    // By itself: the last thread has ended, and nothing is left to observe.
    let ended = agent.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    check_calls(&ended.spans, &answers);
}

/// Its entries in `/proc` are empty, those of its other threads are not.
#[test]
fn a_process_whose_first_thread_has_ended_before_is_observed() {
    let mock = Mock::for_test();
    let mut client = python(LEADER_ENDS, &[address(&mock), "3".into()]);
    client.write("go\n");
    client.wait_for_line("end of the first thread", |line| (line == "leader gone").then_some(()));
    let agent = Agent::run(&["--no-follow", "--pid", &pid(&client)]);
    client.write("go\n");
    let answers = mock.ledger().wait_for_answers(3);
    let spans = agent.wait_for_spans(3);
    check_calls(&spans, &answers);
    let name = &spans[0].resource["process.executable.name"];
    assert!(name.as_str().is_some_and(|name| name.starts_with("python")), "{name}");
    assert_eq!(agent.finish().len(), 3);
}

/// The state of the first thread shows its end to the other one: a zombie, until all have ended.
const LEADER_ENDS: &str = r#"
def work():
    leader = "/proc/%d/stat" % os.getpid()
    while open(leader).read().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.01)
    print("leader gone", flush=True)
    sys.stdin.readline()
    calls(sys.argv[1], int(sys.argv[2]))
    sys.stdin.read()
    os._exit(0)
wait_for_go()
threading.Thread(target=work).start()
libc.syscall(60, 0)
"#;

/// It puts, on the number of its socket, a file whose close is never answered: who copies that descriptor and closes
/// it waits for ever.
#[test]
fn a_process_whose_files_never_close_holds_up_nobody() {
    let mock = Mock::for_test();
    let mut hostile = python(&[FUSE, NEVER_CLOSES].concat(), &[]);
    let mut steady = steady(&mock);
    let agent = Agent::run(&["--no-follow", "--pid", &pid(&hostile), "--pid", &pid(&steady)]);
    hostile.write("go\n");
    hostile.wait_for_line("trap", |line| (line == "set").then_some(()));
    call_and_see(&mut steady, &agent, &mock, 4);
    assert_eq!(agent.finish().len(), 4);
}

/// A file system with one file, x, of which one operation is never answered, in a mount namespace of its own; it goes
/// with this process.
const FUSE: &str = r#"
READ, FLUSH, FORGET = 15, 25, 2
def serve(fd, owner, never):
    def attr(node):
        mode = 0o40755 if node == 1 else 0o100755
        return struct.pack("<QQQQQQIIIIIIIIII", node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
    def reply(unique, data=b"", error=0):
        os.write(fd, struct.pack("<IiQ", 16 + len(data), error, unique) + data)
    EXITING = 4
    while True:
        if not select.select([fd], [], [], 0.2)[0]:
            try:
                flags = int(open("/proc/%d/stat" % owner).read().rsplit(")", 1)[1].split()[6])
            except OSError:
                flags = EXITING
            if flags & EXITING:
                os._exit(0)
            continue
        message = os.read(fd, 1 << 20)
        _, operation, unique, node = struct.unpack_from("<IIQQ", message)
        if operation in (never, FORGET):
            pass
        elif operation == 26: # INIT
            limits = struct.pack("<IIIIHHIIHHI", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0)
            reply(unique, limits + b"\0" * 28)
        elif operation == 1: # LOOKUP
            reply(unique, struct.pack("<QQQQII", 2, 0, 1000, 1000, 0, 0) + attr(2))
        elif operation == 3: # GETATTR
            reply(unique, struct.pack("<QII", 1000, 0, 0) + attr(node))
        elif operation == 14: # OPEN
            reply(unique, struct.pack("<QII", 7, 0, 0))
        elif operation == READ:
            reply(unique, b"x" * 4096)
        else:
            reply(unique, b"", -38)
def mount(folder, never):
    def check(result):
        if result != 0:
            sys.exit(os.strerror(ctypes.get_errno()))
    NEW_MOUNTS, PRIVATE = 0x20000, 0x44000
    check(libc.unshare(NEW_MOUNTS))
    check(libc.mount(b"none", b"/", None, PRIVATE, None))
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % fd
    check(libc.mount(b"never", folder, b"fuse.never", 0, options))
    owner = os.getpid()
    if os.fork() == 0:
        serve(fd, owner, never)
    os.close(fd)
"#;

const NEVER_CLOSES: &str = r#"
mount(b"/mnt", FLUSH)
trap = os.open("/mnt/x", os.O_RDONLY)
wait_for_go()
ours, theirs = socket.socketpair()
threading.Thread(target=lambda: ours.recv(200), daemon=True).start()
time.sleep(0.3)
os.dup2(trap, ours.fileno())
theirs.send(b"POST /v1/x HTTP/1.1\r\nHost: a\r\n\r\n")
print("set", flush=True)
signal.pause()
"#;

/// Part of its environment is a file whose contents never come: who reads it waits for ever, and may not even be killed.
#[test]
fn a_process_that_does_not_let_itself_be_read_is_observed_with_what_is_known() {
    let mock = Mock::for_test();
    let mut hostile = python(&[FUSE, UNREADABLE].concat(), &[address(&mock)]);
    let mut steady = steady(&mock);
    let agent = Agent::run(&["--no-follow", "--pid", &pid(&hostile), "--pid", &pid(&steady)]);
    call_and_see(&mut steady, &agent, &mock, 2);
    hostile.write("go\n");
    let answers = mock.ledger().wait_for_answers(3);
    check_calls(&agent.wait_for_spans(3), &answers);
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    let of_hostile = |span: &&Span| span.resource["process.pid"] == json!(hostile.id());
    let spans: Vec<&Span> = ended.spans.iter().filter(of_hostile).collect();
    let [span] = spans[..] else { panic!("{spans:#?}") };
    let name = &span.resource["process.executable.name"];
    assert!(name.as_str().is_some_and(|name| name.starts_with("python")), "{name}");
}

const UNREADABLE: &str = r#"
PAGE, READABLE, PRIVATE_FIXED = 4096, 1, 0x12
environment_start = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[47])
padding = environment_start + open("/proc/self/environ", "rb").read().index(b"PADDING=")
mount(b"/mnt", READ)
file = os.open("/mnt/x", os.O_RDONLY)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
within = (padding + 16 + PAGE - 1) // PAGE * PAGE
if libc.mmap(within, PAGE, READABLE, PRIVATE_FIXED, file, 0) != within:
    sys.exit(os.strerror(ctypes.get_errno()))
wait_for_go()
calls(sys.argv[1], 1)
sys.stdin.read()
"#;

/// To name 19,000 sockets takes a while, and each child has them too.
#[test]
fn a_process_with_many_sockets_and_children_holds_up_nobody() {
    let mock = Mock::for_test();
    let mut many = python(MANY, &[]);
    let mut steady = steady(&mock);
    let agent = Agent::run(&["--pid", &pid(&many), "--pid", &pid(&steady)]);
    many.write("go\n");
    call_and_see(&mut steady, &agent, &mock, 5);
    many.wait_for_line("all children", |line| (line == "forked").then_some(()));
    many.close_stdin();
    many.wait(PATIENCE);
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert_eq!(ended.spans.len(), 5);
}

const MANY: &str = r#"
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
pairs = [socket.socketpair() for _ in range(9500)]
wait_for_go()
children = []
for _ in range(30):
    child = os.fork()
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    children.append(child)
print("forked", flush=True)
sys.stdin.read()
for child in children:
    os.waitpid(child, 0)
"#;

/// Processes start, fork and call on a busy machine; none is what was asked for.
#[test]
fn what_no_rule_selects_is_not_observed() {
    const CALLS: usize = 30;
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", "matches-nothing-*"]);
    let load: Vec<Process> = (0..3)
        .map(|_| {
            let mut busy = Command::new("sh");
            busy.args(["-c", "while :; do :; done"]);
            Process::spawn(busy)
        })
        .collect();
    for via in Via::BOTH.into_iter().cycle().take(CALLS) {
        let job = via.job(&mock, Vec::new());
        let mut shell = Command::new("sh");
        shell.args(["-c", "curl \"$@\" & wait", "sh", "--silent", "--show-error", "--cacert"]).arg(&job.ca);
        shell.arg("--data").arg(call(Api::OpenaiChat, "mock").to_string());
        shell.arg(format!("{}/v1/chat/completions", job.base_url));
        assert!(Process::spawn(shell).wait(PATIENCE).success());
    }
    drop(load);
    assert_eq!(mock.ledger().wait_for_answers(CALLS).len(), CALLS);
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(ended.spans.is_empty(), "{:#?}", ended.spans);
}

/// A request that never gets whole, while another connection of the same process goes on.
#[test]
fn a_call_that_hangs_is_reported_while_others_go_on() {
    let mock = Mock::for_test();
    let mut client = python(HANGS, &[address(&mock)]);
    let agent = Agent::run(&["--no-follow", "--stale-after", "2s", "--pid", &pid(&client)]);
    client.write("go\n");
    let stale = |span: &Span| *span.get("tokentap.incomplete.reason") == json!("stale");
    let mut seen = 1;
    let hanging = loop {
        let spans = agent.wait_for_spans(seen);
        if let Some(span) = spans.iter().find(|span| stale(span)) {
            break span.clone();
        }
        seen = spans.len() + 1;
        assert!(seen < 1000, "the call that hangs was not reported");
    };
    assert_eq!(*hanging.get(INCOMPLETE), json!(true));
    client.close_stdin();
    assert!(client.wait(PATIENCE).success(), "{}", client.transcript());
    let mut spans = agent.finish();
    spans.retain(|span| !stale(span));
    let answers: Vec<Answer> = mock.ledger().wait_for_answers(spans.len());
    check_calls(&spans, &answers);
}

const HANGS: &str = r#"
wait_for_go()
host, port = sys.argv[1].split(":")
hanging = socket.create_connection((host, int(port)))
text = body("hangs")
head = "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
hanging.sendall((head % (sys.argv[1], len(text) + 1000) + text).encode())
while not select.select([sys.stdin], [], [], 0.1)[0]:
    calls(sys.argv[1], 1)
"#;
