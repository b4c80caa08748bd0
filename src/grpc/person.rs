//! The person that a caller wants to act as, and the policy check for that person.

use std::{collections::HashMap, sync::Arc};

use super::{
    Services, convert, failure::Failure, layer::Context, pb, refuse, request::Checks,
    wildcard_tenant_name,
};
use crate::{
    access::{
        Action as _, ActionName, Authorized, CallWebApiAsUser, GrantResource, IssueAccessToken,
        Resource,
    },
    broker::{AssociateReading, resolve_application},
    domain::{
        Actor, ActorSelector, ApplicationId, AssociateId, Grant, GrantSelector, Languages,
        PersonSelector, TenantName, TenantSelector,
    },
};

/// The maximum length of a user principal name in bytes, which is longer than any address (RFC 5321, 4.5.3.1).
const MAX_NAME_BYTES: usize = 320;

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
        let is_same = self.application.as_ref().is_none_or(|one| *one == tenant.application);
        is_same.then_some(&self.person)
    }
}

fn tenant_of(authorized: &Authorized<IssueAccessToken, GrantResource>) -> &TenantName {
    &authorized.resource().tenant
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

impl Services {
    /// Checks policy on a person's grant and its attributes. Without a grant, uses the attributes of the request.
    pub(super) async fn authorize_person(
        &self,
        context: &Context,
        field: &'static str,
        selector: TenantSelector,
        subject: &PersonRequest,
    ) -> Result<Authorized<IssueAccessToken, GrantResource>, Failure> {
        let tenant = selector.tenant;
        if let Some(application) = selector.application {
            let name = TenantName { application, tenant };
            let found = self.find_person(&name, subject).await?;
            let found = found.ok_or_else(|| {
                Failure::invalid("grant", "not a grant of the tenant in `tenant`")
            })?;
            return self.authorize(context, found);
        }
        let mut found = Vec::new();
        for name in self.candidates(&selector) {
            found.extend(self.find_person(&name, subject).await?);
        }
        let permitted = self.access.authorize_any(&context.caller, found);
        let (action, open) = (IssueAccessToken::NAME, wildcard_tenant_name(tenant));
        let permitted =
            permitted.map_err(|refused| refuse(context, action.as_str(), &open, refused))?;
        let chosen = resolve_application(&self.tenants, field, tenant, permitted, tenant_of).await;
        // Policy permitted the action, but the tenant is in no application, or in several.
        let chosen = chosen.inspect_err(|_| context.notes.allowed(action, &open, Arc::new([])))?;
        self.admit_to_tenant(context, &chosen.resource().tenant)?;
        let name: Resource = chosen.resource().clone().into();
        context.notes.allowed(action, &name, Arc::clone(chosen.policy_ids()));
        self.audit.check(action)?;
        Ok(chosen)
    }

    /// Returns the user to read a tenant as. A person needs the permission to call the Web API as that person.
    pub(super) async fn authorize_actor(
        &self,
        context: &Context,
        tenant: &TenantName,
        actor: ActorSelector,
        path: &str,
    ) -> Result<Actor, Failure> {
        let ActorSelector::Person(person) = actor else { return Ok(Actor::SystemUser) };
        let found = self.impersonation.find(tenant, &person).await?;
        let authorized: Authorized<CallWebApiAsUser, _> =
            self.authorize_call(context, found, "GET", path)?;
        match authorized.resource().name() {
            Some(name) => Ok(Actor::Grant(name)),
            None => {
                Err(self.impersonation.explain_missing_grant(authorized.resource()).await?.into())
            }
        }
    }

    /// Returns the grants of these associates, or `None` if the caller may not see grants.
    async fn grants_of(
        &self,
        context: &Context,
        tenant: &TenantName,
        ids: &[AssociateId],
    ) -> Result<Option<HashMap<AssociateId, Arc<Grant>>>, Failure> {
        let asked = [ActionName::ReadGrants];
        let rights = self.access.rights_any_or_empty(&context.caller, [tenant.clone()], &asked)?;
        Ok(self.impersonation.grants_of_associates(rights.first(), ids).await?)
    }

    /// Converts associates, each with its grant if the caller may see it.
    pub(super) async fn to_pb_associates(
        &self,
        context: &Context,
        tenant: &TenantName,
        languages: &Languages,
        seen: &[AssociateReading],
    ) -> Result<Vec<pb::Associate>, Failure> {
        let ids: Vec<_> = seen.iter().map(|seen| seen.associate.id).collect();
        let grants = self.grants_of(context, tenant, &ids).await?;
        let show = |seen: &AssociateReading| {
            let (one, time) = (&seen.associate, seen.read_time);
            convert::associate(tenant, one, time, languages, grants.as_ref())
        };
        Ok(seen.iter().map(show).collect())
    }

    async fn find_person(
        &self,
        tenant: &TenantName,
        subject: &PersonRequest,
    ) -> Result<Option<GrantResource>, Failure> {
        let Some(subject) = subject.in_tenant(tenant) else { return Ok(None) };
        Ok(Some(self.impersonation.find(tenant, subject).await?))
    }
}
