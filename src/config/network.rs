//! Addresses that may come in: one, or all of a network.
//!
//! What a stranger gets wrong: an IPv4 client of a socket that takes both kinds shows as ::ffff:a.b.c.d. It is
//! the IPv4 address that counts.

use std::net::IpAddr;

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// From `192.168.10.7` or `192.168.10.0/24`; nothing where it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.trim().parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.trim().parse().ok())?;
        (bits <= most).then_some(Network { address, bits })
    }

    /// Whether an address belongs to it.
    #[must_use]
    pub fn contains(&self, other: IpAddr) -> bool {
        // Bits from the left; those of IPv4 stand in the upper quarter.
        let number = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let other = other.to_canonical();
        let differ = number(self.address) ^ number(other);
        self.address.is_ipv4() == other.is_ipv4() && differ.leading_zeros() >= self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_shares_its_leading_bits() {
        let holds = |network: &str, address: &str| {
            Network::parse(network).unwrap().contains(address.parse().unwrap())
        };
        assert!(holds("192.168.10.7", "192.168.10.7") && !holds("192.168.10.7", "192.168.10.8"));
        assert!(holds("192.168.10.0/24", "192.168.10.255"));
        assert!(!holds("192.168.10.0/24", "192.168.11.0"));
        assert!(holds("10.0.0.0/9", "10.127.0.1") && !holds("10.0.0.0/9", "10.128.0.1"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("192.168.10.0/24", "::ffff:192.168.10.3"), "seen through a socket for both");
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        for broken in
            ["", "here", "192.168.10", "192.168.10.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/"]
        {
            assert_eq!(Network::parse(broken), None, "{broken}");
        }
    }
}
