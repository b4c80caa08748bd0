//! Receives the request message of a call before its handler runs.
//!
//! Until a policy has permitted something, a call is undecided: anyone may have sent it. So its message has a size
//! limit, must arrive within [`ARRIVAL_TIME`], and is charged to a budget that all undecided calls share.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use super::failure::Failure;
use crate::listen::{IntakeExhausted, Undecided};

/// The time for a request message to arrive, whatever `grpc-timeout` says. A message is at most 4 MiB, and callers are
/// near.
const ARRIVAL_TIME: Duration = Duration::from_secs(10);

/// The largest request of services that answer everyone (`grpc.*`): a service name, or a symbol of the contract.
pub(super) const MAX_PUBLIC_BYTES: usize = 8 * 1024;

/// The largest request of all other methods but those that carry a body of the Web API.
/// `BatchGetAssociates` with 500 names, the largest, takes 40 KiB.
pub(super) const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// The bytes of a message's prefix: a flag, and the length (gRPC over HTTP/2).
const PREFIX_BYTES: usize = 5;

/// Why the message of a call is not handed to its handler.
#[derive(Debug)]
pub(super) enum NotReceived {
    /// A failure of ours.
    Failed(Failure),
    /// The connection or the stream broke.
    Broken(Status),
}

impl From<IntakeExhausted> for NotReceived {
    fn from(_: IntakeExhausted) -> Self {
        Self::Failed(Failure::Overloaded)
    }
}

impl From<Failure> for NotReceived {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Reads the message of a call with a single request message, to its end.
///
/// # Errors
/// If it is larger than `limit`, does not arrive in time or does not fit into the budget, if the gateway stops, or if
/// the connection breaks.
pub(super) async fn receive(
    body: Body,
    limit: usize,
    undecided: &Undecided,
    stopping: &CancellationToken,
) -> Result<Body, NotReceived> {
    tokio::select! {
        biased;
        received = read(body, limit, undecided) => received,
        () = stopping.cancelled() => Err(Failure::ShuttingDown.into()),
        () = tokio::time::sleep(ARRIVAL_TIME) => Err(Failure::DeadlineExceeded.into()),
    }
}

async fn read(mut body: Body, limit: usize, undecided: &Undecided) -> Result<Body, NotReceived> {
    let Some(first) = next_data(&mut body).await? else { return Ok(Body::empty()) };
    check_length(&first, limit)?;
    if body.is_end_stream() {
        return Ok(Body::new(Received(Some(first))));
    }
    // Copied: a client that sends a byte a frame would else hold a read buffer with each.
    let mut message = BytesMut::new();
    append(&mut message, &first, limit, undecided)?;
    while let Some(data) = next_data(&mut body).await? {
        append(&mut message, &data, limit, undecided)?;
        check_length(&message, limit)?;
    }
    Ok(Body::new(Received(Some(message.freeze()))))
}

/// The next bytes of the message. Trailers of a request mean nothing in gRPC.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, NotReceived> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame.transpose().map_err(NotReceived::Broken)?.map(Frame::into_data) {
            None => return Ok(None),
            Some(Ok(data)) => return Ok(Some(data)),
            Some(Err(_trailers)) => {}
        }
    }
}

/// Refuses a message by the length in its prefix, before its bytes are read.
fn check_length(message: &[u8], limit: usize) -> Result<(), Failure> {
    let length = message.get(1..PREFIX_BYTES).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let too_large =
        |length: [u8; 4]| usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX) > limit;
    if length.is_some_and(too_large) { Err(too_large_for(limit)) } else { Ok(()) }
}

/// Appends bytes of a message, and charges the memory that they take before it is allocated.
fn append(
    message: &mut BytesMut,
    data: &[u8],
    limit: usize,
    undecided: &Undecided,
) -> Result<(), NotReceived> {
    let most = limit.saturating_add(PREFIX_BYTES);
    let wanted = message.len().saturating_add(data.len());
    if wanted > most {
        return Err(too_large_for(limit).into());
    }
    if wanted > message.capacity() {
        let capacity = wanted.max(2 * message.capacity()).min(most);
        undecided.grow(capacity - message.capacity())?;
        message.reserve(capacity - message.len());
    }
    message.extend_from_slice(data);
    Ok(())
}

fn too_large_for(limit: usize) -> Failure {
    Failure::TooLarge(format!("the message is larger than {} KiB", limit / 1024))
}

/// A message that was received whole.
struct Received(Option<Bytes>);

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
