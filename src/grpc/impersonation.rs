//! `ImpersonationService`: grants and access tokens of persons who consented.

use std::sync::Arc;

use secrecy::SecretString;
use tonic::{Request, Response, Status};

use super::{
    answer::{answer, answer_stream, rpc},
    consent,
    context::CallContext,
    convert,
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    pb::{
        self, impersonation_service_server::ImpersonationService, issue_access_token_request,
        watch_access_token_request,
    },
    person::{MAX_ATTEMPTS, PersonRequest, name_keeps_changing},
    request::{Checks, split_request},
    tenant_authorizer::TenantAuthorizer,
    watch::{self, Messages},
    watch_access_token::AccessTokenWatch,
    watch_grants::GrantWatch,
};
use crate::{
    access::{Authorized, ManageGrants, ReadGrants},
    broker::{AuthorizedGrantScope, Consents, GrantPage, Impersonation},
    domain::{GRANT_FIELDS, GrantName, GrantScope, GrantSelector, RefreshToken},
};

/// The full name of the service.
pub(super) const NAME: &str = pb::impersonation_service_server::SERVICE_NAME;

/// The handler of the service.
pub struct ImpersonationHandler {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// Checks policy on tenants.
    pub tenant_authorizer: Arc<TenantAuthorizer>,
    /// The use cases of consent.
    pub consents: Arc<Consents>,
    /// The use cases of grants and their access tokens.
    pub impersonation: Arc<Impersonation>,
}

impl ImpersonationHandler {
    async fn import(
        &self,
        context: &CallContext,
        request: pb::ImportGrantRequest,
    ) -> Result<pb::ImportGrantResponse, Failure> {
        let mut checks = Checks::default();
        let tenant = checks.tenant_name("tenant", &request.tenant);
        let token = RefreshToken::new(&SecretString::from(request.refresh_token));
        let token = checks.note("refresh_token", token);
        let reason = checks.reason("reason", request.reason);
        let (Some(tenant), Some(token), Some(reason)) = (tenant, token, reason) else {
            return Err(checks.into_failure());
        };
        context.notes.set_reason(reason);
        let authorized = self.common.authorize(context, tenant)?;
        let grant = context.run_change(self.impersonation.import(&authorized, token)).await?;
        // Policy decided on the tenant; the action created the grant.
        context.notes.set_last_resource_name(grant.name.to_string());
        Ok(pb::ImportGrantResponse { grant: Some(convert::grant(&grant)) })
    }

    async fn get(
        &self,
        context: &CallContext,
        request: pb::GetGrantRequest,
    ) -> Result<pb::GetGrantResponse, Failure> {
        let mut checks = Checks::default();
        let name = checks.note("name", request.name.parse::<GrantSelector>());
        let Some(GrantSelector { tenant, grant }) = name else { return Err(checks.into_failure()) };
        let authorized: Authorized<ReadGrants, _> =
            self.tenant_authorizer.authorize(context, "name", tenant).await?;
        let grant = self.impersonation.get(&authorized, &grant).await?;
        Ok(pb::GetGrantResponse { grant: Some(convert::grant(&grant)) })
    }

