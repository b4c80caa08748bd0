//! Rewriting of SuperOffice's links so that they lead through the gateway. A client that followed an original link
//! would send its gateway token to SuperOffice.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::domain::{ApiPath, TenantName, WebApiUri};

/// Headers that contain one link.
const SINGLE: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];

/// The base URIs of a tenant's Web API at SuperOffice and through the gateway.
#[derive(Debug, Clone)]
pub struct LinkRewriter {
    /// All spellings of `https://online2.superoffice.com/Cust12345/api`.
    upstream_bases: Vec<String>,
    /// `/Cust12345/api`: the path of a link relative to that host.
    upstream_path: String,
    /// `https://gateway.example.com/crm-sync/Cust12345/api`, or `/api` for calls that name the tenant elsewhere.
    gateway_base: String,
}

impl LinkRewriter {
    /// Creates the rewriting for a tenant whose Web API is at `uri`. `public_uri` is the public URI of the egress
    /// listener, without a trailing slash.
    #[must_use]
    pub fn new(public_uri: &str, tenant: &TenantName, uri: &WebApiUri) -> Self {
        let ours = format!("{public_uri}/{}/{}/api", tenant.application, tenant.tenant);
        Self { gateway_base: ours, ..Self::for_calls(tenant, uri) }
    }

    /// Creates the rewriting for `WebApiService.Call`, where the rewritten links are paths that begin with `/api`.
    #[must_use]
    pub fn for_calls(tenant: &TenantName, uri: &WebApiUri) -> Self {
        let their_path = format!("/{}/api", tenant.tenant);
        Self {
            upstream_bases: spellings(uri),
            upstream_path: their_path,
            gateway_base: "/api".to_owned(),
        }
    }

    /// Returns whether a response has headers with links.
    #[must_use]
    pub fn has_links(headers: &HeaderMap) -> bool {
        headers.contains_key(header::LINK) || SINGLE.iter().any(|name| headers.contains_key(name))
    }

    /// Rewrites `Location`, `Content-Location` and `Link`. A link to another place is removed.
    pub fn rewrite_headers(&self, headers: &mut HeaderMap) {
        for name in SINGLE {
            rewrite(headers, &name, |link| self.rewrite_link(link));
        }
        rewrite(headers, &header::LINK, |links| self.rewrite_link_list(links));
    }

    /// Returns the link through the gateway, or `None` if the link is not in the tenant's Web API.
    fn rewrite_link(&self, link: &str) -> Option<String> {
        let link = link.trim();
        let below = |base: &str| {
            let start = link.get(..base.len())?;
            let rest = link.get(base.len()..)?;
            let whole = rest.is_empty() || rest.starts_with(['/', '?', '#']);
            (start.eq_ignore_ascii_case(base) && whole).then_some(rest)
        };
        let mut bases = self.upstream_bases.iter().chain([&self.upstream_path]);
        if let Some(rest) = bases.find_map(|base| below(base)) {
            let (target, fragment) = split_fragment(rest);
            // A link that the gateway would reject is removed.
            let path = ApiPath::parse(&format!("/api{target}")).ok()?;
            return Some(format!("{}{}{fragment}", self.gateway_base, path.request_target()));
        }
        // A relative link that leads down is valid at SuperOffice and through the gateway.
        ApiPath::stays_below(link).then(|| link.to_owned())
    }

    /// Rewrites a list such as `<uri>; rel=next, <uri>; rel=prev` (RFC 8288).
    fn rewrite_link_list(&self, links: &str) -> Option<String> {
        let mut rest = links;
        let mut list = String::with_capacity(links.len());
        while let Some((before, after)) = rest.split_once('<') {
            let (link, behind) = after.split_once('>')?;
            list.push_str(before);
            list.push('<');
            list.push_str(&self.rewrite_link(link)?);
            list.push('>');
            rest = behind;
        }
        list.push_str(rest);
        Some(list)
    }

    /// Rewrites the absolute links in a JSON body. Returns `None` if there are none.
    #[must_use]
    pub fn rewrite_json(&self, body: &[u8]) -> Option<Vec<u8>> {
        // JSON may escape a slash with a backslash (RFC 8259 section 7).
        let escaped = |text: &str| text.replace('/', "\\/");
        let plain =
            self.upstream_bases.iter().map(|theirs| (theirs.clone(), self.gateway_base.clone()));
        let behind =
            self.upstream_bases.iter().map(|theirs| (escaped(theirs), escaped(&self.gateway_base)));
        replace(body, &plain.chain(behind).collect::<Vec<_>>())
    }
}

/// Returns the URI as tenant status names it, and with the explicit default port 443, which SuperOffice writes into its
/// responses.
fn spellings(uri: &WebApiUri) -> Vec<String> {
    let (authority, path) = (uri.authority(), uri.path());
    // Colons within brackets belong to an IPv6 address.
    let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let with_port = (!has_port && uri.as_str().starts_with("https:"))
        .then(|| format!("https://{authority}:443{path}"));
    [uri.as_str().to_owned()].into_iter().chain(with_port).collect()
}

