//! Contiguous stretches of addresses: subnets, ranges, and the pair of subnets that a node owns.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Dual, NamespaceIp};

/// Why a subnet, a range or a worker subnet can't be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubnetError {
    /// The text is not `address/prefix` (or, for a range, `first-last`).
    Syntax,
    /// The prefix length is longer than an address of this family, or useless for a worker subnet.
    Prefix,
    /// The address has bits set behind the prefix: it is not the base of that subnet.
    HostBits,
    /// The first address of a range lies behind its last.
    Order,
}

impl fmt::Display for SubnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not a subnet: write ADDRESS/PREFIX, as in 10.18.30.64/26",
            Self::Prefix => "the prefix length does not fit: use at most 32 for IPv4 and 128 for IPv6, and leave room for hosts in a worker subnet",
            Self::HostBits => "the address has bits behind its prefix: write the base address of the subnet, as in 10.18.30.64/26",
            Self::Order => "the first address of the range lies behind the last: swap them",
        })
    }
}

impl core::error::Error for SubnetError {}

macro_rules! family {
    ($subnet:ident, $range:ident, $addr:ty, $bits:ty, $width:literal) => {
        /// A subnet of one family. The base address has no bits behind the prefix.
        ///
        /// Written `base/prefix`; serialized so in formats for people, as a pair in others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $subnet {
            base: $addr,
            prefix: u8,
        }

        impl $subnet {
            /// The subnet that starts at `base`.
            ///
            /// # Errors
            /// [`SubnetError::Prefix`] when `prefix` is longer than an address, [`SubnetError::HostBits`] when `base` is inside
            /// the subnet instead of at its start.
            pub const fn new(base: $addr, prefix: u8) -> Result<Self, SubnetError> {
                if prefix > $width {
                    return Err(SubnetError::Prefix);
                }
                let subnet = Self::containing(base, prefix);
                if subnet.base.to_bits() != base.to_bits() {
                    return Err(SubnetError::HostBits);
                }
                Ok(subnet)
            }

            /// The subnet of `prefix` bits that holds `addr`. A prefix longer than an address counts as a whole address.
            #[must_use]
            pub const fn containing(addr: $addr, prefix: u8) -> Self {
                let prefix = if prefix > $width { $width } else { prefix };
                Self { base: <$addr>::from_bits(addr.to_bits() & !Self::host_mask(prefix)), prefix }
            }

            /// The first address.
            #[must_use]
            pub const fn base(self) -> $addr {
                self.base
            }

            /// The last address.
            #[must_use]
            pub const fn last(self) -> $addr {
                <$addr>::from_bits(self.base.to_bits() | self.last_offset())
            }

            /// The prefix length in bits.
            #[must_use]
            pub const fn prefix(self) -> u8 {
                self.prefix
            }

            /// The offset of the last address: one less than the number of addresses.
            #[must_use]
            pub const fn last_offset(self) -> $bits {
                Self::host_mask(self.prefix)
            }

            /// Whether `addr` lies inside.
            #[must_use]
            pub const fn contains(self, addr: $addr) -> bool {
                (addr.to_bits() ^ self.base.to_bits()) & !self.last_offset() == 0
            }

            /// How far `addr` lies behind the base, or `None` outside.
            #[must_use]
            pub const fn offset_of(self, addr: $addr) -> Option<$bits> {
                if self.contains(addr) { Some(addr.to_bits() & self.last_offset()) } else { None }
            }

            /// The address `offset` behind the base, or `None` outside.
            #[must_use]
            pub const fn address(self, offset: $bits) -> Option<$addr> {
                if offset <= self.last_offset() { Some(<$addr>::from_bits(self.base.to_bits() | offset)) } else { None }
            }

            /// The same addresses as a range.
            #[must_use]
            pub const fn range(self) -> $range {
                $range { first: self.base, last: self.last() }
            }

            /// Ones where the host part is.
            const fn host_mask(prefix: u8) -> $bits {
                match <$bits>::MAX.checked_shr(prefix as u32) {
                    Some(mask) => mask,
                    None => 0,
                }
            }

            /// How many whole subnets of `prefix` bits are in `distance` addresses.
            const fn number(distance: $bits, prefix: u8) -> $bits {
                match distance.checked_shr(($width as u32).saturating_sub(prefix as u32)) {
                    Some(number) => number,
                    None => 0,
                }
            }
        }

        /// As `base/prefix`.
        impl fmt::Display for $subnet {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.base, self.prefix)
            }
        }

        impl FromStr for $subnet {
            type Err = SubnetError;

            fn from_str(text: &str) -> Result<Self, SubnetError> {
                let (base, prefix) = text.split_once('/').ok_or(SubnetError::Syntax)?;
                // `u8` would also parse "+26".
                if !prefix.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(SubnetError::Syntax);
                }
                Self::new(
                    base.parse().map_err(|_| SubnetError::Syntax)?,
                    prefix.parse().map_err(|_| SubnetError::Prefix)?,
                )
            }
        }

        text_or_pair!($subnet, $addr, u8, |it| (it.base, it.prefix));

        /// The addresses from a first to a last one, both included. Wider than a subnet can say, as in `10.18.0.0-10.29.255.255`.
        ///
        /// Written `first-last`, or `base/prefix` when read; serialized so in formats for people, as a pair in others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $range {
            first: $addr,
            last: $addr,
        }

        impl $range {
            /// The range from `first` to `last`.
            ///
            /// # Errors
            /// [`SubnetError::Order`] when `last` lies before `first`.
            pub const fn new(first: $addr, last: $addr) -> Result<Self, SubnetError> {
                if first.to_bits() > last.to_bits() {
                    return Err(SubnetError::Order);
                }
                Ok(Self { first, last })
            }

            /// The range between `a` and `b`, whichever comes first.
            #[must_use]
            pub const fn spanning(a: $addr, b: $addr) -> Self {
                if a.to_bits() <= b.to_bits() { Self { first: a, last: b } } else { Self { first: b, last: a } }
            }

            /// The first address.
            #[must_use]
            pub const fn first(self) -> $addr {
                self.first
            }

            /// The last address.
            #[must_use]
            pub const fn last(self) -> $addr {
                self.last
            }

            /// Whether `addr` lies inside.
            #[must_use]
            pub const fn contains(self, addr: $addr) -> bool {
                self.first.to_bits() <= addr.to_bits() && addr.to_bits() <= self.last.to_bits()
            }

            /// Whether the two share an address.
            #[must_use]
            pub const fn overlaps(self, other: Self) -> bool {
                self.first.to_bits() <= other.last.to_bits() && other.first.to_bits() <= self.last.to_bits()
            }

            /// Whether the range is made of whole subnets of `prefix` bits, on their own boundaries.
            #[must_use]
            pub const fn is_cut_by(self, prefix: u8) -> bool {
                let hosts = $subnet::host_mask(prefix);
                self.first.to_bits() & hosts == 0 && self.last.to_bits() & hosts == hosts
            }

            /// The `index`-th subnet of `prefix` bits, or `None` behind the end.
            #[must_use]
            pub const fn cut(self, prefix: u8, index: u32) -> Option<$subnet> {
                if prefix > $width {
                    return None;
                }
                let hosts = $subnet::host_mask(prefix);
                // Checked step by step: index × size may leave the family's width.
                let Some(size) = hosts.checked_add(1) else {
                    return None;
                };
                let Some(distance) = (index as $bits).checked_mul(size) else {
                    return None;
                };
                let Some(base) = self.first.to_bits().checked_add(distance) else {
                    return None;
                };
                let Some(last) = base.checked_add(hosts) else {
                    return None;
                };
                if last > self.last.to_bits() {
                    return None;
                }
                Some($subnet { base: <$addr>::from_bits(base), prefix })
            }

            /// How many whole subnets of `prefix` bits fit, at most `u32::MAX`.
            #[must_use]
            pub const fn count(self, prefix: u8) -> u32 {
                let span = self.last.to_bits().saturating_sub(self.first.to_bits());
                let hosts = $subnet::host_mask(prefix);
                // There are span + 1 addresses, a number that may not fit.
                let ends_whole = span & hosts == hosts;
                let count = $subnet::number(span, prefix).saturating_add(ends_whole as $bits);
                if count > u32::MAX as $bits { u32::MAX } else { count as u32 }
            }

            /// Which subnet of `prefix` bits starts at `base`, or `None` when none does.
            #[must_use]
            pub const fn index_of(self, prefix: u8, base: $addr) -> Option<u32> {
                let Some(distance) = base.to_bits().checked_sub(self.first.to_bits()) else {
                    return None;
                };
                let index = $subnet::number(distance, prefix);
                if distance & $subnet::host_mask(prefix) != 0 || index >= self.count(prefix) as $bits {
                    return None;
                }
                Some(index as u32)
            }
        }

        impl From<$subnet> for $range {
            fn from(subnet: $subnet) -> Self {
                subnet.range()
            }
        }

        /// As `first-last`.
        impl fmt::Display for $range {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}-{}", self.first, self.last)
            }
        }

        impl FromStr for $range {
            type Err = SubnetError;

            fn from_str(text: &str) -> Result<Self, SubnetError> {
                match text.split_once('-') {
                    Some((first, last)) => Self::new(
                        first.trim().parse().map_err(|_| SubnetError::Syntax)?,
                        last.trim().parse().map_err(|_| SubnetError::Syntax)?,
                    ),
                    None => Ok(text.parse::<$subnet>()?.range()),
                }
            }
        }

        text_or_pair!($range, $addr, $addr, |it| (it.first, it.last));
    };
}

