//! Whether anything is asked on a connection: HTTP/2 ends none of its own on which nothing is.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

/// Counts the requests of a connection that are not answered.
#[derive(Clone)]
pub(super) struct Unanswered(Arc<watch::Sender<usize>>);

/// One of them, until this is gone.
pub(super) struct Open(Unanswered);

impl Unanswered {
    pub(super) fn none() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn one(&self) -> Open {
        self.0.send_modify(|open| *open += 1);
        Open(self.clone())
    }

    /// Comes back when there was none for so long.
    pub(super) async fn none_for(&self, time: Duration) {
        let mut open = self.0.subscribe();
        // The other end is held here, so that it is always there to be heard.
        while open.wait_for(|open| *open == 0).await.is_ok() {
            // One that has come and gone has been one too.
            if timeout(time, open.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}
