//! The maps that user space writes and reads.

use std::collections::HashSet;

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray},
};
use tokentap_abi::{
    Counter, EXIT_BYTES, FD_NAMED, FdKey, HandleKey, STREAM_BYTES, THREAD_BYTES, TRACKED_FILTER, Tracked,
    URING_BYTES, URING_CALL_BYTES, UringKey, Verdict,
};

use super::{error::KernelError, programs::Programs};

pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or_else(|| KernelError::Missing(format!("map {name}")))
}

pub(super) fn in_map(name: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map { name, source: Box::new(source) }
}

/// Who is watched, which descriptors are sockets, what is decided about streams, and the counters.
pub struct KernelMaps {
    tracked: HashMap<MapData, u32, Plain<Tracked>>,
    may_be_tracked: Array<MapData, u32>,
    cgroups: HashMap<MapData, u64, u32>,
    fds: HashMap<MapData, Plain<FdKey>, u64>,
    handles: HashMap<MapData, Plain<HandleKey>, u64>,
    /// Only the kernel side knows what is in them.
    streams: HashMap<MapData, u64, [u8; STREAM_BYTES]>,
    threads: HashMap<MapData, u64, [u8; THREAD_BYTES]>,
    exits: HashMap<MapData, u64, [u8; EXIT_BYTES]>,
    handled: HashMap<MapData, u64, u8>,
    urings: HashMap<MapData, Plain<FdKey>, [u8; URING_BYTES]>,
    uring_calls: HashMap<MapData, Plain<UringKey>, [u8; URING_CALL_BYTES]>,
    verdicts: HashMap<MapData, u64, u8>,
    stats: PerCpuArray<MapData, u64>,
    repeated: Array<MapData, u64>,
    programs: Programs,
    names_descriptors: bool,
    generations: u64,
}

/// User space gives generations of its own with this bit, which times do not have.
const GIVEN_HERE: u64 = 1 << 63;
/// `BPF_NOEXIST`
const NOEXIST: u64 = 1;

impl KernelMaps {
    /// Takes the maps of a loaded object.
    pub(super) fn new(ebpf: &mut Ebpf, names_descriptors: bool) -> Result<Self, KernelError> {
        Ok(Self {
            tracked: HashMap::try_from(take(ebpf, "TRACKED")?).map_err(in_map("TRACKED"))?,
            may_be_tracked: Array::try_from(take(ebpf, "MAY_BE_TRACKED")?)
                .map_err(in_map("MAY_BE_TRACKED"))?,
            cgroups: HashMap::try_from(take(ebpf, "CGROUPS")?).map_err(in_map("CGROUPS"))?,
            fds: HashMap::try_from(take(ebpf, "FDS")?).map_err(in_map("FDS"))?,
            handles: HashMap::try_from(take(ebpf, "HANDLES")?).map_err(in_map("HANDLES"))?,
            streams: HashMap::try_from(take(ebpf, "STREAMS")?).map_err(in_map("STREAMS"))?,
            threads: HashMap::try_from(take(ebpf, "THREADS")?).map_err(in_map("THREADS"))?,
            exits: HashMap::try_from(take(ebpf, "EXITS")?).map_err(in_map("EXITS"))?,
            handled: HashMap::try_from(take(ebpf, "HANDLED")?).map_err(in_map("HANDLED"))?,
            urings: HashMap::try_from(take(ebpf, "URINGS")?).map_err(in_map("URINGS"))?,
            uring_calls: HashMap::try_from(take(ebpf, "URING_CALLS")?).map_err(in_map("URING_CALLS"))?,
            verdicts: HashMap::try_from(take(ebpf, "VERDICTS")?).map_err(in_map("VERDICTS"))?,
            stats: PerCpuArray::try_from(take(ebpf, "STATS")?).map_err(in_map("STATS"))?,
            repeated: Array::try_from(take(ebpf, "REPEATED")?).map_err(in_map("REPEATED"))?,
            programs: Programs::of(ebpf),
            names_descriptors,
            generations: 0,
        })
    }

    /// Watches a process from now on, unless the kernel side does already; returns its generation. `bits` are of
    /// [`tokentap_abi::tracked`].
    ///
    /// # Errors
    /// When the map is full: more processes than it has room for are watched.
    pub fn track(&mut self, pid: u32, bits: u32) -> Result<u64, KernelError> {
        self.generations += 1;
        let generation = GIVEN_HERE | self.generations;
        match self.insert(pid, generation, bits) {
            Ok(()) => Ok(generation),
            Err(error) => self.generation(pid).ok_or(error),
        }
    }

    /// Watches an image that the kernel side reported, unless it does already.
    ///
    /// # Errors
    /// As [`Self::track`].
    pub fn adopt(&mut self, pid: u32, generation: u64, bits: u32) -> Result<(), KernelError> {
        match self.insert(pid, generation, bits) {
            Err(error) if self.generation(pid).is_none() => Err(error),
            _ => Ok(()),
        }
    }

    /// The filter first: an entry behind a clear place in it is not found.
    fn insert(&mut self, pid: u32, generation: u64, bits: u32) -> Result<(), KernelError> {
        self.may_be_tracked.set(pid % TRACKED_FILTER, &1, 0).map_err(in_map("MAY_BE_TRACKED"))?;
        let value = Tracked { generation, flags: bits, ..Tracked::default() };
        self.tracked.insert(&pid, &Plain(value), NOEXIST).map_err(in_map("TRACKED"))
    }

