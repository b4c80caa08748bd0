//! What all streams have in common: every message is a new decision, a reader that does not read is ended, and
//! shutdown ends them all at once.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, future::BoxFuture, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::access::Refused;

use super::{Audit, Services, failure::Failure, layer::Context};

/// A message that waits longer than this for its reader is the last one.
const READER_PATIENCE: Duration = Duration::from_secs(30);

/// What a stream sends.
pub(super) type Messages<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Makes the messages of one stream.
pub(super) trait Watch: Send + 'static {
    /// The message.
    type Message: Send;

    /// Does what must succeed before the call is answered.
    fn open(&mut self) -> BoxFuture<'_, Result<(), Failure>>;

    /// Waits for the next message. The first ones are what is known now.
    fn next(&mut self) -> BoxFuture<'_, Result<Self::Message, Failure>>;
}

/// An open stream. What is decided for a message that its reader no longer waits for is written down, too.
struct Open {
    context: Arc<Context>,
    audit: Arc<Audit>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.audit.keep_unanswered(&self.context);
    }
}

/// Begins a stream. A refusal is the answer to the call itself.
pub(super) async fn begin<W: Watch>(
    mut watch: W,
    context: Arc<Context>,
    services: &Services,
) -> Result<Messages<W::Message>, Failure>
where
    W::Message: 'static,
{
    watch.open().await?;
    let (stopping, access) = (services.stopping.clone(), Arc::clone(&services.access));
    let open = Open { context, audit: Arc::clone(&services.audit) };
    let state = Some((watch, Instant::now()));
    let messages = stream::unfold(state, move |state| {
        let (context, stopping) = (Arc::clone(&open.context), stopping.clone());
        let access = Arc::clone(&access);
        let audit = Arc::clone(&open.audit);
        async move {
            let (mut watch, sent) = state?;
            // The transport asks for the next message when it has room: when the reader has read.
            let message = if sent.elapsed() > READER_PATIENCE {
                Err(Failure::WatchTooSlow)
            } else {
                next(&mut watch, &stopping, access.credential_ends(&context.caller)).await
            };
            // Each message is a decision of its own, and written down before it leaves.
            let (code, reason) = match &message {
                Ok(_) => (Code::Ok, None),
                Err(failure) => (failure.code(), Some(failure.reason())),
            };
            let kept = audit.keep(&context, code, reason).await;
            match kept.and(message) {
                Ok(message) => Some((Ok(message), Some((watch, Instant::now())))),
                Err(failure) => {
                    let status = failure.status(&context.request_id);
                    context.stream_ended(&failure);
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
    credential_ends: impl Future<Output = Refused>,
) -> Result<W::Message, Failure> {
    tokio::select! {
        // Shutdown first: a stream with much to say must not put it off.
        biased;
        () = stopping.cancelled() => Err(Failure::ShuttingDown),
        message = watch.next() => message,
        // A message is a decision of its own, which looks at the credential too. This is for the time between messages.
        refused = credential_ends => Err(refused.into()),
    }
}
