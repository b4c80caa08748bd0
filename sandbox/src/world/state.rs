//! States of tenants and authorizations.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The state of a tenant, with SuperOffice's names and numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum TenantState {
    /// Unknown, or an incident.
    Unknown = 0,
    /// Being set up.
    Provisioning = 1,
    /// In use.
    #[default]
    Running = 2,
    /// Deleted permanently.
    Deleted = 3,
    /// Suspended; it may be resumed.
    Suspended = 4,
    /// In maintenance; the API is available.
    OnlineMaintenance = 5,
    /// In maintenance; the API is not available.
    OfflineMaintenance = 6,
    /// Setting it up failed.
    ProvisioningFailed = 8,
    /// Being deleted.
    Deleting = 10,
    /// Deletion failed; it will be repeated.
    DeleteFailed = 11,
    /// Waiting to be migrated.
    MigrationPending = 12,
}

impl TenantState {
    /// Every documented state.
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

    /// Returns whether the API can be used. `IsRunning` has the same value.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::OnlineMaintenance)
    }
}

/// The state of an application's authorization on a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Authorization {
    /// The application may use the tenant.
    #[default]
    Active,
    /// The tenant or the vendor withdrew it.
    Revoked,
    /// The end date has passed.
    Expired,
    /// Access is denied.
    Denied,
    /// An administrator must approve again.
    NeedsReapproval,
}

/// The administrator who approved an application in a tenant, and the time (documented: both are
/// stored).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// The user name of the administrator.
    pub user_name: String,
    /// The time by the sandbox's clock.
    pub at: Timestamp,
}