/// Serde for a type with a text form: text in formats for people, a pair in the others. Reading goes through the checked
/// constructor, so an invalid value can't come in this way either.
macro_rules! text_or_pair {
    ($name:ident, $a:ty, $b:ty, |$it:ident| $pair:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    let $it = self;
                    $pair.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a subnet as ADDRESS/PREFIX")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(Text)
                } else {
                    let (a, b) = <($a, $b)>::deserialize(deserializer)?;
                    $name::new(a, b).map_err(serde::de::Error::custom)
                }
            }
        }
    };
}

family!(Subnet4, Range4, Ipv4Addr, u32, 32);
family!(Subnet6, Range6, Ipv6Addr, u128, 128);

/// The subnets of one node, one per family. Namespace IPs are pairs with the same offset in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(Subnet4, Subnet6)", into = "(Subnet4, Subnet6)")]
pub struct WorkerSubnet {
    v4: Subnet4,
    v6: Subnet6,
}

impl WorkerSubnet {
    /// The pair of `v4` and `v6`.
    ///
    /// # Errors
    /// [`SubnetError::Prefix`] when `v4` has no host address (its prefix is longer than 30), or `v6` has fewer addresses than `v4`.
    pub const fn new(v4: Subnet4, v6: Subnet6) -> Result<Self, SubnetError> {
        if v4.prefix() > 30 || v6.last_offset() < v4.last_offset() as u128 {
            return Err(SubnetError::Prefix);
        }
        Ok(Self { v4, v6 })
    }

