//! What `ErrorMessage` of a failed authentication means (SUPEROFFICE.md 2.4).

use crate::ports::Refusal;

/// The documented error names. Only the names are documented, not the text around them, so the text is searched
/// for a name as a whole word.
const NAMES: [(&str, Refusal); 6] = [
    ("Revoked", Refusal::Revoked),
    ("Expired", Refusal::Expired),
    ("Denied", Refusal::Rejected),
    ("NeedsReapproval", Refusal::NeedsReapproval),
    ("InvalidTimestamp", Refusal::Clock),
    ("InvalidSignature", Refusal::Credential),
];

/// The refusal that the text names, if it names one.
pub(super) fn refusal(message: &str) -> Option<Refusal> {
    let mut words = message.split(|c: char| !c.is_alphanumeric());
    let named = words.find_map(|word| NAMES.iter().find(|(name, _)| *name == word));
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
            assert_eq!(refusal(text), Some(meant), "{text}");
        }
    }

    #[test]
    fn any_other_text_names_none() {
        for text in [
            "",
            "Your session expired",
            "NotRevokedAtAll",
            "Authorization error: InvalidRedirectUrl (2)",
        ] {
            assert_eq!(refusal(text), None, "{text}");
        }
    }
}
