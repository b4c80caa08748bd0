//! The user that the gateway acts as on a tenant: `credential` in requests, `acting_as` in audit events.

use std::{fmt, str::FromStr, sync::Arc};

use super::{AssociateId, AuditText, GrantId, GrantName};

/// The user whose rights decide which data a Web API call returns. Data read as one user is never returned to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The system user, who sees everything.
    #[default]
    SystemUser,
    /// The person who gave this grant. The call returns only data that this person may see.
    Grant(GrantName),
}

/// The user that an audited action acts as. Unlike [`Actor`], it may be a person who has no grant yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditedActor {
    /// The system user.
    SystemUser,
    /// The person of the grant with this id; the id is `-` if there is no grant yet.
    Grant(Arc<str>),
}

impl From<AuditedActor> for AuditText {
    fn from(actor: AuditedActor) -> Self {
        match actor {
            AuditedActor::SystemUser => "system".into(),
            AuditedActor::Grant(grant) => format!("grants/{grant}").into(),
        }
    }
}

/// The user that a caller chose to act as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActorSelector {
    /// The system user: `system`, or an empty text in reads of people ([`Self::requested`] is for calls).
    SystemUser,
    /// A person, through the person's grant: `associates/{id}` or `grants/{grant}`.
    Person(PersonSelector),
}

/// A person of a tenant, as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PersonSelector {
    /// The associate with this id.
    Associate(AssociateId),
    /// The person with this user principal name.
    UserPrincipalName(String),
    /// The person of this grant.
    Grant(GrantId),
}

/// The reason why a request's choice of user is invalid. The message does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActorSelectorError {
    /// The value has none of the forms above.
    #[error(
        "expected `system` or nothing, `associates/{{associate}}`, such as associates/5, or `grants/{{grant}}`"
    )]
    Form,
    /// The value is not visible ASCII. An unreadable value must not count as absent.
    #[error("the value is not visible ASCII")]
    Unreadable,
    /// There are several values. Implementations differ in which one they use.
    #[error("may occur only once")]
    Repeated,
}

impl ActorSelector {
    /// Parses the user that a request asks to act as, from all values of the header or field.
    ///
    /// Returns `None` if the value is absent, empty or white space. Such a request acts as the only user that policy
    /// permits. An empty value comes from a template with an unset variable, so it must not choose the system user.
    ///
    /// # Errors
    /// Returns an error if there are several values, or the value is not visible ASCII or has none of the forms.
    pub fn requested<'a>(
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<Self>, ActorSelectorError> {
        let mut values = values.into_iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(ActorSelectorError::Repeated);
        }
        // White space around a header value is not part of it (RFC 9110 section 5.5).
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let begin = value.iter().position(|byte| !is_space(byte));
        let Some(begin) = begin else { return Ok(None) };
        let end = value.iter().rposition(|byte| !is_space(byte)).unwrap_or(begin);
        let value = value.get(begin..=end).unwrap_or_default();
        if !value.iter().all(|byte| byte.is_ascii_graphic() || is_space(byte)) {
            return Err(ActorSelectorError::Unreadable);
        }
        let text = str::from_utf8(value).map_err(|_| ActorSelectorError::Unreadable)?;
        text.parse().map(Some)
    }
}

impl FromStr for ActorSelector {
    type Err = ActorSelectorError;

    fn from_str(text: &str) -> Result<Self, ActorSelectorError> {
        if text.is_empty() || text == "system" {
            return Ok(Self::SystemUser);
        }
        if let Some(id) = text.strip_prefix("associates/") {
            let id = id.parse().map(PersonSelector::Associate).map(Self::Person);
            return id.map_err(|_| ActorSelectorError::Form);
        }
        let grant = text.strip_prefix("grants/").ok_or(ActorSelectorError::Form)?;
        let grant = grant.parse().map(PersonSelector::Grant).map(Self::Person);
        grant.map_err(|_| ActorSelectorError::Form)
    }
}

impl fmt::Display for ActorSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemUser => f.write_str("system"),
            Self::Person(PersonSelector::Associate(id)) => write!(f, "associates/{id}"),
            Self::Person(PersonSelector::UserPrincipalName(name)) => f.write_str(name),
            Self::Person(PersonSelector::Grant(grant)) => write!(f, "grants/{grant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_formats_each_form() {
        for (text, rendered) in [
            ("", "system"),
            ("system", "system"),
            ("associates/5", "associates/5"),
            ("grants/g-1_Z", "grants/g-1_Z"),
        ] {
            assert_eq!(text.parse::<ActorSelector>().unwrap().to_string(), rendered, "{text}");
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
            assert_eq!(text.parse::<ActorSelector>(), Err(ActorSelectorError::Form), "{text:?}");
        }
    }

    fn requested(values: &[&[u8]]) -> Result<Option<String>, ActorSelectorError> {
        let selector = ActorSelector::requested(values.iter().copied())?;
        Ok(selector.map(|selector| selector.to_string()))
    }

    #[test]
    fn an_absent_or_empty_value_chooses_no_user() {
        for values in [&[][..], &[&b""[..]], &[b" "], &[b" \t "]] {
            assert_eq!(requested(values), Ok(None), "{values:?}");
        }
        for (value, wanted) in [
            (&b"system"[..], "system"),
            (b" system\t", "system"),
            (b"associates/5", "associates/5"),
            (b"grants/g ", "grants/g"),
        ] {
            assert_eq!(requested(&[value]), Ok(Some(wanted.to_owned())), "{value:?}");
        }
    }

    #[test]
    fn rejects_an_unreadable_value_instead_of_treating_it_as_absent() {
        for value in [
            &b"\xff"[..],
            b"system\xff",
            "associates/5\u{a0}".as_bytes(),
            "\u{feff}system".as_bytes(),
            b"system\r\nx: y",
            b"system\0",
            b"\0",
            b"\n",
            b"\x7f",
        ] {
            assert_eq!(requested(&[value]), Err(ActorSelectorError::Unreadable), "{value:?}");
        }
        for value in [
            "System",
            "${USER}",
            "associates/${ID}",
            "\"system\"",
            "'system'",
            "null",
            "undefined",
            "system,associates/5",
            "system, system",
            ",",
            "associates/ 5",
            "associates/5\tx",
        ] {
            assert_eq!(requested(&[value.as_bytes()]), Err(ActorSelectorError::Form), "{value:?}");
        }
        for values in [&[&b"system"[..], b"system"][..], &[b"", b"system"], &[b"", b""]] {
            assert_eq!(requested(values), Err(ActorSelectorError::Repeated), "{values:?}");
        }
    }
}
