//! Whom a caller wants to act as, and whether it may.

use std::{collections::HashMap, sync::Arc};

use super::{
    Services, convert, failure::Failure, layer::Context, open_name, pb, refuse, request::Checks,
};
use crate::{
    access::{
        Action as _, ActionName, Authorized, CallWebApiAsUser, GrantResource, IssueAccessToken,
        Resource,
    },
    broker::{Seen, choose_enrolled},
    domain::{
        AssociateId, Eyes, EyesSelector, Grant, GrantName, GrantSelector, Languages, Subject,
        TenantName, TenantSelector,
    },
};

/// The longest user principal name, in bytes: longer than any address (RFC 5321, 4.5.3.1).
const MAX_NAME_BYTES: usize = 320;

/// A person, in whichever application.
#[derive(Debug, Clone)]
pub(super) enum AskedSubject {
    Associate(AssociateId),
    UserPrincipalName(String),
    Grant(GrantSelector),
}

impl AskedSubject {
    /// The same in this tenant. `None` if it can only be in another.
    pub(super) fn in_tenant(&self, tenant: &TenantName) -> Option<Subject> {
        match self {
            Self::Associate(id) => Some(Subject::Associate(*id)),
            Self::UserPrincipalName(name) => Some(Subject::UserPrincipalName(name.clone())),
            Self::Grant(GrantSelector { tenant: TenantSelector { application, .. }, grant }) => {
                let same = application.as_ref().is_none_or(|one| *one == tenant.application);
                let name = GrantName { tenant: tenant.clone(), grant: grant.clone() };
                same.then_some(Subject::Grant(name))
            }
        }
    }
}

fn tenant_of(authorized: &Authorized<IssueAccessToken, GrantResource>) -> &TenantName {
    &authorized.resource().tenant
}

impl Checks {
    pub(super) fn subject_associate(&mut self, id: i32) -> Option<AskedSubject> {
        let id = AssociateId::new(id).ok_or("must be greater than 0");
        self.note("associate_id", id).map(AskedSubject::Associate)
    }

    pub(super) fn subject_name(&mut self, name: String) -> Option<AskedSubject> {
        let fits =
            !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
        let problem = format!("1 to {MAX_NAME_BYTES} bytes without control characters");
        let name = if fits { Ok(name) } else { Err(problem) };
        self.note("user_principal_name", name).map(AskedSubject::UserPrincipalName)
    }

    pub(super) fn subject_grant(
        &mut self,
        tenant: Option<&TenantSelector>,
        name: &str,
    ) -> Option<AskedSubject> {
        let selector = self.note("grant", name.parse::<GrantSelector>())?;
        let elsewhere = tenant.is_some_and(|tenant| {
            let (of_grant, of_tenant) = (&selector.tenant.application, &tenant.application);
            selector.tenant.tenant != tenant.tenant
                || of_tenant.is_some() && of_grant.is_some() && of_grant != of_tenant
        });
        let selector = if elsewhere { Err("not a grant of tenant") } else { Ok(selector) };
        self.note("grant", selector).map(AskedSubject::Grant)
    }

    pub(super) fn no_subject(&mut self) -> Option<AskedSubject> {
        self.note("subject", Err("give associate_id, user_principal_name or grant"))
    }
}

impl Services {
    /// Decides on the grant of a person with its own attributes; where there is none, on what was asked for.
    pub(super) async fn authorize_person(
        &self,
        context: &Context,
        field: &'static str,
        selector: TenantSelector,
        subject: &AskedSubject,
    ) -> Result<Authorized<IssueAccessToken, GrantResource>, Failure> {
        let tenant = selector.tenant;
        if let Some(application) = selector.application {
            let name = TenantName { application, tenant };
            let found = self.find_person(&name, subject).await?;
            let found = found.ok_or_else(|| Failure::invalid("grant", "not a grant of tenant"))?;
            return self.authorize(context, found);
        }
        let mut found = Vec::new();
        for name in self.candidates(&selector) {
            found.extend(self.find_person(&name, subject).await?);
        }
        let permitted = self.access.authorize_any(&context.caller, found);
        let (action, open) = (IssueAccessToken::NAME, open_name(tenant));
        let permitted =
            permitted.map_err(|refused| refuse(context, action.as_str(), &open, refused))?;
        let chosen = choose_enrolled(&self.tenants, field, tenant, permitted, tenant_of).await;
        // Permitted, and came to nothing.
        let chosen = chosen.inspect_err(|_| context.notes.allowed(action, &open, Arc::new([])))?;
        self.concerns(context, &chosen.resource().tenant)?;
        let name: Resource = chosen.resource().clone().into();
        context.notes.allowed(action, &name, Arc::clone(chosen.policy_ids()));
        self.audit.check(action)?;
        Ok(chosen)
    }

    /// With whose eyes a caller looks at a tenant: a person's need the right to call as that person.
    pub(super) async fn eyes(
        &self,
        context: &Context,
        tenant: &TenantName,
        eyes: EyesSelector,
        path: &str,
    ) -> Result<Eyes, Failure> {
        let subject = match eyes {
            EyesSelector::SystemUser => return Ok(Eyes::SystemUser),
            EyesSelector::Associate(id) => Subject::Associate(id),
            EyesSelector::Grant(grant) => {
                Subject::Grant(GrantName { tenant: tenant.clone(), grant })
            }
        };
        let found = self.impersonation.find(tenant, &subject).await?;
        let authorized: Authorized<CallWebApiAsUser, _> =
            self.authorize_call(context, found, "GET", path)?;
        match authorized.resource().name() {
            Some(name) => Ok(Eyes::Grant(name)),
            None => Err(self.impersonation.nobody(authorized.resource()).await?.into()),
        }
    }

    /// The grants of these associates, if the caller may know of them.
    async fn grants_of(
        &self,
        context: &Context,
        tenant: &TenantName,
        ids: &[AssociateId],
    ) -> Result<Option<HashMap<AssociateId, Arc<Grant>>>, Failure> {
        let asked = [ActionName::ReadGrants];
        let rights = self.access.rights_among(&context.caller, [tenant.clone()], &asked)?;
        Ok(self.impersonation.of_associates(rights.first(), ids).await?)
    }

    /// Associates as the caller reads them, each with the grant that it may know of.
    pub(super) async fn shown(
        &self,
        context: &Context,
        tenant: &TenantName,
        languages: &Languages,
        seen: &[Seen],
    ) -> Result<Vec<pb::Associate>, Failure> {
        let ids: Vec<_> = seen.iter().map(|seen| seen.associate.id).collect();
        let grants = self.grants_of(context, tenant, &ids).await?;
        let show = |seen: &Seen| {
            let (one, time) = (&seen.associate, seen.read_time);
            convert::associate(tenant, one, time, languages, grants.as_ref())
        };
        Ok(seen.iter().map(show).collect())
    }

    async fn find_person(
        &self,
        tenant: &TenantName,
        subject: &AskedSubject,
    ) -> Result<Option<GrantResource>, Failure> {
        let Some(subject) = subject.in_tenant(tenant) else { return Ok(None) };
        Ok(Some(self.impersonation.find(tenant, &subject).await?))
    }
}
