//! Tracks whether a failed call may have changed something, which determines its status.

use std::sync::atomic::Ordering;

use tonic::Status;

use super::{failure::Failure, layer::Context};
use crate::broker::BrokerError;

impl Context {
    /// Runs a change of our own store. From then on, a failure of the call (such as a passed deadline) has an unknown
    /// outcome, unless the change was certainly not made.
    pub(super) async fn run_change<T>(
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

    /// Sets whether an unsafe request was sent whose outcome is unknown.
    pub(super) fn note_unknown_outcome(&self, unknown: bool) {
        self.outcome_unknown.store(unknown, Ordering::Relaxed);
    }

    /// Returns the status of a failed call.
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
