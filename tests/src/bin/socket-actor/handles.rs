//! Calls on the handles of a library that is TLS in name only: what "moves" is put into the buffers here. Each call that
//! was made is printed as the answer that a server would have written down.

use std::{
    cell::Cell,
    ffi::{CStr, CString, c_int, c_void},
    io::{PipeReader, Read as _, Write as _},
    net::SocketAddr,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{OnceLock, mpsc},
    thread,
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde_json::json;
use tokentap_tests::{
    ledger::{Answer, Api, Usage},
    messages::{body_start, post},
};

/// What is done with the handles.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Way {
    /// Each thread waits in `SSL_read` for the answer to its own request, until all wait; 1,000 go on for each line
    AllWait,
    /// Threads end in `SSL_read`; as many calls by others follow
    ThreadsEnd,
    /// A handle is freed once too often for those who do not count, and used again for something else
    UpRef,
    /// Requests by `SSL_write_ex2`
    WriteEx2,
    /// The body of a request by `SSL_sendfile`
    Sendfile,
    /// Requests that are never answered, each on a handle of its own, without end
    Noisy,
}

type Handle = *mut c_void;
type During = extern "C" fn(Handle, *mut c_void, usize) -> c_int;
type Move = unsafe extern "C" fn(Handle, *mut c_void, c_int) -> c_int;
type MoveEx2 = unsafe extern "C" fn(Handle, *const c_void, usize, u64, *mut usize) -> c_int;
type Sendfile = unsafe extern "C" fn(Handle, c_int, libc::off_t, usize, c_int) -> isize;
type Change = unsafe extern "C" fn(Handle);

/// Functions of the library.
pub(crate) struct Library {
    during: *mut During,
    read: Move,
    write: Move,
    write_ex2: MoveEx2,
    sendfile: Sendfile,
    up_ref: Change,
    free: Change,
}

impl Library {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: a string that ends with zero; the library has no constructors.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        ensure!(!library.is_null(), "cannot load {}", path.display());
        let find = |name: &CStr| {
            // SAFETY: a library that is loaded and stays so, and a string that ends with zero.
            let found = unsafe { libc::dlsym(library, name.as_ptr()) };
            if found.is_null() { Err(anyhow::anyhow!("no {name:?}")) } else { Ok(found) }
        };
        // SAFETY: the types are those of fake_ssl.c.
        unsafe {
            let library = Self {
                during: find(c"during")?.cast(),
                read: std::mem::transmute::<Handle, Move>(find(c"SSL_read")?),
                write: std::mem::transmute::<Handle, Move>(find(c"SSL_write")?),
                write_ex2: std::mem::transmute::<Handle, MoveEx2>(find(c"SSL_write_ex2")?),
                sendfile: std::mem::transmute::<Handle, Sendfile>(find(c"SSL_sendfile")?),
                up_ref: std::mem::transmute::<Handle, Change>(find(c"SSL_up_ref")?),
                free: std::mem::transmute::<Handle, Change>(find(c"SSL_free")?),
            };
            library.during.write(all_moves);
            Ok(library)
        }
    }

    /// `SSL_write`, whose result is what the library does with it.
    fn write(&self, connection: usize, bytes: &[u8]) {
        // SAFETY: the library looks at no handle, and at no buffer.
        unsafe { (self.write)(handle(connection), bytes.as_ptr().cast_mut().cast(), bytes.len() as c_int) };
    }

    /// `SSL_read`, which finds these bytes.
    fn read(&self, connection: usize, bytes: &mut [u8]) {
        // SAFETY: the library looks at no handle, and at no buffer.
        unsafe { (self.read)(handle(connection), bytes.as_mut_ptr().cast(), bytes.len() as c_int) };
    }

    fn free(&self, connection: usize) {
        // SAFETY: the library looks at no handle.
        unsafe { (self.free)(handle(connection)) };
    }

    /// A whole call.
    fn call(&self, connection: usize, number: usize) {
        self.write(connection, &request(number));
        self.read(connection, &mut answer(number));
        print(number);
    }

    /// Has the library do something else during its calls.
    fn set_during(&self, during: During) {
        // SAFETY: its own variable, while no thread is in a call.
        unsafe { self.during.write(during) };
    }
}

/// As a pointer to a heap object would look.
fn handle(connection: usize) -> Handle {
    std::ptr::without_provenance_mut(0x5000_0000 + connection * 64)
}

extern "C" fn all_moves(_: Handle, _: *mut c_void, length: usize) -> c_int {
    length as c_int
}

const PORT: u16 = 4433;

fn model(number: usize) -> String {
    format!("handle-{number}")
}

fn request(number: usize) -> Vec<u8> {
    post(&json!({"messages": [], "model": model(number)}), SocketAddr::from(([127, 0, 0, 1], PORT)))
}

fn answer(number: usize) -> Vec<u8> {
    let model = model(number);
    let body = json!({
        "id": model, "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": number + 1, "completion_tokens": 2, "total_tokens": number + 3},
    })
    .to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

/// Writes down a call that was made.
fn print(number: usize) {
    let model = Some(model(number));
    let answer = Answer {
        tls: true,
        port: PORT,
        api: Some(Api::OpenaiChat),
        status: 200,
        id: model.clone(),
        request_model: model.clone(),
        response_model: model,
        finish_reasons: vec!["stop".into()],
        usage: Some(Usage { input: number as u64 + 1, output: Some(2), ..Usage::default() }),
        whole: true,
        ..Answer::default()
    };
    println!("{}", json!(answer));
}

