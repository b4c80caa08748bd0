//! Finding an associate by something else than its id.

use super::Associate;
use crate::domain::folded_name;

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

/// Whether two user names, or two addresses, are one: equal in Unicode NFC and case folding, as policies compare them.
#[must_use]
pub fn is_same_name(wanted: &str, found: &str) -> bool {
    if wanted.is_empty() {
        return false;
    }
    if wanted.is_ascii() && found.is_ascii() {
        return wanted.eq_ignore_ascii_case(found);
    }
    folded_name(wanted) == folded_name(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fold_alike_are_one() {
        for (wanted, found, same) in [
            ("Tony@Example.com", "tony@example.COM", true),
            ("STRASSE@x.example", "stra\u{df}e@x.example", true),
            ("A\u{30a}se@x.example", "\u{e5}se@x.example", true),
            ("karl@x.example", "\u{212a}arl@x.example", true),
            ("tony@example.com", "tony@example.org", false),
            ("admin@x.example", "\u{430}dmin@x.example", false),
            ("", "", false),
        ] {
            assert_eq!(is_same_name(wanted, found), same, "{wanted} {found}");
        }
    }
}