/// Splits a link before the `#` of its fragment.
fn split_fragment(link: &str) -> (&str, &str) {
    link.split_at(link.find('#').unwrap_or(link.len()))
}

/// Returns the length of a link in JSON after its base. The link ends at the first byte that cannot be part of it.
fn length_of_rest(json: &[u8]) -> usize {
    let mut rest = json.iter().copied().enumerate();
    loop {
        match rest.next() {
            // Only an escaped slash or character code continues a link (RFC 8259 section 7).
            Some((at, b'\\')) if !matches!(rest.next(), Some((_, b'/' | b'u'))) => break at,
            Some((at, byte)) if byte.is_ascii_whitespace() || b"\"<>".contains(&byte) => break at,
            Some(_) => {}
            None => break json.len(),
        }
    }
}

/// Returns whether the gateway would accept a link with this rest after its base.
fn is_accepted(rest: &[u8]) -> bool {
    let link = serde_json::from_slice::<String>(&[&b"\""[..], rest, b"\""].concat());
    link.is_ok_and(|link| ApiPath::parse(&format!("/api{}", split_fragment(&link).0)).is_ok())
}

/// Replaces each value of a header by its rewritten value, and removes the values that have none.
fn rewrite(headers: &mut HeaderMap, name: &HeaderName, rewritten: impl Fn(&str) -> Option<String>) {
    if !headers.contains_key(name) {
        return;
    }
    let new: Vec<HeaderValue> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| rewritten(value.to_str().ok()?)?.parse().ok())
        .collect();
    headers.remove(name);
    for value in new {
        headers.append(name, value);
    }
}

/// Replaces each occurrence of the first text of a pair by the second, ignoring case, where the link ends or goes
/// deeper after it. Returns `None` if nothing is replaced. All first texts must begin with the same letter.
fn replace(body: &[u8], pairs: &[(String, String)]) -> Option<Vec<u8>> {
    let &letter = pairs.first()?.0.as_bytes().first()?;
    let mut changed: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = next_letter(body, at, letter) {
        let is_here = |old: &str| {
            let end = found + old.len();
            let whole = body.get(end).is_none_or(|byte| b"/?#\"\\".contains(byte));
            let here = body.get(found..end);
            whole && here.is_some_and(|here| here.eq_ignore_ascii_case(old.as_bytes()))
        };
        let Some((old, new)) = pairs.iter().find(|(old, _)| is_here(old)) else {
            at = found + 1;
            continue;
        };
        let base_end = found + old.len();
        let length = length_of_rest(body.get(base_end..).unwrap_or_default());
        // Each link is read once; otherwise a text full of links would take quadratic time.
        at = base_end + length;
        if !is_accepted(body.get(base_end..at).unwrap_or_default()) {
            continue;
        }
        let into = changed.get_or_insert_with(|| Vec::with_capacity(body.len() + new.len()));
        into.extend_from_slice(body.get(copied..found).unwrap_or_default());
        into.extend_from_slice(new.as_bytes());
        copied = base_end;
    }
    if let Some(into) = &mut changed {
        into.extend_from_slice(body.get(copied..).unwrap_or_default());
    }
    changed
}

