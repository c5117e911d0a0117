//! What becomes of the exchanges when captured bytes are missing.

use super::{
    connection::{ConnectionState, Http1},
    exchange::MessageProgress,
    framer::MessageGap,
};
use crate::{Direction, Nanos, Sink};

impl Http1 {
    /// So many bytes of a direction are missing here.
    pub(crate) fn gap<S: Sink>(&mut self, dir: Direction, missing: u64, sink: &mut S) {
        if let ConnectionState::Undecided { from_start, .. } = &mut self.state {
            *from_start = false;
        }
        self.drop_held(dir, 0, sink);
        let half = &mut self.halves[dir.index()];
        let gap = half.framer.gap(missing);
        let request = self.requests == Some(dir);
        if let MessageGap::Inside(len) | MessageGap::Ends(len) = gap {
            let owner =
                if request { self.queue.receiving_request() } else { self.queue.receiving_response() };
            if let Some(owner) = owner.filter(|owner| owner.is_open && half.body.is_wanted()) {
                sink.gap(owner.id, request, Some(len));
            }
            half.body.gap();
        }
        match gap {
            MessageGap::Inside(_) => {}
            MessageGap::Ends(len) => {
                let last =
                    if request { self.queue.receiving_request() } else { self.queue.receiving_response() };
                let at = last.map_or(Nanos(0), |exchange| exchange.last);
                self.message_end(dir, at, sink);
                if len < missing && !request {
                    self.queue.lose_responses(sink);
                }
            }
            MessageGap::Chunks if !request && self.may_seek_chunk(dir) => {
                let half = &mut self.halves[dir.index()];
                half.framer.seek_chunk();
                half.body.gap();
                if let Some(owner) = self.queue.receiving_response() {
                    sink.gap(owner.id, false, None);
                }
            }
            MessageGap::Lost | MessageGap::Chunks if request => {
                if let Some(owner) = self.queue.receiving_request() {
                    owner.request = MessageProgress::Lost;
                    if owner.is_open {
                        sink.gap(owner.id, true, None);
                    }
                }
                self.queue.end_finished(sink);
            }
            MessageGap::Between if request => {}
            MessageGap::Lost | MessageGap::Chunks | MessageGap::Between => {
                self.halves[dir.index()].body.gap();
                self.queue.lose_responses(sink);
            }
        }
    }

    /// Whether chunks that come after a loss can only be those of the response that was passing before: no other is
    /// due, and it will show whether a request was in the loss.
    fn may_seek_chunk(&mut self, dir: Direction) -> bool {
        self.halves[dir.index()].turns.is_some()
            && self.queue.len() == 1
            && self.queue.receiving_request().is_none()
            && self
                .queue
                .receiving_response()
                .is_some_and(|exchange| exchange.is_open && exchange.response_ended.is_none())
    }

    /// The rest of a response was not found after a loss.
    pub(super) fn lose_chunked_body<S: Sink>(&mut self, sink: &mut S) {
        for half in self.halves.iter_mut().filter(|half| half.framer.seeks_chunk()) {
            half.framer.lose_sync();
            half.body.gap();
            self.queue.lose_responses(sink);
        }
    }
}
