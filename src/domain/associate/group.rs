//! User groups, and finding what associates are in (SUPEROFFICE.md 6.3, 6.4).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{DataWarning, Role};
use crate::domain::localized::translations;

/// A user group of a tenant. Its name may hold translations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserGroup {
    /// Its id; 0 where SuperOffice told a name only.
    pub id: i32,
    /// Its name.
    pub display_name: String,
    /// Its place in the list.
    pub rank: i32,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Oddities found when it was read.
    pub warnings: Vec<DataWarning>,
}

/// A group or role as an associate's row tells it: by id, by name, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference {
    /// 0 where it is not told.
    pub id: i32,
    /// Empty where it is not told.
    pub name: String,
}

impl Reference {
    /// Whether it tells nothing: group 0 is no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.id == 0 && self.name.is_empty()
    }
}

/// The groups and roles of a tenant, to look up what rows refer to.
#[derive(Debug, Default)]
pub struct Directory {
    groups: Entries<UserGroup>,
    roles: Entries<Role>,
}

impl Directory {
    /// Of these. Of several with one id the first counts.
    #[must_use]
    pub fn new(groups: Vec<UserGroup>, roles: Vec<Role>) -> Self {
        Self { groups: Entries::new(groups), roles: Entries::new(roles) }
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<UserGroup>> {
        self.groups.by_id.values()
    }

    /// All roles, by id.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.by_id.values()
    }

    /// The group referred to: one that is not in the list is what the reference tells of it.
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
                warnings.push(DataWarning::GroupInPart(group.id));
            }
            return Arc::clone(group);
        }
        warnings.push(match reference.id {
            0 => DataWarning::UnclearGroup,
            id => DataWarning::UnknownGroup(id),
        });
        let (id, display_name) = (reference.id, reference.name.clone());
        Arc::new(UserGroup { id, display_name, rank: 0, deleted: false, warnings: Vec::new() })
    }

    /// The role referred to, likewise.
    pub(super) fn role(&self, reference: &Reference, warnings: &mut Vec<DataWarning>) -> Arc<Role> {
        if let Some(role) = self.roles.find(reference) {
            if !role.warnings.is_empty() {
                warnings.push(DataWarning::RoleInPart(role.id));
            }
            return Arc::clone(role);
        }
        warnings.push(match reference.id {
            0 => DataWarning::UnclearRole,
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

/// What has an id and a name.
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
    /// Under the whole name and each translation; 0 where it is that of several.
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

    /// By id if one is told, else by a name that only one has.
    fn find(&self, reference: &Reference) -> Option<&Arc<T>> {
        let id = match reference.id {
            0 => *self.by_name.get(&reference.name)?,
            id => id,
        };
        self.by_id.get(&id)
    }
}
