//! Waking many calls at once when their events are committed.
//!
//! Calls wait on threads that have runtimes of their own. Waking each call by itself costs a system call, and the
//! thread starts the first call while the others are still being woken. So a thread may run a [`ThreadWaker`]: it is
//! notified once for all calls of the thread that are committed together, and then wakes them from within the thread.

use std::{
    cell::RefCell,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

thread_local! {
    static THREAD_WAKER: RefCell<Option<Arc<ThreadWaker>>> = const { RefCell::new(None) };
}

/// Wakes the calls of one thread together.
#[derive(Default)]
pub struct ThreadWaker {
    ready: Mutex<Vec<Waker>>,
    notify: Notify,
}

impl ThreadWaker {
    /// Wakes the calls of the thread that polls it, for as long as it is polled. Start it before the first call of the
    /// thread: after this future ends, calls of the thread are no longer woken.
    pub async fn serve() {
        let thread = Arc::new(Self::default());
        THREAD_WAKER.set(Some(Arc::clone(&thread)));
        loop {
            thread.notify.notified().await;
            for call in std::mem::take(&mut *thread.ready()) {
                call.wake();
            }
        }
    }

    fn ready(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls to wake. When it is dropped, the calls of each thread that has a [`ThreadWaker`] are woken together.
#[derive(Default)]
pub(super) struct WakeBatch(Vec<Arc<ThreadWaker>>);

impl WakeBatch {
    fn add(&mut self, waiter: Waiter) {
        let Some(thread) = waiter.thread else { return waiter.waker.wake() };
        thread.ready().push(waiter.waker);
        if !self.0.iter().any(|known| Arc::ptr_eq(known, &thread)) {
            self.0.push(thread);
        }
    }
}

impl Drop for WakeBatch {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            thread.notify.notify_one();
        }
    }
}

/// Notifies a call that its event is in the store.
pub(super) struct CommitNotifier(Arc<Mutex<CommitState>>);

/// Completes when the event is in the store.
pub(super) struct Committed(Arc<Mutex<CommitState>>);

#[derive(Default)]
struct CommitState {
    committed: bool,
    waiter: Option<Waiter>,
}

struct Waiter {
    waker: Waker,
    thread: Option<Arc<ThreadWaker>>,
}

/// Creates the two ends of a notification.
pub(super) fn commit_signal() -> (CommitNotifier, Committed) {
    let state = Arc::default();
    (CommitNotifier(Arc::clone(&state)), Committed(state))
}

impl CommitNotifier {
    /// Notifies the call. It is woken at the latest when `batch` is dropped.
    pub(super) fn notify(self, batch: &mut WakeBatch) {
        let waiter = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.committed = true;
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            batch.add(waiter);
        }
    }
}

impl Future for Committed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.committed {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        state.waiter = Some(Waiter { waker, thread: THREAD_WAKER.with_borrow(Clone::clone) });
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn wakes_all_calls_with_and_without_a_thread_waker() {
        for with_thread_waker in [false, true] {
            let mut serving = Box::pin(ThreadWaker::serve());
            if with_thread_waker {
                assert!(poll!(&mut serving).is_pending());
            }
            let (notifiers, calls): (Vec<_>, Vec<_>) = (0..10).map(|_| commit_signal()).unzip();
            let calls = async {
                let mut calls: Vec<_> = calls.into_iter().map(Box::pin).collect();
                for call in &mut calls {
                    assert!(poll!(call).is_pending());
                }
                tokio::task::yield_now().await;
                futures_util::future::join_all(calls).await;
            };
            let notifications = async {
                let mut batch = WakeBatch::default();
                for notifier in notifiers {
                    notifier.notify(&mut batch);
                }
            };
            let both = async { tokio::join!(calls, notifications) };
            if with_thread_waker {
                tokio::select! {
                    () = serving => {}
                    _ = both => {}
                }
            } else {
                both.await;
            }
            THREAD_WAKER.set(None);
        }
    }

    #[tokio::test]
    async fn a_dropped_call_does_not_affect_the_others() {
        let mut serving = Box::pin(ThreadWaker::serve());
        assert!(poll!(&mut serving).is_pending());
        let (first, dropped) = commit_signal();
        let (second, mut waiting) = commit_signal();
        let mut dropped = Box::pin(dropped);
        assert!(poll!(&mut dropped).is_pending());
        assert!(poll!(&mut waiting).is_pending());
        drop(dropped);
        let mut batch = WakeBatch::default();
        first.notify(&mut batch);
        second.notify(&mut batch);
        drop(batch);
        tokio::select! {
            () = serving => {}
            () = waiting => {}
        }
        THREAD_WAKER.set(None);
    }
}
