//! Header rules of the gateway. All headers are forwarded except hop-by-hop headers, credentials, and headers that
//! could make a server process a different call than the authorized one.

use http::{HeaderMap, HeaderName, Method, header};

/// Hop-by-hop headers (RFC 9110 section 7.6.1), and headers that servers treat like them.
const HOP_BY_HOP: [&str; 12] = [
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

/// Headers that are not forwarded: credentials, routing headers, method overrides, and headers that identify the
/// sender. Proxies and meshes add the latter for the gateway: SuperOffice does not need the address or identity of a
/// caller, and might trust a forged one. `docs/guides/egress.md` lists them.
const NOT_FORWARDED: [&str; 45] = [
    "authorization",
    "b3",
    "baggage",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "cookie",
    "cookie2",
    "do-connecting-ip",
    // The gateway itself answers it.
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

/// Headers that override the request's method. A server that honours one would do something that was not authorized. If
/// the gateway dropped it, the caller would send a POST instead of its DELETE.
const METHOD_OVERRIDES: [&str; 3] =
    ["x-http-method", "x-http-method-override", "x-method-override"];

/// Prefixes of headers that are not forwarded: those of proxies, content delivery networks, clouds and meshes.
const NOT_FORWARDED_PREFIXES: [&str; 26] = [
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

/// Response headers that are not passed back: credentials, and headers that lead a client past the gateway.
const NOT_PASSED_BACK: [&str; 6] =
    ["alt-svc", "authorization", "refresh", "set-cookie", "set-cookie2", "so-apptoken"];

/// Response headers that have one value (RFC 9110 section 5.3). Recipients differ in which of two values they use, so
/// only the first is passed back, which the gateway also uses. All other headers may be lists and pass unchanged.
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
/// Returns the name of a header by which a POST asks for another method, also if it is written with `_` for `-`.
/// Servers honour it only for POST; for other methods it is removed.
#[must_use]
pub fn method_override(method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    let names = headers.keys().map(HeaderName::as_str).filter(|_| *method == Method::POST);
    names
        .filter(|name| name.starts_with('x'))
        .map(|name| name.replace('_', "-"))
        .find_map(|name| METHOD_OVERRIDES.into_iter().find(|known| *known == name))
}

/// Removes the request headers that are not forwarded to SuperOffice. The headers of the credential are added later and
/// replace all headers of the same name.
pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers, |name| {
        NOT_FORWARDED.contains(&name)
            || NOT_FORWARDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    });
}

/// Returns the names of headers that are never forwarded, for `ext_authz`, where a proxy must remove them.
pub fn not_forwarded() -> impl Iterator<Item = &'static str> {
    // A request needs its host.
    NOT_FORWARDED.into_iter().filter(|name| *name != "host")
}

/// Removes the response headers that must not reach the caller.
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

fn strip(headers: &mut HeaderMap, must_remove: impl Fn(&str) -> bool) {
    // Headers that `Connection` names. They may include any name, so they are read before `Connection` is removed.
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
    let is_removed = |name: &HeaderName| {
        let name = name.as_str();
        // Some servers treat `_` and `-` as equal.
        let with_hyphens = name.contains('_').then(|| name.replace('_', "-"));
        let name = with_hyphens.as_deref().unwrap_or(name);
        HOP_BY_HOP.contains(&name) || must_remove(name)
    };
    let removed: Vec<HeaderName> =
        headers.keys().filter(|name| is_removed(name)).cloned().collect();
    for name in removed {
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
    fn finds_a_method_override_in_every_spelling() {
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
    fn does_not_forward_hop_by_hop_credential_and_override_headers() {
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
    fn removes_headers_that_connection_names_in_both_directions() {
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
    fn does_not_pass_back_cookies_credentials_and_links_past_the_gateway() {
        let passes = ["allow", "cache-control", "link", "vary", "www-authenticate", "x-own"];
        let gone =
            ["Set-Cookie", "SO-AppToken", "Authorization", "Alt-Svc", "Refresh", "Connection"];
        let mut given = headers(&[&gone[..], &passes].concat());
        strip_response(&mut given);
        assert_eq!(given, headers(&passes));
    }

    #[test]
    fn passes_back_only_the_first_value_of_a_single_valued_header() {
        for name in SINGLE_VALUED {
            let mut given = headers(&[name.as_str(), "vary"]);
            strip_response(&mut given);
            let mut wanted = headers(&["vary"]);
            wanted.insert(name, HeaderValue::from_static("one"));
            assert_eq!(given, wanted);
        }
    }
}
