//! The body of a request, which tells whether it was read to its end.

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

/// The rest of a body that is read so that the connection can be used again. To read more costs more than a connection.
const MAX_DISCARDED_BYTES: u64 = 64 * 1024;

/// An answer waits at most this long for the rest of such a body.
const DISCARD_TIME: Duration = Duration::from_millis(500);

/// The body of a request of HTTP/1.1 or HTTP/2.
pub(in crate::http) struct RequestBody {
    /// `None` once it was given back.
    incoming: Option<Incoming>,
    /// `None` if the request has no body.
    state: Option<Arc<Mutex<State>>>,
}

/// The part of a body that its handler has not read.
pub(super) struct Rest {
    /// `None` if the request has no body.
    state: Option<Arc<Mutex<State>>>,
    /// The client sends the body only if it is told to go on, or else closes the connection.
    expects_continue: bool,
}

enum State {
    /// The handler may still read it.
    Held,
    /// The handler dropped it before its end.
    Dropped(Incoming),
    /// It was read to its end.
    Ended,
    /// It broke off, or was dropped where nothing more is to be read.
    Gone,
}

impl RequestBody {
    /// Splits a body into what its handler reads and what is left when the request is answered.
    pub(super) fn new(incoming: Incoming, headers: &HeaderMap) -> (Self, Rest) {
        let has_body = !incoming.is_end_stream();
        let state = has_body.then(|| Arc::new(Mutex::new(State::Held)));
        let expects_continue = headers.contains_key(header::EXPECT);
        let rest = Rest { state: state.clone(), expects_continue };
        (Self { incoming: Some(incoming), state }, rest)
    }

    fn is_now(&self, new: State) {
        if let Some(state) = &self.state {
            *lock(state) = new;
        }
    }
}

impl Rest {
    /// Whether the body has ended. Reads a small rest of an HTTP/1.1 request first.
    pub(super) async fn has_ended(self, version: Version) -> bool {
        let Some(state) = &self.state else { return true };
        let state = std::mem::replace(&mut *lock(state), State::Gone);
        match state {
            State::Ended => true,
            State::Dropped(incoming) if version < Version::HTTP_2 && !self.expects_continue => {
                timeout(DISCARD_TIME, discard(incoming)).await.unwrap_or(false)
            }
            // The handler of HTTP/2 does not hold up its stream: to drop the body resets it with NO_ERROR.
            State::Held | State::Dropped(_) | State::Gone => false,
        }
    }
}

/// Reads a small body to its end. Returns whether that came.
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
            Poll::Ready(Some(Err(_))) => this.is_now(State::Gone),
            Poll::Ready(None) => this.is_now(State::Ended),
            Poll::Ready(Some(Ok(_))) if ended => this.is_now(State::Ended),
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
        if let (State::Held, Some(incoming)) = (&*state, self.incoming.take()) {
            *state = State::Dropped(incoming);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
