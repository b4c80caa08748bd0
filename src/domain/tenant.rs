//! Tenants: the stored data, and the status that SuperOffice reports.

mod fields;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

pub use self::fields::{ListedTenant, TENANT_FIELDS};
use super::{TenantName, WebApiUri};

macro_rules! tenant_states {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// The state of a tenant as SuperOffice reports it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum TenantState { $($(#[$doc])* $variant),+ }

        impl TenantState {
            /// All states.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns SuperOffice's name of the state.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

tenant_states! {
    /// SuperOffice does not know the tenant, or has an incident.
    Unknown = "Unknown",
    /// It is being created.
    Provisioning = "Provisioning",
    /// It is in use: calls work.
    Running = "Running",
    /// It is deleted permanently.
    Deleted = "Deleted",
    /// It is stopped, usually by SuperOffice's sales department.
    Suspended = "Suspended",
    /// It is in maintenance while in use: calls work.
    OnlineMaintenance = "OnlineMaintenance",
    /// It is in maintenance, usually an upgrade: calls fail for some minutes.
    OfflineMaintenance = "OfflineMaintenance",
    /// Its creation failed.
    ProvisioningFailed = "ProvisioningFailed",
    /// It is being deleted.
    Deleting = "Deleting",
    /// Its deletion has failed so far.
    DeleteFailed = "DeleteFailed",
    /// It is being migrated to the cloud.
    MigrationPending = "MigrationPending",
}

/// Whether a tenant is usable, and if not, whether waiting helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usability {
    /// Calls work.
    Usable,
    /// The state ends by itself; retry after about this time.
    RetryAfter(Duration),
    /// The state does not end by itself.
    Unusable,
}

impl TenantState {
    /// Returns the state by SuperOffice's name, if it is known.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
    }

    /// Returns whether the tenant is usable in this state.
    #[must_use]
    pub fn usability(self) -> Usability {
        const MINUTE: Duration = Duration::from_mins(1);
        match self {
            Self::Running | Self::OnlineMaintenance => Usability::Usable,
            Self::Unknown | Self::Provisioning => Usability::RetryAfter(MINUTE),
            Self::OfflineMaintenance => Usability::RetryAfter(MINUTE.saturating_mul(5)),
            // A migration takes days or weeks, so one request per hour is enough.
            Self::MigrationPending => Usability::RetryAfter(MINUTE.saturating_mul(60)),
            Self::Suspended
            | Self::Deleted
            | Self::Deleting
            | Self::DeleteFailed
            | Self::ProvisioningFailed => Usability::Unusable,
        }
    }
}

/// The validated status of a tenant from SuperOffice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantStatus {
    /// The state.
    pub state: TenantState,
    /// The time of the next request, limited to the accepted range.
    pub valid_until: Timestamp,
    /// The URI of the Web API. Always present for a usable tenant.
    pub web_api_uri: Option<WebApiUri>,
    /// SuperOffice's release, for information.
    pub version: String,
    /// The time when the status was read.
    pub read_time: Timestamp,
}

/// The stored data of a tenant, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// The name.
    pub name: TenantName,
    /// The labels, for the vendor's own use.
    pub labels: BTreeMap<String, String>,
    /// The company's name as SuperOffice last returned it; empty until then.
    pub company_name: String,
    /// Whether an administrator disabled the tenant.
    pub disabled: bool,
    /// The version of the system user token, unique in the store; 0 means that there is no token. Tickets issued under
    /// another version are not used.
    pub token_version: i64,
    /// The number of changes by administrators, from which the etag is made.
    pub version: i64,
    /// The time of its creation.
    pub create_time: Timestamp,
    /// The time of the last change by an administrator.
    pub update_time: Timestamp,
    /// The last status from SuperOffice, if there is one. Shared with its users.
    pub last_status: Option<Arc<TenantStatus>>,
}

impl Tenant {
    /// Returns whether a system user token is stored.
    #[must_use]
    pub fn has_system_user_token(&self) -> bool {
        self.token_version > 0
    }

    /// Returns the etag, which differs after each change by an administrator (google.aip.dev/154).
    #[must_use]
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_running_and_online_maintenance_are_usable() {
        let usable: Vec<_> = TenantState::ALL
            .iter()
            .filter(|state| state.usability() == Usability::Usable)
            .map(|state| state.as_str())
            .collect();
        assert_eq!(usable, ["Running", "OnlineMaintenance"]);
    }

    #[test]
    fn there_are_eleven_states_and_each_is_read_back() {
        assert_eq!(TenantState::ALL.len(), 11);
        for state in TenantState::ALL {
            assert_eq!(TenantState::from_name(state.as_str()), Some(*state));
        }
        assert_eq!(TenantState::from_name("running"), None);
    }
}
