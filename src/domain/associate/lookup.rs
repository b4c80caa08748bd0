//! Finding an associate by something else than its id.

use super::Associate;

/// What is known of the one looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupKey {
    /// Its `SuperID` user principal name, in upper or lower case.
    UserName(String),
    /// The e-mail address of its person, in upper or lower case.
    Email(String),
    /// Its person.
    PersonId(i32),
}

impl LookupKey {
    /// Whether an associate is one of those looked for. What it does not have is nothing that could be looked for.
    #[must_use]
    pub fn matches(&self, associate: &Associate) -> bool {
        match self {
            Self::UserName(name) => is_same_name(name, &associate.user_name),
            Self::Email(email) => is_same_name(email, &associate.email),
            Self::PersonId(id) => *id != 0 && *id == associate.person_id,
        }
    }
}

/// Whether two user names, or two addresses, are one: the same in upper and lower case; beyond ASCII by their letters.
#[must_use]
pub fn is_same_name(wanted: &str, found: &str) -> bool {
    if wanted.is_empty() {
        return false;
    }
    if wanted.is_ascii() || found.is_ascii() {
        return wanted.eq_ignore_ascii_case(found);
    }
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    letters(wanted) == letters(found)
}