pub(crate) fn calls(how: Way, count: usize, library: &Library) -> anyhow::Result<()> {
    match how {
        Way::AllWait => return all_wait(count, library),
        Way::ThreadsEnd => return threads_end(count, library),
        Way::UpRef => up_ref(library),
        Way::WriteEx2 => {
            for number in 0..count {
                let (request, mut written) = (request(number), 0);
                // SAFETY: the library looks at no handle, and writes a number.
                unsafe {
                    (library.write_ex2)(
                        handle(1),
                        request.as_ptr().cast(),
                        request.len(),
                        0,
                        &raw mut written,
                    )
                };
                library.read(1, &mut answer(number));
                print(number);
            }
        }
        Way::Sendfile => {
            let request = request(0);
            let body = body_start(&request).context("a head")?;
            library.write(1, &request[..body]);
            // SAFETY: the library looks at nothing that it is given.
            unsafe { (library.sendfile)(handle(1), -1, 0, request.len() - body, 0) };
            library.read(1, &mut answer(0));
            library.call(1, 1);
        }
        Way::Noisy => {
            let request = request(0);
            for connection in 0..usize::MAX {
                library.write(connection, &request);
            }
        }
    }
    Ok(())
}

/// Two owners, of which one lets go in the middle of a call.
fn up_ref(library: &Library) {
    for (connection, number) in [(1, 0), (1, 2), (2, 4)] {
        library.write(connection, &request(number));
        // SAFETY: the library looks at no handle.
        unsafe { (library.up_ref)(handle(connection)) };
        library.free(connection);
        library.read(connection, &mut answer(number));
        print(number);
        library.call(connection, number + 1);
        library.free(connection);
    }
    // Freed in the middle: what comes next on a handle at the same place is another connection's.
    library.write(1, &request(6));
    library.free(1);
    library.call(1, 7);
}

/// Each byte of it lets one thread go on.
static GATE: OnceLock<PipeReader> = OnceLock::new();

thread_local! {
    static IS_TO_WAIT: Cell<bool> = const { Cell::new(false) };
}

const STACK: usize = 64 << 10;
/// How many go on for each line that is read: an observer keeps pace with so many.
const AT_ONCE: usize = 1000;

fn all_wait(count: usize, library: &Library) -> anyhow::Result<()> {
    extern "C" fn wait_at_gate(_: Handle, _: *mut c_void, length: usize) -> c_int {
        let waits = IS_TO_WAIT.get();
        let passed =
            !waits || GATE.get().is_some_and(|gate| { gate }.read(&mut [0]).is_ok_and(|read| read == 1));
        if passed { length as c_int } else { -1 }
    }
    let (gate, mut opened) = std::io::pipe()?;
    GATE.set(gate).ok().context("one gate")?;
    library.set_during(wait_at_gate);
    thread::scope(|scope| -> anyhow::Result<()> {
        for number in 0..count {
            thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || {
                library.write(number, &request(number));
                IS_TO_WAIT.set(true);
                library.read(number, &mut answer(number));
            })?;
        }
        wait_for_threads(libc::SYS_read, count)?;
        // Others make their calls meanwhile.
        println!("\"waiting\"");
        for from in (0..count).step_by(AT_ONCE) {
            std::io::stdin().read_line(&mut String::new())?;
            opened.write_all(&vec![0; AT_ONCE.min(count - from)])?;
        }
        Ok(())
    })?;
    (0..count).for_each(print);
    Ok(())
}

/// Until so many threads of this process are in the middle of a system call.
fn wait_for_threads(call: libc::c_long, count: usize) -> anyhow::Result<()> {
    let call = format!("{call} ");
    let is_in_call = |thread: &Path| {
        std::fs::read_to_string(thread.join("syscall")).is_ok_and(|text| text.starts_with(&call))
    };
    loop {
        let threads = std::fs::read_dir("/proc/self/task")?.flatten();
        if threads.filter(|thread| is_in_call(&thread.path())).count() >= count {
            return Ok(());
        }
        thread::yield_now();
    }
}

fn threads_end(count: usize, library: &Library) -> anyhow::Result<()> {
    extern "C" fn end_thread(_: Handle, _: *mut c_void, _: usize) -> c_int {
        // SAFETY: ends this thread alone; nothing that it holds is used afterwards.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        -1
    }
    for number in 0..count {
        library.write(number, &request(count + number));
    }
    library.set_during(end_thread);
    let read = library.read;
    for number in 0..count {
        let (thread_id, known) = mpsc::channel();
        // Not joined: what a join waits for is never written.
        thread::Builder::new().stack_size(STACK).spawn(move || {
            let mut buffer = [0; 512];
            if thread_id.send(rustix::thread::gettid()).is_ok() {
                // SAFETY: the library looks at no handle, and at no buffer.
                unsafe { read(handle(number), buffer.as_mut_ptr().cast(), buffer.len() as c_int) };
            }
        })?;
        let id = known.recv()?.as_raw_nonzero();
        while Path::new(&format!("/proc/self/task/{id}")).exists() {
            thread::yield_now();
        }
    }
    library.set_during(all_moves);
    thread::scope(|scope| {
        for number in 0..count {
            scope.spawn(move || library.call(count + number, number));
        }
    });
    Ok(())
}

// SAFETY: pointers to code and to one variable of a library that stays loaded.
unsafe impl Sync for Library {}
