//! Processes and threads that come and go.

use std::{
    io::{PipeReader, Read, Write},
    net::TcpStream,
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::{io::FdFlags, process::Pid};
use tokentap_tests::random::Random;

use crate::{
    arguments::{Act, Once, Server},
    content::{Got, hash, hex, join},
    http::{begin_stream, call, fetch},
};

/// Runs `work` in a child of its own; gives the child's hash.
pub(crate) fn in_child(work: impl FnOnce() -> anyhow::Result<Got>) -> anyhow::Result<Child> {
    let (output, mut input) = std::io::pipe()?;
    // SAFETY: actors have one thread, so the child's memory is whole.
    let pid = match unsafe { libc::fork() } {
        0 => {
            drop(output);
            let done = work().and_then(|got| Ok(input.write_all(&got)?));
            if let Err(error) = &done {
                eprintln!("in a child: {error:#}");
            }
            // SAFETY: ends this process and touches nothing of it.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        pid => Pid::from_raw(pid).context("cannot fork")?,
    };
    Ok(Child { pid, output })
}

/// A child at work.
pub(crate) struct Child {
    pid: Pid,
    output: PipeReader,
}

impl Child {
    /// Waits for its end.
    pub(crate) fn wait(mut self) -> anyhow::Result<Got> {
        let mut got = Vec::new();
        self.output.read_to_end(&mut got)?;
        let status = rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty())?;
        let status = status.context("no status")?.1;
        ensure!(status.exit_status() == Some(0), "a child ended with {status:?}");
        Ok(got)
    }
}

/// A process of this program; gives what it prints.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Got> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(hash(&output.stdout))
}

/// This program with a command that fetches.
pub(crate) fn fetching(what: &str, server: &Server, seed: u64) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(what).args(server.arguments()).args(["--seed", &seed.to_string()]);
    Ok(command)
}

/// Children with connections of their own, at once, and one that goes on with its parent's.
pub(crate) fn fork_round(act: &Act, random: &mut Random) -> anyhow::Result<Got> {
    let mut shared = act.server.plain()?;
    let mut got = vec![call(&mut shared, random)?];
    let heir = random.clone();
    let child = in_child(|| fetch(&mut shared, &mut heir.clone()))?;
    got.push(child.wait()?);
    got.push(fetch(&mut shared, random)?);
    let children: Vec<Child> = (0..2)
        .map(|number| {
            let mut own = Random::new(random.next(), number);
            in_child(|| {
                Ok(join([
                    fetch(&mut act.server.tls()?, &mut own)?,
                    fetch(&mut act.server.plain()?, &mut own)?,
                ]))
            })
        })
        .collect::<anyhow::Result<_>>()?;
    for child in children {
        got.push(child.wait()?);
    }
    Ok(join(got))
}

/// Programs that are started, and one that is started with a connection that is in use.
pub(crate) fn exec_round(act: &Act, random: &mut Random) -> anyhow::Result<Got> {
    let first = run(&mut fetching("once", &act.server, random.next())?)?;
    let mut connection = act.server.plain()?;
    let before = call(&mut connection, random)?;
    rustix::io::fcntl_setfd(&connection, FdFlags::empty())?;
    let mut heir = fetching("once", &act.server, random.next())?;
    heir.args(["--connection", &connection.as_raw_fd().to_string()]);
    let (output, input) = std::io::pipe()?;
    // The child becomes the program itself, instead of starting one.
    let child = in_child(|| Err(heir.stdout(input.try_clone()?).exec().into()))?;
    drop(input);
    let mut printed = Vec::new();
    { output }.read_to_end(&mut printed)?;
    child.wait()?;
    Ok(join([first, before, hash(&printed)]))
}

/// `once`: a life of some milliseconds.
pub(crate) fn once(once: &Once) -> anyhow::Result<()> {
    let mut random = Random::new(once.seed, 0);
    let mut plain = match once.connection {
        // SAFETY: who started this program left that descriptor open for it.
        Some(fd) => unsafe { TcpStream::from_raw_fd(fd) },
        None => once.server.plain()?,
    };
    let got = [fetch(&mut once.server.tls()?, &mut random)?, fetch(&mut plain, &mut random)?];
    println!("{}", hex(&join(got)));
    Ok(())
}

pub(crate) fn threads_round(act: &Act, random: &mut Random) -> anyhow::Result<Got> {
    run(&mut fetching("threads", &act.server, random.next())?)
}

/// `threads`: some threads end while they wait for an answer; then the process fetches.
pub(crate) fn threads(once: &Once) -> anyhow::Result<()> {
    extern "C" fn end_thread(_signal: libc::c_int) {
        // SAFETY: ends this thread alone; nothing that it holds is used afterwards.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    // SAFETY: the handler does nothing but a system call.
    unsafe { libc::signal(libc::SIGUSR1, end_thread as *const () as libc::sighandler_t) };
    let streams: [Box<dyn Stream>; 2] = [Box::new(once.server.tls()?), Box::new(once.server.plain()?)];
    for mut stream in streams {
        begin_stream(&mut stream, "mock-slow20000")?;
        let (thread_id, known) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let known = thread_id.send(rustix::thread::gettid());
            let mut buffer = [0; 4096];
            while known.is_ok() && stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        let id = known.recv()?;
        wait_until_receiving(id)?;
        // SAFETY: a signal to a thread of this process.
        let sent = unsafe {
            libc::syscall(libc::SYS_tgkill, std::process::id(), id.as_raw_nonzero().get(), libc::SIGUSR1)
        };
        ensure!(sent == 0, "cannot signal a thread");
    }
    self::once(once)
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// Until a thread of this process is in the middle of recv().
fn wait_until_receiving(thread: Pid) -> anyhow::Result<()> {
    let path = format!("/proc/self/task/{}/syscall", thread.as_raw_nonzero());
    let receiving = format!("{} ", libc::SYS_recvfrom);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&path)?.starts_with(&receiving) {
        ensure!(Instant::now() < deadline, "a thread does not wait for its answer");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Processes that are killed: while they start, while they connect, in the middle of an answer.
pub(crate) fn kill_round(act: &Act, random: &mut Random) -> anyhow::Result<Got> {
    let mut victims = Vec::new();
    for _ in 0..3 {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("victim").args(act.server.arguments()).stderr(Stdio::null());
        victims.push(command.spawn()?);
    }
    for mut victim in victims {
        thread::sleep(Duration::from_millis(random.below(40)));
        victim.kill()?;
        victim.wait()?;
    }
    fetch(&mut act.server.plain()?, random)
}

/// `victim`
pub(crate) fn victim(server: &Server) -> anyhow::Result<()> {
    let (mut tls, mut plain) = (server.tls()?, server.plain()?);
    begin_stream(&mut tls, "mock-endless")?;
    begin_stream(&mut plain, "mock-endless")?;
    let mut buffer = [0; 4096];
    while tls.read(&mut buffer)? > 0 && plain.read(&mut buffer)? > 0 {}
    Ok(())
}
