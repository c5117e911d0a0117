//! Processes come, go, change and hide; the agent comes and goes too.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::json;
use tokentap_tests::{
    agent::{Agent, Turn},
    bodies::{self, call, stream},
    client::{self, Via},
    expect::{INCOMPLETE, check_calls},
    kernel,
    ledger::Api,
    mock::Mock,
    process::{PATIENCE, Process, Signal, wait_until},
};

/// curl as a process of its own for one call.
fn curl(mock: &Mock, via: Via) -> Command {
    let mut curl = Command::new("curl");
    curl.args(curl_arguments(mock, via));
    curl
}

fn curl_arguments(mock: &Mock, via: Via) -> Vec<String> {
    let job = via.job(mock, Vec::new());
    let url = format!("{}/v1/chat/completions", job.base_url);
    let body = call(Api::OpenaiChat, "mock").to_string();
    let ca = job.ca.to_string_lossy().into_owned();
    ["--silent", "--show-error", "--cacert", &ca, "--data", &body, &url].map(str::to_owned).to_vec()
}

fn run(command: Command) {
    let mut process = Process::spawn(command);
    process.close_stdin();
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{status}\n{}", process.transcript());
}

/// The whole life of each process is some tens of milliseconds.
#[test]
fn processes_that_call_at_once_and_exit_are_seen() {
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", "curl"]);
    for _ in 0..20 {
        Via::BOTH.into_iter().for_each(|via| run(curl(&mock, via)));
    }
    let answers = mock.ledger().wait_for_answers(40);
    check_calls(&agent.finish(), &answers);
}

/// A shell that makes a call through a child, once it is told to.
fn shell(mock: &Mock) -> Process {
    let mut shell = Command::new("sh");
    shell.args(["-c", "read go; for i in 1 2 3; do curl \"$@\"; done; exit 0", "sh"]);
    shell.args(curl_arguments(mock, Via::Tls));
    Process::spawn(shell)
}

#[test]
fn children_are_followed() {
    let mock = Mock::for_test();
    let mut shell = shell(&mock);
    let agent = Agent::run(&["--pid", &shell.id().to_string()]);
    shell.write("go\n");
    shell.wait(PATIENCE);
    let answers = mock.ledger().wait_for_answers(3);
    check_calls(&agent.finish(), &answers);
}

#[test]
fn children_are_left_alone_when_told_so() {
    let mock = Mock::for_test();
    let mut shell = shell(&mock);
    let agent = Agent::run(&["--no-follow", "--pid", &shell.id().to_string()]);
    shell.write("go\n");
    shell.wait(PATIENCE);
    assert_eq!(mock.ledger().wait_for_answers(3).len(), 3);
    check_calls(&agent.finish(), &[]);
}

/// Python's workers come from a fork of a process that had loaded its TLS library long before.
#[test]
fn forked_workers_are_followed() {
    let mock = Mock::for_test();
    let mut parent = Command::new(tokentap_tests::parts::part("venv/bin/python"));
    parent.env_clear().args(["-c", FORKS]).arg(mock.ca()).arg(format!("https://{}", mock.tls()));
    let mut parent = Process::spawn(parent);
    parent.wait_for_line("ready", |line| (line == "ready").then_some(()));
    let agent = Agent::run(&["--log-level", "debug", "--pid", &parent.id().to_string()]);
    // By what this agent says: the code in memory would also show the probes of another one on this host.
    let placed =
        || agent.process().stderr().text().lines().filter(|line| line.contains("probes placed")).count();
    let before = placed();
    // The first fork since it is observed: from then on children are expected.
    parent.write("go\n");
    wait_until("what children use is probed", || placed() > before);
    parent.write("go\n");
    assert!(parent.wait(PATIENCE).success(), "{}", parent.transcript());
    let answers = mock.ledger().wait_for_answers(8);
    check_calls(&agent.finish(), &answers);
}

const FORKS: &str = r#"
import json, os, ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
def call(model):
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "model": model}).encode()
    request = urllib.request.Request(sys.argv[2] + "/v1/chat/completions", body)
    urllib.request.urlopen(request, context=context).read()
print("ready", flush=True)
sys.stdin.readline()
if os.fork() == 0:
    os._exit(0)
sys.stdin.readline()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        call("mock")
        call("mock-size20000")
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"#;

#[test]
fn a_pid_that_does_not_exist_is_one_clear_line() {
    let ended = Agent::start(&["run", "--console=json", "--pid", "4194303"]).wait();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    let lines: Vec<_> = ended.log.lines().filter(|line| line.contains("4194303")).collect();
    assert_eq!(lines.len(), 1, "{}", ended.log);
}

#[test]
fn the_other_processes_are_watched_all_the_same() {
    let mock = Mock::for_test();
    let mut job = Via::Tls.job(&mock, bodies::assorted(client::REQUESTS.api));
    job.wait = true;
    let mut running = client::REQUESTS.start(&job);
    let agent = Agent::run(&["--pid", "4194303", "--pid", &running.process().id().to_string()]);
    running.go();
    let calls = running.finish().len();
    let answers = mock.ledger().wait_for_answers(calls);
    let ended = agent.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    check_calls(&ended.spans, &answers);
    assert!(ended.log.contains("4194303"), "{}", ended.log);
}

