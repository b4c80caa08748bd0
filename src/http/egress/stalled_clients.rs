//! Detects HTTP/2 clients that do not read their answers. Their connections stay alive, so no connection timeout
//! detects them, but each answer occupies a connection to SuperOffice.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::time::sleep;

use crate::ports::SendError;

/// The interval of the checks. The answer of a client that reads nothing between two checks is dropped. The first check
/// of an answer only records its number of polls, because the answer may be new.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

type Stream = BoxStream<'static, Result<Bytes, SendError>>;

/// The body of an answer, as it arrives from SuperOffice.
pub(super) struct ResponseBody {
    /// `None` after the answer was dropped.
    stream: Mutex<Option<Stream>>,
    /// The number of polls.
    polls: AtomicU64,
    /// Whether the body waits for SuperOffice, not for the client.
    waits_for_upstream: AtomicBool,
}

/// The answers that are checked, each with its number of polls at the last check, if there was one.
#[derive(Default)]
pub(super) struct StalledClientTimeout(Mutex<Vec<(Weak<ResponseBody>, Option<u64>)>>);

impl ResponseBody {
    pub(super) fn new(stream: Stream) -> Arc<Self> {
        Arc::new(Self {
            stream: Mutex::new(Some(stream)),
            polls: AtomicU64::new(0),
            waits_for_upstream: AtomicBool::new(false),
        })
    }

    pub(super) fn poll_next(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, SendError>>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let Some(stream) = &mut *lock(&self.stream) else {
            let gone = SendError::TimedOut("the client did not read the answer".to_owned());
            return Poll::Ready(Some(Err(gone)));
        };
        let part = stream.as_mut().poll_next(context);
        self.waits_for_upstream.store(part.is_pending(), Ordering::Relaxed);
        part
    }
}

impl StalledClientTimeout {
    /// Adds an answer to the checks.
    pub(super) fn watch(&self, body: &Arc<ResponseBody>) {
        lock(&self.0).push((Arc::downgrade(body), None));
    }

    /// Runs the checks. Never returns.
    pub(super) async fn run(&self) {
        loop {
            sleep(CHECK_INTERVAL).await;
            lock(&self.0).retain_mut(|(body, seen)| {
                let Some(body) = body.upgrade() else { return false };
                let polls = body.polls.load(Ordering::Relaxed);
                let has_progress = seen.replace(polls) != Some(polls);
                if has_progress || body.waits_for_upstream.load(Ordering::Relaxed) {
                    return true;
                }
                lock(&body.stream).take();
                false
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::{StreamExt as _, stream};

    use super::*;

    async fn next(body: &ResponseBody) -> Option<Result<Bytes, SendError>> {
        poll_fn(|context| body.poll_next(context)).await
    }

    fn endless() -> Arc<ResponseBody> {
        ResponseBody::new(stream::repeat_with(|| Ok(Bytes::from_static(b"x"))).boxed())
    }

    async fn in_time<T>(
        stalled_clients: &StalledClientTimeout,
        work: impl Future<Output = T>,
    ) -> T {
        tokio::select! {
            done = work => done,
            () = stalled_clients.run() => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn drops_the_answer_of_a_client_that_reads_nothing() {
        let (stalled_clients, body) = (StalledClientTimeout::default(), endless());
        stalled_clients.watch(&body);
        assert!(next(&body).await.unwrap().is_ok());
        in_time(&stalled_clients, sleep(3 * CHECK_INTERVAL)).await;
        assert!(lock(&body.stream).is_none());
        assert!(next(&body).await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_an_answer_that_began_just_before_a_check() {
        let (stalled_clients, body) = (StalledClientTimeout::default(), endless());
        let work = async {
            sleep(CHECK_INTERVAL.saturating_sub(Duration::from_millis(10))).await;
            stalled_clients.watch(&body);
            sleep(Duration::from_millis(20)).await;
            assert!(next(&body).await.unwrap().is_ok());
        };
        in_time(&stalled_clients, work).await;
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_answers_of_slow_clients_and_of_a_slow_upstream() {
        let (stalled_clients, slow) = (StalledClientTimeout::default(), endless());
        let silent = ResponseBody::new(stream::pending().boxed());
        stalled_clients.watch(&slow);
        stalled_clients.watch(&silent);
        let work = async {
            for _ in 0..10 {
                sleep(CHECK_INTERVAL / 2).await;
                assert!(next(&slow).await.unwrap().is_ok());
            }
        };
        let waiting = async {
            tokio::select! {
                _ = next(&silent) => unreachable!(),
                () = work => {}
            }
        };
        in_time(&stalled_clients, waiting).await;
        assert!(lock(&silent.stream).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn forgets_answers_that_have_ended() {
        let stalled_clients = StalledClientTimeout::default();
        stalled_clients.watch(&endless());
        in_time(&stalled_clients, sleep(2 * CHECK_INTERVAL)).await;
        assert!(lock(&stalled_clients.0).is_empty());
    }
}
