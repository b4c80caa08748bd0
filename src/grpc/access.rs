//! `AccessService`: the caller's own permissions, with reasons.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    answer::answer,
    context::CallContext,
    convert,
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    notes::NotedResource,
    pb::{self, access_service_server::AccessService},
    request::{Checks, split_request},
    tenant_authorizer::{TenantAuthorizer, wildcard_tenant_name},
};
use crate::{
    access::{AccessError, ActionName, Caller, GrantResource, Resource, Rights},
    broker::{Explanations, Impersonation, resolve_application},
    domain::{Grant, PersonSelector, TenantName, TenantSelector},
};

/// The full name of the service.
pub(super) const NAME: &str = pb::access_service_server::SERVICE_NAME;

/// The names of the two RPCs in audit events of denials. They are not policy actions.
const TEST: &str = "testPermissions";
const EXPLAIN: &str = "explainAccess";

/// The actions with which a caller acts as a person.
const PERSON_ACTIONS: [ActionName; 2] =
    [ActionName::IssueAccessToken, ActionName::CallWebApiAsUser];

/// A tenant that the caller may see, with the caller's permissions on it.
struct VisibleTenant {
    rights: Rights<TenantName>,
    grants: Vec<Arc<Grant>>,
    grant_rights: Vec<Rights<GrantResource>>,
}

impl VisibleTenant {
    fn tenant(&self) -> &TenantName {
        self.rights.resource()
    }
}

/// The handler of the service.
pub struct AccessHandler {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// Checks policy on tenants.
    pub tenant_authorizer: Arc<TenantAuthorizer>,
    /// The use cases of grants and their access tokens.
    pub impersonation: Arc<Impersonation>,
    /// Explains which users a caller may act as.
    pub explanations: Explanations,
}

impl AccessHandler {
    /// Loads the attributes of a grant, which policies may use.
    async fn with_attributes(&self, resource: Resource) -> Result<Resource, Failure> {
        let Resource::Grant(grant) = &resource else { return Ok(resource) };
        let Some(name) = grant.name() else { return Ok(resource) };
        let person = PersonSelector::Grant(name.grant);
        Ok(self.impersonation.find(&name.tenant, &person).await?.into())
    }

    /// Returns whether the caller has any permission on the tenant or on one of its grants, including grants that do
    /// not exist yet. Reads the grants from the store only if a policy names certain grants for this caller.
    async fn may_see_tenant(&self, caller: &Caller, tenant: &TenantName) -> Result<bool, Failure> {
        let access = &self.common.access;
        let on_tenant = access.rights_on_each(caller, [tenant.clone()], ActionName::ALL)?;
        let any_grant = [GrantResource::any_grant(tenant)];
        if !on_tenant.is_empty()
            || !access.rights_on_each(caller, any_grant, &PERSON_ACTIONS)?.is_empty()
        {
            return Ok(true);
        }
        if !PERSON_ACTIONS.iter().any(|action| access.may_on_some_grant(caller, *action, tenant)) {
            return Ok(false);
        }
        let grants = self.impersonation.first_grants_of_tenant(tenant).await?;
        let resources = grants.iter().map(|grant| GrantResource::from_grant(grant));
        Ok(!access.rights_on_each(caller, resources, &PERSON_ACTIONS)?.is_empty())
    }

