//! Whether anything is asked on a connection: HTTP/2 ends none of its own on which nothing is.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
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

/// The body of an answer, with which its request ends.
pub(super) struct Last {
    body: Body,
    _open: Open,
}

impl Last {
    /// The request of which this is the answer is answered when this is taken.
    pub(super) fn new(body: Body, open: Open) -> Self {
        Self { body, _open: open }
    }
}

impl HttpBody for Last {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
