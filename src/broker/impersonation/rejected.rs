//! Verification of access tokens that SuperOffice is said to reject, by a caller or by a call of the gateway.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use http::StatusCode;

use super::Impersonation;
use crate::{
    access::{Authorized, GrantResource, IssueAccessToken},
    broker::{
        Application, BrokerError, Statuses, tickets::missing_web_api_uri, web_api::is_gateway_error,
    },
    domain::{AccessToken, CredentialId, Grant, GrantName, Tenant, TenantStatus},
    ports::{ApiCredential, CallOutcome, ProbeResult, SendError, UpstreamError},
};

impl Impersonation {
    /// Checks whether an access token works. If not, drops it, and the next call gets a new one. Concurrent reports of
    /// one token share one probe. The id of any token but the current one changes nothing.
    ///
    /// # Errors
    /// If the check is impossible: the tenant is not usable, or SuperOffice cannot be reached.
    pub async fn report_rejected(
        &self,
        authorized: &Authorized<IssueAccessToken, GrantResource>,
        id: CredentialId,
    ) -> Result<(), BrokerError> {
        match authorized.resource().name() {
            Some(name) => self.verify_token(&name, id).await,
            None => Ok(()),
        }
    }

    /// Does the same for a call of the gateway.
    pub(in crate::broker) async fn verify_token(
        &self,
        name: &GrantName,
        id: CredentialId,
    ) -> Result<(), BrokerError> {
        let refresher = Arc::clone(&self.refresher);
        let application = Arc::clone(refresher.applications.get(&name.tenant.application)?);
        let (tenant, status) = self.usable_tenant(&name.tenant).await?;
        let Some(grant) = refresher.grant_cache.get(&tenant, name).await? else { return Ok(()) };
        let Some(token) = self.find_token(&grant, &id).await? else { return Ok(()) };
        let check = TokenCheck {
            application,
            tenant,
            status,
            grant,
            token,
            statuses: Arc::clone(&refresher.statuses),
        };
        let work = || async move {
            if check.run().await? == ProbeResult::Alive {
                return Ok(());
            }
            let (name, id) = (&check.grant.name, &check.token.credential_id);
            if refresher.token_cache.remove_dead(name, id) {
                refresher.counters.access_tokens_dropped.increment();
                tracing::info!(grant = %name, credential_id = %id, "a rejected access token was dropped");
                refresher.directory.changes().notify(&name.tenant);
            }
            refresher.grants.delete_access_token(name, id).await?;
            Ok(())
        };
        let result = self.token_checks.join((name.clone(), id), work).await;
        result.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Returns whether calls currently get this token.
    pub(in crate::broker) fn is_current(&self, name: &GrantName, id: &CredentialId) -> bool {
        self.refresher.token_cache.find(name, id).is_some()
    }

    /// Returns the current token if it has this id: from memory, or after a restart from the store.
    async fn find_token(
        &self,
        grant: &Grant,
        id: &CredentialId,
    ) -> Result<Option<Arc<AccessToken>>, BrokerError> {
        let refresher = &self.refresher;
        if let Some(held) = refresher.token_cache.current(&grant.name) {
            return Ok((held.credential_id == *id).then_some(held));
        }
        let stored = refresher.grants.access_token(&grant.name).await?;
        let now = refresher.clock.now();
        let present = |token: &AccessToken| {
            token.credential_id == *id
                && token.token_version == grant.token_version
                && !token.remaining(now).is_zero()
        };
        Ok(stored.filter(present).map(Arc::new))
    }
}

struct TokenCheck {
    application: Arc<Application>,
    tenant: Arc<Tenant>,
    status: Arc<TenantStatus>,
    grant: Arc<Grant>,
    token: Arc<AccessToken>,
    statuses: Arc<Statuses>,
}

impl TokenCheck {
    /// Probes the token. If the tenant has moved, tries once more at its new host.
    async fn run(&self) -> Result<ProbeResult, BrokerError> {
        let failed = |error: UpstreamError| {
            tracing::warn!(%error, grant = %self.grant.name, "an access token could not be verified");
            BrokerError::from_upstream(&self.tenant.name, &error)
        };
        match self.probe(&self.status).await? {
            Ok(probe) => Ok(probe),
            Err(error) if self.has_moved(&error).await => {
                let status = self.statuses.require_usable(&self.tenant).await?;
                self.probe(&status).await?.map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn has_moved(&self, error: &UpstreamError) -> bool {
        let Some(uri) = &self.status.web_api_uri else { return false };
        self.statuses.has_moved(&self.tenant.name, uri, error).await
    }

    /// Calls `currentPrincipal`, which needs a valid credential but no rights, so a 403 means an expired token.
    async fn probe(
        &self,
        status: &TenantStatus,
    ) -> Result<Result<ProbeResult, UpstreamError>, BrokerError> {
        let name = &self.tenant.name;
        let uri = status.web_api_uri.as_ref().ok_or_else(|| missing_web_api_uri(name))?;
        let call = self.application.people.current_principal(name.tenant);
        let credential = ApiCredential::Person { access_token: self.token.value.clone() };
        let unavailable = |why: String| Ok(Err(UpstreamError::Unavailable(why)));
        let sent = self.application.web_api.send(uri, &credential, call.request()).await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error @ SendError::InvalidRequest(_)) => return unavailable(error.to_string()),
            Err(error) => return Ok(Err(UpstreamError::HostUnavailable(error.to_string()))),
        };
        match response.outcome {
            CallOutcome::CredentialRefused | CallOutcome::Forbidden => {
                return Ok(Ok(ProbeResult::Dead));
            }
            CallOutcome::Misdirected => return Ok(Err(UpstreamError::Misdirected)),
            CallOutcome::Done { .. } if response.status == StatusCode::OK => {}
            _ if is_gateway_error(response.status) => {
                return Ok(Err(UpstreamError::HostUnavailable(format!(
                    "HTTP {}",
                    response.status
                ))));
            }
            _ => return unavailable(format!("HTTP {}", response.status)),
        }
        let mut body = Vec::new();
        loop {
            match response.body.try_next().await {
                Ok(Some(part)) if body.len() + part.len() <= call.max_body_bytes => {
                    body.extend_from_slice(&part);
                }
                Ok(None) => break,
                Ok(Some(_)) => {
                    return unavailable("the response is larger than any principal".to_owned());
                }
                Err(error) => return unavailable(error.to_string()),
            }
        }
        let same = |is: bool| if is { ProbeResult::Alive } else { ProbeResult::Dead };
        Ok(call.read(&body).map(|principal| same(principal.id == self.grant.associate_id)))
    }
}
