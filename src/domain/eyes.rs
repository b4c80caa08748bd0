//! Whose eyes look at a tenant: `credential` in requests, `acting_as` in audit events (CONTRACT section 1).

use std::{fmt, str::FromStr};

use super::{AssociateId, GrantId, GrantName};

/// Whose rights decide what a call to the Web API sees. What was seen with one pair of eyes is never shown as if seen
/// with another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Eyes {
    /// The system user's, which see everything.
    #[default]
    SystemUser,
    /// Those of the person who gave this grant, which see what that person may see.
    Grant(GrantName),
}

/// As a caller chooses them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EyesSelector {
    /// The system user: empty or `system`.
    SystemUser,
    /// The person that this associate is, by its grant: `associates/{id}`.
    Associate(AssociateId),
    /// The person of this grant: `grants/{grant}`.
    Grant(GrantId),
}

/// Not one of the forms above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "wanted `system` or nothing, `associates/{{associate}}`, such as associates/5, or `grants/{{grant}}`"
)]
pub struct EyesError;

impl FromStr for EyesSelector {
    type Err = EyesError;

    fn from_str(text: &str) -> Result<Self, EyesError> {
        if text.is_empty() || text == "system" {
            return Ok(Self::SystemUser);
        }
        if let Some(id) = text.strip_prefix("associates/") {
            return id.parse().map(Self::Associate).map_err(|_| EyesError);
        }
        let grant = text.strip_prefix("grants/").ok_or(EyesError)?;
        grant.parse().map(Self::Grant).map_err(|_| EyesError)
    }
}

impl fmt::Display for EyesSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemUser => f.write_str("system"),
            Self::Associate(id) => write!(f, "associates/{id}"),
            Self::Grant(grant) => write!(f, "grants/{grant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_rendered() {
        for (text, rendered) in [
            ("", "system"),
            ("system", "system"),
            ("associates/5", "associates/5"),
            ("grants/g-1_Z", "grants/g-1_Z"),
        ] {
            assert_eq!(text.parse::<EyesSelector>().unwrap().to_string(), rendered, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("grants/{}", "g".repeat(65));
        for text in [
            "System",
            " system",
            "associates/",
            "associates/0",
            "associates/05",
            "associates/-5",
            "associates/5 ",
            "associates/me",
            "associate/5",
            "grants/",
            "grants/-",
            "grants/a b",
            "grants/a\r\nSO-AppToken: x",
            "grants/å",
            "grants/a/b",
            "/grants/a",
            &long,
        ] {
            assert_eq!(text.parse::<EyesSelector>(), Err(EyesError), "{text:?}");
        }
    }
}
