//! The dependencies that all handlers share, and the policy checks of calls.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{audit_recorder::AuditRecorder, context::CallContext, failure::Failure};
use crate::{
    access::{Access, AccessError, Authorized, On, Resource},
    broker::BrokerError,
    domain::TenantName,
    ports::PageTokens,
};

/// The dependencies that all handlers share.
pub struct HandlerDependencies {
    /// Authenticates callers and checks policy.
    pub access: Arc<Access>,
    /// Writes audit events.
    pub audit: Arc<AuditRecorder>,
    /// Seals page tokens.
    pub page_tokens: Arc<dyn PageTokens>,
    /// Cancelled during shutdown, when connections get a GOAWAY, and watches and incomplete requests end.
    pub stopping: CancellationToken,
}

impl HandlerDependencies {
    /// Checks that policy permits action `A` on `resource`, counts the call in its tenant, and notes the decision.
    pub(super) fn authorize<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        context: &CallContext,
        resource: R,
    ) -> Result<Authorized<A, R>, Failure> {
        let name: Resource = resource.clone().into();
        let tenant = name.tenant().filter(|tenant| context.set_tenant(tenant));
        let decision = self.access.authorize(context.caller(), resource);
        // Counted only after permission: denied calls have their own quota, and made-up names use no memory.
        if let (Ok(_), Some(tenant)) = (&decision, tenant) {
            self.count_tenant_call(context, tenant)?;
        }
        self.note_decision(context, &name, decision)
    }

    /// Checks that policy permits a Web API call. The call must already be counted in its tenant.
    pub(super) fn authorize_call<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        context: &CallContext,
        resource: R,
        method: &str,
        path: &str,
    ) -> Result<Authorized<A, R>, Failure> {
        let name: Resource = resource.clone().into();
        let decision = self.access.authorize_call(context.caller(), resource, method, path);
        self.note_decision(context, &name, decision)
    }

    /// Notes the decision for the audit trail. Fails if the audit event of a permission cannot be written.
    pub(super) fn note_decision<A: On<R>, R: Clone + Into<Resource>>(
        &self,
        context: &CallContext,
        name: &Resource,
        decision: Result<Authorized<A, R>, AccessError>,
    ) -> Result<Authorized<A, R>, Failure> {
        let authorized =
            decision.map_err(|refused| context.refuse(A::NAME.as_str(), name, refused))?;
        context.permit(A::NAME, name, Arc::clone(authorized.policy_ids()));
        self.audit.check(A::NAME)?;
        Ok(authorized)
    }

    /// Sets the tenant of a call. The first time, counts the call in that tenant.
    pub(super) fn count_in_tenant_once(
        &self,
        context: &CallContext,
        tenant: &TenantName,
    ) -> Result<(), Failure> {
        if context.set_tenant(tenant) {
            self.count_tenant_call(context, tenant)?;
        }
        Ok(())
    }

    fn count_tenant_call(
        &self,
        context: &CallContext,
        tenant: &TenantName,
    ) -> Result<(), AccessError> {
        self.access.count_tenant_call(context.caller(), tenant).map_err(AccessError::from)
    }

    /// Returns the token of the page after `last`, or an empty text if there is no next page.
    pub(super) fn next_page_token(
        &self,
        query: &str,
        last: Option<String>,
    ) -> Result<String, Failure> {
        let Some(last) = last else { return Ok(String::new()) };
        let sealed = self.page_tokens.seal(query, last.as_bytes());
        sealed.map_err(|error| BrokerError::Internal(error.to_string().into()).into())
    }

    /// Removes the extra item, which only shows that a next page exists, and returns the token of that page.
    pub(super) fn split_page<T>(
        &self,
        query: &str,
        mut found: Vec<T>,
        limit: usize,
        id: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, String), Failure> {
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).map(id);
        let token = self.next_page_token(query, last)?;
        Ok((found, token))
    }
}