    /// The IPv4 half.
    #[must_use]
    pub const fn v4(self) -> Subnet4 {
        self.v4
    }

    /// The IPv6 half.
    #[must_use]
    pub const fn v6(self) -> Subnet6 {
        self.v6
    }

    /// Whether `addr` lies in one of the halves, be it a host address or not.
    #[must_use]
    pub const fn contains(self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(v4) => self.v4.contains(v4),
            IpAddr::V6(v6) => self.v6.contains(v6),
        }
    }

    /// The highest offset that is a host address: 62 for a `/26`. The lowest is 1.
    #[must_use]
    pub const fn last_host(self) -> u32 {
        self.v4.last_offset().saturating_sub(1)
    }

    /// The namespace IP at `offset`, or `None` when `offset` is not in 1..=[`last_host`](Self::last_host): the network and the
    /// broadcast address are never given, and their IPv6 partners neither.
    #[must_use]
    pub const fn namespace_ip(self, offset: u32) -> Option<NamespaceIp> {
        if offset == 0 || offset > self.last_host() {
            return None;
        }
        match (self.v4.address(offset), self.v6.address(offset as u128)) {
            (Some(v4), Some(v6)) => Some(NamespaceIp::new(Dual::new(v4, v6))),
            _ => None,
        }
    }

    /// The offset of a namespace IP of this subnet, given in either family: the reverse of [`namespace_ip`](Self::namespace_ip).
    /// `None` for anything else.
    #[must_use]
    pub const fn offset_of(self, addr: IpAddr) -> Option<u32> {
        let offset = match addr {
            IpAddr::V4(v4) => match self.v4.offset_of(v4) {
                Some(offset) => offset as u128,
                None => return None,
            },
            IpAddr::V6(v6) => match self.v6.offset_of(v6) {
                Some(offset) => offset,
                None => return None,
            },
        };
        if offset == 0 || offset > self.last_host() as u128 {
            return None;
        }
        Some(offset as u32)
    }
}

