//! What missing bytes do to the exchanges of an HTTP/1 connection.

use super::{
    connection::{ConnectionState, Http1},
    framer::MessageGap,
};
use crate::{Direction, Nanos, Role, Sink, progress::MessageProgress};

impl Http1 {
    /// `missing` bytes of a direction are missing here.
    pub(crate) fn gap<S: Sink>(&mut self, dir: Direction, missing: u64, sink: &mut S) {
        if let ConnectionState::Undecided { from_start, .. } = &mut self.state {
            *from_start = false;
        }
        self.drop_held(dir, 0, sink);
        let sender = self.sender(dir);
        let half = &mut self.halves[dir.index()];
        let gap = half.framer.gap(missing);
        if let MessageGap::Inside(len) | MessageGap::Ends(len) = gap {
            let exchange = self.queue.receiving(sender);
            if let Some(exchange) = exchange.filter(|exchange| exchange.is_open && half.body.is_wanted()) {
                sink.gap(exchange.id, sender, Some(len));
            }
            half.body.gap();
        }
        match (gap, sender) {
            (MessageGap::Inside(_), _) => {}
            (MessageGap::Ends(len), _) => {
                let at = self.queue.receiving(sender).map_or(Nanos(0), |exchange| exchange.last_byte);
                self.message_end(dir, at, sink);
                if len < missing && sender == Role::Server {
                    self.queue.lose_responses(sink);
                }
            }
            (MessageGap::Chunks, Role::Server) if self.may_seek_chunk(dir) => {
                let half = &mut self.halves[dir.index()];
                half.framer.seek_chunk();
                half.body.gap();
                if let Some(exchange) = self.queue.receiving(Role::Server) {
                    sink.gap(exchange.id, Role::Server, None);
                }
            }
            (MessageGap::Lost | MessageGap::Chunks, Role::Client) => {
                if let Some(exchange) = self.queue.receiving(Role::Client) {
                    exchange.request = MessageProgress::Lost;
                    if exchange.is_open {
                        sink.gap(exchange.id, Role::Client, None);
                    }
                }
                self.queue.end_finished(sink);
            }
            (MessageGap::Between, Role::Client) => {}
            (MessageGap::Lost | MessageGap::Chunks | MessageGap::Between, Role::Server) => {
                self.halves[dir.index()].body.gap();
                self.queue.lose_responses(sink);
            }
        }
    }

    /// Whether chunks that come after a loss can only belong to the response that was passing before it: no other
    /// response is due, and the number of turns will show whether a request was in the loss.
    fn may_seek_chunk(&mut self, dir: Direction) -> bool {
        self.halves[dir.index()].turns.is_some()
            && self.queue.len() == 1
            && self.queue.receiving(Role::Client).is_none()
            && self
                .queue
                .receiving(Role::Server)
                .is_some_and(|exchange| exchange.is_open && exchange.response_ended.is_none())
    }

    /// The next chunk of a response was looked for after a loss, and cannot come any more.
    pub(super) fn lose_chunked_body<S: Sink>(&mut self, sink: &mut S) {
        for half in self.halves.iter_mut().filter(|half| half.framer.seeks_chunk()) {
            half.framer.lose_sync();
            half.body.gap();
            self.queue.lose_responses(sink);
        }
    }
}
