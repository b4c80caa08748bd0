//! The fields of tenants for filters.

use super::{Tenant, TenantState, TenantStatus};
use crate::domain::filter::{Field, FieldKind, Fields, Value};

/// The states by their names in the API.
const STATES: &[&str] = &[
    "UNKNOWN",
    "PROVISIONING",
    "RUNNING",
    "DELETED",
    "SUSPENDED",
    "ONLINE_MAINTENANCE",
    "OFFLINE_MAINTENANCE",
    "PROVISIONING_FAILED",
    "DELETING",
    "DELETE_FAILED",
    "MIGRATION_PENDING",
];

/// The fields that tenants can be filtered on.
pub const TENANT_FIELDS: &[Field] = &[
    Field { name: "name", kind: FieldKind::Text },
    Field { name: "company_name", kind: FieldKind::Text },
    Field { name: "labels", kind: FieldKind::Map },
    Field { name: "status", kind: FieldKind::Enum(STATES) },
    Field { name: "disabled", kind: FieldKind::Bool },
    Field { name: "has_system_user_token", kind: FieldKind::Bool },
    Field { name: "create_time", kind: FieldKind::Time },
    Field { name: "update_time", kind: FieldKind::Time },
];

/// A tenant with its last known status.
#[derive(Debug)]
pub struct ListedTenant<'a> {
    tenant: &'a Tenant,
    name: String,
    status: Option<TenantState>,
}

impl<'a> ListedTenant<'a> {
    /// Creates the view of a tenant and its status.
    #[must_use]
    pub fn new(tenant: &'a Tenant, status: Option<&TenantStatus>) -> Self {
        let status = status.map(|status| status.state);
        Self { tenant, name: tenant.name.to_string(), status }
    }
}

impl Fields for ListedTenant<'_> {
    fn get(&self, field: &str) -> Value<'_> {
        let tenant = self.tenant;
        match field {
            "name" => Value::Text(self.name.as_str().into()),
            "company_name" => Value::Text(tenant.company_name.as_str().into()),
            "labels" => Value::Map(&tenant.labels),
            "status" => {
                self.status.map_or(Value::Absent, |state| Value::Text(name_of(state).into()))
            }
            "disabled" => Value::Bool(tenant.disabled),
            "has_system_user_token" => Value::Bool(tenant.has_system_user_token()),
            "create_time" => Value::Time(tenant.create_time),
            "update_time" => Value::Time(tenant.update_time),
            _ => Value::Absent,
        }
    }
}

fn name_of(state: TenantState) -> &'static str {
    match state {
        TenantState::Unknown => "UNKNOWN",
        TenantState::Provisioning => "PROVISIONING",
        TenantState::Running => "RUNNING",
        TenantState::Deleted => "DELETED",
        TenantState::Suspended => "SUSPENDED",
        TenantState::OnlineMaintenance => "ONLINE_MAINTENANCE",
        TenantState::OfflineMaintenance => "OFFLINE_MAINTENANCE",
        TenantState::ProvisioningFailed => "PROVISIONING_FAILED",
        TenantState::Deleting => "DELETING",
        TenantState::DeleteFailed => "DELETE_FAILED",
        TenantState::MigrationPending => "MIGRATION_PENDING",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::Filter;

    #[test]
    fn every_state_has_a_name_of_the_contract() {
        let names: Vec<_> = TenantState::ALL.iter().map(|state| name_of(*state)).collect();
        assert_eq!(names, STATES);
    }

    #[test]
    fn every_field_can_be_filtered_on() {
        let time = Timestamp::from_second(1_800_000_000).unwrap();
        let tenant = Tenant {
            name: "applications/crm-sync/tenants/Cust1".parse().unwrap(),
            labels: [("region".to_owned(), "nordic".to_owned())].into(),
            company_name: "Søndag AS".to_owned(),
            disabled: true,
            token_version: 0,
            version: 1,
            create_time: time,
            update_time: time,
            last_status: None,
        };
        let status = TenantStatus {
            state: TenantState::OnlineMaintenance,
            valid_until: time,
            web_api_uri: None,
            version: String::new(),
            read_time: time,
        };
        let matches = |status, text: &str| {
            Filter::parse(text, TENANT_FIELDS).unwrap().matches(&ListedTenant::new(&tenant, status))
        };
        for (text, wanted) in [
            ("labels.region = nordic AND disabled = true", true),
            ("labels:region", true),
            ("labels.region = benelux OR labels:team", false),
            ("status = ONLINE_MAINTENANCE AND NOT has_system_user_token = true", true),
            ("status = RUNNING", false),
            ("name = \"applications/crm-sync/*\" company_name:Søndag", true),
            ("create_time >= 2027-01-15T08:00:00Z AND update_time < 2027-01-15T08:00:01Z", true),
            ("update_time > 2027-01-15T08:00:00Z", false),
        ] {
            assert_eq!(matches(Some(&status), text), wanted, "{text}");
        }
        assert!(!matches(None, "status:*") && matches(None, "NOT status:*"));
        let listed = ListedTenant::new(&tenant, Some(&status));
        for field in TENANT_FIELDS {
            assert_ne!(listed.get(field.name), Value::Absent, "{}", field.name);
        }
    }
}
