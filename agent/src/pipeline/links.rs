//! Which call a call follows: the table of ids that calls gave, over all observed processes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use tokentap_export::Link;
use tokentap_genai::{Span, SpanKind};
use tokentap_tape::ProcessKey;
use tokentap_wire::Nanos;

/// Ids that are remembered; of more, the oldest are forgotten. Some 100 bytes each.
const MOST: usize = 1 << 14;

/// The calls that gave ids.
#[derive(Debug, Default)]
pub struct Links {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    calls: HashMap<Key, Call>,
    /// In the order in which they came.
    ages: VecDeque<Key>,
}

/// A call is followed by one of its own kind: what a server sees is not what its client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    id: u64,
    kind: SpanKind,
    /// `None`: in whatever process.
    process: Option<ProcessKey>,
}

#[derive(Debug)]
struct Call {
    link: Link,
    end: Nanos,
    process: ProcessKey,
    /// Another process has the same id: a gateway passes on what it was given.
    ambiguous: bool,
}

impl Links {
    /// The calls that this one follows, by ids that they gave: in the same process, else in the only other one that has
    /// the id. Remembers what this one gives.
    pub fn of(&self, span: &Span, process: ProcessKey, own: Link) -> Vec<Link> {
        let relations = &span.relations;
        if relations.follows.is_empty() && relations.gives.is_empty() {
            return Vec::new();
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut links: Vec<Link> = Vec::new();
        for &id in &relations.follows {
            let key = |process| Key { id, kind: span.kind, process };
            let call = table.calls.get(&key(Some(process)));
            let call = call.or_else(|| table.calls.get(&key(None)).filter(|call| !call.ambiguous));
            // What had not ended was not followed.
            if let Some(call) = call.filter(|call| call.end <= span.start)
                && !links.contains(&call.link)
            {
                links.push(call.link);
            }
        }
        for &id in &relations.gives {
            for process_key in [Some(process), None] {
                table.insert(Key { id, kind: span.kind, process: process_key }, own, span.end, process);
            }
        }
        links
    }
}

impl Table {
    fn insert(&mut self, key: Key, link: Link, end: Nanos, process: ProcessKey) {
        if let Some(known) = self.calls.get_mut(&key) {
            let ambiguous = known.ambiguous || known.process != process;
            *known = Call { link, end, process, ambiguous };
            return;
        }
        if self.calls.len() >= MOST
            && let Some(oldest) = self.ages.pop_front()
        {
            self.calls.remove(&oldest);
        }
        self.calls.insert(key, Call { link, end, process, ambiguous: false });
        self.ages.push_back(key);
    }
}

#[cfg(test)]
mod tests {
    use tokentap_genai::{Measurements, Relations, SpanStatus};

    use super::*;

    const PROCESS: ProcessKey = ProcessKey { pid: 1, generation: 0 };
    const OTHER: ProcessKey = ProcessKey { pid: 2, generation: 0 };
    const THIRD: ProcessKey = ProcessKey { pid: 3, generation: 0 };

    fn span(times: [u64; 2], follows: &[u64], gives: &[u64]) -> Span {
        Span {
            name: "chat".into(),
            kind: SpanKind::Client,
            parent: None,
            start: Nanos(times[0]),
            end: Nanos(times[1]),
            status: SpanStatus::Unset,
            attributes: Vec::new(),
            incomplete: None,
            event_content: Vec::new(),
            relations: Relations { follows: follows.to_vec(), gives: gives.to_vec() },
            forced: false,
            measurements: Measurements::default(),
        }
    }

    const fn link(n: u8) -> Link {
        Link { trace_id: [n; 16], span_id: [n; 8] }
    }

    #[test]
    fn a_call_follows_the_one_that_gave_the_id() {
        let links = Links::default();
        assert_eq!(links.of(&span([0, 1], &[], &[7]), PROCESS, link(1)), []);
        assert_eq!(links.of(&span([2, 3], &[7], &[8]), PROCESS, link(2)), [link(1)]);
        assert_eq!(links.of(&span([4, 5], &[8, 7, 9], &[]), OTHER, link(3)), [link(2), link(1)]);
        let mut served = span([6, 7], &[8], &[]);
        served.kind = SpanKind::Server;
        assert_eq!(links.of(&served, PROCESS, link(4)), [], "a server has not seen the call of a client");
    }

    #[test]
    fn a_call_that_had_not_ended_is_not_followed() {
        let links = Links::default();
        links.of(&span([0, 5], &[], &[7]), PROCESS, link(1));
        assert_eq!(links.of(&span([4, 6], &[7], &[]), PROCESS, link(2)), []);
    }

    #[test]
    fn an_id_of_two_processes_counts_only_in_these() {
        let links = Links::default();
        links.of(&span([0, 1], &[], &[7]), PROCESS, link(1));
        links.of(&span([0, 1], &[], &[7]), OTHER, link(2));
        assert_eq!(links.of(&span([2, 3], &[7], &[]), PROCESS, link(3)), [link(1)]);
        assert_eq!(links.of(&span([2, 3], &[7], &[]), OTHER, link(4)), [link(2)]);
        assert_eq!(links.of(&span([2, 3], &[7], &[]), THIRD, link(5)), []);
    }

    #[test]
    fn the_oldest_ids_are_forgotten() {
        let links = Links::default();
        links.of(&span([0, 1], &[], &[u64::MAX]), PROCESS, link(1));
        for id in 0..MOST as u64 {
            links.of(&span([0, 1], &[], &[id]), PROCESS, link(2));
        }
        assert_eq!(links.of(&span([2, 3], &[u64::MAX], &[]), PROCESS, link(3)), []);
        let table = links.table.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(table.calls.len() <= MOST && table.ages.len() <= MOST);
    }
}
