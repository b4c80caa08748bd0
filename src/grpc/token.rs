//! `TokenService`: system user tickets.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    answer::{answer_stream, rpc},
    context::CallContext,
    convert,
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    pb::{self, token_service_server::TokenService},
    request::{Checks, split_request},
    tenant_authorizer::TenantAuthorizer,
    watch::{self, Messages},
    watch_ticket::TicketWatch,
};
use crate::{
    access::{Authorized, IssueSystemTicket, RevealApplicationToken},
    broker::{Impersonation, Tickets},
    domain::PersonSelector,
};

/// The full name of the service.
pub(super) const NAME: &str = pb::token_service_server::SERVICE_NAME;

/// The handler of the service.
pub struct TokenHandler {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// Checks policy on tenants.
    pub tenant_authorizer: Arc<TenantAuthorizer>,
    /// The use cases of tickets.
    pub tickets: Arc<Tickets>,
    /// The use cases of grants and their access tokens.
    pub impersonation: Arc<Impersonation>,
}

impl TokenHandler {
    async fn issue(
        &self,
        context: &CallContext,
        request: pb::IssueSystemTicketRequest,
    ) -> Result<pb::IssueSystemTicketResponse, Failure> {
        let tickets = &self.tickets;
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("tenant", &request.tenant);
        let min_ttl = checks.duration("min_ttl", request.min_ttl, tickets.longest_min_ttl());
        let reason = checks.reason("reason", request.reason);
        let (Some(selector), Some(min_ttl), Some(reason)) = (tenant, min_ttl, reason) else {
            return Err(checks.into_failure());
        };
        context.notes.set_reason(reason);
        let authorized: Authorized<IssueSystemTicket, _> =
            self.tenant_authorizer.authorize(context, "tenant", selector).await?;
        let reveal: Option<Authorized<RevealApplicationToken, _>> = request
            .include_application_token
            .then(|| self.common.authorize(context, authorized.resource().clone()))
            .transpose()?;
        let ticket = tickets.issue(&authorized, min_ttl, reveal.as_ref()).await?;
        context.notes.set_credential(&ticket.ticket.credential_id);
        Ok(pb::IssueSystemTicketResponse { ticket: Some(convert::ticket(&ticket)) })
    }

    async fn watch(
        &self,
        context: &Arc<CallContext>,
        request: pb::WatchSystemTicketRequest,
    ) -> Result<Messages<pb::WatchSystemTicketResponse>, Failure> {
        let mut checks = Checks::default();
        let tenant = checks.tenant_selector("tenant", &request.tenant);
        let reason = checks.reason("reason", request.reason);
        let (Some(selector), Some(reason)) = (tenant, reason) else {
            return Err(checks.into_failure());
        };
        context.notes.set_reason(reason);
        let authorized: Authorized<IssueSystemTicket, _> =
            self.tenant_authorizer.authorize(context, "tenant", selector).await?;
        let watch = TicketWatch::new(
            Arc::clone(&self.common),
            Arc::clone(&self.tickets),
            Arc::clone(context),
            authorized,
            request.include_application_token,
        );
        watch::start(watch, Arc::clone(context), &self.common).await
    }

    async fn report_rejected(
        &self,
        context: &CallContext,
        request: pb::ReportRejectedCredentialRequest,
    ) -> Result<pb::ReportRejectedCredentialResponse, Failure> {
        let mut checks = Checks::default();
        let tenant = checks.tenant_name("tenant", &request.tenant);
        let id = checks.credential_id("credential_id", &request.credential_id);
        let (Some(tenant), Some(id)) = (tenant, id) else { return Err(checks.into_failure()) };
        context.notes.set_credential(&id);
        if let Some(grant) = id.grant() {
            let impersonation = &self.impersonation;
            let found = impersonation.find(&tenant, &PersonSelector::Grant(grant)).await?;
            let authorized = self.common.authorize(context, found)?;
            impersonation.report_rejected(&authorized, id).await?;
            return Ok(pb::ReportRejectedCredentialResponse {});
        }
        let authorized = self.common.authorize(context, tenant)?;
        self.tickets.report_rejected(&authorized, id).await?;
        Ok(pb::ReportRejectedCredentialResponse {})
    }
}

#[tonic::async_trait]
impl TokenService for TokenHandler {
    async fn issue_system_ticket(
        &self,
        request: Request<pb::IssueSystemTicketRequest>,
    ) -> Result<Response<pb::IssueSystemTicketResponse>, Status> {
        rpc!(self.issue, request)
    }

    type WatchSystemTicketStream = Messages<pb::WatchSystemTicketResponse>;

    async fn watch_system_ticket(
        &self,
        request: Request<pb::WatchSystemTicketRequest>,
    ) -> Result<Response<Self::WatchSystemTicketStream>, Status> {
        let (context, _, request) = split_request(request)?;
        answer_stream(&context, self.watch(&context, request).await)
    }

    async fn report_rejected_credential(
        &self,
        request: Request<pb::ReportRejectedCredentialRequest>,
    ) -> Result<Response<pb::ReportRejectedCredentialResponse>, Status> {
        rpc!(self.report_rejected, request)
    }
}
