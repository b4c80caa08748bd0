//! Credentials for calls that a proxy sends itself (Envoy's external authorization).

use http::HeaderMap;

use super::{WebApi, WebApiCallContext};
use crate::{
    broker::BrokerError,
    domain::{Actor, CredentialId, WebApiUri},
};

/// The headers and the address for one call to a tenant that a proxy sends.
pub(in crate::broker) struct CredentialHeaders {
    pub(in crate::broker) uri: WebApiUri,
    /// The headers that carry the credential.
    pub(in crate::broker) headers: HeaderMap,
    pub(in crate::broker) credential_id: CredentialId,
}

impl WebApi {
    /// Returns the credential for one call after acquiring a permit; the call counts as made. `host` is the host to
    /// which the proxy sends it; any host other than the tenant's is rejected.
    pub(in crate::broker) async fn issue_credential_headers(
        &self,
        context: &WebApiCallContext,
        host: &str,
        may_reveal: bool,
    ) -> Result<CredentialHeaders, BrokerError> {
        let application = self.applications.get(&context.tenant.application)?;
        let reveals = context.actor == Actor::SystemUser;
        if reveals && !(may_reveal && application.allow_reveal_application_token) {
            return Err(BrokerError::RevealNotAllowed(context.tenant.application.clone()));
        }
        let credential = self.acquire(application, context).await?;
        if !credential.uri.authority().eq_ignore_ascii_case(host) {
            let problem = "the proxy sends this request to a host that is not the tenant's Web API host: set the context \
                extension api_host of the route to the host to which the route sends the request";
            return Err(BrokerError::Invalid { field: "api_host", problem: problem.to_owned() });
        }
        self.counters.web_api_calls.increment();
        self.hosts.refresh_for_proxy(&context.tenant);
        let headers = application.web_api.credential_headers(&credential.credential);
        let headers = headers.map_err(|error| BrokerError::Internal(error.to_string().into()))?;
        Ok(CredentialHeaders {
            headers,
            credential_id: credential.credential_id().clone(),
            uri: credential.uri,
        })
    }
}
