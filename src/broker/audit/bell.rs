//! Answering many calls at once.
//!
//! Calls wait on threads that have runtimes of their own. To wake each by itself costs a system call, and their thread
//! begins with the first while the others are still being woken. So a thread may have a [`Bell`]: it is rung once for
//! all calls there that are answered together, and the thread wakes them itself, which costs next to nothing.

use std::{
    cell::RefCell,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

thread_local! {
    static HERE: RefCell<Option<Arc<Bell>>> = const { RefCell::new(None) };
}

/// Wakes the calls of one thread together.
#[derive(Default)]
pub struct Bell {
    asleep: Mutex<Vec<Waker>>,
    rung: Notify,
}

impl Bell {
    /// Serves the thread that polls it, for as long as it is polled. Begin it where the thread begins, and end the
    /// thread's calls with it: they rely on it.
    pub async fn serve() {
        let bell = Arc::new(Self::default());
        HERE.set(Some(Arc::clone(&bell)));
        loop {
            bell.rung.notified().await;
            for call in std::mem::take(&mut *bell.asleep()) {
                call.wake();
            }
        }
    }

    fn asleep(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes everybody who was answered when it is dropped: those of a thread together, where it has a bell.
#[derive(Default)]
pub(super) struct Ringing(Vec<Arc<Bell>>);

impl Ringing {
    fn wake(&mut self, sleeper: Sleeper) {
        let Some(bell) = sleeper.bell else { return sleeper.waker.wake() };
        bell.asleep().push(sleeper.waker);
        if !self.0.iter().any(|known| Arc::ptr_eq(known, &bell)) {
            self.0.push(bell);
        }
    }
}

impl Drop for Ringing {
    fn drop(&mut self) {
        for bell in self.0.drain(..) {
            bell.rung.notify_one();
        }
    }
}

/// Says that an event is in the store.
pub(super) struct Answerer(Arc<Mutex<Answer>>);

/// Waits for that.
pub(super) struct Answered(Arc<Mutex<Answer>>);

#[derive(Default)]
struct Answer {
    given: bool,
    sleeper: Option<Sleeper>,
}

struct Sleeper {
    waker: Waker,
    bell: Option<Arc<Bell>>,
}

/// Both ends.
pub(super) fn answer() -> (Answerer, Answered) {
    let answer = Arc::default();
    (Answerer(Arc::clone(&answer)), Answered(answer))
}

impl Answerer {
    /// Whoever waits is woken at the latest when `ringing` is dropped.
    pub(super) fn answer(self, ringing: &mut Ringing) {
        let sleeper = {
            let mut answer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            answer.given = true;
            answer.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            ringing.wake(sleeper);
        }
    }
}

impl Future for Answered {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut answer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.given {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        answer.sleeper = Some(Sleeper { waker, bell: HERE.with_borrow(Clone::clone) });
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn everybody_is_woken_with_a_bell_and_without() {
        for with_bell in [false, true] {
            let mut bell = Box::pin(Bell::serve());
            if with_bell {
                assert!(poll!(&mut bell).is_pending());
            }
            let (answerers, calls): (Vec<_>, Vec<_>) = (0..10).map(|_| answer()).unzip();
            let calls = async {
                let mut calls: Vec<_> = calls.into_iter().map(Box::pin).collect();
                for call in &mut calls {
                    assert!(poll!(call).is_pending());
                }
                tokio::task::yield_now().await;
                futures_util::future::join_all(calls).await;
            };
            let answers = async {
                let mut ringing = Ringing::default();
                for answerer in answerers {
                    answerer.answer(&mut ringing);
                }
            };
            let both = async { tokio::join!(calls, answers) };
            if with_bell {
                tokio::select! {
                    () = bell => {}
                    _ = both => {}
                }
            } else {
                both.await;
            }
            HERE.set(None);
        }
    }

    #[tokio::test]
    async fn a_call_that_is_gone_harms_nobody_else() {
        let mut bell = Box::pin(Bell::serve());
        assert!(poll!(&mut bell).is_pending());
        let (gone, dropped) = answer();
        let (stays, mut waits) = answer();
        let mut dropped = Box::pin(dropped);
        assert!(poll!(&mut dropped).is_pending());
        assert!(poll!(&mut waits).is_pending());
        drop(dropped);
        let mut ringing = Ringing::default();
        gone.answer(&mut ringing);
        stays.answer(&mut ringing);
        drop(ringing);
        tokio::select! {
            () = bell => {}
            () = waits => {}
        }
        HERE.set(None);
    }
}
