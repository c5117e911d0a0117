//! Which files are probed, for whom, and how long.
//!
//! ```text
//!                 ┌───────────────────────── removed ◄────────────────────────────┐
//!                 │ mapped again                ▲     ▲                           │
//!                 ▼                             │(b)  │(d)                        │(f)
//!  mapped ──► not probed ─────(a)──────► process-scoped ──(c)──► host-wide ──(e)──► kept
//!                 │  └───────────(c)────────────────────────────────▲ ◄─────(g)────┘
//!                 └──(h)──► refused
//! ```
//!
//! (a) one process that exists is selected; (b) it ended, or unmapped the file; (c) processes are selected that do not exist
//! yet, the file is a host file, or [`MAX_PROCESS_PROBES`] processes have it; (d) from host-wide: the last user is gone and
//! nothing is kept for others; (e) the last user is gone, and others may come; (f) the file was deleted, or others were used
//! later; (g) used again; (h) it cannot be probed, which is logged once. From every state, a file that changed goes to
//! removed, and is searched again.
//!
//! - A process-scoped probe is removed when the process ends or unmaps the file. When many processes have the same file,
//!   one host-wide probe replaces theirs: it is removed with the last of them.
//! - A host-wide probe is removed with the last observed process that maps its file. Where processes are wanted that do
//!   not exist yet (a rule, a followed process that forks), it is kept: for libraries of the system, and for files
//!   that a selected process was seen with, of which at most [`MAX_KEPT`] that nobody uses now. Others who use such a
//!   file pay a trap for each call; files that no selected process ever had, beyond the system's libraries, are never
//!   probed host-wide.
//! - A probe keeps the mount busy that its file was opened through. So nothing is kept on a mount that may go (any but
//!   the root and its usual parts), and a probe that several containers share is placed anew through another
//!   of them when those of its own mount have ended.
//! - One file below several overlays has as many identities. The kernel places probes below: what shows a breakpoint
//!   in a new mapping, and has the code, size and change time of a file that is probed, is that file.
//! - A file that changed loses its probes before anything else is decided.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use tokentap_tls::{FileId, Found, Stamp, TlsCode};

use crate::kernel::Scope;

/// Most files that are probed for processes that do not exist yet, beyond those known ahead.
pub(super) const MAX_KEPT: usize = 64;

/// Most processes that have process-scoped probes in the same file. The kernel goes through all mappings of the file
/// for each of them, so that its time grows with their square (200 processes: a second to take them away).
pub(super) const MAX_PROCESS_PROBES: usize = 32;
/// The same where a probe is a perf event for each function.
pub(super) const MAX_PROCESS_PROBES_EVENTS: usize = 4;

/// Files remembered as refused, so that this is said once.
const MAX_REFUSED: usize = 4096;

/// Places probes and takes them away.
pub(super) trait ProbeBackend {
    /// Probes in a file; dropped without [`ProbeBackend::remove`] they go, too, but somebody waits.
    type Probes;

    /// Probes a file, after it was checked that it has the code at this moment.
    fn place(&mut self, found: &Found, scope: Scope) -> Result<Self::Probes, NotPlaced>;

    /// Whether a file is probed host-wide, by whomever.
    fn is_probed(&self, found: &Found) -> bool;

    /// Whether probes are in a file that was deleted.
    fn is_of_deleted(&self, probes: &Self::Probes) -> bool;

    /// Takes probes away; does not wait.
    fn remove(&mut self, probes: Vec<Self::Probes>);
}

/// Why a file is not probed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotPlaced {
    /// It is not as it was when its functions were looked up: it will be looked up again.
    Changed,
    /// Somebody has it open for writing: it can be tried again when that is over.
    Busy,
    /// For good.
    Refused(String),
}

/// What became of a file that a process has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PlacementOutcome {
    /// It was probed already.
    Known,
    /// It is probed now.
    Placed,
    /// It could not be probed, and this was not said before.
    Failed(NotPlaced),
    /// It cannot be probed, as was said.
    Refused,
}

/// How long a host-wide probe is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retention {
    /// As long as an observed process maps the file.
    WhileUsed,
    /// Also for processes that do not exist yet, when there is room.
    Kept,
    /// As long as the agent runs: the system's libraries where rules stand.
    Always,
}

struct HostProbes<P> {
    found: ProbedCode,
    /// The mount that the probes keep busy.
    mount: u64,
    stay: Retention,
    /// Observed processes that map it, each with the mount that it does so through.
    users: BTreeMap<u32, u64>,
    /// When it was used last, counted in uses.
    used: u64,
    probes: P,
}