    async fn list(
        &self,
        context: &CallContext,
        request: pb::ListGrantsRequest,
    ) -> Result<pb::ListGrantsResponse, Failure> {
        let (impersonation, page_tokens) = (&self.impersonation, &*self.common.page_tokens);
        let pb::ListGrantsRequest { parent, page_size, page_token, filter } = request;
        let query = format!("ListGrants {:?} {parent:?} {filter:?}", context.caller().id());
        let mut checks = Checks::default();
        let scope = checks.note("parent", parent.parse::<GrantScope>());
        let filter = checks.filter("filter", &filter, GRANT_FIELDS);
        let limit = checks.page_size("page_size", page_size);
        let after = checks.page_token("page_token", &page_token, page_tokens, &query);
        let (Some(scope), Some(filter), Some(limit), Some(after)) = (scope, filter, limit, after)
        else {
            return Err(checks.into_failure());
        };
        let limit = limit as usize;
        let GrantPage { grants, next } = match scope {
            GrantScope::Application(application) => {
                let authorized = self.common.authorize(context, application)?;
                impersonation
                    .list(AuthorizedGrantScope::Application(&authorized), &filter, after, limit)
                    .await?
            }
            GrantScope::Tenant(tenant) => {
                let authorized = self.common.authorize(context, tenant)?;
                impersonation
                    .list(AuthorizedGrantScope::Tenant(&authorized), &filter, after, limit)
                    .await?
            }
        };
        let next = next.map(|name| name.to_string());
        let next_page_token = self.common.next_page_token(&query, next)?;
        let grants = grants.iter().map(convert::grant).collect();
        Ok(pb::ListGrantsResponse { grants, next_page_token })
    }

    async fn revoke(
        &self,
        context: &CallContext,
        request: pb::RevokeGrantRequest,
    ) -> Result<pb::RevokeGrantResponse, Failure> {
        let mut checks = Checks::default();
        let name = checks.note("name", request.name.parse::<GrantName>());
        let reason = checks.reason("reason", request.reason);
        let (Some(name), Some(reason)) = (name, reason) else { return Err(checks.into_failure()) };
        context.notes.set_reason(reason);
        let GrantName { tenant, grant } = &name;
        let authorized: Result<Authorized<ManageGrants, _>, _> =
            self.common.authorize(context, tenant.clone());
        // Policy decided on the tenant; the action changes the grant.
        context.notes.set_last_resource_name(name.to_string());
        let grant = context.run_change(self.impersonation.revoke(&authorized?, grant)).await?;
        Ok(pb::RevokeGrantResponse { grant: Some(convert::grant(&grant)) })
    }

    async fn watch_grants(
        &self,
        context: &Arc<CallContext>,
        request: &pb::WatchGrantsRequest,
    ) -> Result<Messages<pb::WatchGrantsResponse>, Failure> {
        let mut checks = Checks::default();
        let scope = checks.note("parent", request.parent.parse::<GrantScope>());
        let Some(scope) = scope else { return Err(checks.into_failure()) };
        let (common, impersonation) = (Arc::clone(&self.common), Arc::clone(&self.impersonation));
        let watch = GrantWatch::new(common, impersonation, Arc::clone(context), scope);
        watch::start(watch, Arc::clone(context), &self.common).await
    }

    async fn issue(
        &self,
        context: &CallContext,
        request: pb::IssueAccessTokenRequest,
    ) -> Result<pb::IssueAccessTokenResponse, Failure> {
        use issue_access_token_request::Subject;
        let impersonation = &self.impersonation;
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("tenant", &request.tenant);
        let subject = match request.subject {
            Some(Subject::AssociateId(id)) => checks.subject_associate(id),
            Some(Subject::UserPrincipalName(name)) => checks.subject_name(name),
            Some(Subject::Grant(name)) => checks.subject_grant(tenant.as_ref(), &name),
            None => checks.no_subject(),
        };
        let min_ttl = checks.duration("min_ttl", request.min_ttl, impersonation.longest_min_ttl());
        let reason = checks.reason("reason", request.reason);
        let (Some(tenant), Some(subject), Some(min_ttl), Some(reason)) =
            (tenant, subject, min_ttl, reason)
        else {
            return Err(checks.into_failure());
        };
        context.notes.set_reason(reason);
        for _ in 0..MAX_ATTEMPTS {
            let authorized = self
                .tenant_authorizer
                .authorize_person(impersonation, context, tenant.clone(), &subject)
                .await?;
            if let Some(token) = impersonation.issue(&authorized, min_ttl).await? {
                context.notes.set_credential(&token.token.credential_id);
                let token = Some(convert::access_token(&token));
                return Ok(pb::IssueAccessTokenResponse { token });
            }
            context.notes.discard();
        }
        Err(name_keeps_changing())
    }

