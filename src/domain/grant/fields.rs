//! The fields of grants for filters.

use super::Grant;
use crate::domain::filter::{Field, FieldKind, Fields, Value};

/// The states by their names in the API.
const STATES: &[&str] = &["ACTIVE", "CONSENT_REQUIRED", "REVOKED"];

/// The fields that grants can be filtered on.
pub const GRANT_FIELDS: &[Field] = &[
    Field { name: "name", kind: FieldKind::Text },
    Field { name: "associate_id", kind: FieldKind::Int },
    Field { name: "user_principal_name", kind: FieldKind::Text },
    Field { name: "full_name", kind: FieldKind::Text },
    Field { name: "state", kind: FieldKind::Enum(STATES) },
    Field { name: "revocation_pending", kind: FieldKind::Bool },
    Field { name: "create_time", kind: FieldKind::Time },
    Field { name: "last_refresh_time", kind: FieldKind::Time },
];

/// A grant in a filtered list.
#[derive(Debug)]
pub struct ListedGrant<'a> {
    grant: &'a Grant,
    name: String,
}

impl<'a> ListedGrant<'a> {
    /// Creates the view of a grant.
    #[must_use]
    pub fn new(grant: &'a Grant) -> Self {
        Self { grant, name: grant.name.to_string() }
    }
}

impl Fields for ListedGrant<'_> {
    fn get(&self, field: &str) -> Value<'_> {
        let grant = self.grant;
        match field {
            "name" => Value::Text(self.name.as_str().into()),
            "associate_id" => Value::Int(grant.associate_id.get().into()),
            "user_principal_name" => Value::Text(grant.user_principal_name.as_str().into()),
            "full_name" => Value::Text(grant.full_name.as_str().into()),
            "state" => Value::Text(grant.state.as_str().into()),
            "revocation_pending" => Value::Bool(grant.revocation_pending),
            "create_time" => Value::Time(grant.create_time),
            "last_refresh_time" => grant.last_refresh_time.map_or(Value::Absent, Value::Time),
            _ => Value::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{AssociateId, Filter, GrantState};

    #[test]
    fn every_state_has_a_name_of_the_contract() {
        let names: Vec<_> = GrantState::ALL.iter().map(|state| state.as_str()).collect();
        assert_eq!(names, STATES);
    }

    #[test]
    fn every_field_can_be_filtered_on() {
        let time = Timestamp::from_second(1_800_000_000).unwrap();
        let mut grant = Grant {
            name: "applications/crm-sync/tenants/Cust1/grants/g1".parse().unwrap(),
            associate_id: AssociateId::new(5).unwrap(),
            user_principal_name: "tony@example.com".to_owned(),
            full_name: "Tony Yates".to_owned(),
            state: GrantState::ConsentRequired,
            create_time: time,
            last_refresh_time: Some(time),
            last_failure: None,
            failing: None,
            revocation_pending: false,
            identity_unconfirmed: false,
            token_version: 1,
            version: 1,
        };
        let matches = |grant: &Grant, text: &str| {
            Filter::parse(text, GRANT_FIELDS).unwrap().matches(&ListedGrant::new(grant))
        };
        for (text, wanted) in [
            ("associate_id = 5 AND state = CONSENT_REQUIRED", true),
            ("associate_id > 5 OR state = ACTIVE", false),
            ("user_principal_name = \"tony@*\" full_name:Yates", true),
            ("name = \"*/grants/g1\" AND NOT revocation_pending = true", true),
            ("create_time >= 2027-01-15T08:00:00Z last_refresh_time < 2027-01-15T08:00:01Z", true),
        ] {
            assert_eq!(matches(&grant, text), wanted, "{text}");
        }
        for field in GRANT_FIELDS {
            assert_ne!(ListedGrant::new(&grant).get(field.name), Value::Absent, "{}", field.name);
        }
        grant.last_refresh_time = None;
        assert!(matches(&grant, "NOT last_refresh_time:*"));
    }
}
