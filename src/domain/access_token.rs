//! Access tokens of people: opaque texts with a few known properties.

use secrecy::{ExposeSecret as _, SecretString};

use super::ContextIdentifier;

/// Maximum length of an access token, in bytes. Real ones have about 700 bytes.
const MAX_BYTES: usize = 8 * 1024;

/// The text is not an access token. The message does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an access token")]
pub struct AccessTokenError;

/// Returns the tenant that an access token names. Its form is `8A:{tenant}.` and an encrypted part.
///
/// That form is observed and not documented, so a token in another form is accepted: `Ok(None)`.
///
/// # Errors
/// Returns an error if the token cannot be sent in a header: it must be visible ASCII without spaces.
pub fn access_token_tenant(
    token: &SecretString,
) -> Result<Option<ContextIdentifier>, AccessTokenError> {
    let text = token.expose_secret();
    if text.is_empty() || text.len() > MAX_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(AccessTokenError);
    }
    let named = text.split_once(':').and_then(|(_, rest)| rest.split_once('.'));
    Ok(named.and_then(|(tenant, _)| tenant.parse().ok()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_tenant_of_an_access_token() {
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
