//! The compiled kernel side, as the running kernel takes it.

use std::borrow::Cow;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TOKENTAP_EBPF_OBJECT"));

/// `map_flags` of `struct bpf_map_def`.
const FLAGS: usize = 16;
const BPF_F_NO_PREALLOC: u32 = 1;

/// The object. `on_demand`: memory of maps may be taken as entries are made, which is safe from 6.1 on (`bpf_mem_alloc`);
/// else it is taken at once.
pub(super) fn bytes(on_demand: bool) -> Cow<'static, [u8]> {
    if on_demand {
        Cow::Borrowed(OBJECT)
    } else {
        preallocated(OBJECT).map_or(Cow::Borrowed(OBJECT), Cow::Owned)
    }
}

fn preallocated(bytes: &[u8]) -> Option<Vec<u8>> {
    let elf = object::File::parse(bytes).ok()?;
    let maps = elf.section_by_name("maps")?;
    let (start, _) = maps.file_range()?;
    let mut changed = bytes.to_vec();
    for symbol in elf.symbols().filter(|symbol| symbol.section_index() == Some(maps.index())) {
        let at = usize::try_from(start + symbol.address()).ok()? + FLAGS;
        let flags = changed.get_mut(at..at + 4)?;
        let value = u32::from_le_bytes((&*flags).try_into().ok()?) & !BPF_F_NO_PREALLOC;
        flags.copy_from_slice(&value.to_le_bytes());
    }
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_can_be_made_to_take_their_memory_at_once() {
        let changed = preallocated(OBJECT).expect("the object has maps");
        let differences = OBJECT.iter().zip(&changed).filter(|(before, after)| before != after).count();
        assert_eq!(
            differences, 10,
            "TRACKED, CGROUPS, FDS, HANDLES, STREAMS, THREADS, URINGS, URING_CALLS, HANDLED, EXITS"
        );
    }
}
