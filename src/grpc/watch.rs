//! The common part of all watch streams: policy is checked for every message, slow clients are disconnected, and
//! shutdown ends all streams.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, future::BoxFuture, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    audit_guard::AuditGuard, context::CallContext, failure::Failure,
    handler_dependencies::HandlerDependencies,
};
use crate::access::AccessError;

/// The time that a message may wait for its client. Then the stream ends.
const READER_TIMEOUT: Duration = Duration::from_secs(30);

/// The messages of a stream.
pub(super) type Messages<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The source of a stream's messages.
pub(super) trait Watch: Send + 'static {
    /// The type of the messages.
    type Message: Send;

    /// Runs the steps that must succeed before the call is answered.
    fn open(&mut self) -> BoxFuture<'_, Result<(), Failure>>;

    /// Waits for the next message. The first messages contain the current state.
    fn next(&mut self) -> BoxFuture<'_, Result<Self::Message, Failure>>;
}

/// Starts a stream. A failure in `open` is the answer to the call.
pub(super) async fn start<W: Watch>(
    mut watch: W,
    context: Arc<CallContext>,
    common: &HandlerDependencies,
) -> Result<Messages<W::Message>, Failure>
where
    W::Message: 'static,
{
    watch.open().await?;
    let (stopping, access) = (common.stopping.clone(), Arc::clone(&common.access));
    let guard = Arc::new(AuditGuard { context, audit: Arc::clone(&common.audit) });
    let state = Some((watch, Instant::now()));
    let messages = stream::unfold(state, move |state| {
        let (guard, stopping, access) = (Arc::clone(&guard), stopping.clone(), Arc::clone(&access));
        async move {
            let (mut watch, sent) = state?;
            let context = &guard.context;
            // The transport polls for the next message when the client has read the previous ones.
            let message = if sent.elapsed() > READER_TIMEOUT {
                Err(Failure::WatchTooSlow)
            } else {
                next(&mut watch, &stopping, access.wait_until_credential_expires(context.caller()))
                    .await
            };
            // Each message has its own decision, whose audit event is written before the message is sent.
            match guard.write_outcome(message).await {
                Ok(message) => Some((Ok(message), Some((watch, Instant::now())))),
                Err(failure) => {
                    let status = failure.status(&context.request_id);
                    context.log_stream_end(&failure);
                    Some((Err(status), None))
                }
            }
        }
    });
    Ok(messages.boxed())
}

async fn next<W: Watch>(
    watch: &mut W,
    stopping: &CancellationToken,
    credential_ends: impl Future<Output = AccessError>,
) -> Result<W::Message, Failure> {
    tokio::select! {
        // Shutdown first: a busy stream must not delay it.
        biased;
        () = stopping.cancelled() => Err(Failure::ShuttingDown),
        message = watch.next() => message,
        // The decision on a message also checks the credential. This covers the time between messages.
        refused = credential_ends => Err(refused.into()),
    }
}
