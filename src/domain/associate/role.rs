//! Roles of users, their types and the default levels.

use super::DataWarning;
use crate::domain::localized::translations;

/// The type of users that a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleType {
    /// Employees.
    Employee,
    /// External persons.
    External,
    /// The anonymous user.
    Anonymous,
    /// System users. The role overrides all security controls.
    System,
}

impl RoleType {
    /// Returns the type by its name in the API.
    #[must_use]
    pub fn from_api_name(name: &str) -> Option<Self> {
        match name {
            "Employee" => Some(Self::Employee),
            "ExternalUser" => Some(Self::External),
            "Anonymous" => Some(Self::Anonymous),
            "System" => Some(Self::System),
            _ => None,
        }
    }

    /// Returns the type by its number, which is the parameter of the list `roles` and the value in archives of roles.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Employee),
            1 => Some(Self::External),
            2 => Some(Self::Anonymous),
            3 => Some(Self::System),
            _ => None,
        }
    }
}

/// A role of a tenant. Texts may hold translations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The id; 0 if SuperOffice returned only a name.
    pub id: i32,
    /// The name.
    pub display_name: String,
    /// The description.
    pub description: String,
    /// The type of users that the role is for, if known.
    pub role_type: Option<RoleType>,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Problems with the data, found while reading it.
    pub warnings: Vec<DataWarning>,
}

impl Role {
    /// Returns the level of a default role, "User level 0" (everything) to "User level 5" (read only). Roles can be
    /// renamed and added, so only these English names have a level.
    #[must_use]
    pub fn user_level(&self) -> Option<u8> {
        // Roles for other types of users may have such a name, but have no level.
        if self.role_type.is_some_and(|role_type| role_type != RoleType::Employee) {
            return None;
        }
        translations(&self.display_name)
            .map(|(_, text)| text)
            .chain([self.display_name.as_str()])
            .find_map(level)
    }
}

fn level(name: &str) -> Option<u8> {
    match name.strip_prefix("User level ")?.as_bytes() {
        [digit @ b'0'..=b'5'] => Some(digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_default_role_names_have_a_level() {
        for (name, role_type, wanted) in [
            ("User level 0", Some(RoleType::Employee), Some(0)),
            ("User level 5", None, Some(5)),
            ("NO:\"Brukernivå 3\";US:\"User level 3\"", Some(RoleType::Employee), Some(3)),
            ("User level 6", Some(RoleType::Employee), None),
            ("User level 10", Some(RoleType::Employee), None),
            ("User level ", Some(RoleType::Employee), None),
            ("User level 0", Some(RoleType::System), None),
            ("user level 0", Some(RoleType::Employee), None),
            ("Brukernivå 0", Some(RoleType::Employee), None),
            ("", None, None),
        ] {
            let display_name = name.to_owned();
            let (description, warnings) = (String::new(), Vec::new());
            let role =
                Role { id: 1, display_name, description, role_type, deleted: false, warnings };
            assert_eq!(role.user_level(), wanted, "{name}");
        }
    }

    #[test]
    fn reads_role_types_from_names_and_numbers() {
        let forms = ["Employee", "ExternalUser", "Anonymous", "System"];
        for (code, name) in (0..).zip(forms) {
            let found = RoleType::from_api_name(name);
            assert!(found.is_some() && found == RoleType::from_code(code), "{name}");
        }
        for (code, name) in [(-1, ""), (4, "employee"), (i32::MAX, "External")] {
            assert_eq!((RoleType::from_code(code), RoleType::from_api_name(name)), (None, None));
        }
    }
}
