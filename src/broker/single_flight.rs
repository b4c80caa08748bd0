//! Shares one piece of work between all callers that wait for it.
//!
//! The work runs to its end on the task tracker, even if callers stop waiting. So a caller that disconnects does not
//! cancel the work for the others.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, sync::watch};
use tokio_util::task::TaskTracker;

type InFlight<K, T> = Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>;

/// The work in progress, by key. The number of different keys requested at one time bounds it.
#[derive(Debug)]
pub(super) struct SingleFlight<K, T> {
    in_flight: InFlight<K, T>,
    tasks: TaskTracker,
    /// The runtime for all work: a caller's own runtime may end before the gateway does.
    runtime: Handle,
}

/// The work panicked and has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a shared background task panicked")]
pub(super) struct WorkPanicked;

impl<K, T> SingleFlight<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Creates an empty instance. Work runs on `tasks`, on the runtime on which this is called.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { in_flight: InFlight::default(), tasks, runtime: Handle::current() }
    }

    /// Waits for the work of this key, and starts it if it is not in progress.
    pub(super) async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Result<T, WorkPanicked>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut receiver = self.start(key, work);
        let result = receiver.wait_for(Option::is_some).await.map_err(|_| WorkPanicked)?;
        result.clone().ok_or(WorkPanicked)
    }

    /// Returns the receiver of the work of this key, if it is in progress.
    pub(super) fn in_flight(&self, key: &K) -> Option<watch::Receiver<Option<T>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Starts the work of this key if it is not in progress, and does not wait.
    pub(super) fn start<F>(&self, key: K, work: impl FnOnce() -> F) -> watch::Receiver<Option<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = in_flight.get(&key) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(None);
        in_flight.insert(key.clone(), receiver.clone());
        drop(in_flight);
        let entry = InFlightGuard { in_flight: Arc::clone(&self.in_flight), key };
        let work = work();
        let task = async move {
            let result = work.await;
            // Removed from the map first: later callers find the result where the work has stored it.
            drop(entry);
            sender.send_replace(Some(result));
        };
        self.tasks.spawn_on(task, &self.runtime);
        receiver
    }
}

/// Removes the key from the map, also when the work panics.
struct InFlightGuard<K: Eq + Hash, T> {
    in_flight: InFlight<K, T>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for InFlightGuard<K, T> {
    fn drop(&mut self) {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn shared() -> SingleFlight<&'static str, usize> {
        SingleFlight::new(TaskTracker::new())
    }

    #[tokio::test]
    async fn many_waiters_share_one_piece_of_work() {
        let (flights, begun, go) = (shared(), AtomicUsize::new(0), Arc::new(Notify::new()));
        let waiters: Vec<_> = (0..100)
            .map(|_| {
                flights.start("key", || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let go = Arc::clone(&go);
                    async move {
                        go.notified().await;
                        7
                    }
                })
            })
            .collect();
        go.notify_one();
        for mut waiter in waiters {
            assert_eq!(*waiter.wait_for(Option::is_some).await.unwrap(), Some(7));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn work_continues_when_its_first_waiter_is_dropped() {
        let (flights, go) = (shared(), Arc::new(Notify::new()));
        let work = {
            let go = Arc::clone(&go);
            async move {
                go.notified().await;
                7
            }
        };
        let mut first = Box::pin(flights.join("key", || work));
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        let mut second = flights.start("key", || async { panic!("started twice") });
        go.notify_one();
        assert_eq!(*second.wait_for(Option::is_some).await.unwrap(), Some(7));
    }

    #[tokio::test]
    async fn waiters_get_an_error_when_work_panics_and_it_can_start_again() {
        let flights = shared();
        assert_eq!(flights.join("key", || async { panic!("boom") }).await, Err(WorkPanicked));
        assert_eq!(flights.join("key", || async { 7 }).await, Ok(7));
    }
}
