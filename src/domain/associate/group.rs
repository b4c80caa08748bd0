//! User groups, and the look-up of the groups and roles of associates.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{DataWarning, Role};
use crate::domain::localized::translations;

/// A user group of a tenant. Its name may hold translations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserGroup {
    /// The id; 0 if SuperOffice returned only a name.
    pub id: i32,
    /// The name.
    pub display_name: String,
    /// The position in the list.
    pub rank: i32,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Problems with the data, found while reading it.
    pub warnings: Vec<DataWarning>,
}

/// A reference to a group or role in an associate's row: by id, by name, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference {
    /// The id; 0 if unknown.
    pub id: i32,
    /// The name; empty if unknown.
    pub name: String,
}

impl Reference {
    /// Returns whether the reference is empty. Group 0 does not exist.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.id == 0 && self.name.is_empty()
    }
}

/// The groups and roles of a tenant, to resolve references.
#[derive(Debug, Default)]
pub struct Directory {
    groups: Entries<UserGroup>,
    roles: Entries<Role>,
}

impl Directory {
    /// Creates a directory. If several entries have the same id, the first is used.
    #[must_use]
    pub fn new(groups: Vec<UserGroup>, roles: Vec<Role>) -> Self {
        Self { groups: Entries::new(groups), roles: Entries::new(roles) }
    }

    /// Returns all groups, ordered by id.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<UserGroup>> {
        self.groups.by_id.values()
    }

    /// Returns all roles, ordered by id.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.by_id.values()
    }

    /// Resolves a reference to a group. If the group is not in the list, returns a group with the reference's data.
    pub(super) fn group(
        &self,
        reference: &Reference,
        warnings: &mut Vec<DataWarning>,
    ) -> Arc<UserGroup> {
        if let Some(group) = self.groups.find(reference) {
            if group.deleted {
                warnings.push(DataWarning::DeletedGroup(group.id));
            }
            if !group.warnings.is_empty() {
                warnings.push(DataWarning::PartialGroup(group.id));
            }
            return Arc::clone(group);
        }
        warnings.push(match reference.id {
            0 => DataWarning::UnresolvedGroup,
            id => DataWarning::UnknownGroup(id),
        });
        let (id, display_name) = (reference.id, reference.name.clone());
        Arc::new(UserGroup { id, display_name, rank: 0, deleted: false, warnings: Vec::new() })
    }

    /// Resolves a reference to a role, in the same way.
    pub(super) fn role(&self, reference: &Reference, warnings: &mut Vec<DataWarning>) -> Arc<Role> {
        if let Some(role) = self.roles.find(reference) {
            if !role.warnings.is_empty() {
                warnings.push(DataWarning::PartialRole(role.id));
            }
            return Arc::clone(role);
        }
        warnings.push(match reference.id {
            0 => DataWarning::UnresolvedRole,
            id => DataWarning::UnknownRole(id),
        });
        Arc::new(Role {
            id: reference.id,
            display_name: reference.name.clone(),
            description: String::new(),
            role_type: None,
            deleted: false,
            warnings: Vec::new(),
        })
    }
}

/// An entry with an id and a name.
trait Entry {
    fn id(&self) -> i32;
    fn name(&self) -> &str;
}

impl Entry for UserGroup {
    fn id(&self) -> i32 {
        self.id
    }

    fn name(&self) -> &str {
        &self.display_name
    }
}

impl Entry for Role {
    fn id(&self) -> i32 {
        self.id
    }

    fn name(&self) -> &str {
        &self.display_name
    }
}

#[derive(Debug)]
struct Entries<T> {
    by_id: BTreeMap<i32, Arc<T>>,
    /// Ids by the whole name and by each translation; 0 if several entries share the name.
    by_name: HashMap<String, i32>,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), by_name: HashMap::new() }
    }
}

impl<T: Entry> Entries<T> {
    fn new(entries: Vec<T>) -> Self {
        let mut all = Self::default();
        for entry in entries {
            all.by_id.entry(entry.id()).or_insert_with(|| Arc::new(entry));
        }
        for (id, entry) in &all.by_id {
            let name = entry.name();
            for name in translations(name).map(|(_, text)| text).chain([name]) {
                let named = all.by_name.entry(name.to_owned()).or_insert(*id);
                if named != id {
                    *named = 0;
                }
            }
        }
        all
    }

    /// Finds an entry by its id, or, without id, by a name that only one entry has.
    fn find(&self, reference: &Reference) -> Option<&Arc<T>> {
        let id = match reference.id {
            0 => *self.by_name.get(&reference.name)?,
            id => id,
        };
        self.by_id.get(&id)
    }
}
