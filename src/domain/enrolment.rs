//! Validated input for the enrolment of a tenant.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};

use super::trimmed;

/// Maximum number of labels of a tenant, and maximum length of a key or value: for sorting, not for storing data.
const MAX_LABELS: usize = 64;
const MAX_LABEL_BYTES: usize = 256;

/// Maximum length of a token, in bytes. Known tokens are the application's name, a hyphen and 10 to 16 characters.
const MAX_TOKEN_BYTES: usize = 1024;

/// The labels of a tenant, for the vendor's own use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Creates labels after checking number, length and characters.
    ///
    /// # Errors
    /// Returns the problem, for people.
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

    /// Returns the keys and values.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// A permanent system user token: opaque; may contain spaces and letters of any language.
#[derive(Debug, Clone)]
pub struct SystemUserToken(SecretString);

impl SystemUserToken {
    /// Removes white space around a pasted token and rejects texts that cannot be a token.
    ///
    /// # Errors
    /// Returns the problem, for people, without the text.
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

    /// Returns the secret.
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
    fn removes_only_the_white_space_around_a_token() {
        let token = SystemUserToken::new(&" Søndag App-8k8Q7DmBgo\r\n".into()).unwrap();
        assert_eq!(token.secret().expose_secret(), "Søndag App-8k8Q7DmBgo");
    }

    #[test]
    fn rejects_invalid_tokens_without_repeating_them() {
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
        fn an_accepted_token_is_one_line_of_text(text in "\\s{0,3}.{0,30}[\\s\\x00]{0,2}") {
            if let Ok(token) = SystemUserToken::new(&text.as_str().into()) {
                let token = token.secret().expose_secret();
                prop_assert_eq!(token, trimmed(&text));
                prop_assert!(!token.is_empty() && !token.contains(char::is_control));
            }
        }
    }
}
