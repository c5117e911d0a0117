use std::{time::Instant, process::{Command,Stdio,Child}, path::Path};
use tokentap::{kernel::{self,LoadOptions,Scope,TlsProbes}, tls::{Finder,executable_files}};
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let threads: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let host = std::env::args().nth(3).is_some();
    let mut kids: Vec<Child> = (0..n).map(|_| Command::new("python3").args(["-c","import ssl,sys;sys.stdin.readline()"]).stdin(Stdio::piped()).spawn().unwrap()).collect();
    std::thread::sleep(std::time::Duration::from_millis(1000 + 40*n as u64));
    let t=Instant::now();
    let mut k = kernel::load(LoadOptions{ring_bytes:1<<20,adopt:false}).unwrap();
    println!("load {:?}", t.elapsed());
    let f = Finder::default();
    let mut probes: Vec<TlsProbes> = vec![];
    let t=Instant::now();
    let mut first=None;
    for kid in &kids {
        let pid=kid.id();
        for m in executable_files(pid).unwrap() {
            if let Ok(Some(found)) = f.in_mapping(pid,&m) {
                let t=Instant::now();
                probes.push(k.attacher.attach_tls(&found.file.path(), &found.code.points, if host {Scope::Host} else {Scope::Process(pid)}).unwrap());
                first.get_or_insert(t.elapsed());
            }
        }
    }
    println!("attach {} in {:?}, first {:?}", probes.len(), t.elapsed(), first);
    let _ = Path::new("/");
    let t=Instant::now();
    let share = probes.len().div_ceil(threads).max(1);
    std::thread::scope(|s| while !probes.is_empty() { let at=probes.len().saturating_sub(share); let part=probes.split_off(at); s.spawn(move || drop(part)); });
    println!("detach {n} with {threads} threads in {:?}", t.elapsed());
    for k in &mut kids { drop(k.stdin.take()); k.wait().unwrap(); }
}
