//! The people of a tenant: users, the persons and companies behind them, groups, roles and licences.
//!
//! [`generate`](fn@generate) creates people from a seed; [`Control`](crate::Control) sets and changes them;
//! [`Oddities`] set how the Web API reports them.

mod changes;
mod generate;
mod kind;
mod model;
mod names;
mod oddities;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use self::changes::changed_columns;
pub use self::generate::generate;
pub use self::kind::{AssociateType, RoleType};
pub use self::model::{Associate, Company, License, LicenseScope, Person, Role, UserGroup};
pub use self::oddities::{Oddities, PrimaryKeyForm, Rewrite};

/// The id of the associate of system users.
pub(crate) const SYSTEM_ASSOCIATE_ID: u32 = 2;

/// The functional right of an administrator. SuperOffice requires that of general or user administrators (documented);
/// its name is inferred.
const ADMINISTRATOR: &str = "admin-all";

/// All people of a tenant, with groups, roles and licences, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct People {
    /// The users.
    pub associates: BTreeMap<u32, Associate>,
    /// The persons behind users.
    pub persons: BTreeMap<u32, Person>,
    /// The companies of persons.
    pub companies: BTreeMap<u32, Company>,
    /// The user groups.
    pub groups: BTreeMap<u32, UserGroup>,
    /// The roles.
    pub roles: BTreeMap<u32, Role>,
    /// The licences of the tenant.
    pub licenses: Vec<License>,
}

impl People {
    /// Returns the person behind an associate.
    #[must_use]
    pub fn person_of(&self, associate: &Associate) -> Option<&Person> {
        self.persons.get(&associate.person_id)
    }

    /// Returns the company of the person behind an associate.
    #[must_use]
    pub fn company_of(&self, associate: &Associate) -> Option<&Company> {
        self.companies.get(&self.person_of(associate)?.company_id)
    }

    /// Returns the full name of the person, or the associate's own name.
    #[must_use]
    pub fn full_name(&self, associate: &Associate) -> String {
        self.person_of(associate).map_or_else(|| associate.name.clone(), Person::full_name)
    }

    /// Returns the users who can sign in: employees with a user name and the right to sign in, who are not retired.
    pub fn users(&self) -> impl Iterator<Item = &Associate> {
        self.associates.values().filter(|one| can_sign_in(one))
    }

    /// Returns an associate by id, if it is one of [those who can sign in](Self::users).
    #[must_use]
    pub fn user_with_id(&self, id: u32) -> Option<&Associate> {
        self.associates.get(&id).filter(|one| can_sign_in(one))
    }

    /// Returns the user with a user name, ignoring case.
    #[must_use]
    pub fn user(&self, user_name: &str) -> Option<&Associate> {
        self.users().find(|one| one.user_name.eq_ignore_ascii_case(user_name))
    }

    /// Returns whether an associate may approve applications.
    #[must_use]
    pub fn is_administrator(&self, associate: &Associate) -> bool {
        let role = self.roles.get(&associate.role_id);
        role.is_some_and(|role| role.functional_rights.iter().any(|right| right == ADMINISTRATOR))
    }
}

fn can_sign_in(associate: &Associate) -> bool {
    associate.kind == AssociateType::Internal
        && associate.can_login
        && !associate.deleted
        && !associate.user_name.is_empty()
}
