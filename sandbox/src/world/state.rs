//! The states that tenants and authorizations can be in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The state of a tenant, with the names and numbers the service uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum TenantState {
    /// Not known, or an incident.
    Unknown = 0,
    /// Being set up.
    Provisioning = 1,
    /// In use.
    #[default]
    Running = 2,
    /// Gone for good.
    Deleted = 3,
    /// Switched off, may come back.
    Suspended = 4,
    /// In maintenance; the API is available.
    OnlineMaintenance = 5,
    /// In maintenance; the API is not available.
    OfflineMaintenance = 6,
    /// Setting it up failed.
    ProvisioningFailed = 8,
    /// Being deleted.
    Deleting = 10,
    /// Deleting it failed; it will be deleted.
    DeleteFailed = 11,
    /// Waiting to be migrated.
    MigrationPending = 12,
}

impl TenantState {
    /// Every state the service documents.
    pub const ALL: [Self; 11] = [
        Self::Unknown,
        Self::Provisioning,
        Self::Running,
        Self::Deleted,
        Self::Suspended,
        Self::OnlineMaintenance,
        Self::OfflineMaintenance,
        Self::ProvisioningFailed,
        Self::Deleting,
        Self::DeleteFailed,
        Self::MigrationPending,
    ];

    /// Whether the API can be used: in exactly these states `IsRunning` is true.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::OnlineMaintenance)
    }
}

/// The state of the record that lets an application use a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Authorization {
    /// The application may use the tenant.
    #[default]
    Active,
    /// The tenant or the vendor withdrew it.
    Revoked,
    /// Its end date passed.
    Expired,
    /// Access is denied.
    Denied,
    /// An administrator must approve again.
    NeedsReapproval,
}

/// Who approved an application in a tenant, and when (SUPEROFFICE.md 8, documented: both are
/// stored).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// The user name of the administrator.
    pub user_name: String,
    /// By the sandbox's clock.
    pub at: Timestamp,
}
