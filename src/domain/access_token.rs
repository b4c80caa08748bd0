//! The tokens that act as a person (SUPEROFFICE.md 4.2): opaque, but not any text.

use secrecy::{ExposeSecret as _, SecretString};

use super::ContextIdentifier;

/// Far more than the about 700 of a real one; more than this is not an access token.
const MAX_BYTES: usize = 8 * 1024;

/// The text is not an access token. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an access token")]
pub struct AccessTokenRefused;

/// The tenant that an access token names, where it does: `8A:{tenant}.` and what is sealed.
///
/// That form is seen and not promised, so a token that reads otherwise is not refused: `Ok(None)`.
///
/// # Errors
/// If it cannot be sent in a header: it must be visible ASCII without spaces.
pub fn access_token_tenant(
    token: &SecretString,
) -> Result<Option<ContextIdentifier>, AccessTokenRefused> {
    let text = token.expose_secret();
    if text.is_empty() || text.len() > MAX_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(AccessTokenRefused);
    }
    let named = text.split_once(':').and_then(|(_, rest)| rest.split_once('.'));
    Ok(named.and_then(|(tenant, _)| tenant.parse().ok()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_tenant_that_an_access_token_names_is_read() {
        for (text, named) in [
            ("8A:Cust12020.AR2s3phb0g==", Some("Cust12020")),
            ("7A:Cust1.x", Some("Cust1")),
            ("8A:Cust1", None),
            ("8A:cust1.x", None),
            ("8A:Cust1x.x", None),
            ("eyJ0.eyJ1.c2ln", None),
        ] {
            let named: Option<ContextIdentifier> = named.map(|text| text.parse().unwrap());
            assert_eq!(access_token_tenant(&text.into()), Ok(named), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_can_be_sent_in_a_header(text in "[!-~]{0,40}|.{0,40}|8A:Cust[0-9]{1,5}\\.[!-~]{0,9}") {
            let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            prop_assert_eq!(access_token_tenant(&text.as_str().into()).is_ok(), visible(&text));
        }
    }
}