    /// The image of a process that is tracked.
    #[must_use]
    pub fn generation(&self, pid: u32) -> Option<u64> {
        self.tracked.get(&pid, 0).ok().map(|Plain(tracked)| tracked.generation)
    }

    /// Stops watching a process.
    pub fn untrack(&mut self, pid: u32) {
        if let Err(error) = self.tracked.remove(&pid) {
            // The kernel side removes entries of processes that end.
            tracing::trace!(pid, %error, "process was not tracked");
        }
    }

    /// Stops watching everybody: nothing is captured from now on.
    pub fn untrack_all(&mut self) {
        let pids: Vec<u32> = self.tracked.keys().filter_map(Result::ok).collect();
        for pid in pids {
            self.untrack(pid);
        }
    }

    /// Tracks what is executed in a cgroup from now on; `bits` are of [`tokentap_abi::tracked`].
    ///
    /// # Errors
    /// When the map is full.
    pub fn select_cgroup(&mut self, cgroup: u64, bits: u32) -> Result<(), KernelError> {
        self.cgroups.insert(&cgroup, &bits, 0).map_err(in_map("CGROUPS"))
    }

    /// Whether the kernel side cannot tell by itself which descriptors are sockets.
    #[must_use]
    pub const fn names_descriptors(&self) -> bool {
        self.names_descriptors
    }

    /// Says that a descriptor is a socket.
    ///
    /// # Errors
    /// When the map is full.
    pub fn name_socket(&mut self, pid: u32, generation: u64, fd: u32) -> Result<(), KernelError> {
        let key = Plain(FdKey { generation, tgid: pid, fd });
        if self.fds.get(&key, 0).is_ok_and(|stream| stream > FD_NAMED) {
            // Opened since, before the eyes of the kernel side.
            return Ok(());
        }
        self.fds.insert(&key, &FD_NAMED, 0).map_err(in_map("FDS"))
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
        if counter == Counter::ProgramsSkipped {
            return self.programs.skipped_runs(|event| self.repeated.get(&event, 0).unwrap_or(0));
        }
        self.stats.get(&(counter as u32), 0).map_or(0, |per_cpu| per_cpu.iter().sum())
    }

    /// Removes what processes left behind that ended, or replaced their image, without closing it; returns how many
    /// streams those were. Takes two system calls per entry of the maps.
    pub fn sweep(&mut self) -> usize {
        // Entries first: an image that makes entries is in TRACKED already, so that none of a living one is removed.
        let fds: Vec<(FdKey, u64)> = self.fds.iter().flatten().map(|(key, stream)| (key.0, stream)).collect();
        let handles: Vec<(HandleKey, u64)> =
            self.handles.iter().flatten().map(|(key, stream)| (key.0, stream)).collect();
        let threads: Vec<u64> = self.threads.keys().flatten().collect();
        let exits: Vec<u64> = self.exits.keys().flatten().collect();
        let handled: Vec<u64> = self.handled.keys().flatten().collect();
        let urings: Vec<FdKey> = self.urings.keys().flatten().map(|key| key.0).collect();
        let uring_calls: Vec<UringKey> = self.uring_calls.keys().flatten().map(|key| key.0).collect();
        let tracked: Vec<(u32, Tracked)> =
            self.tracked.iter().flatten().map(|(pid, Plain(tracked))| (pid, tracked)).collect();
        let living: HashSet<u64> = tracked.iter().map(|(_, tracked)| tracked.generation).collect();
        let pids: HashSet<u32> = tracked.iter().map(|(pid, _)| *pid).collect();
        let gone = |thread: &u64| !pids.contains(&((thread >> 32) as u32));
        // A thread that is gone meanwhile was removed by the kernel side.
        for thread in threads.into_iter().filter(gone) {
            self.threads.remove(&thread).unwrap_or(());
        }
        for thread in exits.into_iter().filter(gone) {
            self.exits.remove(&thread).unwrap_or(());
        }
        // Marks that stay are of events that the second program was skipped for. One that is set at this moment is removed
        // too: its event is then handled twice, and the process gets one more generation before its first instruction.
        for thread in handled {
            self.handled.remove(&thread).unwrap_or(());
        }
        for key in urings.into_iter().filter(|key| !living.contains(&key.generation)) {
            self.urings.remove(&Plain(key)).unwrap_or(());
        }
        for key in uring_calls.into_iter().filter(|key| !living.contains(&key.generation)) {
            self.uring_calls.remove(&Plain(key)).unwrap_or(());
        }
        let mut removed = 0;
        let mut gone = |stream: u64, entry: Result<(), MapError>| {
            if entry.is_ok() && stream > FD_NAMED && self.streams.remove(&stream).is_ok() {
                removed += 1;
            }
        };
        for (key, stream) in fds.into_iter().filter(|(key, _)| !living.contains(&key.generation)) {
            gone(stream, self.fds.remove(&Plain(key)));
        }
        for (key, stream) in handles.into_iter().filter(|(key, _)| !living.contains(&key.generation)) {
            gone(stream, self.handles.remove(&Plain(key)));
        }
        removed
    }
}

/// Lets a type of the ABI be a map's key or value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: `repr(C)` integers without padding; any bytes are valid.
unsafe impl Pod for Plain<Tracked> {}
// SAFETY: as above.
unsafe impl Pod for Plain<FdKey> {}
// SAFETY: as above.
unsafe impl Pod for Plain<HandleKey> {}
// SAFETY: as above.
unsafe impl Pod for Plain<UringKey> {}
// SAFETY: as above.
unsafe impl Pod for Plain<tokentap_abi::NamePattern> {}
