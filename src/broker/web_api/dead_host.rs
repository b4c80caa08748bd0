//! Calls whose host seems to be gone, and what is done about it: tenant status is asked where the tenant is.
//!
//! Only a call that may be made twice waits for the answer. For any other the status is brought up to date for the
//! next call.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::{Asking, Outcome, WebApi, credential::Pass, healing::Kind};
use crate::{
    broker::Statuses,
    domain::{TenantName, WebApiUri},
    ports::{Clock, SendError},
};

/// A host that is silent for so long may be gone. Some calls take minutes, so this alone fails none.
const SILENCE: Duration = Duration::from_secs(5);

/// A call that its caller gives up counts as unanswered after this time: impatient callers would else hide a dead host.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// A call waits for tenant status for this time at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// For calls that others send, a status is read again at this age while credentials are lent: their outcome is not
/// seen here.
const MAX_AGE_OF_LENT: Duration = Duration::from_mins(1);

/// The state of a host, as a failed call shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The host may be alive.
    None,
    /// The host seems to be gone, and nothing was sent.
    NothingSent,
    /// The host seems to be gone, and the call may have been carried out.
    Unknown,
}

pub(super) fn evidence(outcome: &Outcome) -> Evidence {
    match outcome {
        Err(SendError::NotSent(_)) => Evidence::NothingSent,
        Err(SendError::Broken(_) | SendError::TimedOut(_)) => Evidence::Unknown,
        Ok(answer) if is_gateways(answer.response.status) => Evidence::Unknown,
        Err(SendError::Unsendable(_)) | Ok(_) => Evidence::None,
    }
}

/// Whether a front end answers in place of the host behind it (RFC 9110 sections 15.6.3 to 15.6.5).
pub(in crate::broker) fn is_gateways(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

impl WebApi {
    /// Waits for an attempt, and asks for the tenant's status if the host is silent for long. An attempt that may be
    /// made twice ends early if the tenant turns out to be elsewhere.
    pub(super) async fn watched(
        &self,
        asking: &Asking,
        pass: &Pass,
        kind: Kind,
        answering: impl Future<Output = Outcome>,
    ) -> Outcome {
        let mut unanswered = Unanswered {
            statuses: &self.statuses,
            clock: &self.pace,
            tenant: &asking.tenant,
            uri: &pass.uri,
            until: Some(self.moment_in(GIVEN_UP)),
        };
        let moved = async {
            self.pace.sleep(SILENCE).await;
            let moved = self.statuses.suspect(&asking.tenant, &pass.uri).await;
            if !moved || kind == Kind::Order {
                std::future::pending::<()>().await;
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = answering => outcome,
            () = moved => Err(SendError::TimedOut("the tenant has moved".to_owned())),
        };
        unanswered.until = None;
        outcome
    }

    /// Whether a failed call may be made once more because its tenant is at another address by now.
    pub(super) async fn has_moved(
        &self,
        asking: &Asking,
        pass: &Pass,
        kind: Kind,
        evidence: Evidence,
    ) -> bool {
        let (tenant, uri) = (&asking.tenant, &pass.uri);
        let may_follow = match evidence {
            Evidence::None => return false,
            Evidence::NothingSent => true,
            Evidence::Unknown => kind == Kind::Question,
        };
        let left =
            asking.deadline.map(|deadline| deadline.saturating_sub(self.moment_in(Duration::ZERO)));
        let patience = left.unwrap_or(PATIENCE).min(PATIENCE);
        if !may_follow || patience.is_zero() {
            self.statuses.suspect_in_background(tenant, uri);
            return false;
        }
        tokio::select! {
            biased;
            moved = self.statuses.suspect(tenant, uri) => moved,
            () = self.pace.sleep(patience) => false,
        }
    }

    /// A credential was lent for a call to this tenant.
    pub(super) fn lent(&self, tenant: &TenantName) {
        self.statuses.refresh(tenant, MAX_AGE_OF_LENT);
    }
}

/// An attempt without an answer so far. Dropped after a while, it is as telling as a time-out.
struct Unanswered<'a> {
    statuses: &'a Arc<Statuses>,
    clock: &'a Arc<dyn Clock>,
    tenant: &'a TenantName,
    uri: &'a WebApiUri,
    until: Option<Duration>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.until.is_some_and(|until| self.clock.monotonic() >= until) {
            self.statuses.suspect_in_background(self.tenant, self.uri);
        }
    }
}
