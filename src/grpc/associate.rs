//! `AssociateService`: who the users of a tenant are.

use std::sync::Arc;

use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    Services, convert,
    failure::Failure,
    layer::Context,
    pb::{self, associate_service_server::AssociateService, lookup_associate_request::Key},
    request::{Checks, answer, open},
};
use crate::{
    access::{Authorized, ReadAssociates},
    broker::{AssociateListPage, AssociateQuery, Look, Seen},
    domain::{
        ASSOCIATE_FIELDS, ASSOCIATE_ORDERS, AssociateSelector, EyesSelector, Languages, LookupKey,
        TenantName, TenantSelector,
    },
};

/// Its full name.
pub(super) const NAME: &str = pb::associate_service_server::SERVICE_NAME;

/// The most names that one call may ask for (CONTRACT section 3).
const MAX_BATCH: usize = 500;

const NOT_OF_PARENT: &str = "not an associate of parent";

/// The longest text that a look-up is given, in bytes: longer than any address (RFC 5321, 4.5.3.1).
const MAX_LOOKUP_BYTES: usize = 320;

/// What is asked of SuperOffice, as policies see it (SUPEROFFICE.md 6.6).
const READING_PEOPLE: &str = "/api/v1/user";

/// The service.
pub(super) struct Associates(pub(super) Arc<Services>);

/// What each of its requests says beside what it asks.
struct Asked {
    tenant: TenantSelector,
    eyes: EyesSelector,
    max_staleness: Option<std::time::Duration>,
}

/// A request that was let in.
struct Admitted {
    authorized: Authorized<ReadAssociates, TenantName>,
    look: Look,
}

/// A request for a list by ids.
struct ById {
    rpc: &'static str,
    parent: String,
    credential: String,
    page_size: i32,
    page_token: String,
}

/// The page of it that is wanted.
struct PageById {
    query: String,
    after: Option<i32>,
    limit: usize,
}

impl Admitted {
    fn tenant(&self) -> &TenantName {
        self.authorized.resource()
    }
}

impl Associates {
    /// Decides on the tenant, then on the eyes.
    async fn admit(
        &self,
        context: &Context,
        field: &'static str,
        asked: Asked,
    ) -> Result<Admitted, Failure> {
        let Asked { tenant, eyes, max_staleness } = asked;
        let authorized = self.0.authorize_selected(context, field, tenant).await?;
        let eyes = self.0.eyes(context, authorized.resource(), eyes, READING_PEOPLE).await?;
        let (account, patience) = (context.caller.shared_id(), context.patience);
        let look = Look { eyes, account, max_staleness, patience };
        Ok(Admitted { authorized, look })
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
        let asked = checks.asked(tenant, &request.credential, metadata);
        let (Some(name), Some(asked)) = (name, asked) else { return Err(checks.failed()) };
        let admitted = self.admit(context, "name", asked).await?;
        let Admitted { authorized, look } = &admitted;
        let seen = self.0.associates.get(authorized, look, name.associate).await?;
        let associate =
            self.0.shown(context, admitted.tenant(), &languages(metadata), &[seen]).await?.pop();
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
        let names = checks.associates_of("names", parent.as_ref(), &request.names);
        let asked = checks.asked(parent, &request.credential, metadata);
        let (Some(names), Some(asked)) = (names, asked) else { return Err(checks.failed()) };
        let admitted = self.admit(context, "parent", asked).await?;
        let Admitted { authorized, look } = &admitted;
        // Where parent leaves the application open, only now it is known which one is meant.
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
        let associates =
            self.0.shown(context, admitted.tenant(), &languages(metadata), &seen).await?;
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
        // The languages belong to it: names of roles are filtered and ordered by.
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
        let asked = checks.asked(tenant, &credential, metadata);
        let (Some(filter), Some(order), Some(limit), Some(after), Some(asked)) =
            (filter, order, limit, after, asked)
        else {
            return Err(checks.failed());
        };
        let admitted = self.admit(context, "parent", asked).await?;
        let Admitted { authorized, look } = &admitted;
        let limit = limit as usize;
        let wanted = AssociateQuery { filter, order, languages, limit, after };
        let page = self.0.associates.list(authorized, look, &wanted).await?;
        let AssociateListPage { associates, read_time, next } = page;
        let next = next.map(|place| place.to_string());
        let next_page_token = super::application::next_page_token(page_tokens, &query, next)?;
        let seen: Vec<_> =
            associates.into_iter().map(|associate| Seen { associate, read_time }).collect();
        let associates = self.0.shown(context, admitted.tenant(), &wanted.languages, &seen).await?;
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
        let asked = checks.asked(tenant, &request.credential, metadata);
        let (Some(key), Some(asked)) = (key, asked) else { return Err(checks.failed()) };
        let admitted = self.admit(context, "parent", asked).await?;
        let Admitted { authorized, look } = &admitted;
        let seen = self.0.associates.look_up(authorized, look, &key).await?;
        let associate =
            self.0.shown(context, admitted.tenant(), &languages(metadata), &[seen]).await?.pop();
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
        let Some(asked) = checks.asked(tenant, &request.credential, metadata) else {
            return Err(checks.failed());
        };
        let admitted = self.admit(context, "tenant", asked).await?;
        let Admitted { authorized, look } = &admitted;
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
        let list = ById { rpc: "ListUserGroups", parent, credential, page_size, page_token };
        let (Admitted { authorized, look }, page) = self.by_id(context, metadata, list).await?;
        let wanted = page.limit + 1;
        let found = self.0.associates.user_groups(&authorized, &look, page.after, wanted).await?;
        let (found, next_page_token) = self.cut(&page, found, |group| group.id)?;
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
        let list = ById { rpc: "ListRoles", parent, credential, page_size, page_token };
        let (Admitted { authorized, look }, page) = self.by_id(context, metadata, list).await?;
        let wanted = page.limit + 1;
        let found = self.0.associates.roles(&authorized, &look, page.after, wanted).await?;
        let (found, next_page_token) = self.cut(&page, found, |role| role.id)?;
        let languages = languages(metadata);
        let roles = found.iter().map(|one| convert::role(one, &languages)).collect();
        Ok(pb::ListRolesResponse { roles, next_page_token })
    }