    async fn watch_token(
        &self,
        context: &Arc<CallContext>,
        request: pb::WatchAccessTokenRequest,
    ) -> Result<Messages<pb::WatchAccessTokenResponse>, Failure> {
        use watch_access_token_request::Subject;
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("tenant", &request.tenant);
        let subject: Option<PersonRequest> = match request.subject {
            Some(Subject::AssociateId(id)) => checks.subject_associate(id),
            Some(Subject::UserPrincipalName(name)) => checks.subject_name(name),
            Some(Subject::Grant(name)) => checks.subject_grant(tenant.as_ref(), &name),
            None => checks.no_subject(),
        };
        let reason = checks.reason("reason", request.reason);
        let (Some(tenant), Some(subject), Some(reason)) = (tenant, subject, reason) else {
            return Err(checks.into_failure());
        };
        context.notes.set_reason(reason);
        let authorized = self
            .tenant_authorizer
            .authorize_person(&self.impersonation, context, tenant, &subject)
            .await?;
        let watch = AccessTokenWatch::new(
            Arc::clone(&self.common),
            Arc::clone(&self.impersonation),
            Arc::clone(context),
            authorized,
            &subject,
        );
        watch::start(watch, Arc::clone(context), &self.common).await
    }
}

#[tonic::async_trait]
impl ImpersonationService for ImpersonationHandler {
    async fn begin_consent(
        &self,
        request: Request<pb::BeginConsentRequest>,
    ) -> Result<Response<pb::BeginConsentResponse>, Status> {
        let (context, _, request) = split_request(request)?;
        answer(&context, consent::begin(&self.common, &self.consents, &context, request).await)
    }

    async fn complete_consent(
        &self,
        request: Request<pb::CompleteConsentRequest>,
    ) -> Result<Response<pb::CompleteConsentResponse>, Status> {
        let (context, _, request) = split_request(request)?;
        answer(&context, consent::complete(&self.common, &self.consents, &context, request).await)
    }

    async fn import_grant(
        &self,
        request: Request<pb::ImportGrantRequest>,
    ) -> Result<Response<pb::ImportGrantResponse>, Status> {
        rpc!(self.import, request)
    }

    async fn get_grant(
        &self,
        request: Request<pb::GetGrantRequest>,
    ) -> Result<Response<pb::GetGrantResponse>, Status> {
        rpc!(self.get, request)
    }

    async fn list_grants(
        &self,
        request: Request<pb::ListGrantsRequest>,
    ) -> Result<Response<pb::ListGrantsResponse>, Status> {
        rpc!(self.list, request)
    }

    async fn revoke_grant(
        &self,
        request: Request<pb::RevokeGrantRequest>,
    ) -> Result<Response<pb::RevokeGrantResponse>, Status> {
        rpc!(self.revoke, request)
    }

    type WatchGrantsStream = Messages<pb::WatchGrantsResponse>;

    async fn watch_grants(
        &self,
        request: Request<pb::WatchGrantsRequest>,
    ) -> Result<Response<Self::WatchGrantsStream>, Status> {
        let (context, _, request) = split_request(request)?;
        answer_stream(&context, self.watch_grants(&context, &request).await)
    }

    async fn issue_access_token(
        &self,
        request: Request<pb::IssueAccessTokenRequest>,
    ) -> Result<Response<pb::IssueAccessTokenResponse>, Status> {
        rpc!(self.issue, request)
    }

    type WatchAccessTokenStream = Messages<pb::WatchAccessTokenResponse>;

    async fn watch_access_token(
        &self,
        request: Request<pb::WatchAccessTokenRequest>,
    ) -> Result<Response<Self::WatchAccessTokenStream>, Status> {
        let (context, _, request) = split_request(request)?;
        answer_stream(&context, self.watch_token(&context, request).await)
    }
}
