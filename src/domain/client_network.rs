//! The network of a client, by its address.

use std::net::{IpAddr, Ipv6Addr};

/// Prefix length of the network from which an IPv6 host can choose its addresses (RFC 6177).
const IPV6_SITE_BITS: u32 = 64;

/// Returns an address that stands for the client's network: an IPv4 address itself, or the network of an IPv6 address.
/// Clients are counted by it, because one client can use all addresses of its network.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(host) => host.into(),
        IpAddr::V6(host) => {
            Ipv6Addr::from_bits(host.to_bits() >> IPV6_SITE_BITS << IPV6_SITE_BITS).into()
        }
    }
}
