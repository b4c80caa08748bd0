//! Limits the bytes of requests that are held before a decision, over all listeners.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The memory of all undecided requests on connections on which nothing was permitted yet. With the memory of the
/// connections themselves, strangers cost less than 48 MiB.
const STRANGERS_BYTES: usize = 12 * 1024 * 1024;

/// The memory of all undecided requests on the other connections. Sixteen of the largest requests fit in.
const PERMITTED_BYTES: usize = 64 * 1024 * 1024;

/// The bytes that all undecided requests share. Clients on whose connection a request was permitted have a budget of
/// their own, so that strangers cannot keep them out.
#[derive(Debug)]
pub struct IntakeBudget {
    strangers: Pool,
    permitted: Pool,
}

#[derive(Debug)]
struct Pool {
    limit: usize,
    held: AtomicUsize,
}

/// The bytes that the undecided requests of one address hold.
#[derive(Debug, Default)]
pub(super) struct SourceUsage {
    strangers: AtomicUsize,
    permitted: AtomicUsize,
}

/// Bytes of the budget that one request holds. They return to the budget when this is dropped.
///
/// The default belongs to a budget of its own.
#[derive(Debug, Default)]
pub struct Reservation {
    budget: Arc<IntakeBudget>,
    source: Arc<SourceUsage>,
    permitted: bool,
    bytes: usize,
}

/// The budget has no room for more bytes of this address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("requests that are not decided yet hold too many bytes")]
pub struct IntakeExhausted;

impl Default for IntakeBudget {
    fn default() -> Self {
        Self::new(STRANGERS_BYTES, PERMITTED_BYTES)
    }
}

impl IntakeBudget {
    /// Returns a budget of these numbers of bytes.
    fn new(strangers: usize, permitted: usize) -> Self {
        let pool = |limit| Pool { limit, held: AtomicUsize::new(0) };
        Self { strangers: pool(strangers), permitted: pool(permitted) }
    }

    /// Returns an empty reservation for a request from `source`.
    pub(super) fn reservation(
        self: &Arc<Self>,
        source: &Arc<SourceUsage>,
        permitted: bool,
    ) -> Reservation {
        let (budget, source) = (Arc::clone(self), Arc::clone(source));
        Reservation { budget, source, permitted, bytes: 0 }
    }
}

impl Reservation {
    /// Reserves more bytes. An address may hold at most as much as the budget then has left. So `n` greedy addresses
    /// leave 1/(n+1) of the budget to all others.
    ///
    /// # Errors
    /// If there is no room. Then the reservation keeps its size.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IntakeExhausted> {
        let (pool, source) = self.counters();
        let held = pool.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let own = source.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let fits = own <= pool.limit.saturating_sub(held);
        self.bytes += bytes;
        if !fits {
            self.shrink(bytes);
            return Err(IntakeExhausted);
        }
        Ok(())
    }

    /// Changes the size of the reservation.
    ///
    /// # Errors
    /// As [`Self::grow`].
    pub fn resize(&mut self, bytes: usize) -> Result<(), IntakeExhausted> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.shrink(self.bytes - bytes);
                Ok(())
            }
        }
    }

    fn counters(&self) -> (&Pool, &AtomicUsize) {
        if self.permitted {
            (&self.budget.permitted, &self.source.permitted)
        } else {
            (&self.budget.strangers, &self.source.strangers)
        }
    }

    fn shrink(&mut self, bytes: usize) {
        let (pool, source) = self.counters();
        pool.held.fetch_sub(bytes, Ordering::Relaxed);
        source.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(
        budget: &Arc<IntakeBudget>,
        source: &Arc<SourceUsage>,
        bytes: usize,
    ) -> Option<Reservation> {
        let mut reservation = budget.reservation(source, false);
        reservation.grow(bytes).ok().map(|()| reservation)
    }

    #[test]
    fn one_address_takes_half_and_the_next_half_of_the_rest() {
        let budget = Arc::new(IntakeBudget::new(1024, 0));
        let sources: Vec<Arc<SourceUsage>> = (0..3).map(|_| Arc::default()).collect();
        let mut held = Vec::new();
        let mut taken = Vec::new();
        for source in &sources {
            let got: Vec<_> = std::iter::from_fn(|| reserve(&budget, source, 1)).collect();
            taken.push(got.len());
            held.push(got);
        }
        assert_eq!(taken, [512, 256, 128]);
        drop(held);
        assert_eq!(budget.strangers.held.load(Ordering::Relaxed), 0);
        assert!(sources.iter().all(|source| source.strangers.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_reservation_that_cannot_grow_keeps_its_size() {
        let budget = Arc::new(IntakeBudget::new(100, 0));
        let source = Arc::default();
        let mut reservation = reserve(&budget, &source, 40).unwrap();
        assert_eq!(reservation.grow(11), Err(IntakeExhausted));
        reservation.resize(50).unwrap();
        assert_eq!(reservation.resize(51), Err(IntakeExhausted));
        reservation.resize(20).unwrap();
        assert!(reserve(&budget, &source, 30).is_some());
        drop(reservation);
        assert!(reserve(&budget, &source, 50).is_some());
    }

    #[test]
    fn strangers_do_not_use_the_budget_of_permitted_connections() {
        let budget = Arc::new(IntakeBudget::new(100, 100));
        let source = Arc::default();
        let _stranger = reserve(&budget, &source, 50).unwrap();
        let mut permitted = budget.reservation(&source, true);
        permitted.grow(50).unwrap();
        assert!(reserve(&budget, &source, 1).is_none());
    }
}
