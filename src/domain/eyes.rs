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
    /// The system user: `system`, or nothing where people are only read ([`Self::requested`] is for calls).
    SystemUser,
    /// The person that this associate is, by its grant: `associates/{id}`.
    Associate(AssociateId),
    /// The person of this grant: `grants/{grant}`.
    Grant(GrantId),
}

/// Why a request does not say as whom to act. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EyesError {
    /// Not one of the forms above.
    #[error(
        "wanted `system` or nothing, `associates/{{associate}}`, such as associates/5, or `grants/{{grant}}`"
    )]
    Form,
    /// Bytes beyond visible ASCII. An unreadable value must not count as an absent one.
    #[error("the value cannot be read: wanted visible ASCII")]
    Unreadable,
    /// Several values. Readers differ in which one they take.
    #[error("may be there once only")]
    Repeated,
}

impl EyesSelector {
    /// Reads as whom a request asks to act, from all values of the header or field that says so.
    ///
    /// Returns `None` if the request does not say: the value is absent, empty or white space. Such a request acts in
    /// the only context that policy allows its caller. An empty value comes from a template with an unset variable,
    /// so it must not choose the system user, who sees everything.
    ///
    /// # Errors
    /// If there are several values, or one that is not visible ASCII or none of the forms.
    pub fn requested<'a>(
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<Self>, EyesError> {
        let mut values = values.into_iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(EyesError::Repeated);
        }
        // White space around the value of a header does not belong to it (RFC 9110 section 5.5).
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let begin = value.iter().position(|byte| !is_space(byte));
        let Some(begin) = begin else { return Ok(None) };
        let end = value.iter().rposition(|byte| !is_space(byte)).unwrap_or(begin);
        let value = value.get(begin..=end).unwrap_or_default();
        if !value.iter().all(|byte| byte.is_ascii_graphic() || is_space(byte)) {
            return Err(EyesError::Unreadable);
        }
        let text = str::from_utf8(value).map_err(|_| EyesError::Unreadable)?;
        text.parse().map(Some)
    }
}

impl FromStr for EyesSelector {
    type Err = EyesError;

    fn from_str(text: &str) -> Result<Self, EyesError> {
        if text.is_empty() || text == "system" {
            return Ok(Self::SystemUser);
        }
        if let Some(id) = text.strip_prefix("associates/") {
            return id.parse().map(Self::Associate).map_err(|_| EyesError::Form);
        }
        let grant = text.strip_prefix("grants/").ok_or(EyesError::Form)?;
        grant.parse().map(Self::Grant).map_err(|_| EyesError::Form)
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
            assert_eq!(text.parse::<EyesSelector>(), Err(EyesError::Form), "{text:?}");
        }
    }

    fn requested(values: &[&[u8]]) -> Result<Option<String>, EyesError> {
        let selector = EyesSelector::requested(values.iter().copied())?;
        Ok(selector.map(|selector| selector.to_string()))
    }

    #[test]
    fn an_absent_or_empty_value_chooses_nobody_and_never_the_system_user() {
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
    fn a_value_that_cannot_be_read_is_refused_and_does_not_count_as_absent() {
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
            assert_eq!(requested(&[value]), Err(EyesError::Unreadable), "{value:?}");
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
            assert_eq!(requested(&[value.as_bytes()]), Err(EyesError::Form), "{value:?}");
        }
        for values in [&[&b"system"[..], b"system"][..], &[b"", b"system"], &[b"", b""]] {
            assert_eq!(requested(values), Err(EyesError::Repeated), "{values:?}");
        }
    }
}
