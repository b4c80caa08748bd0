//! `AssociateService`: the users of a tenant.

mod checks;
mod grants;

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    answer::answer,
    context::CallContext,
    convert,
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    pb::{self, associate_service_server::AssociateService},
    request::{Checks, split_request},
    tenant_authorizer::TenantAuthorizer,
};
use crate::{
    access::{Authorized, ReadAssociates},
    broker::{
        AssociateListPage, AssociateQuery, AssociateReadOptions, AssociateReading, Associates,
        Impersonation,
    },
    domain::{
        ASSOCIATE_FIELDS, ASSOCIATE_ORDERS, ActorSelector, AssociateSelector, Languages,
        TenantName, TenantSelector,
    },
};

/// The full name of the service.
pub(super) const NAME: &str = pb::associate_service_server::SERVICE_NAME;

const NOT_OF_PARENT: &str = "not an associate of parent";

/// The handler of the service.
pub struct AssociateHandler {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// Checks policy on tenants.
    pub tenant_authorizer: Arc<TenantAuthorizer>,
    /// The use cases of associates.
    pub associates: Arc<Associates>,
    /// The use cases of grants and their access tokens.
    pub impersonation: Arc<Impersonation>,
}

/// The fields that all requests of the service have.
struct CommonFields {
    tenant: TenantSelector,
    actor: ActorSelector,
    max_staleness: Option<std::time::Duration>,
}

/// A read that policy permits, with its options.
struct AuthorizedRead {
    authorized: Authorized<ReadAssociates, TenantName>,
    options: AssociateReadOptions,
}

/// A request for a list that is ordered by id.
struct ListByIdRequest {
    rpc: &'static str,
    parent: String,
    credential: String,
    page_size: i32,
    page_token: String,
}

/// The requested page of such a list.
struct IdPage {
    query: String,
    after: Option<i32>,
    limit: usize,
}

impl AuthorizedRead {
    fn tenant(&self) -> &TenantName {
        self.authorized.resource()
    }
}

impl AssociateHandler {
    /// Checks policy for the tenant, then for the user to read as.
    async fn admit(
        &self,
        context: &CallContext,
        field: &'static str,
        fields: CommonFields,
    ) -> Result<AuthorizedRead, Failure> {
        let CommonFields { tenant, actor, max_staleness } = fields;
        let authorized = self.tenant_authorizer.authorize(context, field, tenant).await?;
        let actor = self.authorize_actor(context, authorized.resource(), actor).await?;
        let (queue_key, max_wait) = (context.caller().shared_id(), context.max_wait);
        let options = AssociateReadOptions { actor, queue_key, max_staleness, max_wait };
        Ok(AuthorizedRead { authorized, options })
    }

    async fn get(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        request: pb::GetAssociateRequest,
    ) -> Result<pb::GetAssociateResponse, Failure> {
        let mut checks = Checks::default();
        let name = checks.associate_selector("name", &request.name);
        let tenant = name.as_ref().map(|name| name.tenant.clone());
        let fields = checks.common_fields(tenant, &request.credential, metadata);
        let (Some(name), Some(fields)) = (name, fields) else { return Err(checks.into_failure()) };
        let admitted = self.admit(context, "name", fields).await?;
        let AuthorizedRead { authorized, options } = &admitted;
        let reading = self.associates.get(authorized, options, name.associate).await?;
        let associate =
            self.to_pb_associate(context, admitted.tenant(), &languages(metadata), reading).await?;
        Ok(pb::GetAssociateResponse { associate })
    }

    async fn batch_get(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        request: pb::BatchGetAssociatesRequest,
    ) -> Result<pb::BatchGetAssociatesResponse, Failure> {
        let mut checks = Checks::default();
        let parent = checks.tenant_selector("parent", &request.parent);
        let names = checks.associate_names("names", parent.as_ref(), &request.names);
        let fields = checks.common_fields(parent, &request.credential, metadata);
        let (Some(names), Some(fields)) = (names, fields) else {
            return Err(checks.into_failure());
        };
        let admitted = self.admit(context, "parent", fields).await?;
        let AuthorizedRead { authorized, options } = &admitted;
        // If the application of `parent` is a wildcard, it is known only after the policy check.
        let of_another = |name: &AssociateSelector| {
            let application = name.tenant.application.as_ref();
            application.is_some_and(|id| *id != admitted.tenant().application)
        };
        if let Some(index) = names.iter().position(of_another) {
            let field = format!("names[{index}]");
            return Err(Failure::invalid(&field, NOT_OF_PARENT));
        }
        let ids: Vec<_> = names.iter().map(|name| name.associate).collect();
        let readings = self.associates.batch_get(authorized, options, &ids).await?;
        let associates = self
            .to_pb_associates(context, admitted.tenant(), &languages(metadata), &readings)
            .await?;
        Ok(pb::BatchGetAssociatesResponse { associates })
    }

