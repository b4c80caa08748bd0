//! Which user a caller should use on a tenant, and why it cannot: the question that everybody on this platform
//! begins with.

use std::sync::Arc;

use super::{Applications, BrokerError, Directory, Statuses, Tickets};
use crate::{
    access::{ActionName, Rights},
    domain::{ContextKind, Obstacle, Reason, Tenant, TenantName, Usability, UserContext},
};

/// What lets a caller act as the system user.
const AS_SYSTEM_USER: [ActionName; 2] =
    [ActionName::IssueSystemTicket, ActionName::CallWebApiAsSystemUser];

/// Whoever may do one of these is told the state of the tenant by other calls too.
const MAY_KNOW_THE_STATE: [ActionName; 5] = [
    ActionName::IssueSystemTicket,
    ActionName::CallWebApiAsSystemUser,
    ActionName::ReadAssociates,
    ActionName::ReadTenants,
    ActionName::ManageTenants,
];

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
    ) -> Result<Vec<UserContext>, BrokerError> {
        let name = rights.resource();
        self.applications.check(&name.application)?;
        let tenant = self.directory.get(name).await?;
        let mut obstacles = Vec::new();
        if !AS_SYSTEM_USER.iter().any(|action| rights.holds(*action)) {
            obstacles.push(not_permitted(name));
        }
        if MAY_KNOW_THE_STATE.iter().any(|action| rights.holds(*action)) {
            obstacles.extend(self.in_the_way(&tenant).await.iter().map(BrokerError::obstacle));
        }
        let policy_ids = rights.policy_ids(&AS_SYSTEM_USER);
        Ok(vec![UserContext { kind: ContextKind::SystemUser, obstacles, policy_ids }])
    }

    /// Everything that stands between the tenant and its ticket, not only the first.
    async fn in_the_way(&self, tenant: &Tenant) -> Vec<BrokerError> {
        let name = &tenant.name;
        let disabled = tenant.disabled.then(|| BrokerError::TenantDisabled(name.clone()));
        let enrolled = tenant.has_system_user_token();
        let not_enrolled = (!enrolled).then(|| BrokerError::NotEnrolled(name.clone()));
        let refused = enrolled.then(|| self.tickets.standing_refusal(tenant)).flatten();
        let state = match self.statuses.current(tenant).await {
            Ok(status) => match status.state.usability() {
                Usability::Usable => None,
                Usability::ComesBack(_) | Usability::Stopped => {
                    Some(BrokerError::TenantNotRunning(name.clone(), status.state))
                }
            },
            Err(error) => Some(error),
        };
        [disabled, not_enrolled, state, refused].into_iter().flatten().collect()
    }
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
