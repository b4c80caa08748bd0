//! `ApplicationService`: the configured applications.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Services, convert,
    failure::Failure,
    layer::Context,
    pb::{self, application_service_server::ApplicationService},
    request::{Checks, answer, split_request},
};
use crate::{access::Gateway, broker::BrokerError, ports::PageTokens};

/// The full name of the service.
pub(super) const NAME: &str = pb::application_service_server::SERVICE_NAME;

/// The handler of the service.
pub(super) struct ApplicationHandler(pub(super) Arc<Services>);

impl ApplicationHandler {
    fn list(
        &self,
        context: &Context,
        request: &pb::ListApplicationsRequest,
    ) -> Result<pb::ListApplicationsResponse, Failure> {
        let Services { applications, page_tokens, .. } = &*self.0;
        let query = format!("ListApplications {}", context.caller.id());
        let mut checks = Checks::default();
        let size = checks.page_size("page_size", request.page_size);
        let after = checks.page_token("page_token", &request.page_token, &**page_tokens, &query);
        let (Some(limit), Some(after)) = (size, after) else { return Err(checks.into_failure()) };
        let limit = limit as usize;
        let authorized = self.0.authorize(context, Gateway)?;
        let mut found = applications.list(&authorized, after.as_ref(), limit + 1);
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).map(|view| view.id.to_string());
        let next_page_token = next_page_token(&**page_tokens, &query, last)?;
        let applications = found.iter().map(convert::application).collect();
        Ok(pb::ListApplicationsResponse { applications, next_page_token })
    }
}

/// Returns the token of the page after `last`, or an empty text if there is no next page.
pub(super) fn next_page_token(
    tokens: &dyn PageTokens,
    query: &str,
    last: Option<String>,
) -> Result<String, Failure> {
    let Some(last) = last else { return Ok(String::new()) };
    let sealed = tokens.seal(query, last.as_bytes());
    sealed.map_err(|error| BrokerError::Internal(error.to_string().into()).into())
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