    async fn list(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        request: pb::ListAssociatesRequest,
    ) -> Result<pb::ListAssociatesResponse, Failure> {
        let page_tokens = &*self.common.page_tokens;
        let pb::ListAssociatesRequest {
            parent,
            page_size,
            page_token,
            filter,
            order_by,
            credential,
        } = request;
        let languages = languages(metadata);
        // The languages are a part of the query, because filters and orders use translated role names.
        let caller = context.caller().id();
        let query = format!(
            "ListAssociates {caller:?} {parent:?} {filter:?} {order_by:?} {credential:?} {languages:?}"
        );
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("parent", &parent);
        let filter = checks.filter("filter", &filter, ASSOCIATE_FIELDS);
        let order = checks.order("order_by", &order_by, ASSOCIATE_ORDERS);
        let limit = checks.page_size("page_size", page_size);
        let after = checks.page_token("page_token", &page_token, page_tokens, &query);
        let fields = checks.common_fields(tenant, &credential, metadata);
        let (Some(filter), Some(order), Some(limit), Some(after), Some(fields)) =
            (filter, order, limit, after, fields)
        else {
            return Err(checks.into_failure());
        };
        let admitted = self.admit(context, "parent", fields).await?;
        let AuthorizedRead { authorized, options } = &admitted;
        let limit = limit as usize;
        let list_query = AssociateQuery { filter, order, languages, limit, after };
        let page = self.associates.list(authorized, options, &list_query).await?;
        let AssociateListPage { associates, read_time, next } = page;
        let next = next.map(|position| position.to_string());
        let next_page_token = self.common.next_page_token(&query, next)?;
        let readings: Vec<_> = associates
            .into_iter()
            .map(|associate| AssociateReading { associate, read_time })
            .collect();
        let associates = self
            .to_pb_associates(context, admitted.tenant(), &list_query.languages, &readings)
            .await?;
        Ok(pb::ListAssociatesResponse { associates, next_page_token })
    }

    async fn look_up(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        request: pb::LookupAssociateRequest,
    ) -> Result<pb::LookupAssociateResponse, Failure> {
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("parent", &request.parent);
        let key = checks.lookup_key(request.key);
        let fields = checks.common_fields(tenant, &request.credential, metadata);
        let (Some(key), Some(fields)) = (key, fields) else { return Err(checks.into_failure()) };
        let admitted = self.admit(context, "parent", fields).await?;
        let AuthorizedRead { authorized, options } = &admitted;
        let reading = self.associates.look_up(authorized, options, &key).await?;
        let associate =
            self.to_pb_associate(context, admitted.tenant(), &languages(metadata), reading).await?;
        Ok(pb::LookupAssociateResponse { associate })
    }

    async fn principal(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        request: pb::GetCurrentPrincipalRequest,
    ) -> Result<pb::GetCurrentPrincipalResponse, Failure> {
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("tenant", &request.tenant);
        let Some(fields) = checks.common_fields(tenant, &request.credential, metadata) else {
            return Err(checks.into_failure());
        };
        let admitted = self.admit(context, "tenant", fields).await?;
        let AuthorizedRead { authorized, options } = &admitted;
        let principal = self.associates.current_principal(authorized, options).await?;
        let principal = convert::principal(admitted.tenant(), &principal, &languages(metadata));
        Ok(pb::GetCurrentPrincipalResponse { principal: Some(principal) })
    }

    async fn user_groups(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        request: pb::ListUserGroupsRequest,
    ) -> Result<pb::ListUserGroupsResponse, Failure> {
        let pb::ListUserGroupsRequest { parent, credential, page_size, page_token } = request;
        let list =
            ListByIdRequest { rpc: "ListUserGroups", parent, credential, page_size, page_token };
        let (AuthorizedRead { authorized, options }, page) =
            self.admit_list_by_id(context, metadata, list).await?;
        let IdPage { query, after, limit } = page;
        let found = self.associates.user_groups(&authorized, &options, after, limit + 1).await?;
        let (found, next_page_token) =
            self.common.split_page(&query, found, limit, |group| group.id.to_string())?;
        let languages = languages(metadata);
        let user_groups =
            found.iter().map(|group| convert::user_group(group, &languages)).collect();
        Ok(pb::ListUserGroupsResponse { user_groups, next_page_token })
    }

