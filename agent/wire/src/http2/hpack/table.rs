//! The dynamic table of one direction, seen from outside (RFC 7541 §2.3.2, §4).
//!
//! Dynamic indices count from the newest entry. So an observer that joins late resolves exactly the references to
//! insertions that it saw; all others are older. That holds also where the size of the sender's table is not known: an
//! insertion that did not fit has emptied the table, so that no later reference reaches beyond it.

use std::collections::VecDeque;

use super::static_table::STATIC_TABLE;
use crate::Reason;

/// What an entry costs besides its bytes (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

/// The newest entries of a table.
#[derive(Debug)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// Sum of the sizes; of an entry whose name is not known, the smallest possible size.
    size: usize,
    /// The sender's bound on the size; `usize::MAX` while it is not known.
    max: usize,
    /// The observer's bound on the size.
    kept: usize,
    /// The sender may have older entries than all of these.
    unseen: bool,
}

/// What an index refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameSearchResult<'a> {
    Field(&'a [u8], &'a [u8]),
    /// An entry that was not seen, or could not be resolved.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    /// Name and value; `None` where the name is not known.
    field: Option<(Box<[u8]>, usize)>,
    size: usize,
}

impl Table {
    /// A table that keeps at most `kept` bytes (as RFC 7541 §4.1 counts), of a sender that is seen from its
    /// first block on, or not.
    pub(super) const fn new(kept: usize, from_start: bool) -> Self {
        let max = if from_start { 4096 } else { usize::MAX };
        Self { entries: VecDeque::new(), size: 0, max, kept, unseen: !from_start }
    }

    /// Blocks were lost: the table is unknown.
    pub(super) fn lose(&mut self) {
        *self = Self::new(self.kept, false);
    }

    /// The entry with this index, static or dynamic.
    pub(super) fn find(&self, index: usize) -> Result<FrameSearchResult<'_>, Reason> {
        let at = index.checked_sub(1).ok_or(Reason::HpackIndexInvalid)?;
        if let Some(&(name, value)) = STATIC_TABLE.get(at) {
            return Ok(FrameSearchResult::Field(name, value));
        }
        match self.entries.get(at - STATIC_TABLE.len()) {
            Some(Entry { field: Some((bytes, name)), .. }) => {
                let (name, value) = bytes.split_at(*name);
                Ok(FrameSearchResult::Field(name, value))
            }
            Some(Entry { field: None, .. }) => Ok(FrameSearchResult::Unknown),
            None if self.unseen => Ok(FrameSearchResult::Unknown),
            None => Err(Reason::HpackIndexInvalid),
        }
    }

    /// The sender has inserted this field, name and value together.
    pub(super) fn insert(&mut self, field: &[u8], name: usize) {
        self.push(Entry { field: Some((field.into(), name)), size: field.len() + OVERHEAD });
    }

    /// The sender has inserted a field of which only the length of the value is known.
    pub(super) fn insert_unknown(&mut self, value: usize) {
        self.push(Entry { field: None, size: value + OVERHEAD });
    }

    /// The sender has set the bound on the size.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict();
        if max == 0 {
            self.unseen = false;
        }
    }

    fn push(&mut self, entry: Entry) {
        self.size += entry.size;
        self.entries.push_front(entry);
        self.evict();
    }

    /// Evicts the entries that the sender has certainly evicted, and those over the observer's bound.
    fn evict(&mut self) {
        while self.size > self.max.min(self.kept)
            && let Some(oldest) = self.entries.pop_back()
        {
            self.unseen = self.size <= self.max;
            self.size -= oldest.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(table: &mut Table, name: &str, value: &str) {
        table.insert(format!("{name}{value}").as_bytes(), name.len());
    }

    /// The values of the dynamic entries that can be found; `?` for one that is unknown, `!` for none.
    #[track_caller]
    fn check(table: &Table, want: &str) {
        let entries = 62..=62 + table.entries.len();
        let found = entries.clone().map(|index| match table.find(index) {
            Ok(FrameSearchResult::Field(_, value)) => str::from_utf8(value).unwrap(),
            Ok(FrameSearchResult::Unknown) if index < *entries.end() => "_",
            Ok(FrameSearchResult::Unknown) => "?",
            Err(_) => "!",
        });
        assert_eq!(found.collect::<String>(), want);
    }

    #[test]
    fn rfc_7541_4_3_and_4_4_entries_are_evicted_to_make_room() {
        let mut table = Table::new(1000, true);
        table.resize(2 * 34);
        for value in ["a", "b", "c"] {
            insert(&mut table, "n", value);
        }
        check(&table, "cb!");
        table.resize(34);
        check(&table, "c!");
        table.resize(1000);
        check(&table, "c!");
        insert(&mut table, "n", "d");
        check(&table, "dc!");
        insert(&mut table, "n", &"x".repeat(2000));
        check(&table, "!");
    }

    #[test]
    fn joined_late_older_entries_are_unknown_until_they_are_surely_gone() {
        let mut table = Table::new(1000, false);
        check(&table, "?");
        insert(&mut table, "n", "a");
        table.insert_unknown(1);
        insert(&mut table, "n", "b");
        check(&table, "b_a?");
        table.resize(70);
        check(&table, "b_!");
        table.lose();
        insert(&mut table, "n", "c");
        check(&table, "c?");
        table.resize(0);
        check(&table, "!");
    }

    #[test]
    fn a_table_larger_than_is_kept_forgets_the_oldest_entries() {
        let mut table = Table::new(70, true);
        for value in ["a", "b", "c"] {
            insert(&mut table, "n", value);
        }
        check(&table, "cb?");
        insert(&mut table, "n", &"x".repeat(100));
        check(&table, "?");
        insert(&mut table, "n", "d");
        check(&table, "d?");
        assert_eq!(table.find(0), Err(Reason::HpackIndexInvalid));
        assert_eq!(table.find(61), Ok(FrameSearchResult::Field(b"www-authenticate", b"")));
    }
}
