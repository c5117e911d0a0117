//! What becomes of the exchanges when captured bytes are missing.

use super::{
    connection::{Http1, State},
    exchange::Part,
    framer::Gap,
};
use crate::{Direction, Nanos, Sink};

impl Http1 {
    /// So many bytes of a direction are missing here.
    pub(crate) fn gap<S: Sink>(&mut self, dir: Direction, missing: u64, sink: &mut S) {
        if let State::Undecided { fresh, .. } = &mut self.state {
            *fresh = false;
        }
        self.drop_held(dir, 0, sink);
        let lane = &mut self.lanes[dir.index()];
        let gap = lane.framer.gap(missing);
        let request = self.requests == Some(dir);
        if let Gap::Inside(len) | Gap::Ends(len) = gap {
            let owner = if request { self.queue.requesting() } else { self.queue.answering() };
            if let Some(owner) = owner.filter(|owner| owner.live && lane.body.is_wanted()) {
                sink.gap(owner.id, request, Some(len));
            }
            lane.body.gap();
        }
        match gap {
            Gap::Inside(_) => {}
            Gap::Ends(len) => {
                let last = if request { self.queue.requesting() } else { self.queue.answering() };
                let at = last.map_or(Nanos(0), |exchange| exchange.last);
                self.message_end(dir, at, sink);
                if len < missing && !request {
                    self.queue.lose_answers(sink);
                }
            }
            Gap::Chunks if !request && self.may_seek_chunk(dir) => {
                let lane = &mut self.lanes[dir.index()];
                lane.framer.seek_chunk();
                lane.body.gap();
                if let Some(owner) = self.queue.answering() {
                    sink.gap(owner.id, false, None);
                }
            }
            Gap::Lost | Gap::Chunks if request => {
                if let Some(owner) = self.queue.requesting() {
                    owner.request = Part::Lost;
                    if owner.live {
                        sink.gap(owner.id, true, None);
                    }
                }
                self.queue.settle(sink);
            }
            Gap::Between if request => {}
            Gap::Lost | Gap::Chunks | Gap::Between => {
                self.lanes[dir.index()].body.gap();
                self.queue.lose_answers(sink);
            }
        }
    }

    /// Whether chunks that come after a loss can only be those of the response that was passing before: no other is
    /// due, and it will show whether a request was in the loss.
    fn may_seek_chunk(&mut self, dir: Direction) -> bool {
        self.lanes[dir.index()].turns.is_some()
            && self.queue.len() == 1
            && self.queue.requesting().is_none()
            && self.queue.answering().is_some_and(|exchange| exchange.live && exchange.answered.is_none())
    }

    /// The rest of a response was not found after a loss.
    pub(super) fn lose_body<S: Sink>(&mut self, sink: &mut S) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.framer.seeks_chunk()) {
            lane.framer.lose_step();
            lane.body.gap();
            self.queue.lose_answers(sink);
        }
    }
}