/// Probes for one process.
struct ProcessProbes<P> {
    state: ProbedCode,
    mount: u64,
    probes: P,
}

/// The code that is probed.
struct ProbedCode {
    stamp: Stamp,
    code: Arc<TlsCode>,
}

impl ProbedCode {
    fn of(found: &Found) -> Self {
        Self { stamp: found.file.stamp, code: Arc::clone(&found.code) }
    }

    /// The same code at the same places. That the file was renamed, or lost a name, moves its change time only.
    fn is(&self, found: &Found) -> bool {
        self.code == found.code
    }

    /// Perhaps the same file under another identity.
    fn resembles(&self, found: &Found) -> bool {
        let stamp = found.file.stamp;
        self.is(found) && self.stamp.size == stamp.size && self.stamp.changed == stamp.changed
    }
}

/// Everything that is probed.
pub(super) struct Placements<P: ProbeBackend> {
    place: P,
    host: HashMap<u64, HostProbes<P::Probes>>,
    /// The identities of each.
    files: HashMap<FileId, u64>,
    narrow: HashMap<(u32, FileId), ProcessProbes<P::Probes>>,
    /// What the ciphertext of single processes passes.
    ciphertext: HashMap<(u32, FileId), P::Probes>,
    refused: HashSet<(FileId, Stamp, Scope)>,
    uses: u64,
    max_process_probes: usize,
}

impl<P: ProbeBackend> Placements<P> {
    /// `max_process_probes`: how many processes may have probes of their own in the same file.
    pub(super) fn new(place: P, max_process_probes: usize) -> Self {
        Self {
            place,
            max_process_probes,
            host: HashMap::new(),
            files: HashMap::new(),
            narrow: HashMap::new(),
            ciphertext: HashMap::new(),
            refused: HashSet::new(),
            uses: 0,
        }
    }

    /// All TLS code that a process has mapped now. With `wide` it is probed host-wide from here on, else for
    /// the process alone as long as few have the file.
    pub(super) fn update_process(
        &mut self,
        pid: u32,
        found: &[Found],
        retentions: &[Retention],
        wide: bool,
    ) -> Vec<PlacementOutcome> {
        let outcomes = found
            .iter()
            .zip(retentions)
            .map(|(found, retention)| {
                let own = self.narrow.contains_key(&(pid, found.id));
                if wide || self.files.contains_key(&found.id) || !own && self.is_shared(found.id) {
                    self.place_for_host(pid, found, *retention)
                } else {
                    self.place_for_process(pid, found)
                }
            })
            .collect();
        let used: HashSet<FileId> = found.iter().map(|found| found.id).collect();
        let keys: HashSet<u64> = used.iter().filter_map(|id| self.files.get(id)).copied().collect();
        self.drop_process_probes(|owner, id| owner == pid && !used.contains(&id));
        self.remove_user(pid, |key| keys.contains(&key));
        outcomes
    }

    /// Whether enough processes have their own probes in a file that one host-wide probe costs less.
    fn is_shared(&self, id: FileId) -> bool {
        self.narrow.keys().filter(|(_, known)| *known == id).count() >= self.max_process_probes
    }

    fn place_for_host(&mut self, pid: u32, found: &Found, stay: Retention) -> PlacementOutcome {
        let (key, outcome) = match self.find_or_place(found, stay) {
            Ok(done) => done,
            Err(outcome) => return outcome,
        };
        self.uses += 1;
        let narrow = self.narrow.iter().filter(|((_, id), _)| *id == found.id);
        let others: Vec<(u32, u64)> = narrow.map(|((pid, _), narrow)| (*pid, narrow.mount)).collect();
        if let Some(host) = self.host.get_mut(&key) {
            host.users.extend(others);
            host.users.insert(pid, found.file.mount);
            host.used = self.uses;
            host.stay = if host.stay == Retention::Always { host.stay } else { stay };
        }
        self.drop_process_probes(|_, id| id == found.id);
        if outcome == PlacementOutcome::Known && self.host.get(&key).is_some_and(HostProbes::is_stranded) {
            return self.move_probes(key, found);
        }
        outcome
    }

    /// Probes host files, instead of those that were named before.
    pub(super) fn place_in_host_files(&mut self, found: &[Found]) -> Vec<PlacementOutcome> {
        for host in self.host.values_mut().filter(|host| host.stay == Retention::Always) {
            host.stay = Retention::Kept;
        }
        let outcomes = found.iter().map(|found| {
            let (key, outcome) = match self.find_or_place(found, Retention::Always) {
                Ok(done) => done,
                Err(outcome) => return outcome,
            };
            if let Some(host) = self.host.get_mut(&key) {
                host.stay = Retention::Always;
            }
            outcome
        });
        outcomes.collect()
    }

