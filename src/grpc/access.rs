//! `AccessService`: what the caller itself may do, and why not.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Services, convert,
    failure::Failure,
    layer::Context,
    open_name,
    pb::{self, access_service_server::AccessService},
    refuse,
    request::{Checks, answer, open},
};
use crate::{
    access::{ActionName, Caller, GrantResource, Refused, Resource, Rights},
    broker::choose_enrolled,
    domain::{Grant, Subject, TenantName, TenantSelector},
};

/// Its full name.
pub(super) const NAME: &str = pb::access_service_server::SERVICE_NAME;

/// What their denials are called in the audit trail: questions are no actions of the policy.
const TEST: &str = "testPermissions";
const EXPLAIN: &str = "explainAccess";

/// What lets a caller act as a person.
const AS_A_PERSON: [ActionName; 2] = [ActionName::IssueAccessToken, ActionName::CallWebApiAsUser];

/// What a caller may know of a tenant.
struct Known {
    rights: Rights<TenantName>,
    people: Vec<Arc<Grant>>,
    on_grants: Vec<Rights<GrantResource>>,
}

impl Known {
    fn tenant(&self) -> &TenantName {
        self.rights.resource()
    }
}

/// The service.
pub(super) struct Accesses(pub(super) Arc<Services>);

impl Accesses {
    /// A grant has attributes of its own, which policies may ask about.
    async fn with_attributes(&self, resource: Resource) -> Result<Resource, Failure> {
        let Resource::Grant(grant) = &resource else { return Ok(resource) };
        let Some(name) = grant.name() else { return Ok(resource) };
        let tenant = name.tenant.clone();
        Ok(self.0.impersonation.find(&tenant, &Subject::Grant(name)).await?.into())
    }

    /// Whether the caller has any right on the tenant or on a grant of it, also on one that there will be once somebody
    /// consents. Decided on names; only for whom a policy names certain grants, anybody looks which there are.
    async fn may_know(&self, caller: &Caller, tenant: &TenantName) -> Result<bool, Failure> {
        let Services { access, impersonation, .. } = &*self.0;
        let on_tenant = access.rights_among(caller, [tenant.clone()], ActionName::ALL)?;
        let anybodys = [GrantResource::anybodys(tenant)];
        if !on_tenant.is_empty() || !access.rights_among(caller, anybodys, &AS_A_PERSON)?.is_empty()
        {
            return Ok(true);
        }
        if !AS_A_PERSON.iter().any(|action| access.may_on_some_grant(caller, *action, tenant)) {
            return Ok(false);
        }
        let people = impersonation.of_tenant(tenant).await?;
        let resources = people.iter().map(|grant| GrantResource::of(grant));
        Ok(!access.rights_among(caller, resources, &AS_A_PERSON)?.is_empty())
    }

    async fn test(
        &self,
        context: &Context,
        request: &pb::TestPermissionsRequest,
    ) -> Result<pb::TestPermissionsResponse, Failure> {
        let mut checks = Checks::default();
        let resource = checks.resource("resource", &request.resource);
        let asked = checks.permissions("permissions", &request.permissions);
        let (Some(resource), Some(asked)) = (resource, asked) else { return Err(checks.failed()) };
        let (access, caller) = (&self.0.access, &context.caller);
        let tenant = resource.tenant().cloned();
        // Of all actions: whoever has another right on the tenant may know that it has none of these.
        let rights = match &tenant {
            Some(tenant) if self.may_know(caller, tenant).await? => {
                let resource = self.with_attributes(resource).await?;
                access.rights_if_any(caller, resource, ActionName::ALL)
            }
            _ => access.rights(caller, resource, ActionName::ALL),
        };
        match rights {
            Ok(rights) => {
                if let Some(tenant) = &tenant {
                    self.0.concerns(context, tenant)?;
                }
                let held = asked.into_iter().filter(|action| rights.holds(*action));
                let permissions = held.map(|action| action.as_str().to_owned()).collect();
                Ok(pb::TestPermissionsResponse { permissions })
            }
            // Above tenants there is nothing whose existence would have to be hidden.
            Err(Refused::Denied(_)) if tenant.is_none() => {
                Ok(pb::TestPermissionsResponse::default())
            }
            Err(refused) => Err(refuse(context, TEST, &request.resource, refused)),
        }
    }

    /// What the caller may know of the tenant and of its people.
    async fn known(&self, context: &Context, selector: TenantSelector) -> Result<Known, Failure> {
        let Services { access, impersonation, tenants, .. } = &*self.0;
        let (caller, tenant) = (&context.caller, selector.tenant);
        let (names, text): (Vec<_>, _) = match &selector.application {
            Some(application) => {
                let name = TenantName { application: application.clone(), tenant };
                (vec![name.clone()], name.to_string())
            }
            None => (self.0.candidates(&selector).collect(), open_name(tenant)),
        };
        let mut found = Vec::new();
        for name in names {
            if !self.may_know(caller, &name).await? {
                continue;
            }
            let people = impersonation.of_tenant(&name).await?;
            let resources = people.iter().map(|grant| GrantResource::of(grant));
            let resources = resources.chain([GrantResource::anybodys(&name)]);
            let on_grants = access.rights_among(caller, resources, &AS_A_PERSON)?;
            let rights = access.rights_if_any(caller, name, ActionName::ALL)?;
            found.push(Known { rights, people, on_grants });
        }
        let mut found = access
            .unless_empty(caller, found)
            .map_err(|refused| refuse(context, EXPLAIN, &text, refused))?;
        if selector.application.is_some()
            && let Some(only) = found.pop()
        {
            return Ok(only);
        }
        Ok(choose_enrolled(tenants, "tenant", tenant, found, Known::tenant).await?)
    }

    async fn explain(
        &self,
        context: &Context,
        request: &pb::ExplainAccessRequest,
    ) -> Result<pb::ExplainAccessResponse, Failure> {
        let mut checks = Checks::default();
        let Some(selector) = checks.tenant_selector("tenant", &request.tenant) else {
            return Err(checks.failed());
        };
        let Known { rights, people, on_grants } = self.known(context, selector).await?;
        self.0.concerns(context, rights.resource())?;
        let contexts = self.0.explanations.explain(&rights, &people, &on_grants).await?;
        let user_contexts = convert::user_contexts(&contexts);
        Ok(pb::ExplainAccessResponse { user_contexts })
    }
}

#[tonic::async_trait]
impl AccessService for Accesses {
    async fn test_permissions(
        &self,
        request: Request<pb::TestPermissionsRequest>,
    ) -> Result<Response<pb::TestPermissionsResponse>, Status> {
        let (context, _, request) = open(request)?;
        answer(&context, self.test(&context, &request).await)
    }

    async fn explain_access(
        &self,
        request: Request<pb::ExplainAccessRequest>,
    ) -> Result<Response<pb::ExplainAccessResponse>, Status> {
        let (context, _, request) = open(request)?;
        answer(&context, self.explain(&context, &request).await)
    }
}