#[test]
fn an_agent_that_is_killed_leaves_nothing_behind() {
    const FUNCTION: &str = "SSL_write";
    let turn = Turn::take();
    let mock = Mock::for_test();
    let mut job = Via::Tls.job(&mock, vec![call(Api::OpenaiChat, "mock"); 10]);
    job.wait = true;
    let mut running = client::REQUESTS.start(&job);
    let target = running.process().id();
    let (before, code) = (kernel::programs(), kernel::code_of(target, "libssl.so", FUNCTION));
    let agent = turn.run(&["--pid", &target.to_string()]);
    let programs: BTreeSet<u32> = kernel::programs().difference(&before).copied().collect();
    assert!(!programs.is_empty(), "the agent has programs");
    // Another agent on this host may have a probe there, too: that there is one is asked of this one.
    let observed = |line: &str| (line.contains("observed") && line.contains("tls=")).then_some(());
    agent.process().wait_for_complaint("line that names the probed library", observed);
    agent.process().signal(Signal::KILL);
    let ended = agent.wait();
    assert!(!ended.status.success());
    // The kernel frees programs and probes after the process is gone.
    wait_until("no programs and no probes are left", || {
        kernel::programs().is_disjoint(&programs) && kernel::code_of(target, "libssl.so", FUNCTION) == code
    });
    running.go();
    assert!(running.finish().iter().all(|report| report.status == Some(200)), "the target works");
}

/// The executable and its libraries exist in that namespace only, on a file system that is only there.
#[test]
fn a_target_in_another_mount_namespace_is_watched() {
    let mock = Mock::for_test();
    let folder = tempfile::tempdir().unwrap();
    let (stage, root) = (folder.path().join("stage"), folder.path().join("root"));
    copy_with_libraries("curl", &stage);
    fs::create_dir(&root).unwrap();
    fs::copy(mock.ca(), stage.join("ca.pem")).unwrap();
    let mut target = Command::new("unshare");
    target.args(["--mount", "sh", "-c", INTO_NAMESPACE, "sh"]).args([&stage, &root]);
    let url = format!("{}/v1/chat/completions", Via::Tls.job(&mock, Vec::new()).base_url);
    // The body comes from standard input: until it is there, curl waits with its libraries loaded.
    target.args(["--cacert", "/ca.pem", "--data", "@-", &url]);
    let mut target = Process::spawn(target);
    let pid = target.id();
    wait_until("its TLS library is loaded", || loads_tls(pid));
    let agent = Agent::run(&["--pid", &pid.to_string()]);
    target.write(&call(Api::OpenaiChat, "mock").to_string());
    target.close_stdin();
    assert!(target.wait(PATIENCE).success(), "{}", target.transcript());
    let answers = mock.ledger().wait_for_answers(1);
    check_calls(&agent.finish(), &answers);
}

const INTO_NAMESPACE: &str = r#"
set -e
stage=$1 root=$2; shift 2
mount -t tmpfs tmpfs "$root"
cp -a "$stage/." "$root"
exec chroot "$root" /bin/curl --silent --show-error "$@"
"#;

/// An update replaced both the executable and the TLS library of a process that runs on.
#[test]
fn a_target_whose_files_are_deleted_is_watched() {
    let mock = Mock::for_test();
    let folder = tempfile::tempdir().unwrap();
    copy_with_libraries("curl", folder.path());
    let mut job = Via::Tls.job(&mock, vec![call(Api::OpenaiChat, "mock"), stream(Api::OpenaiChat, "mock")]);
    job.wait = true;
    job.env = vec![("LD_LIBRARY_PATH".into(), folder.path().join("lib").to_string_lossy().into_owned())];
    job.curl = folder.path().join("bin/curl");
    let mut running = client::CURL.start(&job);
    let pid = running.process().id();
    wait_until("its TLS library is loaded", || loads_tls(pid));
    for file in ["bin/curl", "lib/libssl.so.3", "lib/libcrypto.so.3"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    let agent = Agent::run(&["--pid", &pid.to_string()]);
    running.go();
    let calls = running.finish().len();
    let answers = mock.ledger().wait_for_answers(calls);
    check_calls(&agent.finish(), &answers);
}

fn loads_tls(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains("libssl.so"))
}

