//! The first program of a virtual machine that has nothing but the agent, curl, `bench-load` and the mock: makes
//! the machine usable, tests the agent as on any other machine, tells the console how it went, and powers off.
//!
//! The kernel's command line chooses the test: `TOKENTAP_VM_TEST=load`, else a few calls of curl's.

use std::{
    collections::BTreeMap,
    env,
    ffi::CStr,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
};

use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, reboot},
};
use tokentap_tests::{
    agent::Agent,
    bodies,
    client::{self, Via},
    expect::check_calls,
    mock::Mock,
    process::{PATIENCE, Process},
    programs,
};

fn main() -> io::Result<()> {
    println!("vm-init: started");
    let outcome = machine().map_err(|e| e.to_string()).and_then(|()| {
        // A failed check has said more on the console already.
        let test =
            if env::var("TOKENTAP_VM_TEST").is_ok_and(|test| test == "load") { load } else { watch_curl };
        catch_unwind(AssertUnwindSafe(test)).map_err(|why| {
            let why = why.downcast_ref::<String>().map_or("a check failed", String::as_str);
            why.lines().next().unwrap_or_default().to_owned()
        })
    });
    match outcome {
        Ok(()) => println!("vm-init: passed"),
        Err(why) => println!("vm-init: failed: {why}"),
    }
    rustix::fs::sync();
    Ok(reboot(RebootCommand::PowerOff)?)
}

/// What an init system would have done.
fn machine() -> io::Result<()> {
    const PLACES: [(&str, &CStr, &str); 6] = [
        ("/proc", c"", "proc"),
        ("/sys", c"", "sysfs"),
        ("/sys/kernel/tracing", c"", "tracefs"),
        ("/sys/fs/bpf", c"", "bpf"),
        ("/dev", c"", "devtmpfs"),
        ("/tmp", c"", "tmpfs"),
    ];
    for (place, data, kind) in PLACES {
        fs::create_dir_all(place)?;
        mount(kind, place, kind, MountFlags::empty(), data)
            .or_else(|e| if e == rustix::io::Errno::BUSY { Ok(()) } else { Err(e) })
            .map_err(|e| io::Error::new(e.kind(), format!("cannot mount {place}: {e}")))?;
    }
    loopback_up()
}

fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all bytes zero is a valid `ifreq`: an empty name and an empty union.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the socket is open, and the request is an `ifreq` that lives through the call.
    let result = unsafe {
        libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS, &raw const request)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Calls of each kind over TLS and in the clear: a right span for each.
fn watch_curl() {
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", "curl"]);
    let mut calls = 0;
    for via in Via::BOTH {
        let job = via.job(&mock, bodies::assorted(client::CURL.api));
        calls += client::CURL.run(&job).len();
    }
    let answers = mock.ledger().wait_for_answers(calls);
    check_calls(&agent.finish(), &answers);
    println!("{calls} calls, {calls} right spans");
}

/// The program of which this one, with `_second` or `_third` behind its name, does what was skipped. The kernel keeps 15
/// characters of a name.
fn first_of(name: &str) -> &str {
    let is_behind = |first: &&&str| {
        name.strip_prefix(**first).is_some_and(|rest| rest.starts_with("_s") || rest.starts_with("_t"))
    };
    FIRST.iter().find(is_behind).copied().unwrap_or(name)
}

/// Programs that have others behind them.
const FIRST: [&str; 4] = ["sys_exit", "process_exec", "process_exit", "task_newtask"];

/// Many threads of several processes make calls at once, so that programs are preempted at every place: each
/// call is one right span, every byte is accounted for, and every run that the kernel skipped is reported.
fn load() {
    const CALLS: usize = 400;
    const CONNECTIONS: usize = 8;
    let mock = Mock::for_test();
    let agent = Agent::run(&["--exe", "bench-load"]);
    // Streams in many pieces, plain answers in few; with TLS and without. Paced, as models are: an emulated
    // machine makes calls at full speed faster than it reads them.
    let kinds: [&[&str]; 3] = [
        &["--model", "mock-chunks40-slow2"],
        &["--model", "mock-size2048", "--plain"],
        &["--model", "mock-chunks10-slow2"],
    ];
    let running: Vec<Process> = kinds
        .iter()
        .zip([true, true, false])
        .map(|(kind, tls)| {
            let server = if tls { mock.tls() } else { mock.plain() };
            let mut command = Command::new("/bin/bench-load");
            command.args(*kind).args(["--server", &server.to_string(), "--seconds", "60"]);
            command.args(["--calls", &CALLS.to_string(), "--connections", &CONNECTIONS.to_string()]);
            if tls {
                command.arg("--ca").arg(mock.ca());
            }
            Process::spawn(command)
        })
        .collect();
    for mut process in running {
        let status = process.wait(PATIENCE);
        assert!(status.success(), "{status}\n{}", process.transcript());
    }
    let answers = mock.ledger().wait_for_answers(kinds.len() * CALLS);
    // Only its own programs are loaded here.
    let programs = programs::all().expect("root lists programs");
    // Programs with the same beginning do what the first was skipped for. The kernel cuts names off.
    let mut groups: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for program in &programs {
        let first = first_of(&program.name);
        groups.entry(first).or_default().push(program.skipped);
    }
    let skipped: u64 = groups.values().filter(|group| group.len() == 1).flatten().sum();
    for program in programs.iter().filter(|program| program.skipped > 0) {
        println!("{}: {} runs were skipped", program.name, program.skipped);
    }
    let ended = agent.stop();
    println!("{}", ended.log.lines().last().unwrap_or_default());
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.log);
    check_calls(&ended.spans, &answers);
    ended.check_ledger();
    let reported = ended.counter("tokentap.programs.skipped");
    // Some more can be skipped while the agent ends.
    assert!(reported >= skipped, "{reported} of {skipped} skipped runs are reported");
    println!("{} calls, {} right spans", answers.len(), ended.spans.len());
}
