//! A credential that is lent to a proxy, which sends the call itself.

use std::time::Duration;

use http::HeaderMap;

use super::Egress;
use crate::{
    access::{Acting, Authorized, RevealApplicationToken},
    broker::{BrokerError, web_api::Loan},
    domain::{CredentialId, TenantName},
};

/// What makes a proxy's request the call that was decided on.
pub struct Lent {
    /// The headers that carry the credential.
    pub headers: HeaderMap,
    /// Where on the tenant's host.
    pub path_and_query: String,
    /// The credential.
    pub credential_id: CredentialId,
}

impl Egress {
    /// Lends the credential for a call, in its turn, to a proxy that sends it to `host` (with the port, unless that is
    /// 443). As the system user the proxy is given the client secret too, so that it needs `reveal`.
    ///
    /// Nobody sees how the call ends: a credential that is refused is not healed.
    ///
    /// # Errors
    /// As [`Self::send`], if the secret may not be revealed, or if the tenant is not on that host.
    pub async fn lend(
        &self,
        acting: &Acting,
        reveal: Option<&Authorized<RevealApplicationToken, TenantName>>,
        host: &str,
        patience: Option<Duration>,
    ) -> Result<Lent, BrokerError> {
        let asking = self.asking(acting, patience).await?;
        let may_reveal = reveal.is_some_and(|reveal| *reveal.resource() == asking.tenant);
        let Loan { uri, headers, credential_id } =
            self.web_api.lend(&asking, host, may_reveal).await?;
        let path_and_query = format!("{}{}", uri.path(), acting.path().sent());
        Ok(Lent { headers, path_and_query, credential_id })
    }
}
