//! The first and only program of a virtual machine that has nothing but the agent, curl and the mock: makes the
//! machine usable, watches curl with the agent as on any other machine, tells the console how it went, and
//! powers off.

use std::{
    ffi::CStr,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
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
};

fn main() -> io::Result<()> {
    println!("vm-init: started");
    let outcome = machine().map_err(|e| e.to_string()).and_then(|()| {
        // A failed check has said more on the console already.
        catch_unwind(AssertUnwindSafe(watch_curl)).map_err(|why| {
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
        *to = from.cast_signed();
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
