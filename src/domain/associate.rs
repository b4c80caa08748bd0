//! Associates: the users of a tenant in the widest sense (SUPEROFFICE.md 6). What SuperOffice tells of one is a
//! record; with the tenant's groups and roles it becomes an associate, to which the platform's rules apply.

mod fields;
mod group;
mod kind;
mod lookup;
mod name;
mod principal;
mod role;
mod standing;
mod warning;

use std::sync::Arc;

pub use self::{
    fields::{ASSOCIATE_FIELDS, ASSOCIATE_ORDERS, ListedAssociate},
    group::{Directory, Reference, UserGroup},
    kind::{AssociateType, Capabilities},
    lookup::{LookupKey, is_same_name},
    name::{AssociateId, AssociateName, AssociateSelector},
    principal::{License, Principal},
    role::{Role, RoleType},
    standing::Owner,
    warning::DataWarning,
};

/// How many warnings are kept of one associate: a list of them is sent with many others.
const MAX_WARNINGS: usize = 16;

/// What SuperOffice tells of an associate by itself: groups and roles are references yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociateRecord {
    /// Which one.
    pub id: AssociateId,
    /// Its kind.
    pub kind: AssociateType,
    /// Its short name in the CRM.
    pub login: String,
    /// Its `SuperID` user principal name; empty for those who have none.
    pub user_name: String,
    /// The person's name.
    pub full_name: String,
    /// The person's e-mail address.
    pub email: String,
    /// The person behind it; 0 for none.
    pub person_id: i32,
    /// The company of that person; 0 for none.
    pub contact_id: i32,
    /// The primary group; empty for none.
    pub primary_group: Reference,
    /// The other groups.
    pub other_groups: Vec<Reference>,
    /// The role; empty for none.
    pub role: Reference,
    /// Whether it is active, where that is told.
    pub active: Option<bool>,
    /// Whether it can log in as SuperOffice sees it, where that is told.
    pub can_login: Option<bool>,
    /// The kind of credential it signs in with, as SuperOffice names it.
    pub credential_type: String,
    /// What was odd when it was read.
    pub warnings: Vec<DataWarning>,
}

/// A user of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Associate {
    /// Which one.
    pub id: AssociateId,
    /// Its kind.
    pub kind: AssociateType,
    /// Its short name in the CRM.
    pub login: String,
    /// Its `SuperID` user principal name; empty for those who have none.
    pub user_name: String,
    /// The person's name.
    pub full_name: String,
    /// The person's e-mail address.
    pub email: String,
    /// The person behind it; 0 for none.
    pub person_id: i32,
    /// The company of that person; 0 for none.
    pub contact_id: i32,
    /// The primary group: with the associate, the owner of what it owns.
    pub primary_group: Option<Arc<UserGroup>>,
    /// The other groups, each once and without the primary one.
    pub other_groups: Vec<Arc<UserGroup>>,
    /// Its role.
    pub role: Option<Arc<Role>>,
    /// Whether it is active; not where SuperOffice does not tell.
    pub active: bool,
    /// Whether it can log in as SuperOffice sees it, where that is told.
    pub can_login: Option<bool>,
    /// The kind of credential it signs in with, as SuperOffice names it.
    pub credential_type: String,
    /// What is odd in the data.
    pub warnings: Vec<DataWarning>,
}

impl Associate {
    /// Applies the platform's model to a record. What contradicts it stays as SuperOffice tells it, with a warning.
    #[must_use]
    pub fn new(record: AssociateRecord, directory: &Directory) -> Self {
        let mut warnings = record.warnings;
        if let AssociateType::Unrecognized(code) = record.kind
            && record.kind != AssociateType::UNTOLD
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
        // All memberships stand in one table, so the primary one may come among the others.
        other_groups.retain(|other| primary_group.as_ref() != Some(other));
        let has_groups = record.kind.capabilities().user_group;
        let known = !matches!(record.kind, AssociateType::Unrecognized(_));
        if known && !has_groups {
            let found = primary_group.iter().chain(&other_groups);
            warnings.extend(found.map(|group| DataWarning::GroupOfGroupless(group.id)));
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
            warnings.push(DataWarning::More(more));
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
