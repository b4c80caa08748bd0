//! `AssociateService`: the users of a tenant.

mod checks;

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    Services, convert,
    failure::Failure,
    layer::Context,
    pb::{self, associate_service_server::AssociateService},
    request::{Checks, answer, split_request},
};
use crate::{
    access::{Authorized, ReadAssociates},
    broker::{AssociateListPage, AssociateQuery, AssociateReadOptions, AssociateReading},
    domain::{
        ASSOCIATE_FIELDS, ASSOCIATE_ORDERS, ActorSelector, AssociateSelector, Languages,
        TenantName, TenantSelector,
    },
};

/// The full name of the service.
pub(super) const NAME: &str = pb::associate_service_server::SERVICE_NAME;

const NOT_OF_PARENT: &str = "not an associate of parent";

/// The Web API path of user data, for the policy check of reads with a person's grant.
const USER_API_PATH: &str = "/api/v1/user";

/// The handler of the service.
pub(super) struct AssociateHandler(pub(super) Arc<Services>);

/// The fields that all requests of the service have.
struct CommonFields {
    tenant: TenantSelector,
    actor: ActorSelector,
    max_staleness: Option<std::time::Duration>,
}

/// A read that policy permits, with its options.
struct AuthorizedRead {
    authorized: Authorized<ReadAssociates, TenantName>,
    look: AssociateReadOptions,
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
        context: &Context,
        field: &'static str,
        fields: CommonFields,
    ) -> Result<AuthorizedRead, Failure> {
        let CommonFields { tenant, actor, max_staleness } = fields;
        let authorized = self.0.authorize_selected(context, field, tenant).await?;
        let actor =
            self.0.authorize_actor(context, authorized.resource(), actor, USER_API_PATH).await?;
        let (account, patience) = (context.caller.shared_id(), context.max_wait);
        let look = AssociateReadOptions { actor, account, max_staleness, max_wait: patience };
        Ok(AuthorizedRead { authorized, look })
    }

    async fn get(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        request: pb::GetAssociateRequest,
    ) -> Result<pb::GetAssociateResponse, Failure> {
        let mut checks = Checks::default();
        let name = checks.associate_selector("name", &request.name);
        let tenant = name.as_ref().map(|name| name.tenant.clone());
        let fields = checks.common_fields(tenant, &request.credential, metadata);
        let (Some(name), Some(asked)) = (name, fields) else { return Err(checks.into_failure()) };
        let admitted = self.admit(context, "name", asked).await?;
        let AuthorizedRead { authorized, look } = &admitted;
        let seen = self.0.associates.get(authorized, look, name.associate).await?;
        let associate = self
            .0
            .to_pb_associates(context, admitted.tenant(), &languages(metadata), &[seen])
            .await?
            .pop();
        Ok(pb::GetAssociateResponse { associate })
    }

    async fn batch_get(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        request: pb::BatchGetAssociatesRequest,
    ) -> Result<pb::BatchGetAssociatesResponse, Failure> {
        let mut checks = Checks::default();
        let parent = checks.tenant_selector("parent", &request.parent);
        let names = checks.associate_names("names", parent.as_ref(), &request.names);
        let fields = checks.common_fields(parent, &request.credential, metadata);
        let (Some(names), Some(asked)) = (names, fields) else { return Err(checks.into_failure()) };
        let admitted = self.admit(context, "parent", asked).await?;
        let AuthorizedRead { authorized, look } = &admitted;
        // If the application of `parent` is a wildcard, it is known only after the policy check.
        let of_another = |name: &AssociateSelector| {
            let application = name.tenant.application.as_ref();
            application.is_some_and(|one| *one != admitted.tenant().application)
        };
        if let Some(index) = names.iter().position(of_another) {
            let field = format!("names[{index}]");
            return Err(Failure::invalid(&field, NOT_OF_PARENT));
        }
        let ids: Vec<_> = names.iter().map(|name| name.associate).collect();
        let seen = self.0.associates.batch_get(authorized, look, &ids).await?;
        let associates = self
            .0
            .to_pb_associates(context, admitted.tenant(), &languages(metadata), &seen)
            .await?;
        Ok(pb::BatchGetAssociatesResponse { associates })
    }

    async fn list(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        request: pb::ListAssociatesRequest,
    ) -> Result<pb::ListAssociatesResponse, Failure> {
        let page_tokens = &*self.0.page_tokens;
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
        let caller = context.caller.id();
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
        let (Some(filter), Some(order), Some(limit), Some(after), Some(asked)) =
            (filter, order, limit, after, fields)
        else {
            return Err(checks.into_failure());
        };
        let admitted = self.admit(context, "parent", asked).await?;
        let AuthorizedRead { authorized, look } = &admitted;
        let limit = limit as usize;
        let wanted = AssociateQuery { filter, order, languages, limit, after };
        let page = self.0.associates.list(authorized, look, &wanted).await?;
        let AssociateListPage { associates, read_time, next } = page;
        let next = next.map(|place| place.to_string());
        let next_page_token = super::application::next_page_token(page_tokens, &query, next)?;
        let seen: Vec<_> = associates
            .into_iter()
            .map(|associate| AssociateReading { associate, read_time })
            .collect();
        let associates =
            self.0.to_pb_associates(context, admitted.tenant(), &wanted.languages, &seen).await?;
        Ok(pb::ListAssociatesResponse { associates, next_page_token })
    }

    async fn look_up(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        request: pb::LookupAssociateRequest,
    ) -> Result<pb::LookupAssociateResponse, Failure> {
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("parent", &request.parent);
        let key = checks.lookup_key(request.key);
        let fields = checks.common_fields(tenant, &request.credential, metadata);
        let (Some(key), Some(asked)) = (key, fields) else { return Err(checks.into_failure()) };
        let admitted = self.admit(context, "parent", asked).await?;
        let AuthorizedRead { authorized, look } = &admitted;
        let seen = self.0.associates.look_up(authorized, look, &key).await?;
        let associate = self
            .0
            .to_pb_associates(context, admitted.tenant(), &languages(metadata), &[seen])
            .await?
            .pop();
        Ok(pb::LookupAssociateResponse { associate })
    }

    async fn principal(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        request: pb::GetCurrentPrincipalRequest,
    ) -> Result<pb::GetCurrentPrincipalResponse, Failure> {
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("tenant", &request.tenant);
        let Some(fields) = checks.common_fields(tenant, &request.credential, metadata) else {
            return Err(checks.into_failure());
        };
        let admitted = self.admit(context, "tenant", fields).await?;
        let AuthorizedRead { authorized, look } = &admitted;
        let principal = self.0.associates.current_principal(authorized, look).await?;
        let principal = convert::principal(admitted.tenant(), &principal, &languages(metadata));
        Ok(pb::GetCurrentPrincipalResponse { principal: Some(principal) })
    }

    async fn user_groups(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        request: pb::ListUserGroupsRequest,
    ) -> Result<pb::ListUserGroupsResponse, Failure> {
        let pb::ListUserGroupsRequest { parent, credential, page_size, page_token } = request;
        let list =
            ListByIdRequest { rpc: "ListUserGroups", parent, credential, page_size, page_token };
        let (AuthorizedRead { authorized, look }, page) =
            self.admit_list_by_id(context, metadata, list).await?;
        let wanted = page.limit + 1;
        let found = self.0.associates.user_groups(&authorized, &look, page.after, wanted).await?;
        let (found, next_page_token) = self.split_page(&page, found, |group| group.id)?;
        let languages = languages(metadata);
        let user_groups = found.iter().map(|one| convert::user_group(one, &languages)).collect();
        Ok(pb::ListUserGroupsResponse { user_groups, next_page_token })
    }

    async fn roles(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        request: pb::ListRolesRequest,
    ) -> Result<pb::ListRolesResponse, Failure> {
        let pb::ListRolesRequest { parent, credential, page_size, page_token } = request;
        let list = ListByIdRequest { rpc: "ListRoles", parent, credential, page_size, page_token };
        let (AuthorizedRead { authorized, look }, page) =
            self.admit_list_by_id(context, metadata, list).await?;
        let wanted = page.limit + 1;
        let found = self.0.associates.roles(&authorized, &look, page.after, wanted).await?;
        let (found, next_page_token) = self.split_page(&page, found, |role| role.id)?;
        let languages = languages(metadata);
        let roles = found.iter().map(|one| convert::role(one, &languages)).collect();
        Ok(pb::ListRolesResponse { roles, next_page_token })
    }

    /// Validates and authorizes a request for a list by id.
    async fn admit_list_by_id(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        list: ListByIdRequest,
    ) -> Result<(AuthorizedRead, IdPage), Failure> {
        let ListByIdRequest { rpc, parent, credential, page_size, page_token } = list;
        let query = format!("{rpc} {:?} {parent:?} {credential:?}", context.caller.id());
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("parent", &parent);
        let limit = checks.page_size("page_size", page_size);
        let tokens = &*self.0.page_tokens;
        let after = checks.page_token("page_token", &page_token, tokens, &query);
        let fields = checks.common_fields(tenant, &credential, metadata);
        let (Some(limit), Some(after), Some(asked)) = (limit, after, fields) else {
            return Err(checks.into_failure());
        };
        let admitted = self.admit(context, "parent", asked).await?;
        Ok((admitted, IdPage { query, after, limit: limit as usize }))
    }

    /// Removes the extra item, which only shows that a next page exists, and returns the token of that page.
    fn split_page<T>(
        &self,
        page: &IdPage,
        mut found: Vec<T>,
        id: impl Fn(&T) -> i32,
    ) -> Result<(Vec<T>, String), Failure> {
        let more = found.len() > page.limit;
        found.truncate(page.limit);
        let last = found.last().filter(|_| more).map(|last| id(last).to_string());
        let token = super::application::next_page_token(&*self.0.page_tokens, &page.query, last)?;
        Ok((found, token))
    }

    async fn owner(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        request: pb::ResolveOwnerRequest,
    ) -> Result<pb::ResolveOwnerResponse, Failure> {
        let mut checks = Checks::default();
        let name = checks.associate_selector("associate", &request.associate);
        let tenant = name.as_ref().map(|name| name.tenant.clone());
        let fields = checks.common_fields(tenant, &request.credential, metadata);
        let (Some(name), Some(asked)) = (name, fields) else { return Err(checks.into_failure()) };
        let admitted = self.admit(context, "associate", asked).await?;
        let AuthorizedRead { authorized, look } = &admitted;
        let owner = self.0.associates.resolve_owner(authorized, look, name.associate).await?;
        let associate_id = owner.associate.get();
        Ok(pb::ResolveOwnerResponse { associate_id, group_id: owner.group_id })
    }
}

/// Returns the caller's preferred languages. An invalid header counts as no preference.
fn languages(metadata: &MetadataMap) -> Languages {
    let wished = metadata.get("accept-language").and_then(|value| value.to_str().ok());
    wished.map(Languages::parse).unwrap_or_default()
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
