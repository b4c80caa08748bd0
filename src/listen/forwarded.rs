//! The client's address of a request behind HTTP proxies, which name it in headers.
//!
//! Each proxy appends the address of its own peer, so the list is read from the end. An entry counts while the proxy
//! that wrote it is trusted. The first address that is not a trusted proxy's is the client's. Earlier entries were sent
//! by that client and prove nothing.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};

use crate::domain::TrustedProxies;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies in front of a listener, and whether they send headers of the PROXY protocol.
#[derive(Debug, Clone, Default)]
pub struct FrontProxies {
    /// The networks of the proxies.
    pub trusted: TrustedProxies,
    /// Whether each of their connections begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// `X-Forwarded-For` and `Forwarded` name different clients. A proxy writes one of them and forwards the other
/// unchanged from its client. That one is forged, and the gateway cannot know which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "X-Forwarded-For and Forwarded name different clients: configure the proxy to remove the header that it does not set"
)]
pub struct ConflictingForwardedHeaders;

/// Returns the client's address of a request on a connection from `peer`: `peer`, unless it is a trusted proxy.
///
/// # Errors
/// If the headers of a trusted proxy contradict each other.
pub fn client_address(
    trusted: &TrustedProxies,
    peer: IpAddr,
    headers: &HeaderMap,
) -> Result<IpAddr, ConflictingForwardedHeaders> {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return Ok(peer);
    }
    let (plain, standard) = (values(headers, &X_FORWARDED_FOR), values(headers, &FORWARDED));
    let by_plain =
        || last_untrusted(trusted, peer, plain.iter().rev().copied().flat_map(plain_hops));
    let by_standard =
        || last_untrusted(trusted, peer, standard.iter().rev().copied().flat_map(standard_hops));
    match (plain.is_empty(), standard.is_empty()) {
        (true, true) => Ok(peer),
        (false, true) => Ok(by_plain()),
        (true, false) => Ok(by_standard()),
        (false, false) => {
            let client = by_plain();
            if client == by_standard() { Ok(client) } else { Err(ConflictingForwardedHeaders) }
        }
    }
}

/// Follows the hops from the last one back, up to an entry that is not an address. Returns the last known address.
fn last_untrusted(
    trusted: &TrustedProxies,
    peer: IpAddr,
    hops: impl Iterator<Item = Option<IpAddr>>,
) -> IpAddr {
    let mut client = peer;
    for hop in hops {
        let Some(hop) = hop.filter(|_| trusted.contains(client)) else { break };
        client = hop;
    }
    client
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a HeaderValue> {
    headers.get_all(name).iter().collect()
}

/// Returns the addresses in a line of `X-Forwarded-For`, the last one first.
fn plain_hops(value: &HeaderValue) -> Vec<Option<IpAddr>> {
    let Ok(text) = value.to_str() else { return vec![None] };
    text.rsplit(',').map(|hop| node_address(hop.trim_matches([' ', '\t']))).collect()
}

/// Returns the addresses in a line of `Forwarded` (RFC 7239 section 4), the last one first. A malformed line holds
/// none: with one quote missing, every entry would be ambiguous.
fn standard_hops(value: &HeaderValue) -> Vec<Option<IpAddr>> {
    let hops = value.to_str().ok().and_then(|text| Elements { rest: text }.read());
    hops.map_or_else(
        || vec![None],
        |mut hops| {
            hops.reverse();
            hops
        },
    )
}

/// Reads `IPv4`, `IPv4:port`, `IPv6`, `[IPv6]` and `[IPv6]:port`.
fn node_address(text: &str) -> Option<IpAddr> {
    let is_port = |port: &str| {
        (1..=5).contains(&port.len()) && port.bytes().all(|digit| digit.is_ascii_digit())
    };
    let address: IpAddr = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
            return None;
        }
        IpAddr::V6(address.parse().ok()?)
    } else if let Ok(address) = text.parse() {
        address
    } else {
        let (address, _) = text.split_once(':').filter(|(_, port)| is_port(port))?;
        IpAddr::V4(address.parse().ok()?)
    };
    Some(address.to_canonical())
}

