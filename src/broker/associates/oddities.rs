//! Counting and logging what SuperOffice returned of people and could not be read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::cache::Key;
use crate::{broker::Counters, domain::DataWarning};

/// Beyond this number of tenants, what was logged is forgotten and may be logged again.
const MAX_REMEMBERED: usize = 10_000;

/// The numbers of rows of a reading that could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OddRows {
    /// Rows without an id.
    pub(super) left_out: usize,
    /// Rows of which a value could not be read.
    pub(super) in_part: usize,
}

impl OddRows {
    /// Counts a row with these warnings.
    pub(super) fn see(&mut self, warnings: &[DataWarning]) {
        self.in_part += usize::from(warnings.iter().any(DataWarning::is_unreadable));
    }
}

/// Counts odd rows, and logs them when they first appear and when their number changes.
pub(super) struct Oddities {
    counters: Arc<Counters>,
    logged: Mutex<HashMap<(Key, &'static str), OddRows>>,
}

impl Oddities {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, logged: Mutex::default() }
    }

    /// Notes the odd rows of a reading of `what`.
    pub(super) fn note(&self, key: &Key, what: &'static str, odd: OddRows) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        self.counters.people_rows_left_out.add(count(odd.left_out));
        self.counters.people_rows_in_part.add(count(odd.in_part));
        if self.is_new((key.clone(), what), odd) {
            tracing::warn!(
                tenant = %key.tenant,
                what,
                left_out = odd.left_out,
                in_part = odd.in_part,
                "SuperOffice returns rows that cannot be read: those without an id are left out, the others are \
                 returned with data_warnings; the rest of the answer is used"
            );
        }
    }

    fn is_new(&self, of: (Key, &'static str), odd: OddRows) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if odd == OddRows::default() {
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
    use crate::domain::Eyes;

    #[test]
    fn odd_rows_are_counted_each_time_and_logged_once() {
        let counters = Arc::new(Counters::default());
        let oddities = Oddities::new(Arc::clone(&counters));
        let key = |tenant: &str| Key {
            tenant: format!("applications/crm/tenants/{tenant}").parse().unwrap(),
            eyes: Eyes::SystemUser,
            life: (Timestamp::UNIX_EPOCH, 1),
        };
        let mut odd = OddRows { left_out: 2, in_part: 0 };
        odd.see(&[DataWarning::Missing("role"), DataWarning::Unreadable("role")]);
        odd.see(&[DataWarning::Missing("role")]);
        assert_eq!(odd.in_part, 1);
        let is_new = |tenant: &str, odd| {
            oddities.note(&key(tenant), "users", OddRows::default());
            oddities.is_new((key(tenant), "roles"), odd)
        };
        assert!(is_new("Cust1", odd) && !is_new("Cust1", odd));
        assert!(is_new("Cust1", OddRows { left_out: 3, ..odd }) && is_new("Cust2", odd));
        assert!(!is_new("Cust1", OddRows::default()) && is_new("Cust1", odd), "it came back");
        oddities.note(&key("Cust1"), "roles", odd);
        oddities.note(&key("Cust1"), "roles", odd);
        let counted = (counters.people_rows_left_out.get(), counters.people_rows_in_part.get());
        assert_eq!(counted, (4, 2));
        for number in 0..2 * MAX_REMEMBERED {
            is_new(&format!("Cust{}", number + 1), odd);
        }
        assert!(oddities.logged.lock().unwrap().len() <= MAX_REMEMBERED);
    }
}
