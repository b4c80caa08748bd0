//! Explains which users a caller can act as on a tenant, and which obstacles prevent it.

use std::sync::Arc;

use super::{Applications, BrokerError, ConsentReason, Statuses, TenantDirectory, Tickets};
use crate::{
    access::{ActionName, GrantResource, Rights},
    domain::{
        ContextKind, Grant, GrantState, Obstacle, Reason, Tenant, TenantName, Usability,
        UserContext,
    },
};

/// The actions that let a caller act as the system user.
const AS_SYSTEM_USER: [ActionName; 2] =
    [ActionName::IssueSystemTicket, ActionName::CallWebApiAsSystemUser];

/// The actions that let a caller act as a person.
const AS_PERSON: [ActionName; 2] = [ActionName::IssueAccessToken, ActionName::CallWebApiAsUser];

/// A caller with one of these actions can read all grants by other calls, so they may be shown here, too.
const MAY_KNOW_GRANTS: [ActionName; 2] = [ActionName::ReadGrants, ActionName::ManageGrants];

/// A caller with one of these actions sees the state of the tenant by other calls, so it may be shown here, too.
const MAY_KNOW_STATE: [ActionName; 5] = [
    ActionName::IssueSystemTicket,
    ActionName::CallWebApiAsSystemUser,
    ActionName::ReadAssociates,
    ActionName::ReadTenants,
    ActionName::ManageTenants,
];

/// The obstacles that apply to all users of a tenant.
struct TenantObstacles {
    disabled: Option<Obstacle>,
    not_running: Option<Obstacle>,
}

/// The use case behind `ExplainAccess`.
pub struct Explanations {
    applications: Arc<Applications>,
    directory: Arc<TenantDirectory>,
    statuses: Arc<Statuses>,
    tickets: Arc<Tickets>,
}

impl Explanations {
    /// Creates the use case on top of the others.
    #[must_use]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<TenantDirectory>,
        statuses: Arc<Statuses>,
        tickets: Arc<Tickets>,
    ) -> Self {
        Self { applications, directory, statuses, tickets }
    }

    /// Returns the users that the caller can act as on the tenant, each with all its obstacles.
    ///
    /// # Errors
    /// `ApplicationNotConfigured`, `TenantNotFound`, or if the store does not answer.
    pub async fn explain(
        &self,
        rights: &Rights<TenantName>,
        people: &[Arc<Grant>],
        on_grants: &[Rights<GrantResource>],
    ) -> Result<Vec<UserContext>, BrokerError> {
        let name = rights.resource();
        self.applications.check(&name.application)?;
        let tenant = self.directory.get(name).await?;
        // A caller that may act as a person sees the state when it does so.
        let knows_state =
            !on_grants.is_empty() || MAY_KNOW_STATE.iter().any(|action| rights.holds(*action));
        let state = if knows_state { Some(self.tenant_obstacles(&tenant).await) } else { None };
        let mut obstacles = Vec::new();
        if !AS_SYSTEM_USER.iter().any(|action| rights.holds(*action)) {
            obstacles.push(system_user_denied(name));
        }
        if let Some(TenantObstacles { disabled, not_running }) = &state {
            let [not_enrolled, refused] = self.system_user_obstacles(&tenant);
            let all = [disabled, &not_enrolled, not_running, &refused];
            obstacles.extend(all.into_iter().flatten().cloned());
        }
        let policy_ids = rights.policy_ids(&AS_SYSTEM_USER);
        let mut contexts =
            vec![UserContext { kind: ContextKind::SystemUser, obstacles, policy_ids }];
        let knows_grants = MAY_KNOW_GRANTS.iter().any(|action| rights.holds(*action));
        for grant in people {
            let permitted = on_grants.iter().find(|it| it.resource().has_name(&grant.name));
            if permitted.is_some() || knows_grants {
                contexts.push(person_context(grant, permitted, state.as_ref()));
            }
        }
        Ok(contexts)
    }

    /// Returns the obstacles that apply only to the system user.
    fn system_user_obstacles(&self, tenant: &Tenant) -> [Option<Obstacle>; 2] {
        let enrolled = tenant.has_system_user_token();
        let not_enrolled = (!enrolled).then(|| BrokerError::NotEnrolled(tenant.name.clone()));
        let refused = enrolled.then(|| self.tickets.cached_failure(tenant)).flatten();
        [not_enrolled, refused].map(|error| error.map(|error| error.obstacle()))
    }

    /// Returns the obstacles that apply to all users of a tenant.
    async fn tenant_obstacles(&self, tenant: &Tenant) -> TenantObstacles {
        let name = &tenant.name;
        let disabled = tenant.disabled.then(|| BrokerError::TenantDisabled(name.clone()));
        let not_running = match self.statuses.current(tenant).await {
            Ok(status) => match status.state.usability() {
                Usability::Usable => None,
                Usability::RetryAfter(_) | Usability::Unusable => {
                    Some(BrokerError::TenantNotRunning(name.clone(), status.state))
                }
            },
            Err(error) => Some(error),
        };
        let [disabled, not_running] =
            [disabled, not_running].map(|error| error.map(|error| error.obstacle()));
        TenantObstacles { disabled, not_running }
    }
}

/// Returns the context for the person who gave this grant.
fn person_context(
    grant: &Grant,
    permitted: Option<&Rights<GrantResource>>,
    state: Option<&TenantObstacles>,
) -> UserContext {
    let name = &grant.name;
    let mut obstacles = Vec::new();
    if permitted.is_none() {
        obstacles.push(Obstacle {
            reason: Reason::PolicyDenied,
            message: format!("policy does not permit you to act as the person of {name}"),
            mend: "ask the gateway administrator to permit callWebApiAsUser (the gateway keeps the credential) or \
                   issueAccessToken on the grant"
                .to_owned(),
        });
    }
    let state = state.map(|state| [&state.disabled, &state.not_running]);
    obstacles.extend(state.into_iter().flatten().flatten().cloned());
    let why = match grant.state {
        GrantState::Active => None,
        GrantState::ConsentRequired => Some(ConsentReason::NoLongerWorks),
        GrantState::Revoked => Some(ConsentReason::Revoked),
    };
    let tenant = || name.tenant.clone();
    obstacles.extend(why.map(|why| BrokerError::ConsentRequired(tenant(), why).obstacle()));
    let policy_ids = permitted.map(|rights| rights.policy_ids(&AS_PERSON)).unwrap_or_default();
    let kind = ContextKind::Person(name.clone(), grant.associate_id);
    UserContext { kind, obstacles, policy_ids }
}

fn system_user_denied(name: &TenantName) -> Obstacle {
    Obstacle {
        reason: Reason::PolicyDenied,
        message: format!("policy does not permit you to act as the system user of {name}"),
        mend: "ask the gateway administrator to permit callWebApiAsSystemUser (the gateway keeps the credential) or \
               issueSystemTicket; to act as a person, use that person's grant"
            .to_owned(),
    }
}