    fn place_for_process(&mut self, pid: u32, found: &Found) -> PlacementOutcome {
        let key = (pid, found.id);
        if let Some(narrow) = self.narrow.get_mut(&key) {
            if narrow.state.is(found) {
                narrow.state.stamp = found.file.stamp;
                return PlacementOutcome::Known;
            }
            self.drop_process_probes(|owner, id| (owner, id) == key);
        }
        let mut mine = self.narrow.iter().filter(|((owner, _), _)| *owner == pid);
        if found.file.stacked && mine.any(|(_, narrow)| narrow.state.resembles(found)) {
            return PlacementOutcome::Known;
        }
        match self.try_place(found, Scope::Process(pid)) {
            Ok(probes) => {
                let narrow = ProcessProbes { state: ProbedCode::of(found), mount: found.file.mount, probes };
                self.narrow.insert(key, narrow);
                PlacementOutcome::Placed
            }
            Err(outcome) => outcome,
        }
    }

    /// A process ended; gives the processes that are to be looked at again, because they share what its mount was
    /// kept busy for.
    pub(super) fn forget(&mut self, pid: u32) -> Vec<u32> {
        self.unbind(pid);
        self.drop_process_probes(|owner, _| owner == pid);
        self.remove_user(pid, |_| false)
    }

    /// Removes all process-scoped probes.
    pub(super) fn drop_all_process_probes(&mut self) {
        self.drop_process_probes(|_, _| true);
    }

    fn drop_process_probes(&mut self, is_gone: impl Fn(u32, FileId) -> bool) {
        let gone = self.narrow.extract_if(|(pid, id), _| is_gone(*pid, *id));
        let gone: Vec<P::Probes> = gone.map(|(_, narrow)| narrow.probes).collect();
        if !gone.is_empty() {
            self.place.remove(gone);
        }
    }

    /// Takes away the probes in files that changed; gives the processes that have them mapped.
    pub(super) fn changed(&mut self, is_changed: impl Fn(&P::Probes) -> bool) -> Vec<u32> {
        let mut users = Vec::new();
        let keys: Vec<u64> =
            self.host.iter().filter(|(_, host)| is_changed(&host.probes)).map(|(key, _)| *key).collect();
        for key in keys {
            users.extend(self.drop_host(key));
        }
        let mut gone = Vec::new();
        for ((pid, _), narrow) in self.narrow.extract_if(|_, narrow| is_changed(&narrow.probes)) {
            users.push(pid);
            gone.push(narrow.probes);
        }
        for ((pid, _), probes) in self.ciphertext.extract_if(|_, probes| is_changed(probes)) {
            users.push(pid);
            gone.push(probes);
        }
        self.place.remove(gone);
        users.sort_unstable();
        users.dedup();
        users
    }

    /// One process for each file that is probed: looking at them shows files that changed without a notice.
    pub(super) fn samples(&self) -> HashSet<u32> {
        let host = self.host.values().filter_map(|host| host.users.keys().next());
        host.chain(self.narrow.keys().map(|(pid, _)| pid)).copied().collect()
    }

    /// Everything that is probed, to be taken away.
    pub(super) fn into_probes(self) -> Vec<P::Probes> {
        let host = self.host.into_values().map(|host| host.probes);
        let narrow = self.narrow.into_values().map(|narrow| narrow.probes);
        host.chain(narrow).chain(self.ciphertext.into_values()).collect()
    }

    /// Probes what the ciphertext of a process passes, for this process alone.
    pub(super) fn bind(&mut self, pid: u32, found: &[Found]) -> Vec<PlacementOutcome> {
        let outcomes = found.iter().map(|found| match self.ciphertext.entry((pid, found.id)) {
            Entry::Occupied(_) => PlacementOutcome::Known,
            Entry::Vacant(vacant) => match self.place.place(found, Scope::Process(pid)) {
                Ok(probes) => {
                    vacant.insert(probes);
                    PlacementOutcome::Placed
                }
                Err(why) => PlacementOutcome::Failed(why),
            },
        });
        outcomes.collect()
    }

    /// The sockets of a process's TLS streams are known, or it ended.
    pub(super) fn unbind(&mut self, pid: u32) {
        let gone = self.ciphertext.extract_if(|(owner, _), _| *owner == pid);
        let gone: Vec<P::Probes> = gone.map(|(_, probes)| probes).collect();
        self.place.remove(gone);
    }

