//! Tenants: what we keep of them, and what SuperOffice says of them.

mod fields;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

pub use self::fields::{ListedTenant, TENANT_FIELDS};
use super::{TenantName, WebApiUri};

macro_rules! tenant_states {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// The state of a tenant as SuperOffice reports it (SUPEROFFICE.md 5).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum TenantState { $($(#[$doc])* $variant),+ }

        impl TenantState {
            /// Every state there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// SuperOffice's word for it.
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
    /// Being made.
    Provisioning = "Provisioning",
    /// In use: calls work.
    Running = "Running",
    /// Gone for good.
    Deleted = "Deleted",
    /// Stopped, usually by sales.
    Suspended = "Suspended",
    /// Maintained while in use: calls work.
    OnlineMaintenance = "OnlineMaintenance",
    /// Maintained, usually upgraded: calls fail for minutes.
    OfflineMaintenance = "OfflineMaintenance",
    /// Could not be made.
    ProvisioningFailed = "ProvisioningFailed",
    /// Being deleted.
    Deleting = "Deleting",
    /// Could not be deleted yet.
    DeleteFailed = "DeleteFailed",
    /// Being moved to the cloud.
    MigrationPending = "MigrationPending",
}

/// Whether calls to a tenant can work, and if not, whether waiting helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usability {
    /// Calls work.
    Usable,
    /// Comes back by itself; ask again after about this long.
    ComesBack(Duration),
    /// Does not come back by itself.
    Stopped,
}

impl TenantState {
    /// SuperOffice's word, if it is one that we know.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
    }

    /// Whether calls can work (CONTRACT section 4, SUPEROFFICE.md 5).
    #[must_use]
    pub fn usability(self) -> Usability {
        const MINUTE: Duration = Duration::from_mins(1);
        match self {
            Self::Running | Self::OnlineMaintenance => Usability::Usable,
            Self::Unknown | Self::Provisioning => Usability::ComesBack(MINUTE),
            Self::OfflineMaintenance => Usability::ComesBack(MINUTE.saturating_mul(5)),
            // Takes days or weeks: an hour keeps the question cheap.
            Self::MigrationPending => Usability::ComesBack(MINUTE.saturating_mul(60)),
            Self::Suspended
            | Self::Deleted
            | Self::Deleting
            | Self::DeleteFailed
            | Self::ProvisioningFailed => Usability::Stopped,
        }
    }
}

/// What SuperOffice says of a tenant, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantStatus {
    /// The state.
    pub state: TenantState,
    /// When to ask again; already clamped to what we accept.
    pub valid_until: Timestamp,
    /// Where its Web API is. Always there for a usable tenant.
    pub web_api_uri: Option<WebApiUri>,
    /// SuperOffice's release, for people.
    pub version: String,
    /// When we read it.
    pub read_time: Timestamp,
}

/// What the gateway keeps of a tenant, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// Set by the vendor, for the vendor.
    pub labels: BTreeMap<String, String>,
    /// The company's name as SuperOffice last told it; empty until then.
    pub company_name: String,
    /// The emergency stop.
    pub disabled: bool,
    /// Numbers the settings of system user tokens in the whole store; 0 means that there is no token. A ticket
    /// belongs to the token it was issued under, so a ticket of another number is not used.
    pub token_version: i64,
    /// Counts every change by an administrator: the source of the etag.
    pub version: i64,
    /// When it was added.
    pub create_time: Timestamp,
    /// When an administrator last changed it.
    pub update_time: Timestamp,
    /// What SuperOffice last said of it, if it was ever asked. Shared with those who go by it.
    pub last_status: Option<Arc<TenantStatus>>,
}

impl Tenant {
    /// Whether a system user token is stored.
    #[must_use]
    pub fn has_system_user_token(&self) -> bool {
        self.token_version > 0
    }

    /// Changes with every change by an administrator (google.aip.dev/154).
    #[must_use]
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_work_in_exactly_running_and_online_maintenance() {
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