/// Returns the next position of a letter, in upper or lower case.
fn next_letter(body: &[u8], at: usize, letter: u8) -> Option<usize> {
    let here = |byte: &u8| byte.eq_ignore_ascii_case(&letter);
    body.get(at..)?.iter().position(here).map(|found| at + found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::AllowedApiHosts;

    fn links() -> LinkRewriter {
        let allowed = AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap();
        let tenant: TenantName = "applications/crm/tenants/Cust1".parse().unwrap();
        let uri = "https://online2.superoffice.com/Cust1/api";
        let uri = WebApiUri::check_api(uri, tenant.tenant, &allowed).unwrap();
        LinkRewriter::new("https://gw.example.com", &tenant, &uri)
    }

    fn location(link: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, link.parse().unwrap());
        links().rewrite_headers(&mut headers);
        headers.get(header::LOCATION).map(|link| link.to_str().unwrap().to_owned())
    }

    #[test]
    fn rewrites_a_location_in_the_web_api() {
        for (link, wanted) in [
            ("https://online2.superoffice.com/Cust1/api/v1/Contact/5?x#y", "/v1/Contact/5?x#y"),
            ("HTTPS://Online2.SuperOffice.com/cust1/API/v1", "/v1"),
            ("https://online2.superoffice.com/Cust1/api", ""),
            ("https://online2.superoffice.com:443/Cust1/api/v1/Contact/5", "/v1/Contact/5"),
            ("https://ONLINE2.superoffice.com:443/Cust1/api", ""),
            ("/Cust1/api/v1/Contact/5", "/v1/Contact/5"),
        ] {
            let wanted = format!("https://gw.example.com/crm/Cust1/api{wanted}");
            assert_eq!(location(link), Some(wanted), "{link}");
        }
        for link in [
            "5",
            "Contact/5?at=12:00",
            "Contact/",
            "?page=2",
            "?at=..%2f..",
            "#x",
            "./5",
            "Acme%20Inc.",
        ] {
            assert_eq!(location(link).as_deref(), Some(link));
        }
    }

    #[test]
    fn removes_a_location_outside_the_web_api() {
        for link in [
            "https://online2.superoffice.com/Cust1/apix",
            "https://online2.superoffice.com/Cust2/api/v1",
            "https://online2.superoffice.com:444/Cust1/api/v1",
            "https://online2.superoffice.com:4430/Cust1/api/v1",
            "https://online2.superoffice.com:443/Cust2/api/v1",
            "https://online2.superoffice.com:443@evil.example/Cust1/api/v1",
            "https://online2.superoffice.com.evil.example/Cust1/api/v1",
            "https://online2.superoffice.com@evil.example/Cust1/api/v1",
            "https://online2.superoffice.com/Cust1/api/../../Cust2/api",
            "https://evil.example/",
            "http://online2.superoffice.com/Cust1/api/v1",
            "//evil.example/x",
            "/Cust2/api/v1",
            "/login",
            "\\\\evil.example",
            "javascript:alert(1)",
            "../../x",
            "..",
            "%2e%2e/x",
            "%2E%2E",
            ".%2e/x",
            "%2E./x",
            "%252e%252e/x",
            "a/%2e%2e/%2e%2e/x",
            "..%2fx",
            "..%5cx",
            "..\\x",
            "a/..;/x",
            "a\\..\\x",
            ".\t./x",
            "a//b",
            "/%2e%2e/Cust1/api",
            "/Cust1/api/%2e%2e/%2e%2e/Cust2/api",
            "/Cust1/api/..%2f..%2fCust2",
            "/Cust1/%2e%2e/Cust2/api",
            "\t//evil.example",
            "/\t/evil.example",
            "https:/evil.example",
            "https:evil.example",
            "%2f%2fevil.example",
        ] {
            assert_eq!(location(link), None, "{link}");
        }
    }

    #[test]
    fn does_not_rewrite_a_link_that_the_gateway_would_reject() {
        let theirs = "https://online2.superoffice.com/Cust1/api";
        for rest in [
            "/v1/a;b",
            "/v1//x",
            "/v1/a%2Fb",
            "/v1/%2e%2e/x",
            "/v1/x?_method=DELETE",
            "/v1/a%",
            "/v1/(S(x))",
        ] {
            assert_eq!(location(&format!("{theirs}{rest}")), None, "{rest}");
            assert_eq!(location(&format!("/Cust1/api{rest}")), None, "{rest}");
            let list = format!("<{theirs}{rest}>; rel=next");
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, list.parse().unwrap());
            links().rewrite_headers(&mut headers);
            assert_eq!(headers.len(), 0, "{rest}");
            for body in [
                format!("{{\"a\":\"{theirs}{rest}\"}}"),
                format!("[\"{theirs}{rest}\"]").replace('/', "\\/"),
            ] {
                assert_eq!(links().rewrite_json(body.as_bytes()), None, "{rest}");
            }
        }
        let body =
            format!("[\"{theirs}/v1/a;b\",\"{theirs}/v1/Duplicates/Acme%20Inc.?a='b'\\u0026c=1\"]");
        let rewritten = links().rewrite_json(body.as_bytes()).unwrap();
        let wanted = body
            .replace(&format!("{theirs}/v1/Dup"), "https://gw.example.com/crm/Cust1/api/v1/Dup");
        assert_eq!(String::from_utf8(rewritten).unwrap(), wanted);
    }

    proptest! {
        #[test]
        fn every_rewritten_link_leads_to_its_original_path(
            rest in "((/|%2e|%2F|%C3%85|%25|[a-zA-Z.;(' ?=&#\\u{e5}\\u{2026}\\\\-]){0,12})",
        ) {
            let theirs = format!("https://online2.superoffice.com/Cust1/api{rest}");
            let upstream = |link: &str| {
                let base = "https://gw.example.com/crm/Cust1";
                let (target, _) = split_fragment(link.strip_prefix(base).unwrap());
                ApiPath::parse(target).unwrap().request_target().to_owned()
            };
            let wanted = || ApiPath::parse(&format!("/api{}", split_fragment(&rest).0)).unwrap();
            let mut headers = HeaderMap::new();
            if let Ok(value) = theirs.trim().parse() {
                headers.insert(header::LOCATION, value);
                links().rewrite_headers(&mut headers);
                if let Some(link) = headers.get(header::LOCATION) {
                    let wanted = ApiPath::parse(&format!("/api{}", split_fragment(rest.trim()).0)).unwrap();
                    prop_assert_eq!(upstream(link.to_str().unwrap()), wanted.request_target());
                }
            }
            let body = serde_json::to_vec(&[&theirs]).unwrap();
            let ends_early = rest.contains([' ', '\\']);
            if let Some(body) = links().rewrite_json(&body).filter(|_| !ends_early) {
                let [link] = serde_json::from_slice::<[String; 1]>(&body).unwrap();
                let wanted = wanted();
                prop_assert_eq!(upstream(&link), wanted.request_target());
            }
        }
    }

    #[test]
    fn rewrites_or_removes_links_in_a_list() {
        let mut headers = HeaderMap::new();
        let here = "<https://online2.superoffice.com:443/Cust1/api/v1?a>; rel=next, </Cust1/api/v1?b>; rel=\"prev\"";
        headers.append(header::LINK, here.parse().unwrap());
        headers.append(header::LINK, "<https://evil.example/>; rel=next".parse().unwrap());
        headers.append(header::LINK, "<https://half".parse().unwrap());
        links().rewrite_headers(&mut headers);
        let left: Vec<_> = headers.get_all(header::LINK).iter().collect();
        let base = "https://gw.example.com/crm/Cust1/api";
        assert_eq!(left, [&*format!("<{base}/v1?a>; rel=next, <{base}/v1?b>; rel=\"prev\"")]);
    }

    #[test]
    fn rewrites_only_absolute_links_in_json() {
        let rewritten = |body: &str| {
            links().rewrite_json(body.as_bytes()).map(|body| String::from_utf8(body).unwrap())
        };
        let (theirs, ours) =
            ("https://online2.superoffice.com/Cust1/api", "https://gw.example.com/crm/Cust1/api");
        for (body, wanted) in [
            ("{\"next\":\"THERE/v1/Contact?$skip=10\",\"a\":\"THERE\"}", None),
            (
                "{\"x\":\"THERExyz\",\"y\":\"THERE/b\"}",
                Some("{\"x\":\"THERExyz\",\"y\":\"HERE/b\"}"),
            ),
        ] {
            let wanted = wanted.map_or_else(
                || body.replace("THERE", ours),
                |wanted: &str| wanted.replace("THERE", theirs).replace("HERE", ours),
            );
            assert_eq!(rewritten(&body.replace("THERE", theirs)), Some(wanted));
        }
        let escaped = |text: &str| format!("[\"{}\"]", format!("{text}/v1").replace('/', "\\/"));
        assert_eq!(rewritten(&escaped(theirs)), Some(escaped(ours)));
        for body in ["{}", "", "\"https://online2.superoffice.com/Cust2/api/v1\"", "\"https://on"] {
            assert_eq!(rewritten(body), None, "{body}");
        }
    }

    #[test]
    fn rewrites_links_with_the_default_port() {
        let allowed = AllowedApiHosts::new(vec!["superoffice.com".to_owned()]).unwrap();
        let tenant: TenantName = "applications/crm/tenants/Cust12345".parse().unwrap();
        let uri = "https://sod2.superoffice.com:443/Cust12345/api";
        let uri = WebApiUri::check_api(uri, tenant.tenant, &allowed).unwrap();
        let links = LinkRewriter::new("https://gw.example.com", &tenant, &uri);
        let theirs = "https://sod2.superoffice.com:443/Cust12345/api";
        // The gateway would reject the empty path segment of the first link, so that link stays unchanged.
        let body = |metadata: &str, next: &str| {
            format!(
                r#"{{"odata.metadata":"{metadata}/v1/Archive//$metadata","odata.nextLink":"{next}/v1/Contact?$skip=10"}}"#
            )
        };
        let ours = "https://gw.example.com/crm/Cust12345/api";
        for (theirs, ours) in [
            (theirs.to_owned(), ours.to_owned()),
            (theirs.replace("sod2", "SOD2"), ours.to_owned()),
            (theirs.replace(":443", ""), ours.to_owned()),
            (theirs.replace('/', "\\/"), ours.replace('/', "\\/")),
        ] {
            let (theirs, ours) = (body(&theirs, &theirs), body(&theirs, &ours));
            assert_eq!(links.rewrite_json(theirs.as_bytes()), Some(ours.into_bytes()), "{theirs}");
        }
        for elsewhere in [":444/Cust12345/api", ":443/Cust1234/api", ":443x/Cust12345/api"] {
            let there = format!("https://sod2.superoffice.com{elsewhere}");
            let there = body(&there, &there);
            assert_eq!(links.rewrite_json(there.as_bytes()), None, "{there}");
        }
    }
}