    /// The host-wide probe in this file, which may have to be placed.
    fn find_or_place(
        &mut self,
        found: &Found,
        stay: Retention,
    ) -> Result<(u64, PlacementOutcome), PlacementOutcome> {
        if let Some(key) = self.files.get(&found.id).copied() {
            if let Some(host) = self.host.get_mut(&key)
                && host.found.is(found)
            {
                host.found.stamp = found.file.stamp;
                return Ok((key, PlacementOutcome::Known));
            }
            // Its users come back by themselves, or with the next look at them.
            self.drop_host(key);
        }
        if let Some(key) = self.host.iter().find(|(_, host)| host.found.resembles(found)).map(|(key, _)| *key)
            && self.place.is_probed(found)
        {
            self.files.insert(found.id, key);
            return Ok((key, PlacementOutcome::Known));
        }
        let probes = self.try_place(found, Scope::Host)?;
        self.uses += 1;
        let key = self.uses;
        let host = HostProbes {
            found: ProbedCode::of(found),
            mount: found.file.mount,
            stay,
            users: BTreeMap::new(),
            used: key,
            probes,
        };
        self.host.insert(key, host);
        self.files.insert(found.id, key);
        self.evict();
        Ok((key, PlacementOutcome::Placed))
    }

    fn try_place(&mut self, found: &Found, scope: Scope) -> Result<P::Probes, PlacementOutcome> {
        let state = (found.id, found.file.stamp, scope);
        if self.refused.contains(&state) {
            return Err(PlacementOutcome::Refused);
        }
        self.place.place(found, scope).map_err(|why| {
            if let NotPlaced::Refused(_) = why {
                if self.refused.len() >= MAX_REFUSED {
                    self.refused.clear();
                }
                self.refused.insert(state);
            }
            PlacementOutcome::Failed(why)
        })
    }

    /// Probes through another mount. The new ones come first: a call that two entry programs see is counted once.
    fn move_probes(&mut self, key: u64, found: &Found) -> PlacementOutcome {
        match self.try_place(found, Scope::Host) {
            Ok(probes) => {
                if let Some(host) = self.host.get_mut(&key) {
                    host.mount = found.file.mount;
                    let old = std::mem::replace(&mut host.probes, probes);
                    self.place.remove(vec![old]);
                }
                PlacementOutcome::Known
            }
            Err(outcome) => {
                self.drop_host(key);
                outcome
            }
        }
    }

    /// A process does not use files any more, but for those that stay.
    fn remove_user(&mut self, pid: u32, stays: impl Fn(u64) -> bool) -> Vec<u32> {
        let mut again = Vec::new();
        let mut unused = Vec::new();
        for (key, host) in &mut self.host {
            if stays(*key) || host.users.remove(&pid).is_none() {
                continue;
            }
            if host.users.is_empty() && host.stay == Retention::WhileUsed {
                unused.push(*key);
            } else if host.is_stranded() {
                again.extend(host.users.keys().next());
            }
        }
        for key in unused {
            self.drop_host(key);
        }
        self.evict();
        again
    }

    /// Gives up what is kept without a user in files that were deleted, and the longest beyond the bound.
    pub(super) fn evict(&mut self) {
        let unused =
            self.host.iter().filter(|(_, host)| host.users.is_empty() && host.stay == Retention::Kept);
        let deleted: Vec<u64> =
            unused.filter(|(_, host)| self.place.is_of_deleted(&host.probes)).map(|(key, _)| *key).collect();
        for key in deleted {
            self.drop_host(key);
        }
        let mut kept: Vec<(u64, u64)> = self
            .host
            .iter()
            .filter(|(_, host)| host.users.is_empty() && host.stay == Retention::Kept)
            .map(|(key, host)| (host.used, *key))
            .collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        for (_, key) in kept.drain(..).skip(MAX_KEPT) {
            self.drop_host(key);
        }
    }

    fn drop_host(&mut self, key: u64) -> Vec<u32> {
        self.files.retain(|_, known| *known != key);
        let Some(host) = self.host.remove(&key) else { return Vec::new() };
        self.place.remove(vec![host.probes]);
        host.users.into_keys().collect()
    }
}

impl<P> HostProbes<P> {
    /// Nobody uses the mount any more that the probes keep busy, and it may go.
    fn is_stranded(&self) -> bool {
        self.stay == Retention::WhileUsed
            && !self.users.is_empty()
            && !self.users.values().any(|mount| *mount == self.mount)
    }
}

#[cfg(test)]
mod tests;