/// A parser of a line of `Forwarded`. It reads from the beginning because of the quotes.
struct Elements<'a> {
    rest: &'a str,
}

impl<'a> Elements<'a> {
    /// Returns the address in each element. `None` if the line does not follow the grammar.
    fn read(mut self) -> Option<Vec<Option<IpAddr>>> {
        let mut hops = Vec::new();
        loop {
            hops.push(self.element()?);
            self.skip_spaces();
            if self.rest.is_empty() {
                return Some(hops);
            }
            self.expect(',')?;
        }
    }

    /// Reads `name=value;name=value`, and returns the address that `for` names.
    #[expect(
        clippy::option_option,
        reason = "outside: the grammar; inside: whether it is an address"
    )]
    fn element(&mut self) -> Option<Option<IpAddr>> {
        let (mut hop, mut named) = (None, false);
        loop {
            self.skip_spaces();
            let name = self.token()?;
            self.expect('=')?;
            let value =
                if self.rest.starts_with('"') { self.quoted()? } else { self.token()?.to_owned() };
            if name.eq_ignore_ascii_case("for") {
                // Each parameter occurs once (section 4).
                if named {
                    return None;
                }
                (hop, named) = (node_address(&value), true);
            }
            self.skip_spaces();
            match self.rest.strip_prefix(';') {
                Some(rest) => self.rest = rest,
                None => return Some(hop),
            }
        }
    }

    /// Reads a token (RFC 9110 section 5.6.2). Also accepts colons and brackets: some proxies do not quote addresses.
    fn token(&mut self) -> Option<&'a str> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:[]".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// Reads a quoted string (RFC 9110 section 5.6.4).
    fn quoted(&mut self) -> Option<String> {
        self.expect('"')?;
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => text.push(chars.next()?),
                other => text.push(other),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(wanted)?;
        Some(())
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn trusted() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "fd00::/8"];
        TrustedProxies::new(networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn client(peer: &str, headers: &[(&str, &str)]) -> Result<String, ConflictingForwardedHeaders> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client_address(&trusted(), peer.parse().unwrap(), &map).map(|client| client.to_string())
    }

    #[track_caller]
    fn assert_client(headers: &[(&str, &str)], wanted: &str) {
        assert_eq!(client(PROXY, headers), Ok(wanted.to_owned()), "{headers:?}");
    }

    #[test]
    fn ignores_headers_from_an_untrusted_peer() {
        for headers in [
            &[("x-forwarded-for", "192.0.2.7")][..],
            &[("forwarded", "for=192.0.2.7")],
            &[("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.8")],
            &[("x-forwarded-for", "10.0.0.1")],
            &[("x-real-ip", "192.0.2.7")],
        ] {
            for peer in ["203.0.113.9", "::ffff:203.0.113.9"] {
                assert_eq!(client(peer, headers), Ok("203.0.113.9".to_owned()));
            }
        }
    }

    #[test]
    fn ignores_entries_before_the_one_that_the_proxy_appended() {
        for (header, wanted) in [
            ("192.0.2.7", "192.0.2.7"),
            ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
            ("10.0.0.9, 192.0.2.7", "192.0.2.7"),
            ("6.6.6.6, 192.0.2.7, 10.0.0.3, 10.0.0.2", "192.0.2.7"),
            ("nonsense,, 192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            // All entries are proxies: the first known address counts.
            ("10.0.0.4, 10.0.0.3", "10.0.0.4"),
        ] {
            assert_client(&[("x-forwarded-for", header)], wanted);
        }
        for (header, wanted) in [
            ("for=192.0.2.7", "192.0.2.7"),
            ("For=\"192.0.2.7:4711\"", "192.0.2.7"),
            ("for=6.6.6.6, for=192.0.2.7;proto=https;by=10.0.0.1", "192.0.2.7"),
            ("for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=\"[2001:db8::7]\" ; host=\"a,b;c\"", "2001:db8::7"),
            ("host=\"x\\\", for=6.6.6.6\";for=192.0.2.7", "192.0.2.7"),
            ("for=6.6.6.6, for=192.0.2.7, for=10.0.0.2", "192.0.2.7"),
        ] {
            assert_client(&[("forwarded", header)], wanted);
        }
    }

    #[test]
    fn an_invalid_entry_makes_the_last_known_proxy_the_client() {
        for (header, wanted) in [
            ("", PROXY),
            (",", PROXY),
            ("unknown", PROXY),
            ("192.0.2.7, unknown", PROXY),
            ("192.0.2.7, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.7, 10.0.0.2,", PROXY),
            ("192.0.2.7 192.0.2.8", PROXY),
            ("\"192.0.2.7\"", PROXY),
            ("192.0.2.7:", PROXY),
            ("192.0.2.7:123456", PROXY),
            ("192.0.2.07", PROXY),
            ("0xC0000207", PROXY),
            ("192.0.2.7/32", PROXY),
            ("fe80::1%eth0", PROXY),
            ("[192.0.2.7]", PROXY),
            ("[2001:db8::7", PROXY),
            ("client.example", PROXY),
            ("192.0.2.7\u{a0}", PROXY),
        ] {
            assert_client(&[("x-forwarded-for", header)], wanted);
        }
        for header in [
            "",
            "for=unknown",
            "for=_hidden",
            "for=\"_secret:80\"",
            "by=10.0.0.1",
            "for=",
            "for",
            "192.0.2.7",
            "for=\"192.0.2.7",
            "for=\"x, for=192.0.2.7",
            "for=6.6.6.6;for=192.0.2.7",
            "for=192.0.2.7,",
            "for=192.0.2.7;",
            "for = 192.0.2.7",
            "for=a;x=\", for=\"192.0.2.7\"",
        ] {
            assert_client(&[("forwarded", header)], PROXY);
        }
    }

    #[test]
    fn joins_repeated_headers_to_one_list() {
        let (plain, standard) = ("x-forwarded-for", "forwarded");
        assert_client(&[(plain, "6.6.6.6"), (plain, "192.0.2.7")], "192.0.2.7");
        assert_client(&[(plain, "6.6.6.6, 192.0.2.7"), (plain, "10.0.0.2")], "192.0.2.7");
        assert_client(&[(standard, "for=\"x"), (standard, "for=192.0.2.7")], "192.0.2.7");
    }

    #[test]
    fn rejects_contradicting_headers() {
        let (plain, standard) = ("x-forwarded-for", "forwarded");
        let both = |a, b| client(PROXY, &[(plain, a), (standard, b)]);
        assert_eq!(both("192.0.2.7", "for=192.0.2.7"), Ok("192.0.2.7".to_owned()));
        assert_eq!(both("6.6.6.6, 192.0.2.7", "for=\"192.0.2.7:1\""), Ok("192.0.2.7".to_owned()));
        assert_eq!(both("192.0.2.7", "for=192.0.2.8"), Err(ConflictingForwardedHeaders));
        assert_eq!(both("192.0.2.7", "for=unknown"), Err(ConflictingForwardedHeaders));
    }

    proptest! {
        /// The address that the proxy appends counts, whatever the client sent before it.
        #[test]
        fn a_client_cannot_forge_its_address(forged in "[ -~]{0,40}") {
            let header = format!("{forged}, 192.0.2.7");
            assert_client(&[("x-forwarded-for", &header)], "192.0.2.7");
            for appended in ["for=192.0.2.7", "for=\"192.0.2.7\"", "for=\"192.0.2.7:80\";proto=http"] {
                let header = format!("{forged}, {appended}");
                let found = client(PROXY, &[("forwarded", &header)]).unwrap();
                prop_assert!(found == "192.0.2.7" || found == PROXY, "{} for {}", found, header);
            }
        }
    }
}
