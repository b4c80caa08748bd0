//! The signed system user token: `{token}.{yyyyMMddHHmm}.{signature}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The parts of a signed token, not verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SignedToken<'a> {
    pub(super) system_user_token: &'a str,
    pub(super) timestamp: &'a str,
    /// The signed text: token, dot, timestamp.
    pub(super) payload: &'a str,
    pub(super) signature: Vec<u8>,
}

impl<'a> SignedToken<'a> {
    /// Splits from the right, because an application's name may contain dots. Signatures must be
    /// standard base64 with padding.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (payload, signature) = text.rsplit_once('.')?;
        let (system_user_token, timestamp) = payload.rsplit_once('.')?;
        let signature = STANDARD.decode(signature).ok()?;
        Some(Self { system_user_token, timestamp, payload, signature })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn splits_from_the_right() {
        let token = SignedToken::parse("Blåbær v1.2-abc.202602230952.AQI=").unwrap();
        assert_eq!(token.system_user_token, "Blåbær v1.2-abc");
        assert_eq!(token.timestamp, "202602230952");
        assert_eq!(token.payload, "Blåbær v1.2-abc.202602230952");
        assert_eq!(token.signature, [1, 2]);
    }

    #[test]
    fn rejects_other_base64() {
        for wrong in ["a.202602230952", "a.202602230952.AQI", "a.202602230952.-_8=", "a"] {
            assert_eq!(SignedToken::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn parses_tokens_with_any_application_name(
            system_user_token in r"\PC{0,40}|[A-Zæøå. =-]{0,20}-[a-zA-Z0-9]{10}|\.{0,3}",
            timestamp in "[0-9]{12}",
            signature in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let payload = format!("{system_user_token}.{timestamp}");
            let text = format!("{payload}.{}", STANDARD.encode(&signature));
            let parts = SignedToken {
                system_user_token: &system_user_token,
                timestamp: &timestamp,
                payload: &payload,
                signature,
            };
            prop_assert_eq!(SignedToken::parse(&text), Some(parts));
        }

        #[test]
        fn joining_the_parts_gives_the_parsed_text(text in r"\PC{0,60}|[.a-zA-Z0-9+/=]{0,40}") {
            if let Some(parts) = SignedToken::parse(&text) {
                let SignedToken { system_user_token, timestamp, signature, .. } = parts;
                let signature = STANDARD.encode(signature);
                prop_assert_eq!(format!("{system_user_token}.{timestamp}.{signature}"), text);
            }
        }
    }
}
