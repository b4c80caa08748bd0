//! The response body of a public service, which may be an endless stream (`Health/Watch`).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status, body::Body};

use super::context::CallContext;

/// Keeps the memory charge of its call until it ends, and ends at the maximum age of connections. Clients then watch
/// again, maybe at another replica.
pub(super) struct PublicStream {
    body: Body,
    _charged_call: Arc<CallContext>,
    age: Pin<Box<Sleep>>,
    ended: bool,
}

impl PublicStream {
    /// Returns `body`, cut off after `age`.
    pub(super) fn new(body: Body, call: Arc<CallContext>, age: Duration) -> Self {
        Self { body, _charged_call: call, age: Box::pin(sleep(age)), ended: false }
    }
}

impl HttpBody for PublicStream {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // The age is checked first, because a busy stream is always ready.
        if self.age.as_mut().poll(context).is_pending() {
            return Pin::new(&mut self.body).poll_frame(context);
        }
        self.ended = true;
        let end = Status::new(Code::Unavailable, "the stream reached its maximum age; watch again");
        let mut trailers = http::HeaderMap::new();
        let written = end.add_header(&mut trailers);
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
