//! The answer to a request that nothing was permitted to.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use crate::listen::Undecided;

/// Holds what the request is charged for until its answer is sent: a client of HTTP/2 can stop many streams by not
/// reading them.
struct ChargedAnswer {
    body: Body,
    _undecided: Arc<Undecided>,
}

/// Returns `body`, which holds what its request is charged for, if nothing was permitted.
pub(super) fn charged(body: Body, undecided: Arc<Undecided>) -> Body {
    if undecided.is_charged() && !body.is_end_stream() {
        Body::new(ChargedAnswer { body, _undecided: undecided })
    } else {
        body
    }
}

impl HttpBody for ChargedAnswer {
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