/// As `10.18.30.64/26 fc00::7900/120`.
impl fmt::Display for WorkerSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.v4, self.v6)
    }
}

impl TryFrom<(Subnet4, Subnet6)> for WorkerSubnet {
    type Error = SubnetError;

    fn try_from((v4, v6): (Subnet4, Subnet6)) -> Result<Self, SubnetError> {
        Self::new(v4, v6)
    }
}

impl From<WorkerSubnet> for (Subnet4, Subnet6) {
    fn from(subnet: WorkerSubnet) -> Self {
        (subnet.v4, subnet.v6)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use super::*;

    fn worker() -> WorkerSubnet {
        WorkerSubnet::new("10.18.30.64/26".parse().unwrap(), "fc00::7900/120".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_subnet_reads_as_it_is_written() {
        for text in ["10.18.30.64/26", "0.0.0.0/0", "255.255.255.255/32"] {
            assert_eq!(text.parse::<Subnet4>().unwrap().to_string(), text);
        }
        for text in ["fc00::7900/120", "::/0", "fdff:2000::1/128"] {
            assert_eq!(text.parse::<Subnet6>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_subnet_that_breaks_a_rule_cannot_be_built() {
        for (text, error) in [
            ("10.18.30.64", SubnetError::Syntax),
            ("10.18.30.64/", SubnetError::Prefix),
            ("10.18.30.64/+26", SubnetError::Syntax),
            ("10.18.30/26", SubnetError::Syntax),
            ("fc00::/26", SubnetError::Syntax),
            ("10.18.30.64/33", SubnetError::Prefix),
            ("10.18.30.64/256", SubnetError::Prefix),
            ("10.18.30.65/26", SubnetError::HostBits),
        ] {
            assert_eq!(text.parse::<Subnet4>(), Err(error), "{text}");
        }
        assert_eq!("fc00::1/120".parse::<Subnet6>(), Err(SubnetError::HostBits));
        assert_eq!("fc00::/129".parse::<Subnet6>(), Err(SubnetError::Prefix));
    }

    #[test]
    fn a_subnet_holds_exactly_its_addresses() {
        let subnet: Subnet4 = "10.18.30.64/26".parse().unwrap();
        for (addr, offset) in
            [("10.18.30.63", None), ("10.18.30.64", Some(0)), ("10.18.30.127", Some(63)), ("10.18.30.128", None)]
        {
            let addr: Ipv4Addr = addr.parse().unwrap();
            assert_eq!(subnet.offset_of(addr), offset);
            assert_eq!(subnet.contains(addr), offset.is_some());
            assert_eq!(offset.and_then(|o| subnet.address(o)), offset.map(|_| addr));
        }
        assert_eq!(subnet.address(64), None);
        let everything = Subnet6::containing(Ipv6Addr::LOCALHOST, 0);
        assert_eq!(everything.last_offset(), u128::MAX);
        assert!(everything.contains(Ipv6Addr::from_bits(u128::MAX)));
    }

    #[test]
    fn a_range_may_be_wider_than_a_subnet_can_say() {
        let range: Range4 = "10.18.0.0-10.29.255.255".parse().unwrap();
        assert_eq!(range.to_string(), "10.18.0.0-10.29.255.255");
        assert!(range.is_cut_by(26));
        assert_eq!(range.count(26), 12 * 1024);
        assert_eq!(range.cut(26, 12 * 1024 - 1).unwrap().to_string(), "10.29.255.192/26");
        assert_eq!(range.cut(26, 12 * 1024), None);
        assert_eq!("10.18.0.0/16".parse::<Range4>().unwrap().to_string(), "10.18.0.0-10.18.255.255");
        assert_eq!("10.2.0.0-10.1.0.0".parse::<Range4>(), Err(SubnetError::Order));
    }

    #[test]
    fn cutting_a_range_and_finding_the_piece_are_inverse() {
        let range: Range4 = "10.18.0.0/16".parse().unwrap();
        for index in 0..range.count(26) {
            let piece = range.cut(26, index).unwrap();
            assert_eq!(range.index_of(26, piece.base()), Some(index));
        }
        assert_eq!(range.index_of(26, Ipv4Addr::new(10, 18, 0, 1)), None);
        assert_eq!(range.index_of(26, Ipv4Addr::new(10, 17, 255, 192)), None);
        assert_eq!(range.index_of(26, Ipv4Addr::new(10, 19, 0, 0)), None);
    }

    #[test]
    fn the_widest_ranges_and_prefixes_are_counted_without_overflow() {
        let all4 = Subnet4::containing(Ipv4Addr::UNSPECIFIED, 0).range();
        let all6 = Subnet6::containing(Ipv6Addr::UNSPECIFIED, 0).range();
        assert_eq!((all4.count(0), all4.count(1), all4.count(32)), (1, 2, u32::MAX));
        assert_eq!((all6.count(0), all6.count(31), all6.count(128)), (1, 1 << 31, u32::MAX));
        assert_eq!(all4.cut(26, u32::MAX), None);
        assert_eq!(all4.cut(33, 0), None);
        assert_eq!(all6.cut(120, u32::MAX).unwrap().to_string(), "::ff:ffff:ff00/120");
        let tail = Range4::new(Ipv4Addr::new(255, 255, 255, 0), Ipv4Addr::BROADCAST).unwrap();
        assert_eq!(tail.cut(26, 3).unwrap().to_string(), "255.255.255.192/26");
        assert_eq!(tail.cut(26, 4), None);
    }

    #[test]
    fn every_host_of_a_worker_subnet_and_no_other_is_a_namespace_ip() {
        let worker = worker();
        assert_eq!(worker.last_host(), 62);
        for offset in 1..=62 {
            let ip = worker.namespace_ip(offset).unwrap();
            assert_eq!(worker.offset_of(ip.v4().into()), Some(offset));
            assert_eq!(worker.offset_of(ip.v6().into()), Some(offset));
        }
        for offset in [0, 63, 64, u32::MAX] {
            assert_eq!(worker.namespace_ip(offset), None);
        }
        for addr in ["10.18.30.64", "10.18.30.127", "fc00::7900", "fc00::793f", "fc00::79ff"] {
            let addr: IpAddr = addr.parse().unwrap();
            assert!(worker.contains(addr));
            assert_eq!(worker.offset_of(addr), None);
        }
        assert!(!worker.contains("10.18.30.128".parse().unwrap()));
        assert!(!worker.contains("fc00::7a00".parse().unwrap()));
    }

    #[test]
    fn a_worker_subnet_without_room_cannot_be_built() {
        let v6: Subnet6 = "fc00::/120".parse().unwrap();
        for v4 in ["10.18.0.0/31", "10.18.0.0/32", "10.18.0.0/16"] {
            assert_eq!(WorkerSubnet::new(v4.parse().unwrap(), v6), Err(SubnetError::Prefix));
        }
    }

    #[test]
    fn messages_carry_a_worker_subnet_in_22_bytes_and_refuse_a_false_one() {
        let mut buf = [0; 64];
        let bytes = postcard::to_slice(&worker(), &mut buf).unwrap();
        assert_eq!(bytes.len(), 22);
        assert_eq!(postcard::from_bytes::<WorkerSubnet>(bytes).unwrap(), worker());
        bytes[3] |= 1; // a host bit
        assert!(postcard::from_bytes::<WorkerSubnet>(bytes).is_err());
    }

    #[test]
    fn people_read_and_write_subnets_as_text() {
        let text = "\"10.18.30.64/26\"";
        let subnet: Subnet4 = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&subnet).unwrap(), text);
        let error = serde_json::from_str::<Subnet4>("\"10.18.30.65/26\"").unwrap_err();
        assert!(error.to_string().contains("base address"), "{error}");
    }
}
