//! Calls of the Web API on behalf of a caller, which has no SuperOffice credential and never sees one.
//!
//! One use case serves every entrance (the egress listener, `WebApiService`, `ext_authz`): this module finds the user
//! to act as, `access` decides, and the request is sent. The header rules are the same for every entrance.

mod gateway_headers;
mod headers;
mod links;
mod proxy_credential;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, header::RETRY_AFTER};

pub use self::{
    gateway_headers::{ACT_AS, GatewayHeaders, InvalidGatewayHeader, is_act_as},
    headers::{method_override, not_forwarded, strip_request, strip_response},
    links::LinkRewriter,
    proxy_credential::IssuedProxyCredential,
};
use super::{
    BrokerError, Impersonation, ProgressCallback, WebApi, WebApiCallContext, WebApiResponse,
};
use crate::{
    access::{ActorChoice, AuthorizedCall},
    domain::{Actor, ActorSelector, TenantName},
    ports::{ApiBody, ApiRequest},
};

/// The parts of a request that the policy decision does not cover.
#[derive(Debug)]
pub struct EgressRequest {
    /// The caller's headers. Headers that must not be forwarded are removed later.
    pub headers: HeaderMap,
    /// The body.
    pub body: ApiBody,
    /// The longest wait for the response headers, over all attempts. For a streamed body it starts at the last chunk.
    pub max_wait: Duration,
}

/// The use case of Web API calls.
pub struct Egress {
    web_api: Arc<WebApi>,
    impersonation: Arc<Impersonation>,
}

impl Egress {
    /// Creates the use case from the Web API client and the grants.
    #[must_use]
    pub fn new(web_api: Arc<WebApi>, impersonation: Arc<Impersonation>) -> Self {
        Self { web_api, impersonation }
    }

    /// Finds the user that a caller wants to act as. The result is for the policy decision, not for the caller. `actor`
    /// is `None` if the caller named no user; then grants are listed only if the caller may act as at least one
    /// person of the tenant.
    ///
    /// # Errors
    /// If the store does not answer, or the tenant has too many grants to find the only permitted user.
    pub async fn resolve_actor(
        &self,
        tenant: &TenantName,
        actor: Option<ActorSelector>,
        may_act_as_some_person: bool,
    ) -> Result<ActorChoice, BrokerError> {
        let person = match actor {
            None if may_act_as_some_person => return self.all_candidates(tenant).await,
            None => return Ok(ActorChoice::Unspecified { candidates: Vec::new() }),
            Some(ActorSelector::SystemUser) => return Ok(ActorChoice::SystemUser),
            Some(ActorSelector::Person(person)) => person,
        };
        Ok(ActorChoice::Person(self.impersonation.find(tenant, &person).await?))
    }

    /// Returns all candidates if the caller named no user.
    async fn all_candidates(&self, tenant: &TenantName) -> Result<ActorChoice, BrokerError> {
        let candidates = self.impersonation.all_grant_resources(tenant).await?;
        let choice = candidates.map(|candidates| ActorChoice::Unspecified { candidates });
        choice.ok_or_else(|| {
            let problem = "must be `system`, `associates/{associate}` or `grants/{grant}`: the tenant has too many \
                grants to choose the only permitted user";
            BrokerError::Invalid { field: ACT_AS, problem: problem.to_owned() }
        })
    }

    /// Sends the call and returns when the response headers arrive, without the headers that must not reach the caller.
    /// `on_progress` receives each step.
    ///
    /// # Errors
    /// If the tenant or credential is not usable, or SuperOffice cannot be reached. A response of SuperOffice with an
    /// error status is not an error.
    pub async fn send(
        &self,
        call: &AuthorizedCall,
        request: EgressRequest,
        on_progress: ProgressCallback<'_>,
    ) -> Result<WebApiResponse, BrokerError> {
        let EgressRequest { mut headers, body, max_wait } = request;
        let whole = matches!(body, ApiBody::Whole(_));
        let context = self.call_context(call, whole.then_some(max_wait)).await?;
        strip_request(&mut headers);
        let request = ApiRequest {
            method: call.method().clone(),
            path_and_query: call.path().request_target().to_owned(),
            headers,
            body,
            response_timeout: max_wait,
        };
        let safe = request.is_safe_method();
        let mut answered = self.web_api.send(&context, request, on_progress).await?;
        let response = &mut answered.response;
        strip_response(&mut response.headers);
        // A load balancer may send `Retry-After` although its server has processed the request.
        if !safe && response.status.is_server_error() {
            response.headers.remove(RETRY_AFTER);
        }
        Ok(answered)
    }

    /// Returns the context of the call: tenant, user, queue key and deadline.
    async fn call_context(
        &self,
        call: &AuthorizedCall,
        max_wait: Option<Duration>,
    ) -> Result<WebApiCallContext, BrokerError> {
        let (actor, person) = match call {
            AuthorizedCall::SystemUser(_) => (Actor::SystemUser, None),
            AuthorizedCall::Person(authorized) => {
                let person = &authorized.resource().target;
                match person.name() {
                    Some(name) => (Actor::Grant(name), Some(person.clone())),
                    None => return Err(self.impersonation.explain_missing_grant(person).await?),
                }
            }
        };
        Ok(WebApiCallContext {
            tenant: call.tenant().clone(),
            actor,
            queue_key: call.caller().shared_id(),
            deadline: max_wait.map(|wait| self.web_api.deadline_in(wait)),
            person,
        })
    }
}

#[cfg(test)]
mod tests;
