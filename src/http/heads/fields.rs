//! Checks the fields of an HTTP/2 header block that h2 would refuse (RFC 9113, sections 8.2 and 8.3).

use axum::http::{
    Method,
    uri::{Authority, Scheme},
};

use super::{
    hpack::{Fields, write_literal},
    problem::HeadProblem,
    target::{self, TargetDecision},
};

/// Connection-specific fields, which HTTP/2 forbids (RFC 9113, section 8.2.2).
const CONNECTION_FIELDS: [&[u8]; 5] =
    [b"connection", b"transfer-encoding", b"upgrade", b"keep-alive", b"proxy-connection"];

/// Checks the head of a request: it passes unchanged, with another path, or is refused.
pub(super) fn check_head(fields: &Fields, ends_stream: bool) -> TargetDecision {
    match read(fields, ends_stream) {
        Ok(path) => path.map_or(TargetDecision::Keep, target::check_path),
        Err(problem) => TargetDecision::Refuse(problem),
    }
}

/// The pseudo-header fields of a request.
#[derive(Default)]
struct PseudoHeaders<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
}

/// Checks all fields except the path as h2 does. Returns the path.
fn read(fields: &Fields, ends_stream: bool) -> Result<Option<&[u8]>, HeadProblem> {
    if fields.are_too_large() {
        return Err(HeadProblem::TooLarge);
    }
    let (mut pseudo, mut regular, mut length) = (PseudoHeaders::default(), false, None);
    for (name, value) in fields.iter() {
        let slot = match name {
            b":method" => &mut pseudo.method,
            b":scheme" => &mut pseudo.scheme,
            b":authority" => &mut pseudo.authority,
            b":path" => &mut pseudo.path,
            b"content-length" => {
                let this = parse_length(value).ok_or(HeadProblem::Framing)?;
                if length.is_some_and(|length| length != this) {
                    return Err(HeadProblem::Framing);
                }
                length = Some(this);
                regular = true;
                continue;
            }
            _ if is_regular(name, value) => {
                regular = true;
                continue;
            }
            _ => return Err(HeadProblem::Malformed),
        };
        if regular || slot.replace(value).is_some() {
            return Err(HeadProblem::Malformed);
        }
    }
    let has_length = length.is_some_and(|length| length > 0);
    if ends_stream && has_length {
        return Err(HeadProblem::Framing);
    }
    pseudo.check().ok_or(HeadProblem::Malformed)?;
    // Only CONNECT has no path. It has no body, and h2 refuses it with a length.
    if pseudo.path.is_none() && has_length {
        return Err(HeadProblem::Framing);
    }
    Ok(pseudo.path)
}

impl PseudoHeaders<'_> {
    fn check(&self) -> Option<()> {
        let method = Method::from_bytes(self.method?).ok()?;
        if let Some(authority) = self.authority {
            Authority::try_from(authority).ok()?;
        }
        if method == Method::CONNECT {
            return (self.scheme.is_none() && self.path.is_none() && self.authority.is_some())
                .then_some(());
        }
        let scheme = self.scheme?;
        if scheme != b"https" && scheme != b"http" {
            Scheme::try_from(scheme).ok()?;
        }
        self.path.map(|_| ())
    }
}

/// Returns whether h2 accepts the fields as trailers.
pub(super) fn are_trailers(fields: &Fields) -> bool {
    !fields.are_too_large() && fields.iter().all(|(name, value)| is_regular(name, value))
}

/// Returns whether this is a valid regular header field that is not connection-specific.
fn is_regular(name: &[u8], value: &[u8]) -> bool {
    let is_name =
        |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_value = |byte: &u8| !matches!(byte, ..b' ' | 0x7f) || *byte == b'\t';
    !name.is_empty()
        && name.iter().all(is_name)
        && value.iter().all(is_value)
        && !CONNECTION_FIELDS.contains(&name)
        && (name != b"te" || value == b"trailers")
}

/// Parses a content length as h2 does.
fn parse_length(value: &[u8]) -> Option<u64> {
    const MAX_DIGITS: usize = 19;
    let is_number = (1..=MAX_DIGITS).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

/// Encodes the fields, with another path if there is one.
pub(super) fn write(fields: &Fields, path: Option<&[u8]>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields.iter() {
        let value = path.filter(|_| name == b":path").unwrap_or(value);
        write_literal(name, value, &mut block);
    }
    block
}

/// Encodes a request that replaces a refused one, with the original header fields if they are valid.
pub(super) fn write_replacement(fields: &Fields, problem: HeadProblem) -> Vec<u8> {
    let mut block = Vec::new();
    let method = fields.iter().find(|(name, _)| *name == b":method").map(|(_, value)| value);
    let known = |method: &[u8]| {
        Method::from_bytes(method).is_ok_and(|method| {
            method.is_safe()
                || method.is_idempotent()
                || method == Method::POST
                || method == Method::PATCH
        }) && method != b"TRACE"
    };
    let method = method.filter(|method| known(method)).unwrap_or(b"GET");
    write_literal(b":method", method, &mut block);
    write_literal(b":scheme", b"http", &mut block);
    write_literal(b":path", problem.target().as_bytes(), &mut block);
    // A list that is too large is incomplete; the missing part may contain the credential.
    for (name, value) in fields.iter().filter(|_| problem != HeadProblem::TooLarge) {
        if is_regular(name, value) && name != b"content-length" {
            write_literal(name, value, &mut block);
        }
    }
    block
}

/// Encodes a block for which h2 resets only this stream.
pub(super) fn write_malformed() -> Vec<u8> {
    let mut block = Vec::new();
    write_literal(b"connection", b"close", &mut block);
    block
}
