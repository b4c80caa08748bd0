//! Credentials for a proxy (`ext_authz`), which sends the authorized call itself.

use std::time::Duration;

use http::HeaderMap;

use super::Egress;
use crate::{
    access::{Authorized, AuthorizedCall, RevealApplicationToken},
    broker::{BrokerError, web_api::CredentialHeaders},
    domain::{CredentialId, TenantName},
};

/// The credential and path that a proxy puts into its request.
pub struct IssuedProxyCredential {
    /// The headers that carry the credential.
    pub headers: HeaderMap,
    /// The path and query on the tenant's host.
    pub path_and_query: String,
    /// The id of the credential.
    pub credential_id: CredentialId,
}

impl Egress {
    /// Returns the credential for a call that a proxy sends to `host` (with the port, unless it is 443), within the
    /// rate limits. A call as the system user also needs the client secret, and so the permission `reveal`.
    ///
    /// The gateway does not see the response, so it does not replace a credential that SuperOffice rejects.
    ///
    /// # Errors
    /// As [`Self::send`]; or the secret may not be revealed, or the tenant is not on that host.
    pub async fn issue_for_proxy(
        &self,
        call: &AuthorizedCall,
        reveal: Option<&Authorized<RevealApplicationToken, TenantName>>,
        host: &str,
        max_wait: Option<Duration>,
    ) -> Result<IssuedProxyCredential, BrokerError> {
        let context = self.call_context(call, max_wait).await?;
        let may_reveal = reveal.is_some_and(|reveal| *reveal.resource() == context.tenant);
        let CredentialHeaders { uri, headers, credential_id } =
            self.web_api.issue_credential_headers(&context, host, may_reveal).await?;
        let path_and_query = format!("{}{}", uri.path(), call.path().request_target());
        Ok(IssuedProxyCredential { headers, path_and_query, credential_id })
    }
}
