//! Which headers go through the gateway: everything but what is of one connection, what is a credential, and what could
//! make a server read another call than the one that was decided on.

use http::{HeaderMap, HeaderName, Method, header};

/// Of one connection (RFC 9110 section 7.6.1), and those that servers take for such.
const OF_THE_CONNECTION: [&str; 12] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Not sent on: credentials, what says where the request went, what it wants and who sent it. Proxies and meshes add the
/// latter for the gateway: the address or identity of a caller is nothing that SuperOffice has to know, and a forged one
/// could be believed there. `docs/EGRESS.md` lists them.
const NOT_SENT: [&str; 45] = [
    "authorization",
    "b3",
    "baggage",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "cookie",
    "cookie2",
    "do-connecting-ip",
    // The gateway has answered it.
    "expect",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "host",
    "incap-client-ip",
    "remote-addr",
    "remote-user",
    "so-apptoken",
    "ssl-client-cert",
    "ssl-client-s-dn",
    "true-client-ip",
    "uber-trace-id",
    "via",
    "x-arr-clientcert",
    "x-apigateway-api-userinfo",
    "x-client-cert",
    "x-client-ip",
    "x-cloud-trace-context",
    "x-cluster-client-ip",
    "x-coming-from",
    "x-endpoint-api-userinfo",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-nginx-proxy",
    "x-original-url",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-remote-user",
    "x-rewrite-url",
];

/// Headers that name another method than that of the request. Servers that honour one would do something else than was
/// decided on, and one that is dropped would leave the caller with a POST instead of its DELETE.
const METHOD_OVERRIDES: [&str; 3] =
    ["x-http-method", "x-http-method-override", "x-method-override"];

/// Likewise, by how they begin: families of proxies, content networks, clouds and meshes.
const NOT_SENT_PREFIXES: [&str; 26] = [
    "cdn-",
    "cf-",
    "cloudfront-",
    "gateway-",
    "l5d-",
    "proxy-",
    "x-amz-cf-",
    "x-amzn-",
    "x-appengine-",
    "x-appgw-",
    "x-auth-request-",
    "x-authenticated-",
    "x-azure-",
    "x-b3-",
    "x-datadog-",
    "x-envoy-",
    "x-forwarded",
    "x-goog-",
    "x-istio-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-original-",
    "x-rewrite-",
    "x-ssl-",
    "x-vercel-",
    "x-zscaler-",
];

/// Not passed back: credentials, and what leads a client past the gateway.
const NOT_PASSED_BACK: [&str; 6] =
    ["alt-svc", "authorization", "refresh", "set-cookie", "set-cookie2", "so-apptoken"];

/// Headers of an answer that have one value (RFC 9110 section 5.3). Readers differ in which one of two they take, so only
/// the first is passed back: the gateway itself reads the first. Every other header may be a list and passes unchanged.
const SINGLE_VALUED: [HeaderName; 19] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_MAX_AGE,
    header::AGE,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::RETRY_AFTER,
    header::SERVER,
    header::STRICT_TRANSPORT_SECURITY,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
];
/// Returns the name of a header by which a POST asks for another method, also written with `_` for `-`.
/// Servers honour it for POST alone; elsewhere it is taken off like others.
#[must_use]
pub fn method_override(method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    let names = headers.keys().map(HeaderName::as_str).filter(|_| *method == Method::POST);
    names
        .filter(|name| name.starts_with(['x', 'X']))
        .map(|name| name.replace('_', "-"))
        .find_map(|name| METHOD_OVERRIDES.into_iter().find(|known| *known == name))
}

/// Takes out of a request what does not go to SuperOffice, whichever door it came through. The credential is put in
/// later, and its headers replace all of their name.
pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers, |name| {
        NOT_SENT.contains(&name) || NOT_SENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    });
}

/// What is never sent on, where it cannot be seen what came.
pub fn not_sent() -> impl Iterator<Item = &'static str> {
    // Without a host there is no request.
    NOT_SENT.into_iter().filter(|name| *name != "host")
}

/// Takes out of an answer what is not for a caller.
pub fn strip_response(headers: &mut HeaderMap) {
    strip(headers, |name| NOT_PASSED_BACK.contains(&name) || name.starts_with("gateway-"));
    keep_first_values(headers);
}

fn keep_first_values(headers: &mut HeaderMap) {
    if headers.len() == headers.keys_len() {
        return;
    }
    for name in SINGLE_VALUED {
        if headers.get_all(&name).iter().nth(1).is_some()
            && let Some(first) = headers.get(&name).cloned()
        {
            headers.insert(name, first);
        }
    }
}

