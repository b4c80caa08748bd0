//! Where callers are, as far as an address tells.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv6 host has a whole network of this length to choose its address from (RFC 6177).
const IPV6_SITE_BITS: u32 = 64;

/// What stands for everybody who can call from this address.
#[must_use]
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(host) => host.into(),
        IpAddr::V6(host) => {
            Ipv6Addr::from_bits(host.to_bits() >> IPV6_SITE_BITS << IPV6_SITE_BITS).into()
        }
    }
}
