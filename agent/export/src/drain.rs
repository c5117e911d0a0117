//! The order to finish: every worker sees when it was given and when it ends.

use std::future::pending;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// A view of the order, which may not have been given yet.
#[derive(Clone, Debug)]
pub(super) struct Drain(watch::Receiver<Option<Instant>>);

impl Drain {
    /// The order, and a view of it.
    pub(super) fn new() -> (watch::Sender<Option<Instant>>, Self) {
        let (order, view) = watch::channel(None);
        (order, Self(view))
    }

    /// Returns once the order has been given; at once when that was before.
    pub(super) async fn started(&mut self) {
        // Nobody is left who could give it: then the queues are closed too, which ends the wait for spans.
        if self.0.wait_for(Option::is_some).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Whether the order has been given.
    pub(super) fn has_started(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Returns once the order has been given and its deadline has passed.
    pub(super) async fn expired(&mut self) {
        self.started().await;
        let deadline = *self.0.borrow();
        if let Some(deadline) = deadline {
            sleep_until(deadline).await;
        }
    }
}
