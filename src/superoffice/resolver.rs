//! Name resolution that refuses addresses of our own network (DESIGN rule 6.6): a name that SuperOffice would
//! never use, or a poisoned one, must not lead a credential to a neighbour.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::outbound::Unresolved;

/// Resolves with the system, and keeps public addresses only.
#[derive(Debug, Clone, Copy)]
pub(super) struct PublicAddresses {
    pub(super) allow_loopback: bool,
}

impl PublicAddresses {
    /// Returns the addresses of a host, without those of our own network.
    pub(super) async fn addresses(self, host: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        let found = tokio::net::lookup_host((host, 0)).await;
        let found = found.map_err(|_| Unresolved::Unknown)?;
        let allowed = |a: &SocketAddr| {
            is_public(a.ip()) || (self.allow_loopback && a.ip().to_canonical().is_loopback())
        };
        let usable: Vec<SocketAddr> = found.filter(allowed).collect();
        if usable.is_empty() { Err(Unresolved::NotPublic) } else { Ok(usable) }
    }
}

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = *self;
        Box::pin(async move {
            let usable = resolver.addresses(name.as_str()).await?;
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || (a == 100 && (64..128).contains(&b)) // shared address space, RFC 6598
        || (a == 198 && (18..20).contains(&b)) // benchmarking, RFC 2544
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3 (RFC 4291). 6to4, NAT64 and Teredo could carry a private v4 address inside.
    let [first, second, ..] = address.segments();
    let global = (0x2000..0x4000).contains(&first);
    let tunnel = first == 0x2002 || (first == 0x2001 && second == 0);
    let documentation = first == 0x2001 && second == 0xdb8;
    global && !tunnel && !documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_our_own_network_are_refused() {
        for text in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["20.50.2.1", "2603:1020::1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