    /// Lets in a request for a list by ids.
    async fn by_id(
        &self,
        context: &Context,
        metadata: &MetadataMap,
        list: ById,
    ) -> Result<(Admitted, PageById), Failure> {
        let ById { rpc, parent, credential, page_size, page_token } = list;
        let query = format!("{rpc} {:?} {parent:?} {credential:?}", context.caller.id());
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("parent", &parent);
        let limit = checks.page_size("page_size", page_size);
        let tokens = &*self.0.page_tokens;
        let after = checks.page_token("page_token", &page_token, tokens, &query);
        let asked = checks.asked(tenant, &credential, metadata);
        let (Some(limit), Some(after), Some(asked)) = (limit, after, asked) else {
            return Err(checks.failed());
        };
        let admitted = self.admit(context, "parent", asked).await?;
        Ok((admitted, PageById { query, after, limit: limit as usize }))
    }

    /// Takes away what is only there to tell that more follows, and says where that begins.
    fn cut<T>(
        &self,
        page: &PageById,
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
        let asked = checks.asked(tenant, &request.credential, metadata);
        let (Some(name), Some(asked)) = (name, asked) else { return Err(checks.failed()) };
        let admitted = self.admit(context, "associate", asked).await?;
        let Admitted { authorized, look } = &admitted;
        let owner = self.0.associates.resolve_owner(authorized, look, name.associate).await?;
        let associate_id = owner.associate.get();
        Ok(pb::ResolveOwnerResponse { associate_id, group_id: owner.group_id })
    }
}

/// The languages that the caller reads; a wish, so whatever cannot be read is none.
fn languages(metadata: &MetadataMap) -> Languages {
    let wished = metadata.get("accept-language").and_then(|value| value.to_str().ok());
    wished.map(Languages::parse).unwrap_or_default()
}

impl Checks {
    fn asked(
        &mut self,
        tenant: Option<TenantSelector>,
        credential: &str,
        metadata: &MetadataMap,
    ) -> Option<Asked> {
        let eyes = self.note("credential", credential.parse::<EyesSelector>());
        let max_staleness = self.max_staleness(metadata);
        Some(Asked { tenant: tenant?, eyes: eyes?, max_staleness: max_staleness? })
    }

    /// Names of associates of one tenant.
    fn associates_of(
        &mut self,
        field: &str,
        parent: Option<&TenantSelector>,
        names: &[String],
    ) -> Option<Vec<AssociateSelector>> {
        if names.is_empty() || names.len() > MAX_BATCH {
            let problem = format!("1 to {MAX_BATCH} names of associates");
            return self.note(field, Err(problem));
        }
        let ids = names.iter().enumerate().map(|(index, name)| {
            let field = format!("{field}[{index}]");
            let selector = self.associate_selector(&field, name)?;
            let same = parent.is_none_or(|parent| {
                let (wanted, given) = (&parent.application, &selector.tenant.application);
                let open = wanted.is_none() || given.is_none() || wanted == given;
                open && parent.tenant == selector.tenant.tenant
            });
            self.note(&field, if same { Ok(selector) } else { Err(NOT_OF_PARENT) })
        });
        // All of them, so that all that is wrong is told.
        ids.collect::<Vec<_>>().into_iter().collect()
    }

    fn lookup_key(&mut self, key: Option<Key>) -> Option<LookupKey> {
        let is_text = |text: &str| {
            !text.is_empty()
                && text.len() <= MAX_LOOKUP_BYTES
                && !text.chars().any(char::is_control)
        };
        let problem = format!("1 to {MAX_LOOKUP_BYTES} bytes without control characters");
        match key {
            None => self.note("key", Err("give user_name, email or person_id")),
            Some(Key::UserName(name)) => {
                let name = if is_text(&name) { Ok(name) } else { Err(problem) };
                self.note("user_name", name).map(LookupKey::UserName)
            }
            Some(Key::Email(email)) => {
                let email = if is_text(&email) { Ok(email) } else { Err(problem) };
                self.note("email", email).map(LookupKey::Email)
            }
            Some(Key::PersonId(id)) => {
                let id = if id > 0 { Ok(id) } else { Err("must be a positive number") };
                self.note("person_id", id).map(LookupKey::PersonId)
            }
        }
    }
}

/// Each RPC opens the request, runs the method above, and answers.
macro_rules! rpc {
    ($service:ident . $method:ident, $request:ident) => {{
        let (context, metadata, request) = open($request)?;
        answer(&context, $service.$method(&context, &metadata, request).await)
    }};
}

#[tonic::async_trait]
impl AssociateService for Associates {
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
