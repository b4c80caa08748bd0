//! The request headers by which a caller tells the gateway how to make a call; the same rules hold at every entrance.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::{ActorSelector, ActorSelectorError};

/// The header that names the user to act as.
pub const ACT_AS: &str = "gateway-act-as";
/// The header with the caller's reason, for the audit trail.
const REASON: &str = "gateway-reason";
/// The header that asks for links in a JSON response to lead through the gateway.
const REWRITE_LINKS: &str = "gateway-rewrite-links";

/// The longest reason for the audit trail, in characters.
const MAX_REASON_CHARS: usize = 256;

/// The parsed headers for the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayHeaders {
    /// The user to act as; `None` if the caller named none.
    pub actor: Option<ActorSelector>,
    /// The caller's reason, for the audit trail; may be empty.
    pub reason: String,
    /// Whether links in a JSON response are rewritten.
    pub rewrite_links: bool,
}

/// An invalid header for the gateway. The error never contains the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGatewayHeader {
    /// `Gateway-Act-As` is invalid.
    #[error("{0}")]
    ActAs(ActorSelectorError),
    /// `Gateway-Reason` is invalid.
    #[error("must have at most {MAX_REASON_CHARS} printable characters")]
    Reason,
    /// `Gateway-Rewrite-Links` is invalid.
    #[error("must be true or false")]
    RewriteLinks,
    /// The header is given more than once.
    #[error("must be given only once")]
    Repeated(&'static str),
    /// The value is not visible ASCII.
    #[error("the value is not visible ASCII")]
    Unreadable(&'static str),
    /// The name is written with `_`, which some proxies drop and others change to `-`.
    #[error("write the name of this header with hyphens")]
    Underscores(&'static str),
}

impl InvalidGatewayHeader {
    /// Returns the name of the header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ActAs(_) => "Gateway-Act-As",
            Self::Reason => "Gateway-Reason",
            Self::RewriteLinks => "Gateway-Rewrite-Links",
            Self::Repeated(name) | Self::Unreadable(name) | Self::Underscores(name) => name,
        }
    }
}

impl GatewayHeaders {
    /// Reads the headers of a request. An empty header counts as absent; a header that cannot be read never does.
    ///
    /// # Errors
    /// If a header is repeated, unreadable or has an invalid value.
    pub fn read(headers: &HeaderMap) -> Result<Self, InvalidGatewayHeader> {
        check_spelling(headers)?;
        let values = headers.get_all(ACT_AS).iter().map(HeaderValue::as_bytes);
        let actor = ActorSelector::requested(values).map_err(InvalidGatewayHeader::ActAs)?;
        let reason = single_value(headers, REASON)?;
        if reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control) {
            return Err(InvalidGatewayHeader::Reason);
        }
        let rewrite_links = match single_value(headers, REWRITE_LINKS)? {
            "" | "false" => false,
            "true" => true,
            _ => return Err(InvalidGatewayHeader::RewriteLinks),
        };
        Ok(Self { actor, reason: reason.to_owned(), rewrite_links })
    }
}

/// Returns whether a header is `Gateway-Act-As`, also written with `_` for `-`.
#[must_use]
pub fn is_act_as(name: &HeaderName) -> bool {
    name == ACT_AS || name.as_str().replace('_', "-") == ACT_AS
}

fn check_spelling(headers: &HeaderMap) -> Result<(), InvalidGatewayHeader> {
    let with_underscores = headers.keys().map(HeaderName::as_str).filter(|name| name.contains('_'));
    for name in with_underscores.map(|name| name.replace('_', "-")) {
        if let Some(known) =
            [ACT_AS, REASON, REWRITE_LINKS].into_iter().find(|known| *known == name)
        {
            return Err(InvalidGatewayHeader::Underscores(known));
        }
    }
    Ok(())
}

/// Returns the trimmed value of a header that may be given once; empty if it is absent.
fn single_value<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<&'a str, InvalidGatewayHeader> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok("") };
    if values.next().is_some() {
        return Err(InvalidGatewayHeader::Repeated(name));
    }
    let text = value.to_str().map_err(|_| InvalidGatewayHeader::Unreadable(name))?;
    Ok(text.trim_matches([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &[u8])]) -> Result<GatewayHeaders, InvalidGatewayHeader> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        GatewayHeaders::read(&map)
    }

    #[test]
    fn an_empty_header_counts_as_absent() {
        let nothing = Ok(GatewayHeaders::default());
        assert_eq!(read(&[]), nothing);
        for value in [&b""[..], b" ", b"\t"] {
            assert_eq!(read(&[(ACT_AS, value), (REASON, value), (REWRITE_LINKS, value)]), nothing);
        }
    }

    #[test]
    fn rejects_and_names_an_unreadable_header() {
        for name in [ACT_AS, REASON, REWRITE_LINKS] {
            for values in [&[&b"\xff"[..]][..], &[b"system\xff"], &[b"", b""], &[b"true", b"true"]]
            {
                let headers: Vec<_> = values.iter().map(|value| (name, *value)).collect();
                let refused = read(&headers).unwrap_err();
                assert!(refused.name().eq_ignore_ascii_case(name), "{name}: {refused:?}");
            }
        }
        for name in ["gateway_act_as", "gateway-act_as", "gateway_reason", "gateway_rewrite-links"]
        {
            let refused = read(&[(name, b"system")]).unwrap_err();
            assert!(matches!(refused, InvalidGatewayHeader::Underscores(_)), "{name}");
        }
        assert_eq!(read(&[(REWRITE_LINKS, b"True")]), Err(InvalidGatewayHeader::RewriteLinks));
        let long = "x".repeat(MAX_REASON_CHARS + 1);
        for value in [long.as_bytes(), b"a\tb"] {
            assert_eq!(read(&[(REASON, value)]), Err(InvalidGatewayHeader::Reason));
        }
    }

    #[test]
    fn reads_all_headers() {
        let asked =
            read(&[(ACT_AS, b"associates/5 "), (REASON, b"nightly"), (REWRITE_LINKS, b"true")]);
        let wanted = GatewayHeaders {
            actor: "associates/5".parse().ok(),
            reason: "nightly".to_owned(),
            rewrite_links: true,
        };
        assert_eq!(asked, Ok(wanted));
    }
}
