//! A caller, or a call of ours, says that SuperOffice rejected an access token: is it so?

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use http::StatusCode;

use super::Impersonation;
use crate::{
    access::{Authorized, GrantResource, IssueAccessToken},
    broker::{Application, BrokerError, Statuses, tickets::no_uri, web_api::is_gateways},
    domain::{AccessToken, CredentialId, Grant, GrantName, Tenant, TenantStatus},
    ports::{ApiCredential, Probe, SendError, UpstreamError, Verdict},
};

impl Impersonation {
    /// Finds out whether an access token works; if not, it is dropped and the next call gets a new one. Many reports of
    /// one token cost one probe. The id of a token that is not the present one changes nothing.
    ///
    /// # Errors
    /// If it cannot be found out: the tenant is not usable, or SuperOffice cannot be asked.
    pub async fn report_rejected(
        &self,
        authorized: &Authorized<IssueAccessToken, GrantResource>,
        id: CredentialId,
    ) -> Result<(), BrokerError> {
        match authorized.resource().name() {
            Some(name) => self.prove(&name, id).await,
            None => Ok(()),
        }
    }

    /// The same for a call of ours.
    pub(in crate::broker) async fn prove(
        &self,
        name: &GrantName,
        id: CredentialId,
    ) -> Result<(), BrokerError> {
        let refresher = Arc::clone(&self.refresher);
        let application = Arc::clone(refresher.applications.get(&name.tenant.application)?);
        let (tenant, status) = self.usable(&name.tenant).await?;
        let Some(grant) = refresher.known.get(&tenant, name).await? else { return Ok(()) };
        let Some(token) = self.find_token(&grant, &id).await? else { return Ok(()) };
        let check = Check {
            application,
            tenant,
            status,
            grant,
            token,
            statuses: Arc::clone(&refresher.statuses),
        };
        let work = || async move {
            if check.run().await? == Probe::Alive {
                return Ok(());
            }
            let (name, id) = (&check.grant.name, &check.token.credential_id);
            if refresher.cache.drop_dead(name, id) {
                refresher.counters.access_tokens_dropped.increment();
                tracing::info!(grant = %name, credential_id = %id, "dead access token dropped");
                refresher.directory.changes().tell(&name.tenant);
            }
            refresher.grants.drop_access_token(name, id).await?;
            Ok(())
        };
        let landed = self.probes.join((name.clone(), id), work).await;
        landed.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Whether this is the token that calls get now.
    pub(in crate::broker) fn is_present(&self, name: &GrantName, id: &CredentialId) -> bool {
        self.refresher.cache.find(name, id).is_some()
    }

    /// The present token of this id: in memory, or after a restart in the store.
    async fn find_token(
        &self,
        grant: &Grant,
        id: &CredentialId,
    ) -> Result<Option<Arc<AccessToken>>, BrokerError> {
        let refresher = &self.refresher;
        if let Some(held) = refresher.cache.held(&grant.name) {
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

struct Check {
    application: Arc<Application>,
    tenant: Arc<Tenant>,
    status: Arc<TenantStatus>,
    grant: Arc<Grant>,
    token: Arc<AccessToken>,
    statuses: Arc<Statuses>,
}

impl Check {
    /// A tenant that has moved is looked for once, also where its old host is dead and says nothing.
    async fn run(&self) -> Result<Probe, BrokerError> {
        let failed = |error: UpstreamError| {
            tracing::warn!(%error, grant = %self.grant.name, "access token could not be tried");
            BrokerError::from_upstream(&self.tenant.name, &error)
        };
        match self.probe(&self.status).await? {
            Ok(probe) => Ok(probe),
            Err(error) if self.has_moved(&error).await => {
                let status = self.statuses.usable(&self.tenant).await?;
                self.probe(&status).await?.map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn has_moved(&self, error: &UpstreamError) -> bool {
        let Some(uri) = &self.status.web_api_uri else { return false };
        self.statuses.has_moved(&self.tenant.name, uri, error).await
    }

    /// `currentPrincipal` needs no right but a credential that works: a 403 says that it has expired (SUPEROFFICE.md
    /// 4.2).
    async fn probe(
        &self,
        status: &TenantStatus,
    ) -> Result<Result<Probe, UpstreamError>, BrokerError> {
        let name = &self.tenant.name;
        let uri = status.web_api_uri.as_ref().ok_or_else(|| no_uri(name))?;
        let call = self.application.people.current_principal(name.tenant);
        let credential = ApiCredential::Person { access_token: self.token.value.clone() };
        let unavailable = |why: String| Ok(Err(UpstreamError::Unavailable(why)));
        let sent = self.application.web_api.send(uri, &credential, call.request()).await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error @ SendError::Unsendable(_)) => return unavailable(error.to_string()),
            Err(error) => return Ok(Err(UpstreamError::HostUnavailable(error.to_string()))),
        };
        match response.verdict {
            Verdict::CredentialRefused | Verdict::Forbidden => return Ok(Ok(Probe::Dead)),
            Verdict::Misdirected => return Ok(Err(UpstreamError::Misdirected)),
            Verdict::Done { .. } if response.status == StatusCode::OK => {}
            _ if is_gateways(response.status) => {
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
                Ok(Some(_)) => return unavailable("larger than any principal".to_owned()),
                Err(error) => return unavailable(error.to_string()),
            }
        }
        let same = |is: bool| if is { Probe::Alive } else { Probe::Dead };
        Ok(call.read(&body).map(|principal| same(principal.id == self.grant.associate_id)))
    }
}