fn strip(headers: &mut HeaderMap, is_ours: impl Fn(&str) -> bool) {
    // Names that the connection's own header makes its own. They may be anything, so they are read first.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    let is_gone = |name: &HeaderName| {
        let name = name.as_str();
        // There are servers that take one for the other.
        let with_hyphens = name.contains('_').then(|| name.replace('_', "-"));
        let name = with_hyphens.as_deref().unwrap_or(name);
        OF_THE_CONNECTION.contains(&name) || is_ours(name)
    };
    let gone: Vec<HeaderName> = headers.keys().filter(|name| is_gone(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(names: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in names {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name.clone(), HeaderValue::from_static("one"));
            headers.append(name, HeaderValue::from_static("two"));
        }
        headers
    }

    const PASSES: [&str; 14] = [
        "accept",
        "accept-encoding",
        "accept-language",
        "content-encoding",
        "content-type",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "range",
        "so-language",
        "traceparent",
        "user-agent",
        "x-request-id",
        "x-requested-with",
    ];

    #[test]
    fn a_header_that_names_another_method_is_found_in_every_spelling() {
        for name in [
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x_http_method_override",
        ] {
            let known = name.replace('_', "-");
            assert_eq!(method_override(&Method::POST, &headers(&[name])), Some(&*known), "{name}");
            assert_eq!(method_override(&Method::GET, &headers(&[name])), None, "{name}");
        }
        for name in ["x-http-method-overrides", "x-method", "http-method-override"] {
            assert_eq!(method_override(&Method::POST, &headers(&[name])), None, "{name}");
        }
    }

    #[test]
    fn what_is_of_the_connection_a_credential_or_another_call_is_not_sent_on() {
        let gone = [
            "Authorization",
            "Connection",
            "Cookie",
            "Forwarded",
            "Gateway-Act-As",
            "Gateway-Rewrite-Links",
            "Host",
            "Keep-Alive",
            "Proxy-Authorization",
            "Proxy-Connection",
            "SO-AppToken",
            "SO_AppToken",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-HTTP-Method",
            "X-HTTP-Method-Override",
            "X_HTTP_Method_Override",
            "X-Method-Override",
            "X-Original-URL",
            "X-Original-Host",
            "X-Rewrite-URL",
            "CF-Connecting-IP",
            "CF-Connecting-IPv6",
            "CF-Access-Jwt-Assertion",
            "True-Client-IP",
            "True_Client_IP",
            "X-Cluster-Client-IP",
            "X-Real-IP",
            "X-Client-IP",
            "Client-IP",
            "Fastly-Client-IP",
            "X-Envoy-External-Address",
            "X-Envoy-Peer-Metadata",
            "X-Original-Forwarded-For",
            "X-Forwarded-Client-Cert",
            "X-Azure-ClientIP",
            "X-Azure-SocketIP",
            "X-ProxyUser-Ip",
            "Via",
            "X-Auth-Request-Email",
            "X-Amzn-Trace-Id",
            "X-Amzn-Oidc-Identity",
            "X-Goog-Iap-Jwt-Assertion",
            "X-Goog-Authenticated-User-Email",
            "X-AppEngine-User-IP",
            "X-MS-Client-Principal-Name",
            "Client-Cert",
            "X-SSL-Client-Cert",
            "L5D-Client-Id",
            "B3",
            "Baggage",
        ];
        let mut given = headers(&[&gone[..], &PASSES].concat());
        strip_request(&mut given);
        assert_eq!(given, headers(&PASSES));
    }

    #[test]
    fn what_connection_names_goes_with_it_in_both_directions() {
        for strip in [strip_request, strip_response] {
            let mut given = headers(&["x-one", "x-two", "x-three", "x-four"]);
            given.append("connection", HeaderValue::from_static("X-One , close,, a b"));
            given.append("connection", HeaderValue::from_static("keep-alive,x-two"));
            given.append("connection", HeaderValue::from_bytes(b"\xff").unwrap());
            strip(&mut given);
            assert_eq!(given, headers(&["x-three", "x-four"]));
        }
    }

    #[test]
    fn cookies_credentials_and_ways_past_the_gateway_are_not_passed_back() {
        let passes = ["allow", "cache-control", "link", "vary", "www-authenticate", "x-own"];
        let gone =
            ["Set-Cookie", "SO-AppToken", "Authorization", "Alt-Svc", "Refresh", "Connection"];
        let mut given = headers(&[&gone[..], &passes].concat());
        strip_response(&mut given);
        assert_eq!(given, headers(&passes));
    }

    #[test]
    fn of_a_header_that_has_one_value_the_first_is_passed_back() {
        for name in SINGLE_VALUED {
            let mut given = headers(&[name.as_str(), "vary"]);
            strip_response(&mut given);
            let mut wanted = headers(&["vary"]);
            wanted.insert(name, HeaderValue::from_static("one"));
            assert_eq!(given, wanted);
        }
    }
}
