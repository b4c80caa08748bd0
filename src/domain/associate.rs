//! Associates: the users of a tenant, including resources and system users. SuperOffice returns a record; combined with
//! the tenant's groups and roles it becomes an associate, to which the platform's rules apply.

mod eligibility;
mod fields;
mod group;
mod kind;
mod lookup;
mod name;
mod principal;
mod role;
mod warning;

use std::sync::Arc;

pub use self::{
    eligibility::Owner,
    fields::{ASSOCIATE_FIELDS, ASSOCIATE_ORDERS, ListedAssociate},
    group::{Directory, Reference, UserGroup},
    kind::{AssociateType, Capabilities},
    lookup::{LookupKey, is_same_name},
    name::{AssociateId, AssociateName, AssociateSelector},
    principal::{License, Principal},
    role::{Role, RoleType},
    warning::DataWarning,
};

/// Maximum number of warnings of one associate, because lists contain many associates.
const MAX_WARNINGS: usize = 16;

/// The data of an associate as SuperOffice returns it. Groups and roles are still references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociateRecord {
    /// The associate's id.
    pub id: AssociateId,
    /// The type of associate.
    pub kind: AssociateType,
    /// The short name in the CRM.
    pub login: String,
    /// The `SuperID` user principal name; empty if there is none.
    pub user_name: String,
    /// The person's name.
    pub full_name: String,
    /// The person's e-mail address.
    pub email: String,
    /// The person's id; 0 for none.
    pub person_id: i32,
    /// The id of the person's company; 0 for none.
    pub contact_id: i32,
    /// The primary group; empty for none.
    pub primary_group: Reference,
    /// The other groups.
    pub other_groups: Vec<Reference>,
    /// The role; empty for none.
    pub role: Reference,
    /// Whether it is active; `None` if SuperOffice does not say.
    pub active: Option<bool>,
    /// Whether SuperOffice lets it log in; `None` if SuperOffice does not say.
    pub can_login: Option<bool>,
    /// SuperOffice's name for the type of credential that it signs in with.
    pub credential_type: String,
    /// Problems with the data, found while reading it.
    pub warnings: Vec<DataWarning>,
}

/// A user of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Associate {
    /// The associate's id.
    pub id: AssociateId,
    /// The type of associate.
    pub kind: AssociateType,
    /// The short name in the CRM.
    pub login: String,
    /// The `SuperID` user principal name; empty if there is none.
    pub user_name: String,
    /// The person's name.
    pub full_name: String,
    /// The person's e-mail address.
    pub email: String,
    /// The person's id; 0 for none.
    pub person_id: i32,
    /// The id of the person's company; 0 for none.
    pub contact_id: i32,
    /// The primary group. Associate and primary group together own a record.
    pub primary_group: Option<Arc<UserGroup>>,
    /// The other groups, without duplicates and without the primary group.
    pub other_groups: Vec<Arc<UserGroup>>,
    /// The role.
    pub role: Option<Arc<Role>>,
    /// Whether it is active; `false` if SuperOffice does not say.
    pub active: bool,
    /// Whether SuperOffice lets it log in; `None` if SuperOffice does not say.
    pub can_login: Option<bool>,
    /// SuperOffice's name for the type of credential that it signs in with.
    pub credential_type: String,
    /// Problems with the data.
    pub warnings: Vec<DataWarning>,
}

impl Associate {
    /// Applies the platform's model to a record. Contradicting data is kept, with a warning.
    #[must_use]
    pub fn new(record: AssociateRecord, directory: &Directory) -> Self {
        let mut warnings = record.warnings;
        if let AssociateType::Unrecognized(code) = record.kind
            && record.kind != AssociateType::UNSPECIFIED
        {
            warnings.push(DataWarning::UnknownKind(code));
        }
        let (primary, others) = (&record.primary_group, &record.other_groups);
        let mut group = |reference: &Reference| {
            (!reference.is_empty()).then(|| directory.group(reference, &mut warnings))
        };
        let primary_group = group(primary);
        let mut other_groups: Vec<Arc<UserGroup>> = Vec::with_capacity(others.len());
        other_groups.extend(others.iter().filter_map(group));
        other_groups.sort_by(|a, b| (a.id, &a.display_name).cmp(&(b.id, &b.display_name)));
        other_groups.dedup();
        // SuperOffice stores all memberships in one table, so the primary group may also be among the others.
        other_groups.retain(|other| primary_group.as_ref() != Some(other));
        let has_groups = record.kind.capabilities().user_group;
        let known = !matches!(record.kind, AssociateType::Unrecognized(_));
        if known && !has_groups {
            let found = primary_group.iter().chain(&other_groups);
            warnings.extend(found.map(|group| DataWarning::UnexpectedGroup(group.id)));
        } else if has_groups && primary_group.is_none() {
            warnings.push(DataWarning::NoPrimaryGroup);
        }
        let role = (!record.role.is_empty()).then(|| directory.role(&record.role, &mut warnings));
        if record.active.is_none() && !warnings.contains(&DataWarning::Unreadable("isActive")) {
            warnings.push(DataWarning::Missing("isActive"));
        }
        warnings.dedup();
        if warnings.len() > MAX_WARNINGS {
            let more = warnings.len() - MAX_WARNINGS;
            warnings.truncate(MAX_WARNINGS);
            warnings.push(DataWarning::MoreWarnings(more));
        }
        Self {
            id: record.id,
            kind: record.kind,
            login: record.login,
            user_name: record.user_name,
            full_name: record.full_name,
            email: record.email,
            person_id: record.person_id,
            contact_id: record.contact_id,
            primary_group,
            other_groups,
            role,
            active: record.active.unwrap_or(false),
            can_login: record.can_login,
            credential_type: record.credential_type,
            warnings,
        }
    }
}

#[cfg(test)]
mod tests;
