//! Libraries that change, and file systems that come and go.

use std::{
    ffi::CString,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    thread::UnshareFlags,
};
use tokentap_tests::random::Random;

use crate::{
    arguments::{Act, Contain, Load},
    content::{Got, hash, hex, join},
    http::fetch,
    processes::{fetching, run},
};

/// A private copy of the TLS library, used by processes while it is written over and replaced; and a file that is
/// the TLS library in one moment and another library in the next.
pub(crate) fn library_round(act: &Act, random: &mut Random) -> anyhow::Result<Got> {
    let folder = act.folder.join("lib");
    let (tls, other) = (system_library("libssl.so.3")?, system_library("libm.so.6")?);
    let copy = folder.join("libssl.so.3");
    if !copy.exists() {
        fs::create_dir_all(&folder)?;
        fs::copy(&tls, &copy)?;
    }
    let mut load = |library: &Path, code: bool, wait: bool| -> anyhow::Result<Command> {
        let mut command = fetching("load", &act.server, random.next())?;
        command.arg("--library").arg(library).env("LD_LIBRARY_PATH", &folder).stdout(Stdio::piped());
        command.args(code.then_some("--code")).args(wait.then_some("--wait"));
        Ok(command)
    };

    // The same bytes, written over the file that a process executes.
    let process = Waiting::start(&mut load(&copy, false, true)?)?;
    OpenOptions::new().write(true).open(&copy)?.write_all_at(&fs::read(&tls)?, 0)?;
    let mut got = vec![process.go()?];
    // Another file of that name, while a process goes on with the old one.
    let process = Waiting::start(&mut load(&copy, false, true)?)?;
    let new = folder.join("new");
    fs::copy(&tls, &new)?;
    fs::rename(&new, &copy)?;
    got.push(process.go()?);
    got.push(run(&mut load(&copy, false, false)?)?);
    // One file, other contents.
    let changing = folder.join("changing.so");
    for (contents, code) in [(&tls, false), (&other, true)] {
        fs::copy(contents, &changing)?;
        got.push(run(&mut load(&changing, code, false)?)?);
    }
    Ok(join(got))
}

/// Where this process's libraries lie.
fn system_library(name: &str) -> anyhow::Result<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let folders = maps.lines().filter(|line| line.contains("/libc.so") || line.contains("/libssl.so"));
    let folders = folders.filter_map(|line| Path::new(line.split_ascii_whitespace().last()?).parent());
    folders.map(|folder| folder.join(name)).find(|path| path.exists()).with_context(|| format!("no {name}"))
}

/// A process that has loaded what it needs.
struct Waiting(Child);

impl Waiting {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().context("no output")?, &mut ready)?;
        ensure!(&ready == b"ready\n", "a process is not ready");
        Ok(Self(child))
    }

    fn go(mut self) -> anyhow::Result<Got> {
        self.0.stdin.take().context("no input")?.write_all(b"go\n")?;
        let output = self.0.wait_with_output()?;
        ensure!(output.status.success(), "a process ended with {}", output.status);
        Ok(hash(&output.stdout))
    }
}

/// `load`
pub(crate) fn load(load: &Load) -> anyhow::Result<()> {
    let path = CString::new(load.library.as_os_str().as_bytes())?;
    // SAFETY: a string that ends with zero; the library's constructors are those of any program's start.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    ensure!(!library.is_null(), "cannot load {}", load.library.display());
    if load.wait {
        println!("ready");
        std::io::stdin().read_line(&mut String::new())?;
    }
    if load.code {
        // Time for an observer to look at what this process has mapped.
        thread::sleep(Duration::from_millis(50));
        println!("{}", hex(&code_of(&load.library)?));
        return Ok(());
    }
    let mut random = Random::new(load.once.seed, 0);
    println!("{}", hex(&fetch(&mut load.once.server.tls()?, &mut random)?));
    Ok(())
}

/// The code of a library, as it is in this process's memory; it must be as in the file.
fn code_of(library: &Path) -> anyhow::Result<Got> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let name = library.to_str().context("a path in UTF-8")?;
    let line = maps.lines().find(|line| line.ends_with(name) && line.contains(" r-xp "));
    let fields: Vec<&str> = line.context("no code is mapped")?.split_ascii_whitespace().collect();
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16);
    let (start, end) = fields[0].split_once('-').context("a range")?;
    let (start, end, offset) = (hexadecimal(start)?, hexadecimal(end)?, hexadecimal(fields[2])?);
    let mut code = vec![0; usize::try_from(end - start)?];
    fs::File::open("/proc/self/mem")?.read_exact_at(&mut code, start)?;
    let file = fs::read(library)?;
    let file = &file[usize::try_from(offset)?..];
    let changed = code.iter().zip(file).position(|(memory, file)| memory != file);
    if let Some(at) = changed {
        bail!("byte {:#x} of {name} was {:#x} and is {:#x}", offset + at as u64, file[at], code[at]);
    }
    Ok(hash(&code))
}

pub(crate) fn container_round(act: &Act, random: &mut Random) -> anyhow::Result<Got> {
    let containers: Vec<Child> = (0..2)
        .map(|number| {
            let folder = act.folder.join(format!("container-{number}"));
            fs::create_dir_all(&folder)?;
            let mut command = fetching("contain", &act.server, random.next())?;
            command.arg("--folder").arg(folder).arg("--image").arg(&act.image).stdout(Stdio::piped());
            Ok(command.spawn()?)
        })
        .collect::<anyhow::Result<_>>()?;
    let mut got = Vec::new();
    for container in containers {
        let output = container.wait_with_output()?;
        ensure!(output.status.success(), "a container ended with {}", output.status);
        got.push(hash(&output.stdout));
    }
    Ok(join(got))
}

/// `contain`: a process in a root file system of its own, which is taken away when it has ended.
pub(crate) fn contain(contain: &Contain) -> anyhow::Result<()> {
    const NONE: MountFlags = MountFlags::empty();
    // SAFETY: only the mount namespace changes, in a process with one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let Contain { once, folder, image } = contain;
    mount("tmpfs", folder, "tmpfs", NONE, None)?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| folder.join(name));
    [&upper, &work, &root].into_iter().try_for_each(fs::create_dir)?;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", image.display(), upper.display(), work.display());
    mount("overlay", &root, "overlay", NONE, Some(CString::new(options)?.as_c_str()))?;
    let mut command = Command::new("chroot");
    command.arg(&root).args(["/bin/storm-actor", "once"]);
    let mut server = once.server.clone();
    server.ca = "/ca.pem".into();
    command.args(server.arguments()).args(["--seed", &once.seed.to_string()]);
    let got = run(&mut command)?;
    take_away(&root)?;
    take_away(folder)?;
    println!("{}", hex(&got));
    Ok(())
}

/// What looked into the file system has a moment to let go of it.
fn take_away(mounted: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match unmount(mounted, UnmountFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Err(error) => bail!("{} stays mounted: {error}", mounted.display()),
        }
    }
}
