//! HTTP/1.1: finds each head on a connection and changes only request targets (RFC 9112).
//!
//! If the end of a body is ambiguous, the rest of the connection passes unchanged, and hyper decides. A head that hyper
//! would refuse is replaced by a request with the problem in its target, after which the connection ends.

use std::mem::MaybeUninit;

use axum::http::Method;

use super::{
    chunked::{Chunked, Progress},
    limits::{MAX_HEAD_BYTES, MAX_HEADER_LINES},
    output::Output,
    problem::HeadProblem,
    target::{self, TargetDecision},
};

/// The parser of a connection's heads.
pub(super) struct Http1 {
    state: State,
    /// The first bytes of an incomplete head.
    held: Vec<u8>,
    /// The length at which an incomplete head is parsed again.
    parse_at: usize,
}

/// The meaning of the next bytes.
enum State {
    Head,
    /// A body with this number of remaining bytes.
    Body(u64),
    Chunked(Chunked),
    /// An ambiguous body and everything after it, which passes unchanged. hyper closes the connection.
    PassThrough,
    /// A request was refused. No more bytes are read, and its answer ends the connection.
    Refused,
}

/// The result of parsing the start of a buffer.
enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A head of this length, which `replacement` replaces, if there is one.
    Head {
        length: usize,
        replacement: Option<Vec<u8>>,
        body: State,
    },
    Refused {
        problem: HeadProblem,
        method: &'static str,
    },
}

impl Http1 {
    pub(super) fn new() -> Self {
        Self { state: State::Head, held: Vec::new(), parse_at: 0 }
    }

    /// Returns whether a request was refused, so that nothing more is read.
    pub(super) fn has_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Returns the memory of an incomplete head in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Processes the next bytes of the client.
    pub(super) fn pass(&mut self, mut input: &[u8], output: &mut Output<'_>) {
        while !input.is_empty() {
            let used = match &mut self.state {
                State::Head => self.head(input, output),
                State::Body(left) => {
                    let here = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                    output.keep(input.get(..here).unwrap_or_default());
                    here
                }
                State::Chunked(body) => {
                    let here = match body.advance(input) {
                        Progress::Inside => input.len(),
                        Progress::End(here) => {
                            self.state = State::Head;
                            here
                        }
                        Progress::Broken => {
                            self.state = State::PassThrough;
                            input.len()
                        }
                    };
                    output.keep(input.get(..here).unwrap_or_default());
                    here
                }
                State::PassThrough => {
                    output.keep(input);
                    return;
                }
                State::Refused => {
                    output.drop_input();
                    return;
                }
            };
            input = input.get(used..).unwrap_or_default();
        }
    }

    /// Passes the held bytes unchanged, because the client sends no more.
    pub(super) fn end(&mut self, output: &mut Output<'_>) {
        output.put(&std::mem::take(&mut self.held));
    }

    /// Processes bytes of a head. Returns the number of bytes that belong to it.
    fn head(&mut self, input: &[u8], output: &mut Output<'_>) -> usize {
        let before = self.held.len();
        if before > 0 {
            output.drop_input();
            self.held.extend_from_slice(input);
            let unseen = self.held.get(before.saturating_sub(3)..).unwrap_or_default();
            if self.held.len() < self.parse_at && !has_empty_line(unseen) {
                return input.len();
            }
        }
        let bytes = if before > 0 { &self.held } else { input };
        match parse(bytes) {
            Parsed::Partial => {
                if before == 0 {
                    output.drop_input();
                    self.held.extend_from_slice(input);
                }
                // The length doubles, so a head that arrives byte by byte is not parsed at every byte.
                self.parse_at = (2 * self.held.len()).min(MAX_HEAD_BYTES + 1);
                input.len()
            }
            Parsed::Head { length, replacement, body } => {
                match (replacement, before) {
                    (Some(replacement), _) => output.put(&replacement),
                    (None, 0) => output.keep(input.get(..length).unwrap_or_default()),
                    (None, _) => output.put(self.held.get(..length).unwrap_or_default()),
                }
                self.held = Vec::new();
                self.state = body;
                length.saturating_sub(before)
            }
            Parsed::Refused { problem, method } => {
                let target = problem.target();
                let head = format!(
                    "{method} {target} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n"
                );
                output.put(head.as_bytes());
                self.held = Vec::new();
                self.state = State::Refused;
                input.len()
            }
        }
    }
}

