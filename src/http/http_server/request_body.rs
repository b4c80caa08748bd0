//! The body of a request, which records whether it was read to its end.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Bytes;
use hyper::{
    HeaderMap, Version,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    header,
};
use tokio::time::timeout;

/// The maximum rest of a body that is read to reuse the connection. A larger rest costs more than a new connection.
const MAX_DISCARDED_BYTES: u64 = 64 * 1024;

/// The time limit for reading that rest, which delays the answer.
const DISCARD_TIME: Duration = Duration::from_millis(500);

/// The body of an HTTP/1.1 or HTTP/2 request.
pub(in crate::http) struct RequestBody {
    /// `None` after the body was returned on drop.
    incoming: Option<Incoming>,
    /// `None` if the request has no body.
    state: Option<Arc<Mutex<State>>>,
}

/// The part of a body that the handler has not read.
pub(super) struct UnreadBody {
    /// `None` if the request has no body.
    state: Option<Arc<Mutex<State>>>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    expects_continue: bool,
}

enum State {
    /// The handler may still read the body.
    Reading,
    /// The handler dropped the body before its end.
    Dropped(Incoming),
    /// The body was read to its end.
    Ended,
    /// The body failed, or nothing more is read from it.
    Gone,
}

impl RequestBody {
    /// Returns the body for the handler, and the unread rest for use after the answer.
    pub(super) fn new(incoming: Incoming, headers: &HeaderMap) -> (Self, UnreadBody) {
        let has_body = !incoming.is_end_stream();
        let state = has_body.then(|| Arc::new(Mutex::new(State::Reading)));
        let expects_continue = headers.contains_key(header::EXPECT);
        let rest = UnreadBody { state: state.clone(), expects_continue };
        (Self { incoming: Some(incoming), state }, rest)
    }

    fn set_state(&self, new: State) {
        if let Some(state) = &self.state {
            *lock(state) = new;
        }
    }
}

impl UnreadBody {
    /// Returns whether the body has ended. First reads a small rest of an HTTP/1.1 body.
    pub(super) async fn has_ended(self, version: Version) -> bool {
        let Some(state) = &self.state else { return true };
        let state = std::mem::replace(&mut *lock(state), State::Gone);
        match state {
            State::Ended => true,
            State::Dropped(incoming) if version < Version::HTTP_2 && !self.expects_continue => {
                timeout(DISCARD_TIME, discard(incoming)).await.unwrap_or(false)
            }
            // HTTP/2 needs no reading: dropping the body resets only its stream, with NO_ERROR.
            State::Reading | State::Dropped(_) | State::Gone => false,
        }
    }
}

/// Reads a small body to its end. Returns whether the end was reached.
async fn discard(mut incoming: Incoming) -> bool {
    let mut left = MAX_DISCARDED_BYTES;
    if incoming.size_hint().exact().is_some_and(|bytes| bytes > left) {
        return false;
    }
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut incoming).poll_frame(context));
        match frame.await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(less) = left.checked_sub(bytes) else { return false };
                left = less;
            }
        }
        if incoming.is_end_stream() {
            return true;
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *incoming).poll_frame(context);
        let ended = incoming.is_end_stream();
        match &polled {
            Poll::Ready(Some(Err(_))) => this.set_state(State::Gone),
            Poll::Ready(None) => this.set_state(State::Ended),
            Poll::Ready(Some(Ok(_))) if ended => this.set_state(State::Ended),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(state) = &self.state else { return };
        let mut state = lock(state);
        if let (State::Reading, Some(incoming)) = (&*state, self.incoming.take()) {
            *state = State::Dropped(incoming);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
