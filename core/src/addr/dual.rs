//! Addresses in pairs. A service, an instance and its place on a node each have one address per family, never just one.
//!
//! The three meanings are three types: a [`NamespaceIp`] can't be put where an [`InstanceIp`] belongs.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `addr`.
    #[must_use]
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An IPv4 and an IPv6 address that are allocated, announced and freed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dual {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Dual {
    /// No addresses: what an empty table row holds. All zero bytes.
    pub const UNSPECIFIED: Self = Self::new(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);

    /// The pair of `v4` and `v6`.
    #[must_use]
    pub const fn new(v4: Ipv4Addr, v6: Ipv6Addr) -> Self {
        Self { v4, v6 }
    }

    /// The address of this pair in `family`.
    #[must_use]
    pub const fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }

    /// Whether `addr` is one of the two.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(v4) => self.v4 == v4,
            IpAddr::V6(v6) => self.v6 == v6,
        }
    }
}

impl Default for Dual {
    fn default() -> Self {
        Self::UNSPECIFIED
    }
}

/// As `10.30.0.1 / fdff:2000::1`.
impl fmt::Display for Dual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", self.v4, self.v6)
    }
}

macro_rules! meaning {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Dual);

        impl $name {
            /// Gives `pair` this meaning. Whether the plan agrees is the business of who allocates it.
            #[must_use]
            pub const fn new(pair: Dual) -> Self {
                Self(pair)
            }

            /// The bare pair.
            #[must_use]
            pub const fn dual(self) -> Dual {
                self.0
            }

            /// The IPv4 address.
            #[must_use]
            pub const fn v4(self) -> Ipv4Addr {
                self.0.v4
            }

            /// The IPv6 address.
            #[must_use]
            pub const fn v6(self) -> Ipv6Addr {
                self.0.v6
            }

            /// The address in `family`.
            #[must_use]
            pub const fn of(&self, family: Family) -> IpAddr {
                self.0.of(family)
            }

            /// Whether `addr` is one of the two.
            #[must_use]
            pub fn contains(&self, addr: IpAddr) -> bool {
                self.0.contains(addr)
            }
        }

        /// As the pair it holds.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

meaning! {
    /// The address of a service under one balancing policy. It never changes.
    ServiceIp
}
meaning! {
    /// The address of one instance, wherever it runs. It never changes while the instance lives.
    InstanceIp
}
meaning! {
    /// The address of one instance inside its node's worker subnet. It changes when the instance moves; applications never use it.
    NamespaceIp
}

#[cfg(test)]
mod tests {

    use super::*;

    const PAIR: Dual = Dual::new(Ipv4Addr::new(10, 30, 0, 1), Ipv6Addr::new(0xfdff, 0x2000, 0, 0, 0, 0, 0, 1));

    #[test]
    fn a_pair_knows_its_two_addresses_and_no_other() {
        let service = ServiceIp::new(PAIR);
        for family in [Family::V4, Family::V6] {
            assert_eq!(Family::of(service.of(family)), family);
            assert!(service.contains(service.of(family)));
        }
        assert!(!service.contains("10.30.0.2".parse().unwrap()));
        assert!(!service.contains("fdff:2000::2".parse().unwrap()));
    }

    #[test]
    fn a_pair_reads_as_both_addresses() {
        assert_eq!(NamespaceIp::new(PAIR).to_string(), "10.30.0.1 / fdff:2000::1");
    }
}
