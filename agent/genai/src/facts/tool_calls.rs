//! The calls of tools that a model asks for: their ids and names. Arguments are content.

use tokentap_wire::json::Value;

use super::read;

/// More calls of tools are not kept.
const MOST: usize = 64;

/// The calls of tools that a response asks for. Takes no memory before the first.
#[derive(Debug, Default)]
pub(crate) struct ToolCalls(Option<Box<Found>>);

#[derive(Debug, Default)]
struct Found {
    calls: Vec<ToolCall>,
    /// The one that is read, and its place in the document. Keeps the memory of its texts.
    current: ToolCall,
    place: Option<[u32; 2]>,
}

#[derive(Clone, Debug, Default)]
struct ToolCall {
    id: String,
    name: String,
}

impl ToolCalls {
    /// What follows belongs to other calls, unless an id says otherwise.
    #[inline]
    pub(super) fn begin_document(&mut self) {
        if let Some(found) = &mut self.0 {
            found.end_current();
        }
    }

    pub(super) fn id(&mut self, indices: &[u32], value: Value<'_>) {
        read(value, &mut self.at(indices).id);
    }

    pub(super) fn name(&mut self, indices: &[u32], value: Value<'_>) {
        read(value, &mut self.at(indices).name);
    }

    /// The call at this place of the document.
    fn at(&mut self, indices: &[u32]) -> &mut ToolCall {
        let found = self.0.get_or_insert_default();
        let place = [indices.first(), indices.last()].map(|index| index.copied().unwrap_or_default());
        if found.place != Some(place) {
            found.end_current();
            found.place = Some(place);
        }
        &mut found.current
    }

    pub(super) fn absorb(&mut self, newer: Self) {
        let Some(mut newer) = newer.0 else { return };
        newer.end_current();
        let found = self.0.get_or_insert_default();
        found.end_current();
        newer.calls.iter().for_each(|call| found.add(call));
    }

    /// Leaves out those without an id, of an API in which tools that the provider runs have none.
    pub(crate) fn only_with_ids(&mut self) {
        if let Some(found) = &mut self.0 {
            found.end_current();
            found.calls.retain(|call| !call.id.is_empty());
        }
    }

    pub(crate) fn ids(&mut self) -> impl Iterator<Item = &str> {
        self.begin_document();
        self.0.iter().flat_map(|found| &found.calls).map(|call| call.id.as_str())
    }

    /// Ids and names, each of as many calls as have it.
    pub(crate) fn take(&mut self) -> [Vec<String>; 2] {
        self.begin_document();
        let (mut ids, mut names) = (Vec::new(), Vec::new());
        for call in self.0.take().into_iter().flat_map(|found| found.calls) {
            ids.extend(Some(call.id).filter(|id| !id.is_empty()));
            names.extend(Some(call.name).filter(|name| !name.is_empty()));
        }
        [ids, names]
    }
}

impl Found {
    fn end_current(&mut self) {
        if self.place.take().is_some() {
            let current = std::mem::take(&mut self.current);
            self.add(&current);
            self.current = current;
            self.current.id.clear();
            self.current.name.clear();
        }
    }

    /// Adds a call that is not known: later events may have the same again. Those of tools that Anthropic runs itself are
    /// not the caller's.
    fn add(&mut self, call: &ToolCall) {
        let is_empty = call.id.is_empty() && call.name.is_empty();
        let is_known = !call.id.is_empty() && self.calls.iter().any(|known| known.id == call.id);
        let is_remote = call.id.starts_with("srvtoolu_") || call.id.starts_with("mcptoolu_");
        if !is_empty && !is_known && !is_remote && self.calls.len() < MOST {
            self.calls.push(call.clone());
        }
    }
}
