//! Detection of public addresses, by the IANA registries of special-purpose addresses (RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not public, or that host services which are never an upstream, such as AS112. All addresses
/// from 224.0.0.0 on are multicast or reserved.
const SPECIAL_V4: [(Ipv4Addr, u32); 18] = [
    (Ipv4Addr::UNSPECIFIED, 8),           // this network (RFC 791)
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private use (RFC 1918)
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared address space (RFC 6598)
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback (RFC 1122)
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local (RFC 3927)
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private use (RFC 1918)
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments (RFC 6890)
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation (RFC 5737)
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112 (RFC 7535)
    (Ipv4Addr::new(192, 52, 193, 0), 24), // automatic multicast tunneling (RFC 7450)
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays, deprecated (RFC 7526)
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private use (RFC 1918)
    (Ipv4Addr::new(192, 175, 48, 0), 24), // AS112 (RFC 7534)
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking (RFC 2544)
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation (RFC 5737)
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation (RFC 5737)
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast (RFC 5771)
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved (RFC 1112), limited broadcast
];

/// Global unicast (RFC 4291). All public addresses are inside it. Outside are: unspecified, loopback, IPv4-compatible,
/// discard-only, segment routing, unique local, link-local, site-local, multicast.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Networks inside it that are not public. Tunnels are included, because they may carry a private IPv4 address.
const SPECIAL_V6: [(Ipv6Addr, u32); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments: Teredo, ORCHID, benchmarking …
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation (RFC 3849)
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4 (RFC 3056)
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112 (RFC 7534)
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation (RFC 9637)
];

/// The well-known NAT64 prefix, which leads only to public IPv4 addresses (RFC 6052 section 3.1).
const WELL_KNOWN_NAT64: Nat64Prefix =
    Nat64Prefix { network: Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), bits: 96 };

/// The prefix with which a network's NAT64 reaches IPv4 addresses (RFC 6052).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat64Prefix {
    network: Ipv6Addr,
    bits: u32,
}

/// The text is not a NAT64 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits, such as \"2001:db8:64::/96\", with zeros behind its length \
     (RFC 6052)"
)]
pub struct InvalidNat64Prefix;

impl std::str::FromStr for Nat64Prefix {
    type Err = InvalidNat64Prefix;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (network, bits) = text.split_once('/').ok_or(InvalidNat64Prefix)?;
        let network: Ipv6Addr = network.parse().map_err(|_| InvalidNat64Prefix)?;
        let bits = bits.parse().map_err(|_| InvalidNat64Prefix)?;
        let known = matches!(bits, 32 | 40 | 48 | 56 | 64 | 96);
        if !known || network.to_bits().trailing_zeros() < 128 - bits {
            return Err(InvalidNat64Prefix);
        }
        Ok(Self { network, bits })
    }
}

impl Nat64Prefix {
    /// Returns the IPv4 address that NAT64 uses for an address with this prefix.
    #[must_use]
    pub fn embedded(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if !is_in_v6(address, (self.network, self.bits)) {
            return None;
        }
        // Bits 64 to 71 are skipped (RFC 6052 section 2.2).
        let octets = address.octets();
        let first = usize::try_from(self.bits / 8).ok()?;
        let behind = octets.iter().enumerate().skip(first).filter(|(index, _)| *index != 8);
        let mut embedded = behind.map(|(_, octet)| *octet);
        let mut next = || embedded.next();
        Some(Ipv4Addr::new(next()?, next()?, next()?, next()?))
    }
}

/// Returns whether an address is public. An IPv4 address behind NAT64 is checked as IPv4 address. `nat64` holds the
/// network's own prefixes in addition to the well-known one.
#[must_use]
pub fn is_public_address(address: IpAddr, nat64: &[Nat64Prefix]) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let mut prefixes = nat64.iter().chain([&WELL_KNOWN_NAT64]);
            match prefixes.find_map(|prefix| prefix.embedded(address)) {
                Some(embedded) => is_public_v4(embedded),
                None => is_public_v6(address),
            }
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4
        .iter()
        .any(|(network, bits)| (address.to_bits() ^ network.to_bits()).leading_zeros() >= *bits)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let special = SPECIAL_V6.iter().any(|network| is_in_v6(address, *network));
    is_in_v6(address, GLOBAL_V6) && !special
}

