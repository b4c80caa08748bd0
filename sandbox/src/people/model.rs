//! The data of people.

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
    /// The initials, which are also the login name.
    pub name: String,
    /// The tooltip.
    pub tooltip: String,
    /// The rank.
    pub rank: i32,
    /// The user name: a `SuperID`, in the form of an e-mail address.
    pub user_name: String,
    /// The person behind it; 0 if none.
    pub person_id: u32,
    /// The primary group; 0 if none.
    pub group_id: u32,
    /// The other groups.
    pub other_groups: Vec<u32>,
    /// The role; 0 if none.
    pub role_id: u32,
    /// Whether it is retired.
    pub deleted: bool,
    /// Whether it can sign in.
    pub can_login: bool,
    /// Whether its creation still needs approval.
    pub waiting_for_approval: bool,
    /// Its customer service user; 0 if none.
    pub ej_user_id: u32,
    /// The names of its user licences.
    pub licenses: Vec<String>,
    /// The creation time as `yyyy-MM-ddTHH:mm:ss`; empty if not known.
    pub registered: String,
    /// The associate who created it.
    pub registered_by: u32,
    /// The time of the last change, in the same format.
    pub updated: String,
    /// The associate who changed it last.
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
    /// Returns first, middle and last name.
    #[must_use]
    pub fn full_name(&self) -> String {
        let names = [&self.first_name, &self.middle_name, &self.last_name];
        let names: Vec<&str> =
            names.into_iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        names.join(" ")
    }
}

/// A company; the API calls it a contact.
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
    /// Whether it is deleted.
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
    /// Whether it is deleted.
    pub deleted: bool,
    /// The names of its functional rights, sorted.
    pub functional_rights: Vec<String>,
    /// The creation time as `yyyy-MM-ddTHH:mm:ss`; empty if not known.
    pub registered: String,
    /// The time of the last change, in the same format.
    pub updated: String,
}

/// The scope of a licence.
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
    /// The name, as in the archive's column without the owner.
    pub name: String,
    /// The displayed description.
    pub description: String,
    /// The scope.
    pub scope: LicenseScope,
    /// The number of licences.
    pub number: u32,
    /// Whether the number is unlimited.
    pub unrestricted: bool,
    /// Whether it is a user plan.
    pub user_plan: bool,
}

impl License {
    /// Returns the name of its column in the archives of users.
    #[must_use]
    pub fn column(&self) -> String {
        format!("{}_{}", self.owner.to_lowercase(), self.name)
    }
}
