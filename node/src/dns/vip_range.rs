use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The loopback range that VIPs are taken from, `127.77.0.0/16` by default.
///
/// Its first and last address and the two of [`VipRange::dns_address`] and [`VipRange::probe_address`] are never given
/// to a service.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VipRange(Ipv4Net);

/// Why a range can't serve for VIPs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VipRangeError {
    /// Outside `127.0.0.0/8`: such packets would leave the host wherever the redirect is missing.
    #[error("{0} is not within 127.0.0.0/8: choose a loopback range such as 127.77.0.0/16")]
    NotLoopback(Ipv4Net),
    /// Takes addresses that the host itself uses (`127.0.0.1`, and `127.0.0.53` of systemd-resolved).
    #[error("{0} takes in 127.0.0.0/24, which the host itself uses: choose a range such as 127.77.0.0/16")]
    HoldsLocalhost(Ipv4Net),
    /// Fewer than 64 addresses.
    #[error("{0} is too small: a prefix of at most /26 is needed")]
    TooSmall(Ipv4Net),
}

const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const LOCALHOST: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 24);
/// Small enough for 53, the offset of the DNS address, to lie inside.
const LONGEST_PREFIX: u8 = 26;
const DNS_OFFSET: u32 = 53;
const PROBE_OFFSET: u32 = 1;

impl VipRange {
    /// A range for VIPs; host bits are cleared.
    pub fn try_new(net: Ipv4Net) -> Result<Self, VipRangeError> {
        let net = net.trunc();
        if !LOOPBACK.contains(&net) {
            return Err(VipRangeError::NotLoopback(net));
        }
        if net.contains(&LOCALHOST) || LOCALHOST.contains(&net) {
            return Err(VipRangeError::HoldsLocalhost(net));
        }
        if net.prefix_len() > LONGEST_PREFIX {
            return Err(VipRangeError::TooSmall(net));
        }
        Ok(Self(net))
    }

    /// The range as a network.
    pub const fn net(&self) -> Ipv4Net {
        self.0
    }

    /// Where programs ask for names once the capture is installed, port 53: `127.77.0.53`.
    pub fn dns_address(&self) -> Ipv4Addr {
        self.address_at(DNS_OFFSET)
    }

    /// Where a node connects to see whether the redirect works: `127.77.0.1`.
    pub fn probe_address(&self) -> Ipv4Addr {
        self.address_at(PROBE_OFFSET)
    }

    /// Is this an address that a service may have?
    pub fn is_assignable(&self, address: Ipv4Addr) -> bool {
        let reserved = [self.0.network(), self.0.broadcast(), self.dns_address(), self.probe_address()];
        self.0.contains(&address) && !reserved.contains(&address)
    }

    /// Does the address lie in the range, reserved ones included?
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.0.contains(&address)
    }

    /// How many addresses services may have.
    pub fn capacity(&self) -> usize {
        self.size() as usize - 4
    }

    /// All addresses, reserved ones included; at most 2^24, as the range lies in `127.0.0.0/8`.
    pub(crate) fn size(self) -> u32 {
        1 << (32 - self.0.prefix_len())
    }

    pub(crate) fn address_at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.network().to_bits() + offset)
    }
}

impl Default for VipRange {
    fn default() -> Self {
        Self(Ipv4Net::new_assert(Ipv4Addr::new(127, 77, 0, 0), 16))
    }
}

impl fmt::Display for VipRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for VipRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VipRange({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_range_keeps_four_addresses_back() {
        let range = VipRange::default();
        assert_eq!(range.dns_address(), Ipv4Addr::new(127, 77, 0, 53));
        assert_eq!(range.capacity(), 65_532);
        for reserved in ["127.77.0.0", "127.77.255.255", "127.77.0.53", "127.77.0.1", "127.78.0.5"] {
            assert!(!range.is_assignable(reserved.parse().unwrap()), "{reserved}");
        }
        assert!(range.is_assignable("127.77.0.2".parse().unwrap()));
    }

    #[test]
    fn a_range_that_would_hurt_the_host_is_refused_with_a_hint() {
        let refused = |net: &str| VipRange::try_new(net.parse().unwrap()).unwrap_err();
        assert!(matches!(refused("10.0.0.0/16"), VipRangeError::NotLoopback(_)));
        assert!(matches!(refused("127.0.0.0/8"), VipRangeError::HoldsLocalhost(_)));
        assert!(matches!(refused("127.0.0.0/16"), VipRangeError::HoldsLocalhost(_)));
        assert!(matches!(refused("127.0.0.64/26"), VipRangeError::HoldsLocalhost(_)));
        assert!(matches!(refused("127.9.0.0/27"), VipRangeError::TooSmall(_)));
        assert!(VipRange::try_new("127.9.0.0/26".parse().unwrap()).is_ok());
        assert!(VipRange::try_new("127.128.0.0/9".parse().unwrap()).is_ok());
    }
}
