//! The headers of a request, as a proxy reports them.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::{envoy_pb::attribute_context::HttpRequest, failure::Failure};

/// A header that is none, so that the request is refused: left out, it would count as absent, and what it says can
/// decide as whom a call is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The value has a control character in it, such as the beginning of another header.
    Value(HeaderName),
    /// A name that is none (RFC 9110 section 5.1).
    Name,
    /// More headers than anything sends.
    TooMany,
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Value(name) => Self::invalid(
                name.as_str(),
                "the value cannot be read: a header holds no control characters",
            ),
            Unreadable::Name => {
                Self::invalid("headers", "one has a name that no header has (RFC 9110 section 5.1)")
            }
            Unreadable::TooMany => Self::invalid("headers", "there are too many of them"),
        }
    }
}

/// Returns the headers of a request: as they came if the proxy tells them so, else joined by name. Also returns the
/// first one that cannot be read.
///
/// In place of a value that cannot be read stands an empty one, so that a damaged credential is not taken for none.
pub(super) fn reported_headers(http: &HttpRequest) -> (HeaderMap, Option<Unreadable>) {
    let joined = http.headers.iter().map(|(name, value)| (name, value.as_bytes()));
    let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|header| {
        let value = &header.raw_value;
        (&header.key, if value.is_empty() { header.value.as_bytes() } else { value })
    });
    let (mut headers, mut unreadable) = (HeaderMap::new(), None);
    // `:path` and its like are told besides.
    for (name, value) in joined.chain(raw).filter(|(name, _)| !name.starts_with(':')) {
        let Ok(name) = name.parse::<HeaderName>() else {
            unreadable.get_or_insert(Unreadable::Name);
            continue;
        };
        let value = HeaderValue::from_bytes(value).unwrap_or_else(|_| {
            unreadable.get_or_insert(Unreadable::Value(name.clone()));
            HeaderValue::from_static("")
        });
        if headers.try_append(name, value).is_err() {
            unreadable.get_or_insert(Unreadable::TooMany);
            break;
        }
    }
    (headers, unreadable)
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
    fn a_value_with_control_characters_is_found_out_and_not_taken_for_an_absent_one() {
        for value in ["system\r\nx: y", "\0", "a\nb", "\r", "\u{1b}", "\u{7f}"] {
            for http in [
                by_map(&[("gateway-act-as", value)]),
                by_list(&[("gateway-act-as", value.as_bytes())]),
            ] {
                let (headers, unreadable) = reported_headers(&http);
                let name = HeaderName::from_static("gateway-act-as");
                assert_eq!(unreadable, Some(Unreadable::Value(name)), "{value:?}");
                assert_eq!(headers.len(), 1, "{value:?}");
            }
        }
    }

    #[test]
    fn a_name_that_no_header_has_is_found_out() {
        for name in
            ["gateway-act-as ", " gateway-act-as", "gateway-act-as:", "a\r\nb", "", "\u{e5}"]
        {
            let (_, unreadable) = reported_headers(&by_map(&[(name, "system")]));
            assert_eq!(unreadable, Some(Unreadable::Name), "{name:?}");
        }
        let (headers, unreadable) =
            reported_headers(&by_map(&[(":path", "/x"), (":method", "GET")]));
        assert_eq!((headers.len(), unreadable), (0, None));
    }

    #[test]
    fn names_have_no_case_and_both_ways_to_tell_headers_count() {
        let mut http = by_list(&[("Gateway-Act-As", b"system"), ("x-own", b"\xff")]);
        http.headers.insert("GATEWAY-ACT-AS".to_owned(), "associates/5".to_owned());
        let (headers, unreadable) = reported_headers(&http);
        assert_eq!(headers.get_all("gateway-act-as").iter().count(), 2);
        assert_eq!((headers.len(), unreadable), (3, None));
    }

    #[test]
    fn too_many_headers_are_refused_without_a_panic() {
        let names: Vec<String> = (0..40_000).map(|number| format!("x-{number}")).collect();
        let headers: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, &b"x"[..])).collect();
        let (_, unreadable) = reported_headers(&by_list(&headers));
        assert_eq!(unreadable, Some(Unreadable::TooMany));
    }
}
