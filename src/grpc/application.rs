//! `ApplicationService`: the configured applications.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    answer::answer,
    context::CallContext,
    convert,
    failure::Failure,
    handler_dependencies::HandlerDependencies,
    pb::{self, application_service_server::ApplicationService},
    request::{Checks, split_request},
};
use crate::{access::Gateway, broker::Applications};

/// The full name of the service.
pub(super) const NAME: &str = pb::application_service_server::SERVICE_NAME;

/// The handler of the service.
pub struct ApplicationHandler {
    /// The dependencies that all handlers share.
    pub common: Arc<HandlerDependencies>,
    /// The configured applications.
    pub applications: Arc<Applications>,
}

impl ApplicationHandler {
    fn list(
        &self,
        context: &CallContext,
        request: &pb::ListApplicationsRequest,
    ) -> Result<pb::ListApplicationsResponse, Failure> {
        let page_tokens = &*self.common.page_tokens;
        let query = format!("ListApplications {}", context.caller().id());
        let mut checks = Checks::default();
        let size = checks.page_size("page_size", request.page_size);
        let after = checks.page_token("page_token", &request.page_token, page_tokens, &query);
        let (Some(limit), Some(after)) = (size, after) else { return Err(checks.into_failure()) };
        let limit = limit as usize;
        let authorized = self.common.authorize(context, Gateway)?;
        let found = self.applications.list(&authorized, after.as_ref(), limit + 1);
        let (page, next_page_token) =
            self.common.split_page(&query, found, limit, |view| view.id.to_string())?;
        let applications = page.iter().map(convert::application).collect();
        Ok(pb::ListApplicationsResponse { applications, next_page_token })
    }
}

#[tonic::async_trait]
impl ApplicationService for ApplicationHandler {
    async fn list_applications(
        &self,
        request: Request<pb::ListApplicationsRequest>,
    ) -> Result<Response<pb::ListApplicationsResponse>, Status> {
        let (context, _, request) = split_request(request)?;
        answer(&context, self.list(&context, &request))
    }
}
