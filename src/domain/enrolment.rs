//! What is given to us when a tenant is enrolled, checked.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};

use super::trimmed;

/// Labels a tenant may have, and how long a key or a value may be: enough to sort by, too little to store in.
const MAX_LABELS: usize = 64;
const MAX_LABEL_BYTES: usize = 256;

/// Longer than any token seen (the application's name, a hyphen and 10 to 16 characters; SUPEROFFICE.md 2.2).
const MAX_TOKEN_BYTES: usize = 1024;

/// Labels of a tenant: set by the vendor, for the vendor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Checks number, length and characters.
    ///
    /// # Errors
    /// With what is wrong, for people.
    pub fn new(labels: BTreeMap<String, String>) -> Result<Self, String> {
        let bad =
            |text: &String| text.len() > MAX_LABEL_BYTES || text.chars().any(char::is_control);
        if labels.len() > MAX_LABELS {
            Err(format!("at most {MAX_LABELS} labels"))
        } else if labels.keys().any(|key| key.is_empty() || bad(key)) || labels.values().any(bad) {
            Err(format!(
                "a key has 1 to {MAX_LABEL_BYTES} bytes, a value at most as many, without control characters"
            ))
        } else {
            Ok(Self(labels))
        }
    }

    /// Keys and values.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// A permanent system user token: opaque, may hold spaces and letters of any language (SUPEROFFICE.md 2.2).
#[derive(Debug, Clone)]
pub struct SystemUserToken(SecretString);

impl SystemUserToken {
    /// Takes off the white space that pasting adds, and refuses what cannot be a token.
    ///
    /// # Errors
    /// With what is wrong, for people; never with the text.
    pub fn new(text: &SecretString) -> Result<Self, String> {
        let text = trimmed(text.expose_secret());
        if text.is_empty() {
            Err("must not be empty".to_owned())
        } else if text.len() > MAX_TOKEN_BYTES {
            Err(format!("at most {MAX_TOKEN_BYTES} bytes"))
        } else if text.chars().any(char::is_control) {
            Err("must not hold control characters".to_owned())
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The secret itself.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pasted_token_loses_the_white_space_around_it_only() {
        let token = SystemUserToken::new(&" Søndag App-8k8Q7DmBgo\r\n".into()).unwrap();
        assert_eq!(token.secret().expose_secret(), "Søndag App-8k8Q7DmBgo");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_without_repeating_it() {
        for text in ["", " \n", "a\u{0}b", "a\nb", &"x".repeat(1025)] {
            let problem = SystemUserToken::new(&text.into()).unwrap_err();
            assert!(text.len() < 2 || !problem.contains(text));
        }
    }

    #[test]
    fn labels_are_bounded_in_number_and_length() {
        let one = |key: &str, value: &str| Labels::new([(key.into(), value.into())].into());
        assert!(one("region", "nordic").is_ok());
        assert!(one("", "x").is_err());
        assert!(one("a\n", "x").is_err());
        assert!(one("a", &"x".repeat(257)).is_err());
        let many = (0..65).map(|i| (i.to_string(), String::new())).collect();
        assert!(Labels::new(many).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_as_a_token_is_one_line_of_text(text in "\\s{0,3}.{0,30}[\\s\\x00]{0,2}") {
            if let Ok(token) = SystemUserToken::new(&text.as_str().into()) {
                let token = token.secret().expose_secret();
                prop_assert_eq!(token, trimmed(&text));
                prop_assert!(!token.is_empty() && !token.contains(char::is_control));
            }
        }
    }
}