    async fn roles(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        request: pb::ListRolesRequest,
    ) -> Result<pb::ListRolesResponse, Failure> {
        let pb::ListRolesRequest { parent, credential, page_size, page_token } = request;
        let list = ListByIdRequest { rpc: "ListRoles", parent, credential, page_size, page_token };
        let (AuthorizedRead { authorized, options }, page) =
            self.admit_list_by_id(context, metadata, list).await?;
        let IdPage { query, after, limit } = page;
        let found = self.associates.roles(&authorized, &options, after, limit + 1).await?;
        let (found, next_page_token) =
            self.common.split_page(&query, found, limit, |role| role.id.to_string())?;
        let languages = languages(metadata);
        let roles = found.iter().map(|role| convert::role(role, &languages)).collect();
        Ok(pb::ListRolesResponse { roles, next_page_token })
    }

    /// Validates and authorizes a request for a list by id.
    async fn admit_list_by_id(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        list: ListByIdRequest,
    ) -> Result<(AuthorizedRead, IdPage), Failure> {
        let ListByIdRequest { rpc, parent, credential, page_size, page_token } = list;
        let query = format!("{rpc} {:?} {parent:?} {credential:?}", context.caller().id());
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("parent", &parent);
        let limit = checks.page_size("page_size", page_size);
        let page_tokens = &*self.common.page_tokens;
        let after = checks.page_token("page_token", &page_token, page_tokens, &query);
        let fields = checks.common_fields(tenant, &credential, metadata);
        let (Some(limit), Some(after), Some(fields)) = (limit, after, fields) else {
            return Err(checks.into_failure());
        };
        let admitted = self.admit(context, "parent", fields).await?;
        Ok((admitted, IdPage { query, after, limit: limit as usize }))
    }

    async fn owner(
        &self,
        context: &CallContext,
        metadata: &MetadataMap,
        request: pb::ResolveOwnerRequest,
    ) -> Result<pb::ResolveOwnerResponse, Failure> {
        let mut checks = Checks::default();
        let name = checks.associate_selector("associate", &request.associate);
        let tenant = name.as_ref().map(|name| name.tenant.clone());
        let fields = checks.common_fields(tenant, &request.credential, metadata);
        let (Some(name), Some(fields)) = (name, fields) else { return Err(checks.into_failure()) };
        let admitted = self.admit(context, "associate", fields).await?;
        let AuthorizedRead { authorized, options } = &admitted;
        let owner = self.associates.resolve_owner(authorized, options, name.associate).await?;
        let associate_id = owner.associate.get();
        Ok(pb::ResolveOwnerResponse { associate_id, group_id: owner.group_id })
    }
}

/// Returns the caller's preferred languages. An invalid header counts as no preference.
fn languages(metadata: &MetadataMap) -> Languages {
    let accepted = metadata.get("accept-language").and_then(|value| value.to_str().ok());
    accepted.map(Languages::parse).unwrap_or_default()
}

/// Splits the request, runs the method and answers.
macro_rules! rpc {
    ($service:ident . $method:ident, $request:ident) => {{
        let (context, metadata, request) = split_request($request)?;
        answer(&context, $service.$method(&context, &metadata, request).await)
    }};
}

#[tonic::async_trait]
impl AssociateService for AssociateHandler {
    async fn get_associate(
        &self,
        request: Request<pb::GetAssociateRequest>,
    ) -> Result<Response<pb::GetAssociateResponse>, Status> {
        rpc!(self.get, request)
    }

    async fn batch_get_associates(
        &self,
        request: Request<pb::BatchGetAssociatesRequest>,
    ) -> Result<Response<pb::BatchGetAssociatesResponse>, Status> {
        rpc!(self.batch_get, request)
    }

    async fn list_associates(
        &self,
        request: Request<pb::ListAssociatesRequest>,
    ) -> Result<Response<pb::ListAssociatesResponse>, Status> {
        rpc!(self.list, request)
    }

    async fn lookup_associate(
        &self,
        request: Request<pb::LookupAssociateRequest>,
    ) -> Result<Response<pb::LookupAssociateResponse>, Status> {
        rpc!(self.look_up, request)
    }

    async fn get_current_principal(
        &self,
        request: Request<pb::GetCurrentPrincipalRequest>,
    ) -> Result<Response<pb::GetCurrentPrincipalResponse>, Status> {
        rpc!(self.principal, request)
    }

    async fn list_user_groups(
        &self,
        request: Request<pb::ListUserGroupsRequest>,
    ) -> Result<Response<pb::ListUserGroupsResponse>, Status> {
        rpc!(self.user_groups, request)
    }

    async fn list_roles(
        &self,
        request: Request<pb::ListRolesRequest>,
    ) -> Result<Response<pb::ListRolesResponse>, Status> {
        rpc!(self.roles, request)
    }

    async fn resolve_owner(
        &self,
        request: Request<pb::ResolveOwnerRequest>,
    ) -> Result<Response<pb::ResolveOwnerResponse>, Status> {
        rpc!(self.owner, request)
    }
}
