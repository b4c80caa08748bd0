//! `AccessService`: what the caller itself may do, and why not.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Services, convert,
    failure::Failure,
    layer::Context,
    pb::{self, access_service_server::AccessService},
    refuse,
    request::{Checks, answer, open},
};
use crate::access::{ActionName, Refused};

/// Its full name.
pub(super) const NAME: &str = pb::access_service_server::SERVICE_NAME;

/// What their denials are called in the audit trail: questions are no actions of the policy.
const TEST: &str = "testPermissions";
const EXPLAIN: &str = "explainAccess";

/// The service.
pub(super) struct Accesses(pub(super) Arc<Services>);

impl Accesses {
    fn test(
        &self,
        context: &Context,
        request: &pb::TestPermissionsRequest,
    ) -> Result<pb::TestPermissionsResponse, Failure> {
        let mut checks = Checks::default();
        let resource = checks.resource("resource", &request.resource);
        let asked = checks.permissions("permissions", &request.permissions);
        let (Some(resource), Some(asked)) = (resource, asked) else { return Err(checks.failed()) };
        let tenant = resource.tenant().cloned();
        // All of them: whoever has another right on the tenant may know that it has none of these.
        match self.0.access.rights(&context.caller, resource, ActionName::ALL) {
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

    async fn explain(
        &self,
        context: &Context,
        request: &pb::ExplainAccessRequest,
    ) -> Result<pb::ExplainAccessResponse, Failure> {
        let mut checks = Checks::default();
        let Some(selector) = checks.tenant_selector("tenant", &request.tenant) else {
            return Err(checks.failed());
        };
        let rights = self.0.rights_selected(context, EXPLAIN, "tenant", selector).await?;
        self.0.concerns(context, rights.resource())?;
        let contexts = self.0.explanations.explain(&rights).await?;
        let user_contexts = contexts.iter().map(convert::user_context).collect();
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
        answer(&context, self.test(&context, &request))
    }

    async fn explain_access(
        &self,
        request: Request<pb::ExplainAccessRequest>,
    ) -> Result<Response<pb::ExplainAccessResponse>, Status> {
        let (context, _, request) = open(request)?;
        answer(&context, self.explain(&context, &request).await)
    }
}
