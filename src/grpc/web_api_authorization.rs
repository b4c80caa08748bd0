//! The policy check of Web API calls, and the user that they act as.

use std::sync::Arc;

use super::{context::CallContext, failure::Failure, handler_dependencies::HandlerDependencies};
use crate::{
    access::{AuthorizedCall, CallError, RequestedCall},
    audit::AuditedWebApiCall,
    broker::{ACT_AS, BrokerError, Egress},
    domain::{ActorSelector, TenantName},
};

impl HandlerDependencies {
    /// Checks policy for a Web API call, counts the call in its tenant, and notes the decision. `actor` is `None` if the
    /// caller named no user; this does not mean the system user. `field` is the request field, for error messages.
    pub(super) async fn authorize_web_api_call(
        &self,
        egress: &Egress,
        context: &CallContext,
        call: RequestedCall<TenantName>,
        actor: Option<ActorSelector>,
        field: &'static str,
    ) -> Result<AuthorizedCall, Failure> {
        let (caller, tenant) = (context.caller(), &call.target);
        context.set_tenant(tenant);
        context.notes.set_web_api_call(AuditedWebApiCall::new(call.method.as_str(), &call.path));
        let may_act_as_some_person = self.access.may_act_as_some_person(caller, tenant);
        let actor = egress.resolve_actor(tenant, actor, may_act_as_some_person).await;
        let actor = actor.map_err(|error| match error {
            BrokerError::Invalid { field: ACT_AS, problem } => Failure::invalid(field, problem),
            error => error.into(),
        })?;
        match self.access.authorize_web_api_call(caller, call, actor) {
            Ok(authorized) => {
                let (action, resource) = (authorized.action(), authorized.resource());
                context.permit(action, &resource, Arc::clone(authorized.policy_ids()));
                self.audit.check(action)?;
                Ok(authorized)
            }
            Err(CallError::AmbiguousActor) => {
                let problem = "policy permits several users here: name one of `system`, \
                    `associates/{associate}` or `grants/{grant}`";
                Err(Failure::invalid(field, problem))
            }
            Err(CallError::Refused { action, resource, refused }) => {
                Err(context.refuse(action.as_str(), &resource, refused))
            }
        }
    }
}