/// `bin/<program>` and `lib/*` with everything that it links, flat, as `ldd` finds it.
fn copy_with_libraries(program: &str, folder: &Path) {
    let which = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    let path = String::from_utf8(which.stdout).unwrap();
    for kind in ["bin", "lib", "lib64"] {
        fs::create_dir_all(folder.join(kind)).unwrap();
    }
    fs::copy(path.trim(), folder.join("bin").join(program)).unwrap();
    let ldd = String::from_utf8(Command::new("ldd").arg(path.trim()).output().unwrap().stdout).unwrap();
    for library in ldd.split_ascii_whitespace().filter(|word| word.starts_with('/')) {
        let library = Path::new(library);
        fs::copy(library, folder.join("lib").join(library.file_name().unwrap())).unwrap();
        if library.starts_with("/lib64") {
            fs::copy(library, folder.join("lib64").join(library.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_call_is_handed_on_within_a_second() {
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", "curl"]);
    run(curl(&mock, Via::Tls));
    let spans = agent.wait_for_spans(1);
    check_calls(&spans, &mock.ledger().wait_for_answers(1));
    assert_eq!(agent.finish().len(), 1);
    assert_eq!(spans[0].resource["service.name"], json!("curl"));
}

/// Nobody saw how the first call began; those after it are as right as ever.
#[test]
fn a_process_that_is_in_mid_call_is_watched_from_its_next_call_on() {
    let turn = Turn::take();
    let mock = Mock::for_test();
    let openai = Api::OpenaiChat;
    let mut running = Via::BOTH.map(|via| {
        let requests =
            vec![stream(openai, "mock-slow100-chunks40"), call(openai, "mock"), stream(openai, "mock")];
        client::REQUESTS.start(&via.job(&mock, requests))
    });
    mock.ledger().wait_for_streams(running.len());
    let pids = running.each_ref().map(|client| client.process().id().to_string());
    let agent = turn.run(&["--pid", &pids[0], "--pid", &pids[1]]);
    running.iter_mut().for_each(|client| assert!(client.wait().success()));
    let mut answers = mock.ledger().wait_for_answers(6);
    answers.retain(|answer| answer.request_model.as_deref() == Some("mock"));
    let (later, first): (Vec<_>, Vec<_>) =
        agent.finish().into_iter().partition(|span| *span.get("gen_ai.request.model") == json!("mock"));
    check_calls(&later, &answers);
    assert!(first.iter().all(|span| *span.get(INCOMPLETE) == json!(true)), "{first:#?}");
}

/// As in the manual: a name with a star, and everything of that name is watched, whoever started it.
#[test]
fn a_pattern_of_names_selects_what_matches() {
    let mock = Mock::for_test();
    let mut job = Via::Tls.job(&mock, bodies::assorted(client::REQUESTS.api));
    job.wait = true;
    let mut before = client::REQUESTS.start(&job);
    let agent = Agent::run(&["--exe", "python*"]);
    before.go();
    job.wait = false;
    let calls = before.finish().len() + client::REQUESTS.run(&job).len();
    let answers = mock.ledger().wait_for_answers(calls);
    // Other Pythons may run on this machine.
    let mut spans = agent.finish();
    spans.retain(|span| *span.get("server.port") == json!(mock.tls().port()));
    check_calls(&spans, &answers);
}

/// Downloads and calls take turns on one connection: of the downloads little is copied, of the calls all.
#[test]
fn what_is_no_call_stops_being_copied_and_calls_in_between_are_whole() {
    for via in Via::BOTH {
        let mock = Mock::for_test();
        let mut client = Command::new(tokentap_tests::parts::part("venv/bin/python"));
        client.env_clear().args(["-c", MIXED]).arg(mock.ca());
        client.arg(via.job(&mock, Vec::new()).base_url);
        let mut client = Process::spawn(client);
        client.wait_for_line("ready", |line| (line == "ready").then_some(()));
        let agent = Agent::run(&["--pid", &client.id().to_string()]);
        client.write("go\n");
        assert!(client.wait(PATIENCE).success(), "{}", client.transcript());
        let answers = mock.ledger().wait_for_answers(6);
        let ended = agent.stop();
        assert_eq!(ended.status.code(), Some(0), "what is left out on purpose is not lost: {}", ended.log);
        check_calls(&ended.spans, &answers);
        let (seen, skipped) =
            (ended.counter("tokentap.bytes.seen"), ended.counter("tokentap.bytes.skipped{reason=verdict}"));
        assert!(skipped > seen / 2, "{skipped} of {seen} bytes were left out");
    }
}

const MIXED: &str = r#"
import http.client, json, ssl, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[2])
if url.scheme == "https":
    context = ssl.create_default_context(cafile=sys.argv[1])
    connection = http.client.HTTPSConnection(url.netloc, context=context)
else:
    connection = http.client.HTTPConnection(url.netloc)
connection.connect()
print("ready", flush=True)
sys.stdin.readline()
def exchange(method, path, body=None):
    connection.request(method, path, body)
    return connection.getresponse().read()
for turn in range(6):
    for _ in range(60):
        assert len(exchange("GET", "/files/262144")) == 262144
    model = ["mock-size20000", "mock-chunks40", "mock"][turn % 3]
    messages = [{"role": "user", "content": "x" * 40000}]
    body = {"messages": messages, "model": model, "stream": turn % 3 == 1}
    exchange("POST", "/v1/chat/completions", json.dumps(body))
"#;
