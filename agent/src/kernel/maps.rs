//! The maps that user space writes and reads.

use std::sync::atomic::{AtomicU64, Ordering};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData, PerCpuArray},
};
use aya_log::EbpfLogger;
use tokentap_abi::{Counter, FdKey, Tracked, USER_STREAM, Verdict};

use super::{Attacher, KernelError, Ring, log::KernelLog};

/// The loaded kernel side, in the parts that different threads own.
pub struct Kernel {
    /// Attaches and detaches.
    pub attacher: Attacher,
    /// Delivers frames.
    pub ring: Ring,
    /// Says who is watched, and how it goes.
    pub maps: KernelMaps,
}

impl Kernel {
    pub(super) fn new(mut ebpf: Ebpf, ring_bytes: u32) -> Result<Self, KernelError> {
        // Absent only when the object logs nothing.
        let logger = EbpfLogger::init_with_logger(&mut ebpf, KernelLog).ok();
        let Map::RingBuf(ring) = take(&mut ebpf, "EVENTS")? else {
            return Err(KernelError::Missing("ring EVENTS".to_owned()));
        };
        let ring = Ring::new(ring, ring_bytes as usize, logger).map_err(KernelError::Ring)?;
        let maps = KernelMaps {
            tracked: HashMap::try_from(take(&mut ebpf, "TRACKED")?).map_err(in_map("TRACKED"))?,
            fds: HashMap::try_from(take(&mut ebpf, "FDS")?).map_err(in_map("FDS"))?,
            verdicts: HashMap::try_from(take(&mut ebpf, "VERDICTS")?).map_err(in_map("VERDICTS"))?,
            stats: PerCpuArray::try_from(take(&mut ebpf, "STATS")?).map_err(in_map("STATS"))?,
            next: AtomicU64::new(1),
        };
        Ok(Self { attacher: Attacher::new(ebpf), ring, maps })
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or_else(|| KernelError::Missing(format!("map {name}")))
}

fn in_map(name: &'static str) -> impl Fn(aya::maps::MapError) -> KernelError {
    move |source| KernelError::Map { name, source: Box::new(source) }
}

/// Who is watched, which descriptors are sockets, what is decided about streams, and the counters.
pub struct KernelMaps {
    tracked: HashMap<MapData, u32, Plain<Tracked>>,
    fds: HashMap<MapData, Plain<FdKey>, u64>,
    verdicts: HashMap<MapData, u64, u8>,
    stats: PerCpuArray<MapData, u64>,
    next: AtomicU64,
}

impl KernelMaps {
    /// Watches a process from now on, unless the kernel side does already; returns its generation.
    ///
    /// # Errors
    /// When the map is full: more processes than it has room for are watched.
    pub fn track(&mut self, pid: u32, follow: bool) -> Result<u64, KernelError> {
        if let Ok(Plain(tracked)) = self.tracked.get(&pid, 0) {
            return Ok(tracked.generation);
        }
        let generation = self.unique();
        let value = Tracked { generation, follow: u32::from(follow), reserved: 0 };
        self.tracked.insert(&pid, &Plain(value), 0).map_err(in_map("TRACKED"))?;
        Ok(generation)
    }

    /// Stops watching a process.
    pub fn untrack(&mut self, pid: u32) {
        if let Err(error) = self.tracked.remove(&pid) {
            // The kernel side adds entries, this is the only place that removes them.
            tracing::debug!(pid, %error, "process was not tracked");
        }
    }

    /// Stops watching everybody: nothing is captured from now on.
    pub fn untrack_all(&mut self) {
        let pids: Vec<u32> = self.tracked.keys().filter_map(Result::ok).collect();
        for pid in pids {
            self.untrack(pid);
        }
    }

    /// Names a descriptor that was a socket before the process was watched.
    ///
    /// # Errors
    /// When the kernel has the descriptor already: it was opened since.
    pub fn name_socket(&mut self, pid: u32, generation: u64, fd: u32) -> Result<u64, KernelError> {
        const NOEXIST: u64 = 1;
        let id = self.unique();
        let key = FdKey { generation, tgid: pid, fd };
        self.fds.insert(&Plain(key), &id, NOEXIST).map_err(in_map("FDS"))?;
        Ok(id)
    }

    /// Whether the kernel side must be told which descriptors of a process are sockets.
    #[must_use]
    pub const fn names_descriptors(&self) -> bool {
        true
    }

    /// Decides what is copied of a stream from now on.
    ///
    /// # Errors
    /// When the map refuses it.
    pub fn decide(&mut self, stream: u64, verdict: Verdict) -> Result<(), KernelError> {
        self.verdicts.insert(&stream, &(verdict as u8), 0).map_err(in_map("VERDICTS"))
    }

    /// A counter, summed over the CPUs.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.stats.get(&(counter as u32), 0).map_or(0, |per_cpu| per_cpu.iter().sum())
    }

    fn unique(&self) -> u64 {
        USER_STREAM | self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// Lets a type of the ABI be a map's key or value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// SAFETY: `repr(C)` integers without padding; any bytes are valid.
unsafe impl Pod for Plain<Tracked> {}
// SAFETY: as above.
unsafe impl Pod for Plain<FdKey> {}
