//! Blocks of addresses that are not the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) fn within_v4(address: Ipv4Addr, base: Ipv4Addr, prefix_bits: u8) -> bool {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix_bits))
        .unwrap_or(0);
    address.to_bits() & mask == base.to_bits() & mask
}

pub(super) fn within_v6(address: Ipv6Addr, base: Ipv6Addr, prefix_bits: u8) -> bool {
    let mask = u128::MAX
        .checked_shl(128 - u32::from(prefix_bits))
        .unwrap_or(0);
    address.to_bits() & mask == base.to_bits() & mask
}

/// The IPv4 address really reached, for the IPv6 spellings that carry one (mapped, NAT64).
pub(super) fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
    if within_v6(v6, nat64, 96) {
        let [.., a, b, c, d] = v6.octets();
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    address
}

/// The IPv4 blocks of the IANA special-purpose registry that are not the public internet.
const SPECIAL_V4: [(Ipv4Addr, u8, &str); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8, "an unspecified address"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (
        Ipv4Addr::new(100, 64, 0, 0),
        10,
        "a carrier-grade NAT address",
    ),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "a special address"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "a documentation address"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay address"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "a benchmarking address"),
    (
        Ipv4Addr::new(198, 51, 100, 0),
        24,
        "a documentation address",
    ),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "a documentation address"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved address"),
];

/// Blocks inside `2000::/3` (global unicast) that are special all the same.
const SPECIAL_V6: [(Ipv6Addr, u8, &str); 4] = [
    (
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
        23,
        "a protocol-assignment address",
    ),
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        32,
        "a documentation address",
    ),
    (
        Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0),
        16,
        "a 6to4 address",
    ),
    (
        Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0),
        20,
        "a documentation address",
    ),
];

pub(super) fn special_range(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => SPECIAL_V4
            .iter()
            .find(|(base, bits, _)| within_v4(v4, *base, *bits))
            .map(|(_, _, range)| *range),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some("a loopback address"),
        IpAddr::V6(v6) => {
            let global_unicast = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0);
            if !within_v6(v6, global_unicast, 3) {
                return Some("not a public address");
            }
            SPECIAL_V6
                .iter()
                .find(|(base, bits, _)| within_v6(v6, *base, *bits))
                .map(|(_, _, range)| *range)
        }
    }
}
