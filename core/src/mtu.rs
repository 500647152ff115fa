//! How large a packet may be: on the network between two nodes, and inside the tunnel over it.

use crate::addr::Family;

/// The largest IP packet in bytes, its own header included, that the path between two nodes carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnderlayMtu(u16);

/// The largest packet in bytes, its own header included, that the tunnel between two nodes carries in one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OverlayMtu(u16);

/// WireGuard pads what it seals to a multiple of this, in bytes.
const PADDING: u16 = 16;

/// UDP header 8, WireGuard header 16 and tag 16, in bytes.
const TUNNEL_HEADERS: u16 = 40;

impl UnderlayMtu {
    /// What every IPv4 host must be able to take, 576 (RFC 1122 §3.3.2). Less is not believed.
    pub const MIN: Self = Self(576);
    /// Ethernet, 1500.
    pub const DEFAULT: Self = Self(1500);

    /// `None` below [`MIN`](Self::MIN).
    #[must_use]
    pub const fn new(bytes: u16) -> Option<Self> {
        if bytes < Self::MIN.0 { None } else { Some(Self(bytes)) }
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for UnderlayMtu {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl OverlayMtu {
    /// The least link MTU of IPv6, 1280 (RFC 8200 §5). Where the underlay carries less, the outer datagram is fragmented instead.
    pub const MIN: Self = Self(1280);

    /// `None` below [`MIN`](Self::MIN).
    #[must_use]
    pub const fn new(bytes: u16) -> Option<Self> {
        if bytes < Self::MIN.0 { None } else { Some(Self(bytes)) }
    }

    /// What fits into one datagram over `family` on a path that carries `underlay`: less the headers of IP, UDP and WireGuard, rounded
    /// down to what WireGuard pads to. Never below [`MIN`](Self::MIN).
    #[must_use]
    pub const fn over(underlay: UnderlayMtu, family: Family) -> Self {
        let ip_header = match family {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        let room = underlay.0.saturating_sub(ip_header).saturating_sub(TUNNEL_HEADERS);
        let padded = room & !PADDING.wrapping_sub(1);
        if padded < Self::MIN.0 { Self::MIN } else { Self(padded) }
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for OverlayMtu {
    /// Over IPv4 on Ethernet, 1440.
    fn default() -> Self {
        Self::over(UnderlayMtu::DEFAULT, Family::V4)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use super::*;

    #[test]
    fn ethernet_leaves_1440_over_ipv4_and_1408_over_ipv6() {
        assert_eq!(OverlayMtu::over(UnderlayMtu::DEFAULT, Family::V4).get(), 1440);
        assert_eq!(OverlayMtu::over(UnderlayMtu::DEFAULT, Family::V6).get(), 1408);
        assert_eq!(OverlayMtu::default().get(), 1440);
    }

    #[test]
    fn what_is_below_the_least_is_not_built() {
        assert_eq!(UnderlayMtu::new(575), None);
        assert_eq!(UnderlayMtu::new(576).map(UnderlayMtu::get), Some(576));
        assert_eq!(OverlayMtu::new(1279), None);
        assert_eq!(OverlayMtu::new(1280), Some(OverlayMtu::MIN));
    }

    #[test]
    fn every_underlay_leaves_the_most_that_still_fits_sealed() {
        for bytes in 576..=u16::MAX {
            for (family, ip_header) in [(Family::V4, 20), (Family::V6, 40)] {
                let mtu = OverlayMtu::over(UnderlayMtu::new(bytes).unwrap(), family).get();
                // What a data message takes: 16 bytes of header, the padded packet, 16 bytes of tag.
                let sealed = |inner: u32| ip_header + 8 + 16 + inner.next_multiple_of(16) + 16;
                assert!(mtu >= 1280);
                assert!(mtu == 1280 || sealed(u32::from(mtu)) <= u32::from(bytes), "{bytes}");
                assert!(sealed(u32::from(mtu) + 1) > u32::from(bytes), "{bytes}");
            }
        }
    }
}
