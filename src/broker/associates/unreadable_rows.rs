//! Counting and logging of unreadable rows in SuperOffice's responses about associates.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::cache::Key;
use crate::{broker::Counters, domain::DataWarning};

/// The most remembered log entries. Beyond that all are dropped, and a warning may be logged again.
const MAX_REMEMBERED: usize = 10_000;

/// The numbers of unreadable rows in one read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct UnreadableRows {
    /// Rows without an id.
    pub(super) left_out: usize,
    /// Rows with an unreadable value.
    pub(super) unreadable: usize,
}

impl UnreadableRows {
    /// Counts a row with these warnings.
    pub(super) fn count(&mut self, warnings: &[DataWarning]) {
        self.unreadable += usize::from(warnings.iter().any(DataWarning::is_unreadable));
    }
}

/// Counts unreadable rows, and logs them when they first appear and when their number changes.
pub(super) struct UnreadableRowLog {
    counters: Arc<Counters>,
    logged: Mutex<HashMap<(Key, &'static str), UnreadableRows>>,
}

impl UnreadableRowLog {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, logged: Mutex::default() }
    }

    /// Counts and logs the unreadable rows of a read of `what`.
    pub(super) fn record(&self, key: &Key, what: &'static str, odd: UnreadableRows) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        self.counters.people_rows_left_out.add(count(odd.left_out));
        self.counters.people_rows_in_part.add(count(odd.unreadable));
        if self.is_new((key.clone(), what), odd) {
            tracing::warn!(
                tenant = %key.tenant,
                what,
                left_out = odd.left_out,
                in_part = odd.unreadable,
                "SuperOffice returns rows that cannot be read: those without an id are left out, the others are \
                 returned with data_warnings; the rest of the answer is used"
            );
        }
    }

    fn is_new(&self, of: (Key, &'static str), odd: UnreadableRows) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if odd == UnreadableRows::default() {
            logged.remove(&of);
            return false;
        }
        if logged.len() >= MAX_REMEMBERED && !logged.contains_key(&of) {
            logged.clear();
        }
        logged.insert(of, odd) != Some(odd)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::Actor;

    #[test]
    fn counts_unreadable_rows_each_time_and_logs_them_once() {
        let counters = Arc::new(Counters::default());
        let oddities = UnreadableRowLog::new(Arc::clone(&counters));
        let key = |tenant: &str| Key {
            tenant: format!("applications/crm/tenants/{tenant}").parse().unwrap(),
            actor: Actor::SystemUser,
            lifetime: (Timestamp::UNIX_EPOCH, 1),
        };
        let mut odd = UnreadableRows { left_out: 2, unreadable: 0 };
        odd.count(&[DataWarning::Missing("role"), DataWarning::Unreadable("role")]);
        odd.count(&[DataWarning::Missing("role")]);
        assert_eq!(odd.unreadable, 1);
        let is_new = |tenant: &str, odd| {
            oddities.record(&key(tenant), "users", UnreadableRows::default());
            oddities.is_new((key(tenant), "roles"), odd)
        };
        assert!(is_new("Cust1", odd) && !is_new("Cust1", odd));
        assert!(is_new("Cust1", UnreadableRows { left_out: 3, ..odd }) && is_new("Cust2", odd));
        assert!(
            !is_new("Cust1", UnreadableRows::default()) && is_new("Cust1", odd),
            "unreadable again"
        );
        oddities.record(&key("Cust1"), "roles", odd);
        oddities.record(&key("Cust1"), "roles", odd);
        let counted = (counters.people_rows_left_out.get(), counters.people_rows_in_part.get());
        assert_eq!(counted, (4, 2));
        for number in 0..2 * MAX_REMEMBERED {
            is_new(&format!("Cust{}", number + 1), odd);
        }
        assert!(oddities.logged.lock().unwrap().len() <= MAX_REMEMBERED);
    }
}
