//! The proxies in front of a listener whose statements about client addresses are trusted.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

/// A network of IP addresses, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNetwork {
    first: IpAddr,
    prefix: u8,
}

/// The reason why a text is not a network of proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpNetworkError {
    /// It is not an address with a prefix length.
    #[error(
        "expected a network such as \"10.0.0.0/8\" or \"fd00::/8\", or one address such as \"192.0.2.7\"; host names \
         are not networks"
    )]
    Form,
    /// The prefix length exceeds that of an address.
    #[error(
        "the prefix is too long: an IPv4 network has at most /32, an IPv6 network at most /128"
    )]
    Prefix,
    /// The address is not the first address of the network.
    #[error("the address has bits set after the prefix; the network is {0}")]
    HostBits(IpNetwork),
    /// Every address would be trusted.
    #[error(
        "/0 contains every address, so that any client could forge its address; list the networks of your proxies"
    )]
    AllAddresses,
    /// It is an IPv4-mapped IPv6 address.
    #[error("write an IPv4 network in IPv4 form, without ::ffff:")]
    Mapped,
}

impl IpNetwork {
    /// Returns whether the network contains an address. An IPv4-mapped IPv6 address is treated as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        first(address.to_canonical(), self.prefix) == Some(self.first)
    }
}

/// Returns the first address of the network with this prefix length that contains an address. Returns `None` if it is
/// too long.
fn first(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(u32::BITS.checked_sub(prefix)?).unwrap_or(0);
            Some(IpAddr::V4((address.to_bits() & mask).into()))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(u128::BITS.checked_sub(prefix)?).unwrap_or(0);
            Some(IpAddr::V6((address.to_bits() & mask).into()))
        }
    }
}

impl FromStr for IpNetwork {
    type Err = IpNetworkError;

    fn from_str(text: &str) -> Result<Self, IpNetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| IpNetworkError::Form)?;
        if address.to_canonical() != address {
            return Err(IpNetworkError::Mapped);
        }
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(IpNetworkError::Form);
            }
            Some(digits) => digits.parse().map_err(|_| IpNetworkError::Prefix)?,
        };
        let first = first(address, prefix).ok_or(IpNetworkError::Prefix)?;
        let network = Self { first, prefix };
        if prefix == 0 {
            return Err(IpNetworkError::AllAddresses);
        }
        if first == address { Ok(network) } else { Err(IpNetworkError::HostBits(network)) }
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The trusted proxies in front of a listener. Empty by default: no proxy is trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNetwork]>);

impl TrustedProxies {
    /// Trusts the proxies in these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNetwork>) -> Self {
        Self(networks.into())
    }

    /// Returns whether no proxy is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a proxy at this address is trusted.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn rejects_malformed_networks_with_a_correction() {
        use IpNetworkError::{AllAddresses, Form, HostBits, Mapped, Prefix};
        for (text, problem) in [
            ("", Form),
            ("10.0.0.0/", Form),
            ("10.0.0.0/+8", Form),
            ("10.0.0.0/8/8", Form),
            ("10.0.0.0 /8", Form),
            ("10.0.0/8", Form),
            ("ingress.example", Form),
            ("10.0.0.0/255.0.0.0", Form),
            ("10.0.0.0:80", Form),
            ("[::1]/128", Form),
            ("fe80::1%eth0", Form),
            ("10.0.0.0/33", Prefix),
            ("fd00::/129", Prefix),
            ("10.0.0.0/999", Prefix),
            ("10.0.0.1/8", HostBits(network("10.0.0.0/8"))),
            ("fd00::1/8", HostBits(network("fd00::/8"))),
            ("0.0.0.0/0", AllAddresses),
            ("::/0", AllAddresses),
            ("::ffff:10.0.0.0/104", Mapped),
            ("::ffff:10.0.0.1", Mapped),
        ] {
            assert_eq!(text.parse::<IpNetwork>(), Err(problem), "{text:?}");
        }
        assert_eq!(
            "10.1.2.3/8".parse::<IpNetwork>().unwrap_err().to_string(),
            "the address has bits set after the prefix; the network is 10.0.0.0/8"
        );
    }

    #[test]
    fn a_network_contains_exactly_its_addresses() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/31", "192.0.2.1", "192.0.2.2"),
            ("128.0.0.0/1", "255.255.255.255", "127.255.255.255"),
            ("fd00::/8", "fdff::1", "fc00::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
        ] {
            let trusted = TrustedProxies::new(vec![network("192.168.0.0/16"), network(text)]);
            assert!(trusted.contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!trusted.contains(outside.parse().unwrap()), "{outside} in {text}");
        }
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().unwrap()));
        assert_eq!(network("192.0.2.7").to_string(), "192.0.2.7/32");
    }
}
