//! Calls of the Web API that are made for a caller: whom it acts as, and whether it may.

use std::sync::Arc;

use super::{Services, failure::Failure, layer::Context, refuse};
use crate::{
    access::{Acting, Calling, NotActing},
    broker::{ACT_AS, BrokerError},
    domain::{EyesSelector, TenantName},
};

impl Services {
    /// Decides on a call, counts it in the tenant, and notes what was decided. `eyes`: `None` where the caller did not
    /// say, which is not the same as the system user. `field` is where callers say so, for messages.
    pub(super) async fn act(
        &self,
        context: &Context,
        call: Calling<TenantName>,
        eyes: Option<EyesSelector>,
        field: &'static str,
    ) -> Result<Acting, Failure> {
        let (caller, tenant) = (&context.caller, &call.on);
        context.concerns(tenant);
        let somebody = self.access.may_act_as_somebody(caller, tenant);
        let chosen =
            self.egress.chosen(tenant, eyes, somebody).await.map_err(|error| match error {
                BrokerError::Invalid { field: ACT_AS, problem } => Failure::invalid(field, problem),
                error => error.into(),
            })?;
        match self.access.act(caller, call, chosen) {
            Ok(acting) => {
                let (action, resource) = (acting.action(), acting.resource());
                context.notes.allowed(action, &resource, Arc::clone(acting.policy_ids()));
                self.audit.check(action)?;
                Ok(acting)
            }
            Err(NotActing::Several) => {
                let problem = "policy lets you act as several users here: say as whom, `system`, \
                    `associates/{associate}` or `grants/{grant}`";
                Err(Failure::invalid(field, problem))
            }
            Err(NotActing::Refused { action, resource, refused }) => {
                Err(refuse(context, action.as_str(), &resource, refused))
            }
        }
    }
}
