//! Receives the request message of a call before its handler runs.
//!
//! A call is unauthorized until a policy permits it: anyone may have sent it. So its message has a size limit, must
//! arrive within [`RECEIVE_TIMEOUT`], and is charged to a budget that all unauthorized calls share.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use super::{failure::Failure, normalize::message_too_large};
use crate::listen::{IntakeExhausted, RequestCharge};

/// The time for a request message to arrive, regardless of `grpc-timeout`. Messages have at most 4 MiB and 128 KiB,
/// and callers are usually in the same network.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The length of a message's prefix in bytes: a flag and the message length (gRPC over HTTP/2).
const PREFIX_BYTES: usize = 5;

/// The reason why the message of a call was not received.
#[derive(Debug)]
pub(super) enum ReceiveError {
    /// The gateway refuses the call.
    Failed(Failure),
    /// The connection or the stream broke.
    Broken(Status),
}

impl From<IntakeExhausted> for ReceiveError {
    fn from(_: IntakeExhausted) -> Self {
        Self::Failed(Failure::Overloaded)
    }
}

impl From<Failure> for ReceiveError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Reads the message of a call that has exactly one request message.
///
/// # Errors
/// If it is larger than `limit`, does not arrive in time or does not fit into the budget, if the gateway stops, or if
/// the connection breaks.
pub(super) async fn receive(
    body: Body,
    limit: usize,
    charge: &RequestCharge,
    stopping: &CancellationToken,
) -> Result<Body, ReceiveError> {
    let mut reading = pin!(read(body, limit, charge));
    // Most messages arrive together with the headers. Then nothing is waited for, and no timer is needed.
    let arrived = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
    if let Poll::Ready(received) = arrived {
        return received;
    }
    tokio::select! {
        biased;
        received = reading => received,
        () = stopping.cancelled() => Err(Failure::ShuttingDown.into()),
        () = tokio::time::sleep(RECEIVE_TIMEOUT) => Err(Failure::DeadlineExceeded.into()),
    }
}

async fn read(mut body: Body, limit: usize, charge: &RequestCharge) -> Result<Body, ReceiveError> {
    let Some(first) = next_data(&mut body).await? else { return Ok(Body::empty()) };
    check_length(&first, limit)?;
    if body.is_end_stream() {
        return Ok(Body::new(ReceivedMessage(Some(first))));
    }
    // Copied: a client that sends one byte per frame would otherwise keep one read buffer per byte.
    let mut message = BytesMut::new();
    append(&mut message, &first, limit, charge)?;
    while let Some(data) = next_data(&mut body).await? {
        append(&mut message, &data, limit, charge)?;
        check_length(&message, limit)?;
    }
    Ok(Body::new(ReceivedMessage(Some(message.freeze()))))
}

/// Returns the next bytes of the message. gRPC ignores request trailers.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, ReceiveError> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame.transpose().map_err(ReceiveError::Broken)?.map(Frame::into_data) {
            None => return Ok(None),
            Some(Ok(data)) => return Ok(Some(data)),
            Some(Err(_trailers)) => {}
        }
    }
}

/// Refuses a message that is too large by the length in its prefix, before reading it.
fn check_length(message: &[u8], limit: usize) -> Result<(), Failure> {
    let length = message.get(1..PREFIX_BYTES).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let too_large =
        |length: [u8; 4]| usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX) > limit;
    if length.is_some_and(too_large) { Err(message_too_large()) } else { Ok(()) }
}

/// Appends bytes of a message. Charges their memory to the budget before allocating it.
fn append(
    message: &mut BytesMut,
    data: &[u8],
    limit: usize,
    charge: &RequestCharge,
) -> Result<(), ReceiveError> {
    let most = limit.saturating_add(PREFIX_BYTES);
    let wanted = message.len().saturating_add(data.len());
    if wanted > most {
        return Err(message_too_large().into());
    }
    if wanted > message.capacity() {
        let capacity = wanted.max(2 * message.capacity()).min(most);
        charge.grow(capacity - message.capacity())?;
        message.reserve(capacity - message.len());
    }
    message.extend_from_slice(data);
    Ok(())
}

/// The body of a request whose message was received completely.
struct ReceivedMessage(Option<Bytes>);

impl HttpBody for ReceivedMessage {
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
