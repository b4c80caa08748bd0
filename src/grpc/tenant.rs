//! `TenantService`: the tenants that the gateway serves.

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    answer::{answer, answer_stream, rpc},
    context::CallContext,
    convert,
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    pb::{self, tenant_service_server::TenantService},
    request::{Checks, split_request},
    tenant_authorizer::TenantAuthorizer,
    watch::{self, Messages},
    watch_status::{StatusWatch, WatchScope},
};
use crate::{
    access::{Authorized, Gateway, ManageTenants, ReadTenants},
    broker::{Applications, Page, Statuses, TenantPage, TenantSearch, Tenants},
    domain::{ListScope, TENANT_FIELDS, Tenant, TenantName},
};

/// The full name of the service.
pub(super) const NAME: &str = pb::tenant_service_server::SERVICE_NAME;

/// The handler of the service.
pub struct TenantHandler {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// Checks policy on tenants.
    pub tenant_authorizer: Arc<TenantAuthorizer>,
    /// The configured applications.
    pub applications: Arc<Applications>,
    /// The use cases of tenants.
    pub tenants: Arc<Tenants>,
    /// Lists tenants that match a filter.
    pub tenant_search: TenantSearch,
    /// The use cases of tenant status.
    pub statuses: Arc<Statuses>,
}

impl TenantHandler {
    fn pb(&self, tenant: &Tenant) -> pb::Tenant {
        let status = self.statuses.last_known(tenant);
        convert::tenant(tenant, status.as_deref())
    }

    /// Parses the name and checks `manageTenants`: the first step of every change of a tenant.
    fn manage(
        &self,
        context: &CallContext,
        mut checks: Checks,
        name: &str,
    ) -> Result<Authorized<ManageTenants, TenantName>, Failure> {
        let Some(name) = checks.tenant_name("name", name) else {
            return Err(checks.into_failure());
        };
        self.common.authorize(context, name)
    }

    async fn create(
        &self,
        context: &CallContext,
        request: pb::CreateTenantRequest,
    ) -> Result<pb::CreateTenantResponse, Failure> {
        let mut checks = Checks::default();
        let parent = checks.application_name("parent", &request.parent);
        let tenant = checks.context_identifier("tenant_id", &request.tenant_id);
        let labels = checks.labels("tenant.labels", request.tenant.unwrap_or_default().labels);
        let (Some(parent), Some(tenant), Some(labels)) = (parent, tenant, labels) else {
            return Err(checks.into_failure());
        };
        let name = TenantName { application: parent.clone(), tenant };
        let authorized = self.common.authorize(context, parent);
        // Policy decides on the application; the action creates the tenant.
        context.notes.set_last_resource(name.clone());
        let authorized = authorized?;
        self.common.count_in_tenant_once(context, &name)?;
        let tenant = context.run_change(self.tenants.create(&authorized, tenant, labels)).await?;
        Ok(pb::CreateTenantResponse { tenant: Some(self.pb(&tenant)) })
    }

    async fn get(
        &self,
        context: &CallContext,
        request: pb::GetTenantRequest,
    ) -> Result<pb::GetTenantResponse, Failure> {
        let mut checks = Checks::default();
        let Some(selector) = checks.tenant_selector("name", &request.name) else {
            return Err(checks.into_failure());
        };
        let authorized: Authorized<ReadTenants, _> =
            self.tenant_authorizer.authorize(context, "name", selector).await?;
        let tenant = self.tenants.get(&authorized).await?;
        Ok(pb::GetTenantResponse { tenant: Some(self.pb(&tenant)) })
    }

    async fn list(
        &self,
        context: &CallContext,
        request: pb::ListTenantsRequest,
    ) -> Result<pb::ListTenantsResponse, Failure> {
        let (tenant_search, page_tokens) = (&self.tenant_search, &*self.common.page_tokens);
        let pb::ListTenantsRequest { parent, page_size, page_token, filter } = request;
        let query = format!("ListTenants {:?} {parent:?} {filter:?}", context.caller().id());
        let mut checks = Checks::default();
        let scope = checks.list_scope("parent", &parent);
        let filter = checks.filter("filter", &filter, TENANT_FIELDS);
        let limit = checks.page_size("page_size", page_size);
        let after = checks.page_token("page_token", &page_token, page_tokens, &query);
        let (Some(scope), Some(filter), Some(limit), Some(after)) = (scope, filter, limit, after)
        else {
            return Err(checks.into_failure());
        };
        let page = Page { after, limit };
        let TenantPage { tenants, next } = match scope {
            ListScope::Gateway => {
                let authorized = self.common.authorize(context, Gateway)?;
                tenant_search.list_all(&authorized, page, &filter).await?
            }
            ListScope::Application(application) => {
                let authorized = self.common.authorize(context, application)?;
                tenant_search.list_of_application(&authorized, page, &filter).await?
            }
        };
        let next = next.map(|name| name.to_string());
        let next_page_token = self.common.next_page_token(&query, next)?;
        let pb =
            |(tenant, status): &(_, Option<Arc<_>>)| convert::tenant(tenant, status.as_deref());
        Ok(pb::ListTenantsResponse { tenants: tenants.iter().map(pb).collect(), next_page_token })
    }

    async fn delete(
        &self,
        context: &CallContext,
        request: pb::DeleteTenantRequest,
    ) -> Result<pb::DeleteTenantResponse, Failure> {
        let authorized = self.manage(context, Checks::default(), &request.name)?;
        let etag = Some(request.etag.as_str()).filter(|etag| !etag.is_empty());
        context.run_change(self.tenants.delete(&authorized, etag, request.force)).await?;
        Ok(pb::DeleteTenantResponse {})
    }

