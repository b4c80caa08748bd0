//! The person that a caller wants to act as, and the policy check for that person.

use super::{
    context::CallContext, failure::Failure, request::Checks, tenant_authorizer::TenantAuthorizer,
};
use crate::{
    access::{Authorized, GrantResource, IssueAccessToken},
    broker::{BrokerError, Impersonation},
    domain::{
        ApplicationId, AssociateId, GrantSelector, PersonSelector, TenantName, TenantSelector,
    },
};

/// The maximum length of a user principal name in bytes, which is longer than any address (RFC 5321, 4.5.3.1).
const MAX_NAME_BYTES: usize = 320;

/// The maximum number of policy checks for one token. A refresh may return a new user name, which needs a new check.
pub(super) const MAX_ATTEMPTS: usize = 3;

/// Returns the failure for a person whose user name changes at each refresh.
pub(super) fn name_keeps_changing() -> Failure {
    BrokerError::upstream_invalid("the person's user name changes at each refresh").into()
}

/// A person in a request, and the application of the grant if the request names it.
#[derive(Debug, Clone)]
pub(super) struct PersonRequest {
    person: PersonSelector,
    application: Option<ApplicationId>,
}

impl From<PersonSelector> for PersonRequest {
    fn from(person: PersonSelector) -> Self {
        Self { person, application: None }
    }
}

impl PersonRequest {
    /// Returns the person in this tenant, or `None` if the grant belongs to another application.
    pub(super) fn in_tenant(&self, tenant: &TenantName) -> Option<&PersonSelector> {
        let is_same = self.application.as_ref().is_none_or(|id| *id == tenant.application);
        is_same.then_some(&self.person)
    }
}

impl Checks {
    pub(super) fn subject_associate(&mut self, id: i32) -> Option<PersonRequest> {
        let id = AssociateId::new(id).ok_or("must be greater than 0");
        self.note("associate_id", id).map(PersonSelector::Associate).map(Into::into)
    }

    pub(super) fn subject_name(&mut self, name: String) -> Option<PersonRequest> {
        let fits =
            !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
        let problem = format!("1 to {MAX_NAME_BYTES} bytes without control characters");
        let name = if fits { Ok(name) } else { Err(problem) };
        self.note("user_principal_name", name)
            .map(PersonSelector::UserPrincipalName)
            .map(Into::into)
    }

    pub(super) fn subject_grant(
        &mut self,
        tenant: Option<&TenantSelector>,
        name: &str,
    ) -> Option<PersonRequest> {
        let selector = self.note("grant", name.parse::<GrantSelector>())?;
        let elsewhere = tenant.is_some_and(|tenant| {
            let (of_grant, of_tenant) = (&selector.tenant.application, &tenant.application);
            selector.tenant.tenant != tenant.tenant
                || of_tenant.is_some() && of_grant.is_some() && of_grant != of_tenant
        });
        let selector =
            if elsewhere { Err("not a grant of the tenant in `tenant`") } else { Ok(selector) };
        let GrantSelector { tenant, grant } = self.note("grant", selector)?;
        let (person, application) = (PersonSelector::Grant(grant), tenant.application);
        Some(PersonRequest { person, application })
    }

    pub(super) fn no_subject(&mut self) -> Option<PersonRequest> {
        self.note("subject", Err("set associate_id, user_principal_name or grant"))
    }
}

impl TenantAuthorizer {
    /// Checks policy on a person's grant and its attributes. Without a grant, uses the attributes of the request.
    pub(super) async fn authorize_person(
        &self,
        impersonation: &Impersonation,
        context: &CallContext,
        selector: TenantSelector,
        subject: &PersonRequest,
    ) -> Result<Authorized<IssueAccessToken, GrantResource>, Failure> {
        let TenantSelector { application, tenant } = selector;
        if let Some(application) = application {
            let name = TenantName { application, tenant };
            let found = find_person(impersonation, &name, subject).await?;
            let found = found.ok_or_else(|| {
                Failure::invalid("grant", "not a grant of the tenant in `tenant`")
            })?;
            return self.common.authorize(context, found);
        }
        let mut found = Vec::new();
        for name in self.candidates(tenant) {
            found.extend(find_person(impersonation, &name, subject).await?);
        }
        self.authorize_one(context, "tenant", tenant, found, |grant| &grant.tenant).await
    }
}

/// Returns the person's grant in the tenant, or `None` if the request names a grant of another application.
async fn find_person(
    impersonation: &Impersonation,
    tenant: &TenantName,
    subject: &PersonRequest,
) -> Result<Option<GrantResource>, Failure> {
    let Some(subject) = subject.in_tenant(tenant) else { return Ok(None) };
    Ok(Some(impersonation.find(tenant, subject).await?))
}
