//! Detects idle HTTP/2 connections, which hyper does not close by itself.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

/// Counts the unanswered requests of a connection.
#[derive(Clone)]
pub(super) struct OpenRequests(Arc<watch::Sender<usize>>);

/// An unanswered request, which is counted until this is dropped.
pub(super) struct OpenRequest(OpenRequests);

impl OpenRequests {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn open(&self) -> OpenRequest {
        self.0.send_modify(|open| *open += 1);
        OpenRequest(self.clone())
    }

    /// Completes when there was no open request for this time.
    pub(super) async fn idle_for(&self, time: Duration) {
        let mut open = self.0.subscribe();
        // `self` holds the sender, so `wait_for` never fails.
        while open.wait_for(|open| *open == 0).await.is_ok() {
            // A request that was opened and answered in the meantime restarts the time, too.
            if timeout(time, open.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}
