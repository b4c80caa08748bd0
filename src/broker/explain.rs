//! Which user a caller should use on a tenant, and why it cannot: the question that everybody on this platform
//! begins with.

use std::sync::Arc;

use super::{Applications, BrokerError, Directory, Statuses, Tickets, WhyConsent};
use crate::{
    access::{ActionName, GrantResource, Rights},
    domain::{
        ContextKind, Grant, GrantState, Obstacle, Reason, Tenant, TenantName, Usability,
        UserContext,
    },
};

/// What lets a caller act as the system user.
const AS_SYSTEM_USER: [ActionName; 2] =
    [ActionName::IssueSystemTicket, ActionName::CallWebApiAsSystemUser];

/// What lets a caller act as a person.
const AS_A_PERSON: [ActionName; 2] = [ActionName::IssueAccessToken, ActionName::CallWebApiAsUser];

/// Whoever may do one of these is told of everybody's grant by other calls too.
const MAY_KNOW_GRANTS: [ActionName; 2] = [ActionName::ReadGrants, ActionName::ManageGrants];

/// Whoever may do one of these is told the state of the tenant by other calls too.
const MAY_KNOW_THE_STATE: [ActionName; 5] = [
    ActionName::IssueSystemTicket,
    ActionName::CallWebApiAsSystemUser,
    ActionName::ReadAssociates,
    ActionName::ReadTenants,
    ActionName::ManageTenants,
];

/// What stands in everybody's way.
struct State {
    disabled: Option<Obstacle>,
    not_running: Option<Obstacle>,
}

/// The use case behind `ExplainAccess`.
pub struct Explanations {
    applications: Arc<Applications>,
    directory: Arc<Directory>,
    statuses: Arc<Statuses>,
    tickets: Arc<Tickets>,
}

impl Explanations {
    /// Over what the other use cases know.
    #[must_use]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<Directory>,
        statuses: Arc<Statuses>,
        tickets: Arc<Tickets>,
    ) -> Self {
        Self { applications, directory, statuses, tickets }
    }

    /// As whom the caller can act on the tenant, with everything that stands in the way at once.
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
        // Who may act as a person is told by that.
        let knows_state =
            !on_grants.is_empty() || MAY_KNOW_THE_STATE.iter().any(|action| rights.holds(*action));
        let state = if knows_state { Some(self.state(&tenant).await) } else { None };
        let mut obstacles = Vec::new();
        if !AS_SYSTEM_USER.iter().any(|action| rights.holds(*action)) {
            obstacles.push(not_permitted(name));
        }
        if let Some(State { disabled, not_running }) = &state {
            let [not_enrolled, refused] = self.enrolment(&tenant);
            let all = [disabled, &not_enrolled, not_running, &refused];
            obstacles.extend(all.into_iter().flatten().cloned());
        }
        let policy_ids = rights.policy_ids(&AS_SYSTEM_USER);
        let mut contexts =
            vec![UserContext { kind: ContextKind::SystemUser, obstacles, policy_ids }];
        let knows_grants = MAY_KNOW_GRANTS.iter().any(|action| rights.holds(*action));
        for grant in people {
            let permitted = on_grants.iter().find(|it| it.resource().is(&grant.name));
            if permitted.is_some() || knows_grants {
                contexts.push(person(grant, permitted, state.as_ref()));
            }
        }
        Ok(contexts)
    }

    /// What stands in the system user's way.
    fn enrolment(&self, tenant: &Tenant) -> [Option<Obstacle>; 2] {
        let enrolled = tenant.has_system_user_token();
        let not_enrolled = (!enrolled).then(|| BrokerError::NotEnrolled(tenant.name.clone()));
        let refused = enrolled.then(|| self.tickets.standing_refusal(tenant)).flatten();
        [not_enrolled, refused].map(|error| error.map(|error| error.obstacle()))
    }

    /// What stands in everybody's way.
    async fn state(&self, tenant: &Tenant) -> State {
        let name = &tenant.name;
        let disabled = tenant.disabled.then(|| BrokerError::TenantDisabled(name.clone()));
        let not_running = match self.statuses.current(tenant).await {
            Ok(status) => match status.state.usability() {
                Usability::Usable => None,
                Usability::ComesBack(_) | Usability::Stopped => {
                    Some(BrokerError::TenantNotRunning(name.clone(), status.state))
                }
            },
            Err(error) => Some(error),
        };
        let [disabled, not_running] =
            [disabled, not_running].map(|error| error.map(|error| error.obstacle()));
        State { disabled, not_running }
    }
}

/// Acting as the person who gave this grant.
fn person(
    grant: &Grant,
    permitted: Option<&Rights<GrantResource>>,
    state: Option<&State>,
) -> UserContext {
    let name = &grant.name;
    let mut obstacles = Vec::new();
    if permitted.is_none() {
        obstacles.push(Obstacle {
            reason: Reason::PolicyDenied,
            message: format!("policy does not let you act as the person of {name}"),
            mend: "ask who administers the gateway for callWebApiAsUser (the gateway keeps the credential) or \
                   issueAccessToken on the grant"
                .to_owned(),
        });
    }
    let state = state.map(|state| [&state.disabled, &state.not_running]);
    obstacles.extend(state.into_iter().flatten().flatten().cloned());
    let why = match grant.state {
        GrantState::Active => None,
        GrantState::ConsentRequired => Some(WhyConsent::NoLongerWorks),
        GrantState::Revoked => Some(WhyConsent::Revoked),
    };
    let tenant = || name.tenant.clone();
    obstacles.extend(why.map(|why| BrokerError::ConsentRequired(tenant(), why).obstacle()));
    let policy_ids = permitted.map(|rights| rights.policy_ids(&AS_A_PERSON)).unwrap_or_default();
    let kind = ContextKind::Person(name.clone(), grant.associate_id);
    UserContext { kind, obstacles, policy_ids }
}

fn not_permitted(name: &TenantName) -> Obstacle {
    Obstacle {
        reason: Reason::PolicyDenied,
        message: format!("policy does not let you act as the system user of {name}"),
        mend: "ask who administers the gateway for callWebApiAsSystemUser (the gateway keeps the credential) or \
               issueSystemTicket; for work in a person's name, use that person's grant"
            .to_owned(),
    }
}
