//! One piece of work, however many wait for it.
//!
//! The work belongs to the gateway: it runs to its end on the task tracker whatever becomes of those who wait,
//! so a caller that goes away stops nothing and loses nothing for the others.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, sync::watch};
use tokio_util::task::TaskTracker;

type Flying<K, T> = Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>;

/// The work under way, by what it is for. Bounded by the number of different keys asked for at one time.
#[derive(Debug)]
pub(super) struct Flights<K, T> {
    flying: Flying<K, T>,
    tasks: TaskTracker,
    /// Where work runs, whoever begins it: callers may stand on a runtime that ends before the gateway does.
    runtime: Handle,
}

/// The work ended without a result: it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work that was waited for panicked")]
pub(super) struct Crashed;

impl<K, T> Flights<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Nothing under way; work will run on `tasks`, on the runtime that this is called on.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { flying: Flying::default(), tasks, runtime: Handle::current() }
    }

    /// Waits for the work of this key, and begins it if nobody has.
    pub(super) async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Result<T, Crashed>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut landing = self.begin(key, work);
        let landed = landing.wait_for(Option::is_some).await.map_err(|_| Crashed)?;
        landed.clone().ok_or(Crashed)
    }

    /// The work of this key, if it is under way.
    pub(super) fn present(&self, key: &K) -> Option<watch::Receiver<Option<T>>> {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Begins the work of this key if nobody has, and does not wait.
    pub(super) fn begin<F>(&self, key: K, work: impl FnOnce() -> F) -> watch::Receiver<Option<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = flying.get(&key) {
            return landing.clone();
        }
        let (landed, landing) = watch::channel(None);
        flying.insert(key.clone(), landing.clone());
        drop(flying);
        let entry = Entry { flying: Arc::clone(&self.flying), key };
        let work = work();
        let flight = async move {
            let result = work.await;
            // Out of the map first: who comes now finds the result where the work has put it.
            drop(entry);
            landed.send_replace(Some(result));
        };
        self.tasks.spawn_on(flight, &self.runtime);
        landing
    }
}

/// Takes the key out of the map also when the work panics.
struct Entry<K: Eq + Hash, T> {
    flying: Flying<K, T>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Entry<K, T> {
    fn drop(&mut self) {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn flights() -> Flights<&'static str, usize> {
        Flights::new(TaskTracker::new())
    }

    #[tokio::test]
    async fn many_waiters_cost_one_piece_of_work() {
        let (flights, begun, go) = (flights(), AtomicUsize::new(0), Arc::new(Notify::new()));
        let waiters: Vec<_> = (0..100)
            .map(|_| {
                flights.begin("key", || {
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
    async fn work_goes_on_when_its_first_waiter_goes_away() {
        let (flights, go) = (flights(), Arc::new(Notify::new()));
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
        let mut second = flights.begin("key", || async { panic!("begun twice") });
        go.notify_one();
        assert_eq!(*second.wait_for(Option::is_some).await.unwrap(), Some(7));
    }

    #[tokio::test]
    async fn work_that_panics_is_told_to_its_waiters_and_can_be_begun_again() {
        let flights = flights();
        assert_eq!(flights.join("key", || async { panic!("boom") }).await, Err(Crashed));
        assert_eq!(flights.join("key", || async { 7 }).await, Ok(7));
    }
}
