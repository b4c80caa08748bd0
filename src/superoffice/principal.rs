//! Probes a ticket with the cheapest call, `GET /api/v1/User/currentPrincipal`.

use async_trait::async_trait;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    SuperOffice,
    client::{RequestLimits, RetryPolicy, json_lenient, unexpected_status},
    login_host::JSON,
    web_api::{authorization, secret_header},
};
use crate::{
    domain::{ContextIdentifier, WebApiUri},
    outbound::Request,
    ports::{ProbeResult, TicketProbe, UpstreamError},
};

pub(super) const PRINCIPAL: RequestLimits = RequestLimits {
    name: "User/currentPrincipal",
    max_body_bytes: 1024 * 1024,
    retry: RetryPolicy::Idempotent,
};

/// The only field that a probe needs. The module `people` reads the others.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Principal {
    database_context_identifier: String,
}

#[async_trait]
impl TicketProbe for SuperOffice {
    async fn probe(
        &self,
        tenant: ContextIdentifier,
        web_api_uri: &WebApiUri,
        ticket: &SecretString,
    ) -> Result<ProbeResult, UpstreamError> {
        for (number, secret) in self.credentials.secrets() {
            if self.probe_with(&secret, tenant, web_api_uri, ticket).await? == ProbeResult::Alive {
                self.credentials.mark_secret_working(number);
                return Ok(ProbeResult::Alive);
            }
            // The application token may have been rejected instead of the ticket.
        }
        Ok(ProbeResult::Dead)
    }
}

impl SuperOffice {
    async fn probe_with(
        &self,
        application_token: &SecretString,
        tenant: ContextIdentifier,
        web_api_uri: &WebApiUri,
        ticket: &SecretString,
    ) -> Result<ProbeResult, UpstreamError> {
        let uri = format!("{web_api_uri}/v1/User/currentPrincipal");
        let authorization = secret_header(&authorization("SOTicket", ticket))?;
        let application_token = secret_header(application_token.expose_secret())?;
        let request = || {
            Request::get(&uri, JSON)
                .header("authorization", authorization.clone())
                .header("so-apptoken", application_token.clone())
        };
        let answer = self.client.send(PRINCIPAL, &*self.random, request).await;
        let answer = answer.map_err(|fault| {
            if fault.is_host_failure() {
                UpstreamError::HostUnavailable(format!("{}: {fault}", PRINCIPAL.name))
            } else {
                fault.into_upstream_error(PRINCIPAL)
            }
        })?;
        match answer.status {
            StatusCode::OK => {
                let principal: Principal = json_lenient(PRINCIPAL, &answer.body)?;
                let same = principal.database_context_identifier == tenant.to_string();
                if !same {
                    tracing::error!(%tenant, "the ticket belongs to another tenant; discarding it");
                }
                Ok(if same { ProbeResult::Alive } else { ProbeResult::Dead })
            }
            // The documentation names both statuses for an expired credential.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(ProbeResult::Dead),
            StatusCode::MISDIRECTED_REQUEST => Err(UpstreamError::Misdirected),
            other => Err(unexpected_status(PRINCIPAL, other)),
        }
    }
}
