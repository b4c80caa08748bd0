//! Trying a ticket with the cheapest call there is (SUPEROFFICE.md 2.8, 6.2).

use async_trait::async_trait;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    SuperOffice,
    client::{Profile, Repeat, json_repaired, unexpected},
    login_host::JSON,
    web_api::{scheme, secret_header},
};
use crate::{
    domain::{ContextIdentifier, WebApiUri},
    outbound::Request,
    ports::{Probe, TicketProbe, UpstreamError},
};

pub(super) const PRINCIPAL: Profile =
    Profile { what: "User/currentPrincipal", max_body_bytes: 1024 * 1024, repeat: Repeat::Reads };

/// All that a probe looks at: a ticket works whatever else is odd. `people` reads the rest.
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
    ) -> Result<Probe, UpstreamError> {
        for (number, secret) in self.credentials.secrets() {
            if self.probe_with(&secret, tenant, web_api_uri, ticket).await? == Probe::Alive {
                self.credentials.secret_works(number);
                return Ok(Probe::Alive);
            }
            // Not the ticket may be dead but the secret that goes with it.
        }
        Ok(Probe::Dead)
    }
}

impl SuperOffice {
    async fn probe_with(
        &self,
        application_token: &SecretString,
        tenant: ContextIdentifier,
        web_api_uri: &WebApiUri,
        ticket: &SecretString,
    ) -> Result<Probe, UpstreamError> {
        let uri = format!("{web_api_uri}/v1/User/currentPrincipal");
        let authorization = secret_header(&scheme("SOTicket", ticket))?;
        let application_token = secret_header(application_token.expose_secret())?;
        let request = || {
            Request::get(&uri, JSON)
                .header("authorization", authorization.clone())
                .header("so-apptoken", application_token.clone())
        };
        let answer = self.client.send(PRINCIPAL, &*self.random, request).await;
        let answer = answer.map_err(|fault| {
            if fault.is_the_hosts() {
                UpstreamError::HostUnavailable(format!("{}: {fault}", PRINCIPAL.what))
            } else {
                fault.of(PRINCIPAL)
            }
        })?;
        match answer.status {
            StatusCode::OK => {
                let principal: Principal = json_repaired(PRINCIPAL, &answer.body)?;
                let same = principal.database_context_identifier == tenant.to_string();
                if !same {
                    tracing::error!(%tenant, "a ticket opens another tenant; it is dropped");
                }
                Ok(if same { Probe::Alive } else { Probe::Dead })
            }
            // Both are in the documentation for a credential that has expired (SUPEROFFICE.md 12).
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Probe::Dead),
            StatusCode::MISDIRECTED_REQUEST => Err(UpstreamError::Misdirected),
            other => Err(unexpected(PRINCIPAL, other)),
        }
    }
}
