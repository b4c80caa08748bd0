//! Clients of HTTP/2 that take nothing of their answers. Their connections live, so that no time-out of a connection sees
//! it; but each holds back an answer of SuperOffice, and a connection to it.

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

/// Who takes nothing between two looks is given up.
const LOOK: Duration = Duration::from_secs(30);

type Stream = BoxStream<'static, Result<Bytes, SendError>>;

/// An answer's body as it comes from SuperOffice.
pub(super) struct Parts {
    /// `None` once its client was given up.
    stream: Mutex<Option<Stream>>,
    /// How often it was asked for a part.
    asked: AtomicU64,
    /// Whether it is SuperOffice that is waited for.
    waits: AtomicBool,
}

/// The answers that are looked at.
#[derive(Default)]
pub(super) struct Standstill(Mutex<Vec<(Weak<Parts>, u64)>>);

impl Parts {
    pub(super) fn new(stream: Stream) -> Arc<Self> {
        let (asked, waits) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { stream: Mutex::new(Some(stream)), asked, waits })
    }

    pub(super) fn poll_next(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, SendError>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Some(stream) = &mut *lock(&self.stream) else {
            let gone = SendError::TimedOut("its client took nothing of it".to_owned());
            return Poll::Ready(Some(Err(gone)));
        };
        let part = stream.as_mut().poll_next(context);
        self.waits.store(part.is_pending(), Ordering::Relaxed);
        part
    }
}

impl Standstill {
    /// Looks at these from now on.
    pub(super) fn watch(&self, parts: &Arc<Parts>) {
        lock(&self.0).push((Arc::downgrade(parts), 0));
    }

    /// Never ends.
    pub(super) async fn look(&self) {
        loop {
            sleep(LOOK).await;
            lock(&self.0).retain_mut(|(parts, seen)| {
                let Some(parts) = parts.upgrade() else { return false };
                let asked = parts.asked.load(Ordering::Relaxed);
                let moves = std::mem::replace(seen, asked) != asked;
                if moves || parts.waits.load(Ordering::Relaxed) {
                    return true;
                }
                lock(&parts.stream).take();
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

    async fn next(parts: &Parts) -> Option<Result<Bytes, SendError>> {
        poll_fn(|context| parts.poll_next(context)).await
    }

    fn endless() -> Arc<Parts> {
        Parts::new(stream::repeat_with(|| Ok(Bytes::from_static(b"x"))).boxed())
    }

    async fn in_time<T>(standstill: &Standstill, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            () = standstill.look() => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_its_answer_is_given_up_and_superoffice_let_go() {
        let (standstill, parts) = (Standstill::default(), endless());
        standstill.watch(&parts);
        assert!(next(&parts).await.unwrap().is_ok());
        in_time(&standstill, sleep(3 * LOOK)).await;
        assert!(lock(&parts.stream).is_none());
        assert!(next(&parts).await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_little_now_and_then_is_waited_for_and_so_is_superoffice() {
        let (standstill, slow) = (Standstill::default(), endless());
        let silent = Parts::new(stream::pending().boxed());
        standstill.watch(&slow);
        standstill.watch(&silent);
        let work = async {
            for _ in 0..10 {
                sleep(LOOK / 2).await;
                assert!(next(&slow).await.unwrap().is_ok());
            }
        };
        let waiting = async {
            tokio::select! {
                _ = next(&silent) => unreachable!(),
                () = work => {}
            }
        };
        in_time(&standstill, waiting).await;
        assert!(lock(&silent.stream).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_not_looked_at() {
        let standstill = Standstill::default();
        standstill.watch(&endless());
        in_time(&standstill, sleep(2 * LOOK)).await;
        assert!(lock(&standstill.0).is_empty());
    }
}