    async fn test(
        &self,
        context: &CallContext,
        request: &pb::TestPermissionsRequest,
    ) -> Result<pb::TestPermissionsResponse, Failure> {
        let mut checks = Checks::default();
        let resource = checks.resource("resource", &request.resource);
        let requested = checks.permissions("permissions", &request.permissions);
        let (Some(resource), Some(requested)) = (resource, requested) else {
            return Err(checks.into_failure());
        };
        let (access, caller) = (&self.common.access, context.caller());
        let tenant = resource.tenant().cloned();
        // Checks all actions: a caller with another permission on the tenant may learn that it lacks these.
        let rights = match &tenant {
            Some(tenant) if self.may_see_tenant(caller, tenant).await? => {
                let resource = self.with_attributes(resource).await?;
                access.rights_on(caller, resource, ActionName::ALL)
            }
            _ => access.require_rights_on(caller, resource, ActionName::ALL),
        };
        match rights {
            Ok(rights) => {
                if let Some(tenant) = &tenant {
                    self.common.count_in_tenant_once(context, tenant)?;
                }
                let held = requested.into_iter().filter(|action| rights.holds(*action));
                let permissions = held.map(|action| action.as_str().to_owned()).collect();
                Ok(pb::TestPermissionsResponse { permissions })
            }
            // Applications and the gateway itself are not secret.
            Err(AccessError::Denied(_)) if tenant.is_none() => {
                Ok(pb::TestPermissionsResponse::default())
            }
            Err(refused) => {
                Err(context.refuse(TEST, NotedResource::Name(&request.resource), refused))
            }
        }
    }

    /// Returns the tenant that the selector names, with its grants and the caller's permissions.
    async fn visible_tenant(
        &self,
        context: &CallContext,
        selector: TenantSelector,
    ) -> Result<VisibleTenant, Failure> {
        let (access, caller, tenant) = (&self.common.access, context.caller(), selector.tenant);
        let (names, text) = match &selector.application {
            Some(application) => {
                let name = TenantName { application: application.clone(), tenant };
                (vec![name.clone()], name.to_string())
            }
            None => (self.tenant_authorizer.candidates(tenant), wildcard_tenant_name(tenant)),
        };
        let mut found = Vec::new();
        for name in names {
            if !self.may_see_tenant(caller, &name).await? {
                continue;
            }
            let grants = self.impersonation.first_grants_of_tenant(&name).await?;
            let resources = grants.iter().map(|grant| GrantResource::from_grant(grant));
            let resources = resources.chain([GrantResource::any_grant(&name)]);
            let grant_rights = access.rights_on_each(caller, resources, &PERSON_ACTIONS)?;
            let rights = access.rights_on(caller, name, ActionName::ALL)?;
            found.push(VisibleTenant { rights, grants, grant_rights });
        }
        let mut found = access
            .deny_if_empty(caller, found)
            .map_err(|refused| context.refuse(EXPLAIN, NotedResource::Name(&text), refused))?;
        if selector.application.is_some()
            && let Some(only) = found.pop()
        {
            return Ok(only);
        }
        let tenants = &self.tenant_authorizer.tenants;
        Ok(resolve_application(tenants, "tenant", tenant, found, VisibleTenant::tenant).await?)
    }

    async fn explain(
        &self,
        context: &CallContext,
        request: &pb::ExplainAccessRequest,
    ) -> Result<pb::ExplainAccessResponse, Failure> {
        let mut checks = Checks::default();
        let Some(selector) = checks.tenant_selector("tenant", &request.tenant) else {
            return Err(checks.into_failure());
        };
        let VisibleTenant { rights, grants, grant_rights } =
            self.visible_tenant(context, selector).await?;
        self.common.count_in_tenant_once(context, rights.resource())?;
        let contexts = self.explanations.explain(&rights, &grants, &grant_rights).await?;
        let user_contexts = convert::user_contexts(&contexts);
        Ok(pb::ExplainAccessResponse { user_contexts })
    }
}

#[tonic::async_trait]
impl AccessService for AccessHandler {
    async fn test_permissions(
        &self,
        request: Request<pb::TestPermissionsRequest>,
    ) -> Result<Response<pb::TestPermissionsResponse>, Status> {
        let (context, _, request) = split_request(request)?;
        answer(&context, self.test(&context, &request).await)
    }

    async fn explain_access(
        &self,
        request: Request<pb::ExplainAccessRequest>,
    ) -> Result<Response<pb::ExplainAccessResponse>, Status> {
        let (context, _, request) = split_request(request)?;
        answer(&context, self.explain(&context, &request).await)
    }
}
