//! The grants of associates: which one to read as, and which ones the caller may see.

use std::{collections::HashMap, sync::Arc};

use super::AssociateHandler;
use crate::{
    access::{ActionName, Authorized, CallWebApiAsUser},
    broker::AssociateReading,
    domain::{Actor, ActorSelector, AssociateId, Grant, Languages, TenantName},
    grpc::{context::CallContext, convert, failure::Failure, pb},
};

/// The Web API path of user data, for the policy check of reads with a person's grant.
const USER_API_PATH: &str = "/api/v1/user";

impl AssociateHandler {
    /// Returns the user to read a tenant as. A person needs the permission to call the Web API as that person.
    pub(super) async fn authorize_actor(
        &self,
        context: &CallContext,
        tenant: &TenantName,
        actor: ActorSelector,
    ) -> Result<Actor, Failure> {
        let ActorSelector::Person(person) = actor else { return Ok(Actor::SystemUser) };
        let found = self.impersonation.find(tenant, &person).await?;
        let authorized: Authorized<CallWebApiAsUser, _> =
            self.common.authorize_call(context, found, "GET", USER_API_PATH)?;
        match authorized.resource().name() {
            Some(name) => Ok(Actor::Grant(name)),
            None => {
                Err(self.impersonation.explain_missing_grant(authorized.resource()).await?.into())
            }
        }
    }

    /// Converts associates, each with its grant if the caller may see it.
    pub(super) async fn to_pb_associates(
        &self,
        context: &CallContext,
        tenant: &TenantName,
        languages: &Languages,
        readings: &[AssociateReading],
    ) -> Result<Vec<pb::Associate>, Failure> {
        let ids: Vec<_> = readings.iter().map(|reading| reading.associate.id).collect();
        let grants = self.grants_of(context, tenant, &ids).await?;
        let to_pb = |reading: &AssociateReading| {
            let AssociateReading { associate, read_time } = reading;
            convert::associate(tenant, associate, *read_time, languages, grants.as_ref())
        };
        Ok(readings.iter().map(to_pb).collect())
    }

    /// Converts one associate, with its grant if the caller may see it.
    pub(super) async fn to_pb_associate(
        &self,
        context: &CallContext,
        tenant: &TenantName,
        languages: &Languages,
        reading: AssociateReading,
    ) -> Result<Option<pb::Associate>, Failure> {
        Ok(self.to_pb_associates(context, tenant, languages, &[reading]).await?.pop())
    }

    /// Returns the grants of these associates, or `None` if the caller may not see grants.
    async fn grants_of(
        &self,
        context: &CallContext,
        tenant: &TenantName,
        ids: &[AssociateId],
    ) -> Result<Option<HashMap<AssociateId, Arc<Grant>>>, Failure> {
        let (access, actions) = (&self.common.access, [ActionName::ReadGrants]);
        let rights = access.rights_on_each(context.caller(), [tenant.clone()], &actions)?;
        Ok(self.impersonation.grants_of_associates(rights.first(), ids).await?)
    }
}
