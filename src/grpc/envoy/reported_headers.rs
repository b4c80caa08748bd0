//! The headers of a request, as a proxy reports them.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::grpc::{envoy_pb::attribute_context::HttpRequest, failure::Failure};

/// An invalid header, for which the request is refused. If it were ignored, it would count as absent, and a header
/// may select the user that the call is made as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderProblem {
    /// The value contains a control character, such as a line break that starts another header.
    Value(HeaderName),
    /// The name is invalid (RFC 9110 section 5.1).
    Name,
    /// There are more headers than `HeaderMap` can hold.
    TooMany,
}

impl From<HeaderProblem> for Failure {
    fn from(invalid: HeaderProblem) -> Self {
        match invalid {
            HeaderProblem::Value(name) => Self::invalid(
                name.as_str(),
                "the value is invalid: headers must not contain control characters",
            ),
            HeaderProblem::Name => {
                Self::invalid("headers", "one header has an invalid name (RFC 9110 section 5.1)")
            }
            HeaderProblem::TooMany => Self::invalid("headers", "there are too many headers"),
        }
    }
}

/// Returns the headers of a request from both lists: the one joined by name, and the raw one. Also returns the first
/// invalid header.
///
/// An empty value replaces an invalid one, so that an invalid credential does not count as absent.
pub(super) fn reported_headers(http: &HttpRequest) -> (HeaderMap, Option<HeaderProblem>) {
    let joined = http.headers.iter().map(|(name, value)| (name, value.as_bytes()));
    let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|header| {
        let value = &header.raw_value;
        (&header.key, if value.is_empty() { header.value.as_bytes() } else { value })
    });
    let (mut headers, mut invalid) = (HeaderMap::new(), None);
    // The proxy reports `:path` and the other pseudo-headers in fields of their own.
    for (name, value) in joined.chain(raw).filter(|(name, _)| !name.starts_with(':')) {
        let Ok(name) = name.parse::<HeaderName>() else {
            invalid.get_or_insert(HeaderProblem::Name);
            continue;
        };
        let value = HeaderValue::from_bytes(value).unwrap_or_else(|_| {
            invalid.get_or_insert(HeaderProblem::Value(name.clone()));
            HeaderValue::from_static("")
        });
        if headers.try_append(name, value).is_err() {
            invalid.get_or_insert(HeaderProblem::TooMany);
            break;
        }
    }
    (headers, invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::envoy_pb::core;

    fn by_map(headers: &[(&str, &str)]) -> HttpRequest {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        HttpRequest { headers: headers.collect(), ..HttpRequest::default() }
    }

    fn by_list(headers: &[(&str, &[u8])]) -> HttpRequest {
        let one = |(name, value): &(&str, &[u8])| core::HeaderValue {
            key: (*name).to_owned(),
            raw_value: value.to_vec(),
            ..core::HeaderValue::default()
        };
        let headers = headers.iter().map(one).collect();
        HttpRequest { header_map: Some(core::HeaderMap { headers }), ..HttpRequest::default() }
    }

    #[test]
    fn reports_a_value_with_control_characters_and_keeps_its_header() {
        for value in ["system\r\nx: y", "\0", "a\nb", "\r", "\u{1b}", "\u{7f}"] {
            for http in [
                by_map(&[("gateway-act-as", value)]),
                by_list(&[("gateway-act-as", value.as_bytes())]),
            ] {
                let (headers, invalid) = reported_headers(&http);
                let name = HeaderName::from_static("gateway-act-as");
                assert_eq!(invalid, Some(HeaderProblem::Value(name)), "{value:?}");
                assert_eq!(headers.len(), 1, "{value:?}");
            }
        }
    }

    #[test]
    fn reports_an_invalid_header_name() {
        for name in
            ["gateway-act-as ", " gateway-act-as", "gateway-act-as:", "a\r\nb", "", "\u{e5}"]
        {
            let (_, invalid) = reported_headers(&by_map(&[(name, "system")]));
            assert_eq!(invalid, Some(HeaderProblem::Name), "{name:?}");
        }
        let (headers, invalid) = reported_headers(&by_map(&[(":path", "/x"), (":method", "GET")]));
        assert_eq!((headers.len(), invalid), (0, None));
    }

    #[test]
    fn reads_both_header_lists_and_ignores_the_case_of_names() {
        let mut http = by_list(&[("Gateway-Act-As", b"system"), ("x-own", b"\xff")]);
        http.headers.insert("GATEWAY-ACT-AS".to_owned(), "associates/5".to_owned());
        let (headers, invalid) = reported_headers(&http);
        assert_eq!(headers.get_all("gateway-act-as").iter().count(), 2);
        assert_eq!((headers.len(), invalid), (3, None));
    }

    #[test]
    fn reports_too_many_headers_without_a_panic() {
        let names: Vec<String> = (0..40_000).map(|number| format!("x-{number}")).collect();
        let headers: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, &b"x"[..])).collect();
        let (_, invalid) = reported_headers(&by_list(&headers));
        assert_eq!(invalid, Some(HeaderProblem::TooMany));
    }
}
