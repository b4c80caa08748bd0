//! Calls whose host seems to be dead: they cause a read of the tenant status, which may name another address.
//!
//! Only a call that may be sent twice waits for the result. For any other call the read updates the status for the next
//! call.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::{
    call::{CallResult, WebApiCallContext},
    retry::Safety,
};
use crate::{
    broker::Statuses,
    domain::{TenantName, WebApiUri},
    ports::{Clock, SendError},
};

/// A host that does not answer for this time may be dead. Some calls take minutes, so this alone fails no call.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// A call cancelled after this time counts as unanswered, so that callers with short time-outs do not hide a dead host.
const UNANSWERED_AFTER: Duration = Duration::from_secs(1);

/// The maximum time that a call waits for the tenant status.
const MAX_STATUS_WAIT: Duration = Duration::from_secs(5);

/// The age at which the status is read again for calls that a proxy sends, because this gateway does not see their
/// outcome.
const MAX_STATUS_AGE_FOR_PROXIES: Duration = Duration::from_mins(1);

/// The evidence of one attempt that its host is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostFailure {
    /// No evidence: the host may be alive.
    None,
    /// The host seems to be dead, and nothing was sent.
    NotSent,
    /// The host seems to be dead, and the call may have run.
    OutcomeUnknown,
}

pub(super) fn host_failure(result: &CallResult) -> HostFailure {
    match result {
        Err(SendError::NotSent(_)) => HostFailure::NotSent,
        Err(SendError::Interrupted(_) | SendError::TimedOut(_)) => HostFailure::OutcomeUnknown,
        Ok(answer) if is_gateway_error(answer.response.status) => HostFailure::OutcomeUnknown,
        Err(SendError::InvalidRequest(_)) | Ok(_) => HostFailure::None,
    }
}

/// Returns whether a front end answers in place of the host behind it (RFC 9110 sections 15.6.3 to 15.6.5).
pub(in crate::broker) fn is_gateway_error(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Reads the tenant status when the host of a call seems to be dead.
pub(super) struct DeadHostDetector {
    pub(super) statuses: Arc<Statuses>,
    pub(super) timer: Arc<dyn Clock>,
}

impl DeadHostDetector {
    /// Waits for an attempt, and reads the tenant's status if the host does not answer for 5 s. An attempt that may be
    /// repeated ends early if the tenant has another address.
    pub(super) async fn watch(
        &self,
        context: &WebApiCallContext,
        uri: &WebApiUri,
        safety: Safety,
        attempt: impl Future<Output = CallResult>,
    ) -> CallResult {
        let counts_from = Some(self.timer.monotonic().saturating_add(UNANSWERED_AFTER));
        let mut unanswered =
            UnansweredGuard { hosts: self, tenant: &context.tenant, uri, counts_from };
        let moved = async {
            self.timer.sleep(SILENCE_LIMIT).await;
            let moved = self.statuses.check_host(&context.tenant, uri).await;
            if !moved || safety == Safety::Unsafe {
                std::future::pending::<()>().await;
            }
        };
        let result = tokio::select! {
            biased;
            result = attempt => result,
            // `TimedOut` makes `host_failure` count it; `has_moved` then returns `true`.
            () = moved => Err(SendError::TimedOut("the tenant has moved".to_owned())),
        };
        unanswered.counts_from = None;
        result
    }

    /// Returns whether a failed call may be sent again because its tenant now has another address.
    pub(super) async fn has_moved(
        &self,
        context: &WebApiCallContext,
        uri: &WebApiUri,
        safety: Safety,
        host_failure: HostFailure,
    ) -> bool {
        let tenant = &context.tenant;
        let may_follow = match host_failure {
            HostFailure::None => return false,
            HostFailure::NotSent => true,
            HostFailure::OutcomeUnknown => safety == Safety::Safe,
        };
        let left = context.time_left(self.timer.monotonic());
        let max_wait = left.unwrap_or(MAX_STATUS_WAIT).min(MAX_STATUS_WAIT);
        if !may_follow || max_wait.is_zero() {
            self.statuses.check_host_in_background(tenant, uri);
            return false;
        }
        tokio::select! {
            biased;
            moved = self.statuses.check_host(tenant, uri) => moved,
            () = self.timer.sleep(max_wait) => false,
        }
    }

    /// Reads the status in the background if it is old, after a proxy got a credential for this tenant.
    pub(super) fn refresh_for_proxy(&self, tenant: &TenantName) {
        self.statuses.refresh(tenant, MAX_STATUS_AGE_FOR_PROXIES);
    }
}

/// Guards an unanswered attempt. If it is dropped after [`UNANSWERED_AFTER`], that counts as a time-out.
struct UnansweredGuard<'a> {
    hosts: &'a DeadHostDetector,
    tenant: &'a TenantName,
    uri: &'a WebApiUri,
    counts_from: Option<Duration>,
}

impl Drop for UnansweredGuard<'_> {
    fn drop(&mut self) {
        if self.counts_from.is_some_and(|counts_from| self.hosts.timer.monotonic() >= counts_from) {
            self.hosts.statuses.check_host_in_background(self.tenant, self.uri);
        }
    }
}
