//! Calls that may have changed something: what they say when they fail.

use std::sync::atomic::Ordering;

use tonic::Status;

use super::{failure::Failure, layer::Context};
use crate::broker::BrokerError;

impl Context {
    /// Does a change of our own store. From its beginning on the call may fail only with an unknown outcome (its deadline
    /// may pass, its event may not be written), unless the change itself surely was not done.
    pub(super) async fn change<T>(
        &self,
        change: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.change_begun.store(true, Ordering::Relaxed);
        let changed = change.await;
        if changed.as_ref().is_err_and(|error| !error.outcome_is_unknown()) {
            self.change_begun.store(false, Ordering::Relaxed);
        }
        changed
    }

    /// Notes whether an unsafe request has left whose outcome is unknown.
    pub(super) fn note_unknown_outcome(&self, unknown: bool) {
        self.outcome_unknown.store(unknown, Ordering::Relaxed);
    }

    /// The status of a call that fails.
    pub(super) fn status(&self, failure: &Failure) -> Status {
        if self.outcome_unknown.load(Ordering::Relaxed) {
            failure.status_of_unknown_outcome(&self.request_id)
        } else if self.change_begun.load(Ordering::Relaxed) {
            failure.status_of_unknown_change(&self.request_id)
        } else {
            failure.status(&self.request_id)
        }
    }
}
