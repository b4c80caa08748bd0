//! Authorization of Web API calls: the user that the caller acts as, and the policy check.

use std::sync::Arc;

use super::{Services, failure::Failure, layer::Context, refuse};
use crate::{
    access::{AuthorizedCall, CallError, RequestedCall},
    broker::{ACT_AS, BrokerError},
    domain::{ActorSelector, TenantName},
};

impl Services {
    /// Checks policy for a Web API call, counts the call in its tenant, and notes the decision. `actor` is `None` if the
    /// caller named no user; this does not mean the system user. `field` is the request field, for error messages.
    pub(super) async fn act(
        &self,
        context: &Context,
        call: RequestedCall<TenantName>,
        actor: Option<ActorSelector>,
        field: &'static str,
    ) -> Result<AuthorizedCall, Failure> {
        let (caller, tenant) = (&context.caller, &call.target);
        context.set_tenant(tenant);
        let somebody = self.access.may_act_as_any_person(caller, tenant);
        let chosen =
            self.egress.resolve_actor(tenant, actor, somebody).await.map_err(
                |error| match error {
                    BrokerError::Invalid { field: ACT_AS, problem } => {
                        Failure::invalid(field, problem)
                    }
                    error => error.into(),
                },
            )?;
        match self.access.authorize_web_api_call(caller, call, chosen) {
            Ok(acting) => {
                let (action, resource) = (acting.action(), acting.resource());
                context.notes.allowed(action, &resource, Arc::clone(acting.policy_ids()));
                self.audit.check(action)?;
                Ok(acting)
            }
            Err(CallError::AmbiguousActor) => {
                let problem = "policy permits several users here: name one of `system`, \
                    `associates/{associate}` or `grants/{grant}`";
                Err(Failure::invalid(field, problem))
            }
            Err(CallError::Refused { action, resource, refused }) => {
                Err(refuse(context, action.as_str(), &resource, refused))
            }
        }
    }
}
