//! The hosts that are reached without the outbound proxy, like `no_proxy` of curl, Go and Python.

use std::net::IpAddr;

/// The possible forms of an entry.
const FORM: &str = "must be \"*\", a host name such as \"example.com\" (with its sub-domains), \".example.com\" (only its \
     sub-domains), an IP address or a network such as \"10.0.0.0/8\"; append \":443\" to limit it to that port";

/// The list of hosts that are reached directly.
///
/// Names are compared as text and never resolved, so a network such as `10.0.0.0/8` matches only addresses in a URI.
/// Loopback addresses and `localhost` are always reached directly, as in Go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// The domain and its sub-domains.
    Domain(String),
    /// Only the sub-domains; begins with a dot.
    SubDomains(String),
    Network(IpAddr, u8),
}

/// An entry has none of the known forms. The message lists the forms and does not contain the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{FORM}")]
pub struct InvalidNoProxy;

impl NoProxy {
    /// Adds an entry.
    ///
    /// # Errors
    /// Returns an error if the entry has none of the known forms.
    pub fn add(&mut self, entry: &str) -> Result<(), InvalidNoProxy> {
        self.0.push(parse(entry.trim()).ok_or(InvalidNoProxy)?);
        Ok(())
    }

    /// Returns whether the host is reached directly. `host` is the host of a URI; an IPv6 address may be in brackets.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = address(&host);
        if is_local(&host, address) {
            return true;
        }
        let of_port = |entry: &&Entry| entry.port.is_none_or(|wanted| wanted == port);
        self.0.iter().filter(of_port).any(|entry| entry.hosts.contain(&host, address))
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Hosts {
    fn contain(&self, host: &str, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::All, _) => true,
            (Self::Network(network, bits), Some(address)) => is_in(address, *network, *bits),
            (Self::Domain(domain), None) => {
                let rest = host.strip_suffix(domain.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Self::SubDomains(suffix), None) => host.len() > suffix.len() && host.ends_with(suffix),
            _ => false,
        }
    }
}

/// Returns whether a host is this machine. A proxy on another machine would connect to itself.
fn is_local(host: &str, address: Option<IpAddr>) -> bool {
    let name = host == "localhost" || host.ends_with(".localhost");
    name || address.is_some_and(|address| address.is_loopback())
}

/// Returns the address of a host that is an IP address. An IPv4-mapped address becomes an IPv4 address.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn is_in(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differing = address.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(bits)
        }
        _ => false,
    }
}

fn parse(entry: &str) -> Option<Entry> {
    if let Some((network, bits)) = entry.split_once('/') {
        let network: IpAddr = network.parse().ok()?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let bits = bits.parse().ok().filter(|bits| *bits <= most)?;
        return Some(Entry { hosts: Hosts::Network(network, bits), port: None });
    }
    // An IPv6 address contains colons; with a port it must be in brackets.
    if let Some(address) = address(entry) {
        return Some(Entry { hosts: single_address(address), port: None });
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0)?)),
        None => (entry, None),
    };
    Some(Entry { hosts: hosts(host)?, port })
}

fn single_address(address: IpAddr) -> Hosts {
    Hosts::Network(address, if address.is_ipv4() { 32 } else { 128 })
}

fn hosts(host: &str) -> Option<Hosts> {
    if host == "*" {
        return Some(Hosts::All);
    }
    if let Some(address) = address(host) {
        return Some(single_address(address));
    }
    let name = host.strip_prefix('*').unwrap_or(host);
    // A star replaces whole labels only.
    if name.len() < host.len() && !name.starts_with('.') {
        return None;
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let bare = name.strip_prefix('.').unwrap_or(&name);
    let legal = bare.bytes().all(letters) && bare.split('.').all(|label| !label.is_empty());
    match (legal, name.starts_with('.')) {
        (false, _) => None,
        (true, true) => Some(Hosts::SubDomains(name)),
        (true, false) => Some(Hosts::Domain(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(entry: &str, host: &str, port: u16) -> bool {
        let mut list = NoProxy::default();
        list.add(entry).unwrap_or_else(|_| panic!("{entry} is refused"));
        list.matches(host, port)
    }

    #[test]
    fn rejects_malformed_entries() {
        for entry in [
            "",
            " ",
            ".",
            "a..b",
            "exa mple.com",
            "*example.com",
            "a.*.com",
            "example.com:",
            "example.com:x",
            "example.com:0",
            "example.com:65536",
            "https://example.com",
            "example.com/path",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0/8",
            "fd00::/129",
            "[::1",
            "user@example.com",
        ] {
            assert_eq!(NoProxy::default().add(entry), Err(InvalidNoProxy), "{entry}");
        }
    }

    #[test]
    fn names_match_whole_labels_and_are_not_resolved() {
        for (entry, host, port) in [
            ("example.com", "example.com", 443),
            ("example.com", "a.example.com", 443),
            ("Example.COM", "A.EXAMPLE.com", 443),
            ("example.com.", "example.com", 443),
            ("example.com", "example.com.", 443),
            (".internal", "a.b.internal", 443),
            ("*.internal", "a.internal", 443),
            ("example.com:8443", "example.com", 8443),
            ("*", "example.com", 443),
            ("*:8443", "example.com", 8443),
            ("kubernetes", "kubernetes", 443),
        ] {
            assert!(matches(entry, host, port), "{entry} {host}:{port}");
        }
        for (entry, host, port) in [
            ("example.com", "badexample.com", 443),
            ("example.com", "example.com.evil.example", 443),
            (".internal", "internal", 443),
            (".internal", "notinternal", 443),
            ("example.com:8443", "example.com", 443),
            ("*:8443", "example.com", 443),
            ("10.0.0.0/8", "ten.example", 443),
            ("example.com", "10.0.0.1", 443),
        ] {
            assert!(!matches(entry, host, port), "{entry} {host}:{port}");
        }
    }

    #[test]
    fn networks_match_addresses_in_every_spelling() {
        for (entry, host) in [
            ("10.0.0.0/8", "10.255.1.2"),
            ("10.1.2.3/8", "10.0.0.1"),
            ("10.0.0.0/8", "[::ffff:10.1.2.3]"),
            ("0.0.0.0/0", "8.8.8.8"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:443", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("fd00::/8", "[fd12::1]"),
            ("fd12::1", "[fd12:0:0::1]"),
            ("[fd12::1]", "fd12::1"),
            ("[fd12::1]:443", "[fd12::1]"),
        ] {
            assert!(matches(entry, host, 443), "{entry} {host}");
        }
        for (entry, host) in [
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/32", "10.0.0.1"),
            ("0.0.0.0/0", "[fd12::1]"),
            ("::/0", "8.8.8.8"),
            ("[fd12::1]:8443", "[fd12::1]"),
        ] {
            assert!(!matches(entry, host, 443), "{entry} {host}");
        }
    }

    #[test]
    fn loopback_is_always_reached_directly() {
        let none = NoProxy::default();
        for host in ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(none.matches(host, 443), "{host}");
        }
        for host in ["example.com", "10.0.0.1", "localhost.example.com"] {
            assert!(!none.matches(host, 443), "{host}");
        }
    }
}
