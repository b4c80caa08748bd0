//! What there is to know about people.

use serde::{Deserialize, Serialize};

use super::kind::{AssociateType, RoleType};

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Associate {
    /// `associate_id`.
    pub id: u32,
    /// The type.
    #[serde(rename = "type")]
    pub kind: AssociateType,
    /// Initials, also the login name.
    pub name: String,
    /// The tooltip.
    pub tooltip: String,
    /// The rank.
    pub rank: i32,
    /// The user name: a `SuperID`, in the form of an e-mail address.
    pub user_name: String,
    /// The person behind it; 0 if there is none.
    pub person_id: u32,
    /// The primary group; 0 if there is none.
    pub group_id: u32,
    /// The other groups.
    pub other_groups: Vec<u32>,
    /// The role; 0 if there is none.
    pub role_id: u32,
    /// Whether it is retired.
    pub deleted: bool,
    /// Whether it can sign in.
    pub can_login: bool,
    /// Whether its creation waits for an approval.
    pub waiting_for_approval: bool,
    /// Its customer service user; 0 if there is none.
    pub ej_user_id: u32,
    /// The names of the user licences it has.
    pub licenses: Vec<String>,
    /// When it was made, as `yyyy-MM-ddTHH:mm:ss`; empty if that is not known.
    pub registered: String,
    /// Who made it.
    pub registered_by: u32,
    /// When it was changed last, written likewise.
    pub updated: String,
    /// Who changed it.
    pub updated_by: u32,
}

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Person {
    /// `person_id`.
    pub id: u32,
    /// The first name.
    pub first_name: String,
    /// The middle name.
    pub middle_name: String,
    /// The last name.
    pub last_name: String,
    /// The title.
    pub title: String,
    /// The form of address.
    pub mr_mrs: String,
    /// The e-mail address.
    pub email: String,
    /// The company.
    pub company_id: u32,
}

impl Person {
    /// First, middle and last name.
    #[must_use]
    pub fn full_name(&self) -> String {
        let names = [&self.first_name, &self.middle_name, &self.last_name];
        let names: Vec<&str> =
            names.into_iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        names.join(" ")
    }
}

/// A company, which the API calls a contact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Company {
    /// `contact_id`.
    pub id: u32,
    /// The name.
    pub name: String,
    /// The department.
    pub department: String,
    /// The category, as a multi-language string.
    pub category: String,
}

/// A user group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserGroup {
    /// Its id.
    pub id: u32,
    /// Its name, which may be a multi-language string.
    pub name: String,
    /// Its tooltip.
    pub tooltip: String,
    /// Its rank.
    pub rank: i32,
    /// Whether it can no longer be chosen.
    pub deleted: bool,
}

/// A role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Role {
    /// Its id.
    pub id: u32,
    /// Its name, which may be a multi-language string.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: RoleType,
    /// Its rank.
    pub rank: i32,
    /// Whether it uses categories.
    pub use_categories: bool,
    /// Whether it can no longer be chosen.
    pub deleted: bool,
    /// The names of its functional rights, sorted.
    pub functional_rights: Vec<String>,
    /// When it was made, as `yyyy-MM-ddTHH:mm:ss`; empty if that is not known.
    pub registered: String,
    /// When it was changed last, written likewise.
    pub updated: String,
}

/// Whom a licence is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LicenseScope {
    /// The whole tenant.
    SiteLicense,
    /// One user.
    #[default]
    UserLicense,
}

/// A licence of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct License {
    /// The owner's name in capitals.
    pub owner: String,
    /// The name, as in the archive's column but for the owner.
    pub name: String,
    /// What people see.
    pub description: String,
    /// Whom it is for.
    pub scope: LicenseScope,
    /// How many there are.
    pub number: u32,
    /// Whether there is no bound.
    pub unrestricted: bool,
    /// Whether it is a user plan.
    pub user_plan: bool,
}

impl License {
    /// The name of its column in the archives of users.
    #[must_use]
    pub fn column(&self) -> String {
        format!("{}_{}", self.owner.to_lowercase(), self.name)
    }
}
