//! Roles: for whom they are made, and the default levels (SUPEROFFICE.md 6.4).

use super::DataWarning;
use crate::domain::localized::translations;

/// For whom a role is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleType {
    /// Employees.
    Employee,
    /// External persons.
    External,
    /// The anonymous user.
    Anonymous,
    /// System users: overrides all security controls.
    System,
}

impl RoleType {
    /// By the word of the API.
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

    /// By the number with which the list `roles` is asked for them; archives of roles show the same.
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
    /// Its id; 0 where SuperOffice told a name only.
    pub id: i32,
    /// Its name.
    pub display_name: String,
    /// What it is for.
    pub description: String,
    /// For whom it is made, where SuperOffice told that.
    pub role_type: Option<RoleType>,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Oddities found when it was read.
    pub warnings: Vec<DataWarning>,
}

impl Role {
    /// 0 (everything) to 5 (read only) for the default roles "User level 0" to "User level 5". Roles can be renamed
    /// and added, so only these names, in English, tell a level.
    #[must_use]
    pub fn user_level(&self) -> Option<u8> {
        // Roles of system users and others may be named like these and are none of them.
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
    fn levels_are_told_by_the_default_names_only() {
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
    fn types_are_read_from_both_forms() {
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
