//! A credential for a call that somebody else sends.

use http::HeaderMap;

use super::{Asking, WebApi};
use crate::{
    broker::BrokerError,
    domain::{CredentialId, Eyes, WebApiUri},
};

/// What opens a tenant once, for somebody else.
pub(in crate::broker) struct Loan {
    pub(in crate::broker) uri: WebApiUri,
    /// They carry the credential.
    pub(in crate::broker) headers: HeaderMap,
    pub(in crate::broker) credential_id: CredentialId,
}

impl WebApi {
    /// A credential for one call, when it is its turn; it is counted as made. `host` is where it will be sent, and
    /// nothing is lent for another one than the tenant's.
    pub(in crate::broker) async fn lend(
        &self,
        asking: &Asking,
        host: &str,
        may_reveal: bool,
    ) -> Result<Loan, BrokerError> {
        let application = self.applications.get(&asking.tenant.application)?;
        let reveals = asking.eyes == Eyes::SystemUser;
        if reveals && !(may_reveal && application.allow_reveal_application_token) {
            return Err(BrokerError::RevealNotAllowed(asking.tenant.application.clone()));
        }
        let pass = self.ready(application, asking).await?;
        if !pass.uri.authority().eq_ignore_ascii_case(host) {
            let problem = "the proxy sends this request to another host than that of the tenant's Web API: its route \
                must name in the context extension api_host where it goes, and go there";
            return Err(BrokerError::Invalid { field: "api_host", problem: problem.to_owned() });
        }
        self.counters.web_api_calls.increment();
        self.lent(&asking.tenant);
        let headers = application.web_api.headers_of(&pass.credential);
        let headers = headers.map_err(|error| BrokerError::Internal(error.to_string().into()))?;
        Ok(Loan { headers, credential_id: pass.credential_id().clone(), uri: pass.uri })
    }
}
