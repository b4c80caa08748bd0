//! The bearer token in the metadata of a call.

use std::fmt;

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, PROXY_AUTHORIZATION},
};

/// The authentication scheme (RFC 6750, 2.1); its case does not matter (RFC 9110, 11.1).
const SCHEME: &[u8] = b"bearer";

/// The content of the `authorization` header of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bearer<'a> {
    /// There is no header.
    Absent,
    /// A token of visible ASCII. It is not parsed or verified.
    Token(&'a str),
    /// The header does not hold exactly one bearer token; the text says why.
    Unusable(&'static str),
}

impl<'a> Bearer<'a> {
    /// Reads the values of all `authorization` headers of a call.
    pub fn from_values(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::read(value).unwrap_or_else(Self::Unusable),
            // With several headers, a proxy might use another one than the gateway.
            (Some(_), Some(_)) => Self::Unusable("there is more than one authorization header"),
        }
    }

    /// Reads the token of a call that is forwarded to SuperOffice. `Proxy-Authorization` comes first, because some
    /// client libraries always set their own `Authorization`.
    #[must_use]
    pub fn from_forwarded_call(headers: &'a HeaderMap) -> Self {
        let by_proxy = headers.contains_key(PROXY_AUTHORIZATION);
        let name = if by_proxy { PROXY_AUTHORIZATION } else { AUTHORIZATION };
        Self::from_values(headers.get_all(name).iter().map(HeaderValue::as_bytes))
    }

    fn read(value: &'a [u8]) -> Result<Self, &'static str> {
        let (scheme, rest) =
            value.split_at_checked(SCHEME.len()).ok_or("it is not a Bearer token")?;
        if !scheme.eq_ignore_ascii_case(SCHEME) || !matches!(rest, [] | [b' ', ..]) {
            return Err("it is not a Bearer token");
        }
        let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
        let token = rest.get(spaces..).unwrap_or_default();
        if token.is_empty() {
            return Err("there is no token after Bearer");
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err("the token is not visible ASCII, or something follows it");
        }
        str::from_utf8(token).map(Self::Token).map_err(|_| "the token is not ASCII")
    }
}

impl fmt::Debug for Bearer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Token(_) => f.write_str("Token(…)"),
            Self::Unusable(why) => write!(f, "Unusable({why})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Bearer<'_> {
        Bearer::from_values([value.as_bytes()])
    }

    #[test]
    fn accepts_only_a_single_bearer_token() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer   ",
            "bearer\ta",
            "Basic YTpi",
            "Bearera.b.c",
            "Beare",
            "Bearer a b",
            "Bearer a ",
            "Bearer a,b c",
            " Bearer a",
            "Bearer ä",
            "Bearer a\u{7f}",
            "a.b.c",
            "Bearer a\n",
        ] {
            assert!(matches!(one(value), Bearer::Unusable(_)), "{value:?}");
        }
        assert!(matches!(Bearer::from_values([&b"Bearer \xff"[..]]), Bearer::Unusable(_)));
        let twice = Bearer::from_values([&b"Bearer a"[..], b"Bearer a"]);
        assert!(matches!(twice, Bearer::Unusable(_)));
        assert_eq!(Bearer::from_values([]), Bearer::Absent);
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c"] {
            assert_eq!(one(value), Bearer::Token("a.b.c"));
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", one("Bearer canary")), "Token(…)");
    }
}
