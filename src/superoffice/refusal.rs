//! The meaning of `ErrorMessage` in a failed system user authentication.

use crate::ports::Refusal;

/// The documented error names. The text around them is not, so they are searched for as whole words.
const ERROR_NAMES: [(&str, Refusal); 6] = [
    ("Revoked", Refusal::Revoked),
    ("Expired", Refusal::Expired),
    ("Denied", Refusal::Rejected),
    ("NeedsReapproval", Refusal::NeedsReapproval),
    ("InvalidTimestamp", Refusal::Clock),
    ("InvalidSignature", Refusal::Credential),
];

/// Returns the refusal that the text names, if any.
pub(super) fn parse_refusal(message: &str) -> Option<Refusal> {
    let mut words = message.split(|c: char| !c.is_alphanumeric());
    let named = words.find_map(|word| ERROR_NAMES.iter().find(|(name, _)| *name == word));
    named.map(|(_, refusal)| *refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_names_are_recognized_in_any_text() {
        for (text, meant) in [
            ("Authorization error: Revoked (1)", Refusal::Revoked),
            ("Authorization error: Expired (3)", Refusal::Expired),
            ("Authorization error: Denied (4)", Refusal::Rejected),
            ("NeedsReapproval", Refusal::NeedsReapproval),
            ("error=InvalidTimestamp;", Refusal::Clock),
            ("InvalidSignature.", Refusal::Credential),
        ] {
            assert_eq!(parse_refusal(text), Some(meant), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_recognized() {
        for text in [
            "",
            "Your session expired",
            "NotRevokedAtAll",
            "Authorization error: InvalidRedirectUrl (2)",
        ] {
            assert_eq!(parse_refusal(text), None, "{text}");
        }
    }
}