/// Returns whether the bytes contain an empty line, as httparse reads lines.
fn has_empty_line(bytes: &[u8]) -> bool {
    let feeds = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    feeds
        .map(|(at, _)| bytes.get(at + 1..).unwrap_or_default())
        .any(|rest| rest.starts_with(b"\n") || rest.starts_with(b"\r\n"))
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADER_LINES];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut headers);
    let method = request.method.map_or("GET", known_method);
    let refused = |problem| Parsed::Refused { problem, method };
    match parsed {
        Ok(httparse::Status::Complete(length)) if length > MAX_HEAD_BYTES => {
            refused(HeadProblem::TooLarge)
        }
        Ok(httparse::Status::Complete(length)) => match read(bytes, length, &request) {
            Ok(head) => head,
            Err(problem) => refused(problem),
        },
        Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD_BYTES => {
            refused(HeadProblem::TooLarge)
        }
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => refused(HeadProblem::TooLarge),
        // httparse accepts only targets in UTF-8.
        Err(httparse::Error::Token) if request.method.is_some() && request.path.is_none() => {
            match with_encoded_target(bytes) {
                Some((encoded, growth)) => match parse(&encoded) {
                    Parsed::Head { length, replacement, body } => {
                        let replacement =
                            replacement.or_else(|| encoded.get(..length).map(Into::into));
                        Parsed::Head { length: length.saturating_sub(growth), replacement, body }
                    }
                    other => other,
                },
                None => refused(HeadProblem::Malformed),
            }
        }
        Err(_) => refused(HeadProblem::Malformed),
    }
}

/// Checks a head that httparse has accepted.
fn read(
    bytes: &[u8],
    length: usize,
    request: &httparse::Request<'_, '_>,
) -> Result<Parsed, HeadProblem> {
    let method = request.method.unwrap_or_default();
    Method::from_bytes(method.as_bytes()).map_err(|_| HeadProblem::Malformed)?;
    let body = body(request)?;
    let target = request.path.unwrap_or_default();
    let new = match target::check_request_line(target.as_bytes()) {
        TargetDecision::Keep => return Ok(Parsed::Head { length, replacement: None, body }),
        TargetDecision::Replace(new) => new,
        TargetDecision::Refuse(problem) => problem.target().into(),
    };
    let begin = target.as_ptr().addr().saturating_sub(bytes.as_ptr().addr());
    let (before, after) = (bytes.get(..begin), bytes.get(begin + target.len()..length));
    let head = [before.unwrap_or_default(), &new, after.unwrap_or_default()].concat();
    if head.len() > MAX_HEAD_BYTES {
        return Err(HeadProblem::TooLarge);
    }
    Ok(Parsed::Head { length, replacement: Some(head), body })
}

/// Returns the kind of body after a head, as hyper reads it (RFC 9112, section 6.3).
fn body(request: &httparse::Request<'_, '_>) -> Result<State, HeadProblem> {
    let (mut length, mut has_length, mut codings) = (None, false, 0);
    for header in &*request.headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if request.version != Some(1) {
                return Err(HeadProblem::Framing);
            }
            if !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(HeadProblem::TransferCoding);
            }
            codings += 1;
        } else if header.name.eq_ignore_ascii_case("content-length") {
            has_length = true;
            if codings > 0 {
                continue;
            }
            let this = parse_length(header.value).ok_or(HeadProblem::Framing)?;
            if length.is_some_and(|length| length != this) {
                return Err(HeadProblem::Framing);
            }
            length = Some(this);
        }
    }
    match codings {
        0 => Ok(length.filter(|length| *length > 0).map_or(State::Head, State::Body)),
        // hyper closes the connection after the answer.
        1 if has_length => Ok(State::PassThrough),
        1 => Ok(State::Chunked(Chunked::new())),
        _ => Err(HeadProblem::Framing),
    }
}

/// Parses a content length as hyper does.
fn parse_length(value: &[u8]) -> Option<u64> {
    const MAX: u64 = u64::MAX - 2;
    let digits = str::from_utf8(value).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|length| *length <= MAX)
}

/// Percent-encodes all non-ASCII bytes in the target. Returns the bytes and the added length, or `None` if the target
/// is in UTF-8 or missing.
fn with_encoded_target(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    let (before, rest) = bytes.split_at_checked(blank + 1)?;
    let (target, after) = rest.split_at_checked(rest.iter().position(|byte| *byte == b' ')?)?;
    if str::from_utf8(target).is_ok() {
        return None;
    }
    let encoded = target::percent_encoded(target, true);
    let growth = encoded.len().saturating_sub(target.len());
    Some(([before, &encoded, after].concat(), growth))
}

/// Returns the method for the replacement of a refused request. HEAD must be kept, because its answer has no body.
fn known_method(method: &str) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("GET")
}

#[cfg(test)]
mod tests;