    async fn set_token(
        &self,
        context: &CallContext,
        request: pb::SetSystemUserTokenRequest,
    ) -> Result<pb::SetSystemUserTokenResponse, Failure> {
        let mut checks = Checks::default();
        let token = checks.system_user_token("system_user_token", request.system_user_token);
        let name = checks.tenant_name("name", &request.name);
        let (Some(name), Some(token)) = (name, token) else { return Err(checks.into_failure()) };
        let authorized = self.common.authorize(context, name)?;
        let tenant =
            context.run_change(self.tenants.set_system_user_token(&authorized, token)).await?;
        Ok(pb::SetSystemUserTokenResponse { tenant: Some(self.pb(&tenant)) })
    }

    async fn disable(
        &self,
        context: &CallContext,
        request: pb::DisableTenantRequest,
    ) -> Result<pb::DisableTenantResponse, Failure> {
        let mut checks = Checks::default();
        let name = checks.tenant_name("name", &request.name);
        let reason = checks.reason("reason", request.reason);
        let (Some(name), Some(reason)) = (name, reason) else { return Err(checks.into_failure()) };
        context.notes.set_reason(reason);
        let authorized = self.common.authorize(context, name)?;
        let tenant = context.run_change(self.tenants.set_disabled(&authorized, true)).await?;
        Ok(pb::DisableTenantResponse { tenant: Some(self.pb(&tenant)) })
    }

    async fn enable(
        &self,
        context: &CallContext,
        request: pb::EnableTenantRequest,
    ) -> Result<pb::EnableTenantResponse, Failure> {
        let authorized = self.manage(context, Checks::default(), &request.name)?;
        let tenant = context.run_change(self.tenants.set_disabled(&authorized, false)).await?;
        Ok(pb::EnableTenantResponse { tenant: Some(self.pb(&tenant)) })
    }

    async fn watch(
        &self,
        context: &Arc<CallContext>,
        request: &pb::WatchTenantStatusRequest,
    ) -> Result<Messages<pb::WatchTenantStatusResponse>, Failure> {
        let mut checks = Checks::default();
        let scope = if request.parent.contains("/tenants/") {
            checks.tenant_name("parent", &request.parent).map(WatchScope::Tenant)
        } else {
            checks.list_scope("parent", &request.parent).map(|scope| match scope {
                ListScope::Gateway => WatchScope::All,
                ListScope::Application(id) => WatchScope::Application(id),
            })
        };
        let Some(scope) = scope else { return Err(checks.into_failure()) };
        let watch = StatusWatch::new(
            Arc::clone(&self.common),
            Arc::clone(&self.applications),
            Arc::clone(&self.statuses),
            Arc::clone(context),
            scope,
        );
        watch::start(watch, Arc::clone(context), &self.common).await
    }

    async fn status(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        request: pb::GetTenantStatusRequest,
    ) -> Result<pb::GetTenantStatusResponse, Failure> {
        let mut checks = Checks::default();
        let selector = checks.tenant_selector("name", &request.name);
        let max_staleness = checks.max_staleness(metadata);
        let (Some(selector), Some(max_staleness)) = (selector, max_staleness) else {
            return Err(checks.into_failure());
        };
        let authorized: Authorized<ReadTenants, _> =
            self.tenant_authorizer.authorize(context, "name", selector).await?;
        let name = authorized.resource();
        let status = self.statuses.get(&authorized, max_staleness).await?;
        let status = convert::tenant_status(name, &status);
        Ok(pb::GetTenantStatusResponse { status: Some(status) })
    }
}

#[tonic::async_trait]
impl TenantService for TenantHandler {
    async fn create_tenant(
        &self,
        request: Request<pb::CreateTenantRequest>,
    ) -> Result<Response<pb::CreateTenantResponse>, Status> {
        rpc!(self.create, request)
    }

    async fn get_tenant(
        &self,
        request: Request<pb::GetTenantRequest>,
    ) -> Result<Response<pb::GetTenantResponse>, Status> {
        rpc!(self.get, request)
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        rpc!(self.list, request)
    }

    async fn delete_tenant(
        &self,
        request: Request<pb::DeleteTenantRequest>,
    ) -> Result<Response<pb::DeleteTenantResponse>, Status> {
        rpc!(self.delete, request)
    }

    async fn set_system_user_token(
        &self,
        request: Request<pb::SetSystemUserTokenRequest>,
    ) -> Result<Response<pb::SetSystemUserTokenResponse>, Status> {
        rpc!(self.set_token, request)
    }

    async fn disable_tenant(
        &self,
        request: Request<pb::DisableTenantRequest>,
    ) -> Result<Response<pb::DisableTenantResponse>, Status> {
        rpc!(self.disable, request)
    }

    async fn enable_tenant(
        &self,
        request: Request<pb::EnableTenantRequest>,
    ) -> Result<Response<pb::EnableTenantResponse>, Status> {
        rpc!(self.enable, request)
    }

    async fn get_tenant_status(
        &self,
        request: Request<pb::GetTenantStatusRequest>,
    ) -> Result<Response<pb::GetTenantStatusResponse>, Status> {
        let (context, metadata, request) = split_request(request)?;
        answer(&context, self.status(&context, &metadata, request).await)
    }

    type WatchTenantStatusStream = Messages<pb::WatchTenantStatusResponse>;

    async fn watch_tenant_status(
        &self,
        request: Request<pb::WatchTenantStatusRequest>,
    ) -> Result<Response<Self::WatchTenantStatusStream>, Status> {
        let (context, _, request) = split_request(request)?;
        answer_stream(&context, self.watch(&context, &request).await)
    }
}