fn is_in_v6(address: Ipv6Addr, (network, bits): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The IANA registries in another form: first and last address of each network that is not global or has a special
    /// purpose.
    const REGISTRY_V4: [(&str, &str); 18] = [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.31.196.0", "192.31.196.255"),
        ("192.52.193.0", "192.52.193.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("192.175.48.0", "192.175.48.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "239.255.255.255"),
        ("240.0.0.0", "255.255.255.255"),
    ];
    const REGISTRY_V6: [(&str, &str); 20] = [
        ("::", "::1"),
        ("::", "::ffff:ffff"), // IPv4-compatible (RFC 4291 section 2.5.5.1)
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
        ("100::", "100::ffff:ffff:ffff:ffff"),
        ("100:0:0:1::", "100::1:ffff:ffff:ffff:ffff"),
        ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:1::1", "2001:1::3"),
        ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"),
        ("2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff"),
        ("2001:10::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];

    fn v4(text: &str) -> u32 {
        text.parse::<Ipv4Addr>().unwrap().to_bits()
    }

    fn v6(text: &str) -> u128 {
        text.parse::<Ipv6Addr>().unwrap().to_bits()
    }

    fn public(address: impl Into<IpAddr>) -> bool {
        is_public_address(address.into(), &[])
    }

    fn is_registered_v4(bits: u32) -> bool {
        REGISTRY_V4.iter().any(|(first, last)| (v4(first)..=v4(last)).contains(&bits))
    }

    /// Returns all IPv6 forms that lead to an IPv4 address.
    fn in_v6(address: Ipv4Addr) -> [Ipv6Addr; 2] {
        let bits = u128::from(address.to_bits());
        [address.to_ipv6_mapped(), Ipv6Addr::from_bits(v6("64:ff9b::") | bits)]
    }

    #[test]
    fn first_and_last_addresses_of_special_networks_are_not_public() {
        for (first, last) in REGISTRY_V4 {
            for bits in [v4(first), v4(last)] {
                let address = Ipv4Addr::from_bits(bits);
                assert!(!public(address), "{address}");
                for form in in_v6(address) {
                    assert!(!public(form), "{form}");
                }
            }
        }
        for (first, last) in REGISTRY_V6 {
            for text in [first, last] {
                assert!(!public(text.parse::<Ipv6Addr>().unwrap()), "{text}");
            }
        }
    }

    #[test]
    fn neighbours_of_special_networks_are_public() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "2003::1",
            "2603:1020::1",
            "3ffe:ffff::1",
            "3fff:1000::",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            assert!(public(text.parse::<IpAddr>().unwrap()), "{text}");
        }
        for text in ["1fff:ffff::1", "4000::1", "64:ff9b::1:0:808:808", "64:ff9b:0:1::808:808"] {
            assert!(!public(text.parse::<IpAddr>().unwrap()), "{text}");
        }
    }

    #[test]
    fn rejects_malformed_nat64_prefixes() {
        for text in
            ["", "64:ff9b::", "10.0.0.0/8", "fd00::/95", "fd00::/128", "fd00::1/96", "fd00::/x"]
        {
            assert_eq!(text.parse::<Nat64Prefix>(), Err(InvalidNat64Prefix), "{text}");
        }
    }

    /// The examples of RFC 6052 section 2.4.
    #[test]
    fn checks_the_ipv4_address_behind_a_nat64_prefix() {
        for (prefix, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100:0"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ] {
            let prefix: Nat64Prefix = prefix.parse().unwrap();
            let embedded = prefix.embedded(address.parse().unwrap());
            assert_eq!(embedded, Some(Ipv4Addr::new(192, 0, 2, 33)), "{address}");
        }
        let own: Nat64Prefix = "fd00:64::/96".parse().unwrap();
        let behind = |text: &str| is_public_address(text.parse().unwrap(), &[own]);
        assert!(behind("fd00:64::8.8.8.8"));
        assert!(behind("64:ff9b::8.8.8.8"));
        for text in
            ["fd00:64::10.0.0.1", "fd00:64::127.0.0.1", "fd00:64::169.254.169.254", "fd00::1"]
        {
            assert!(!behind(text), "{text}");
        }
        // A private address is also found behind a prefix of global addresses.
        let own: Nat64Prefix = "2a00:64::/96".parse().unwrap();
        assert!(!is_public_address("2a00:64::10.0.0.1".parse().unwrap(), &[own]));
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_public_unless_a_registry_lists_it(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(public(address), !is_registered_v4(bits));
            for form in in_v6(address) {
                prop_assert_eq!(public(form), public(address), "{}", form);
            }
        }

        #[test]
        fn no_ipv4_address_of_a_special_network_is_public(index in 0..REGISTRY_V4.len(), part: u32) {
            let (first, last) = REGISTRY_V4[index];
            let (first, last) = (v4(first), v4(last));
            let offset = u64::from(part) % (u64::from(last - first) + 1);
            let address = Ipv4Addr::from_bits(first + u32::try_from(offset).unwrap());
            prop_assert!(!public(address));
            for form in in_v6(address) {
                prop_assert!(!public(form), "{}", form);
            }
        }

        #[test]
        fn no_ipv6_address_of_a_special_network_is_public(index in 0..REGISTRY_V6.len(), part: u128) {
            let (first, last) = REGISTRY_V6[index];
            let size = v6(last) - v6(first);
            let offset = size.checked_add(1).map_or(part, |count| part % count);
            let address = Ipv6Addr::from_bits(v6(first) + offset);
            prop_assert!(!public(address), "{}", address);
        }

        #[test]
        fn a_public_ipv6_address_is_global_unicast_or_embeds_a_public_ipv4_address(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            if public(address) {
                let registered = REGISTRY_V6.iter().any(|(first, last)| (v6(first)..=v6(last)).contains(&bits));
                prop_assert!(!registered);
                prop_assert!(address.segments()[0] >> 13 == 1 || address.to_ipv4_mapped().is_some() || bits >> 32 == v6("64:ff9b::") >> 32);
            }
        }
    }
}
