//! Look-up of an associate by a key other than its id.

use super::Associate;
use crate::domain::folded_name;

/// The key of a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupKey {
    /// The `SuperID` user principal name, ignoring case.
    UserName(String),
    /// The person's e-mail address, ignoring case.
    Email(String),
    /// The person's id.
    PersonId(i32),
}

impl LookupKey {
    /// Returns whether the associate matches the key. An absent value matches no key.
    #[must_use]
    pub fn matches(&self, associate: &Associate) -> bool {
        match self {
            Self::UserName(name) => is_same_name(name, &associate.user_name),
            Self::Email(email) => is_same_name(email, &associate.email),
            Self::PersonId(id) => *id != 0 && *id == associate.person_id,
        }
    }
}

/// Returns whether two user names or addresses are equal in Unicode NFC and case folding, as policies compare them.
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
    fn compares_names_after_folding() {
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
