//! Calls of the Web API that are made for a caller: it has no credential of SuperOffice, and never sees one.
//!
//! One use case for every door (the egress listener, `WebApiService`, a proxy that asks): whose eyes are meant is found
//! out here, `access` decides, and what was decided is sent, under header rules that hold for all doors.

mod gateway_headers;
mod headers;
mod lending;
mod links;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, header::RETRY_AFTER};

pub use self::{
    gateway_headers::{ACT_AS, GatewayHeaders, InvalidGatewayHeader, is_act_as},
    headers::{method_override, not_sent, strip_request, strip_response},
    lending::Lent,
    links::Links,
};
use super::{Asking, BrokerError, Impersonation, Used, WebApi};
use crate::{
    access::{Acting, Chosen},
    domain::{Eyes, EyesSelector, GrantName, Subject, TenantName, WebApiUri},
    ports::{ApiBody, ApiRequest, ApiResponse},
};

/// What is sent besides what was decided on.
#[derive(Debug)]
pub struct Sending {
    /// As they came: what must not go on is taken out.
    pub headers: HeaderMap,
    /// The body.
    pub body: ApiBody,
    /// The longest wait for the beginning of the answer, all attempts together. For a body that arrives while it is
    /// sent, the time counts from its last part.
    pub patience: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Sent {
    /// SuperOffice's answer, whatever it is, without the headers that are not the caller's.
    pub response: ApiResponse,
    /// Where it came from.
    pub uri: WebApiUri,
}

/// The use case.
pub struct Egress {
    web_api: Arc<WebApi>,
    impersonation: Arc<Impersonation>,
}

impl Egress {
    /// Over what is called, and the people who can be acted for.
    #[must_use]
    pub fn new(web_api: Arc<WebApi>, impersonation: Arc<Impersonation>) -> Self {
        Self { web_api, impersonation }
    }

    /// Who is meant. What this finds is for the decision, not for the caller. `eyes`: `None` where the caller did not
    /// say; then people are looked for only if it may act as somebody there at all.
    ///
    /// # Errors
    /// If the store does not answer, or there are too many people to tell who is meant.
    pub async fn chosen(
        &self,
        tenant: &TenantName,
        eyes: Option<EyesSelector>,
        may_act_as_somebody: bool,
    ) -> Result<Chosen, BrokerError> {
        let subject = match eyes {
            None if may_act_as_somebody => return self.everybody(tenant).await,
            None => return Ok(Chosen::TheOnly(Vec::new())),
            Some(EyesSelector::SystemUser) => return Ok(Chosen::SystemUser),
            Some(EyesSelector::Associate(id)) => Subject::Associate(id),
            Some(EyesSelector::Grant(grant)) => {
                Subject::Grant(GrantName { tenant: tenant.clone(), grant })
            }
        };
        Ok(Chosen::Person(self.impersonation.find(tenant, &subject).await?))
    }

    /// Who can be meant where nobody was named.
    async fn everybody(&self, tenant: &TenantName) -> Result<Chosen, BrokerError> {
        let people = self.impersonation.everybody(tenant).await?.map(Chosen::TheOnly);
        people.ok_or_else(|| {
            let problem = "wanted `system`, `associates/{associate}` or `grants/{grant}`: the tenant has too many \
                grants to tell whether only one of them is meant";
            BrokerError::Invalid { field: ACT_AS, problem: problem.to_owned() }
        })
    }

    /// Makes the call, and returns as soon as the answer begins. `used` receives each step.
    ///
    /// # Errors
    /// Everything in CONTRACT section 4 that can stand between a tenant and a call to it. What SuperOffice answers is
    /// no error.
    pub async fn send(
        &self,
        acting: &Acting,
        sending: Sending,
        used: Used<'_>,
    ) -> Result<Sent, BrokerError> {
        let Sending { mut headers, body, patience } = sending;
        let whole = matches!(body, ApiBody::Whole(_));
        let asking = self.asking(acting, whole.then_some(patience)).await?;
        strip_request(&mut headers);
        let path_and_query = acting.path().sent().to_owned();
        let (method, answer_within) = (acting.method().clone(), patience);
        let request = ApiRequest { method, path_and_query, headers, body, answer_within };
        let safe = request.only_reads();
        let mut sent = self.web_api.send(&asking, request, used).await?;
        strip_response(&mut sent.response.headers);
        // Front ends say so of their servers, which may have done what was asked all the same.
        if !safe && sent.response.status.is_server_error() {
            sent.response.headers.remove(RETRY_AFTER);
        }
        Ok(sent)
    }

    /// Whose call it is, and with whose eyes.
    async fn asking(
        &self,
        acting: &Acting,
        patience: Option<Duration>,
    ) -> Result<Asking, BrokerError> {
        let (eyes, person) = match acting {
            Acting::SystemUser(_) => (Eyes::SystemUser, None),
            Acting::Person(authorized) => {
                let person = &authorized.resource().on;
                match person.name() {
                    Some(name) => (Eyes::Grant(name), Some(person.clone())),
                    None => return Err(self.impersonation.nobody(person).await?),
                }
            }
        };
        Ok(Asking {
            tenant: acting.tenant().clone(),
            eyes,
            account: acting.caller().shared_id(),
            deadline: patience.map(|patience| self.web_api.moment_in(patience)),
            person,
        })
    }
}

#[cfg(test)]
mod tests;
