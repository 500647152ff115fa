//! Which addresses mean what: the worker, service and instance pools, and how offsets and addresses turn into each other.
//!
//! The defaults: worker subnets `/26` from `10.18.0.0/16` and `/120` from `fc00::`; service and instance IPs from one shared
//! `10.30.0.0/16`; in IPv6 instances from `fdff:0000::/21`, then `fdff:0800::/21`, and one `/21` per policy, `fdff:n000::/21`
//! for the policy with block number *n*. `fdfe::/16` is reserved.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{Family, Range4, Range6, Subnet4, Subnet6, WorkerSubnet};

/// The prefix length of a node's IPv4 subnet: 62 namespace IPs.
pub const WORKER_PREFIX_V4: u8 = 26;

/// The prefix length of a node's IPv6 subnet.
pub const WORKER_PREFIX_V6: u8 = 120;

/// Kept free in every plan, for what may come.
const RESERVED_V6: Subnet6 = Subnet6::containing(Ipv6Addr::new(0xfdfe, 0, 0, 0, 0, 0, 0, 0), 16);

/// Bits of the block number behind the prefix of the IPv6 service net.
const BLOCK_BITS: u8 = 4;

/// The longest prefix of the IPv6 service net: each block's lower half must still hold 2⁶⁴ addresses.
const LONGEST_SERVICE_V6: u8 = 59;

/// The pools of a plan, before they are checked. What an operator configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanPools {
    /// Where the `/26` of the nodes come from. Whole `/26`.
    pub worker_v4: Range4,
    /// Where the `/120` of the nodes come from. Whole `/120`, at least as many as there are `/26`.
    pub worker_v6: Range6,
    /// Where the IPv4 addresses of services and instances come from; `/8` to `/30`.
    pub service_v4: Subnet4,
    /// The net of the IPv6 blocks: block 0 for instances, block *n* for the policy with number *n*; at most `/59`.
    pub service_v6: Subnet6,
}

impl PlanPools {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        worker_v4: Subnet4::containing(Ipv4Addr::new(10, 18, 0, 0), 16).range(),
        worker_v6: Range6::spanning(
            Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0),
            Ipv6Addr::new(0xfdfd, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
        ),
        service_v4: Subnet4::containing(Ipv4Addr::new(10, 30, 0, 0), 16),
        service_v6: Subnet6::containing(Ipv6Addr::new(0xfdff, 0, 0, 0, 0, 0, 0, 0), 16),
    };
}

impl Default for PlanPools {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a set of pools is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlanError {
    /// The worker pool and the service net of this family share addresses.
    Overlap(Family),
    /// A pool reaches into `fdfe::/16`.
    Reserved,
    /// The worker pool of this family does not start and end on a subnet's boundary.
    Unaligned(Family),
    /// The IPv6 worker pool has fewer subnets than the IPv4 one.
    FewerV6Workers,
    /// The service net of this family is too small or too large.
    ServicePrefix(Family),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap(family) => {
                write!(f, "the {family} worker pool and the {family} service net overlap: move one of them")
            }
            Self::Reserved => {
                write!(f, "{RESERVED_V6} is reserved: keep the IPv6 worker pool and service net out of it")
            }
            Self::Unaligned(family) => {
                let prefix = match family {
                    Family::V4 => WORKER_PREFIX_V4,
                    Family::V6 => WORKER_PREFIX_V6,
                };
                write!(
                    f,
                    "the {family} worker pool must consist of whole /{prefix} subnets: start and end it on their boundaries"
                )
            }
            Self::FewerV6Workers => {
                f.write_str("the IPv6 worker pool has fewer /120 than the IPv4 worker pool has /26: make it larger")
            }
            Self::ServicePrefix(Family::V4) => f.write_str("the IPv4 service net must be a /8 to /30"),
            Self::ServicePrefix(Family::V6) => {
                write!(f, "the IPv6 service net must be at most a /{LONGEST_SERVICE_V6}")
            }
        }
    }
}

impl core::error::Error for PlanError {}

/// Why an address that a user asked for can't be a service IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CustomAddressError {
    /// It lies outside of the pool; the pool is `base/prefix`.
    OutsidePool {
        /// The first address of the pool.
        base: IpAddr,
        /// The prefix length of the pool.
        prefix: u8,
    },
    /// It is the network address of the IPv4 pool.
    Network,
    /// It is the broadcast address of the IPv4 pool.
    Broadcast,
}

impl fmt::Display for CustomAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsidePool { base, prefix } => {
                write!(f, "the address must be in {base}/{prefix}")
            }
            Self::Network => f.write_str("the address is the network address of the service net: choose another"),
            Self::Broadcast => f.write_str("the address is the broadcast address of the service net: choose another"),
        }
    }
}

impl core::error::Error for CustomAddressError {}

/// Why a subnet that a node asked for can't be a worker subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubnetRequestError {
    /// It is not a `/26`.
    Prefix,
    /// It lies outside of the worker pool.
    OutsidePool(Range4),
}

impl fmt::Display for SubnetRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix => write!(f, "a worker subnet must be a /{WORKER_PREFIX_V4}"),
            Self::OutsidePool(pool) => write!(f, "a worker subnet must be in {pool}"),
        }
    }
}

impl core::error::Error for SubnetRequestError {}

/// The number of a policy's IPv6 block, 1..=15. A policy's registry line states it; it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct PolicyBlock(u8);

impl PolicyBlock {
    /// Block `number`, or `None` when it is not in 1..=15. Block 0 belongs to the instances.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= 15 { Some(Self(number)) } else { None }
    }

    /// The number, 1..=15.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for PolicyBlock {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("a policy block is in 1..=15")
    }
}

impl From<PolicyBlock> for u8 {
    fn from(block: PolicyBlock) -> Self {
        block.0
    }
}

impl fmt::Display for PolicyBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Checked [`PlanPools`]: pools that are disjoint, aligned and large enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PlanPools", into = "PlanPools")]
pub struct AddressPlan {
    pools: PlanPools,
}

impl AddressPlan {
    /// The plan of the default pools.
    pub const DEFAULT: Self = Self { pools: PlanPools::DEFAULT };

    /// The plan of `pools`.
    ///
    /// # Errors
    /// [`PlanError`] names the first rule that `pools` break.
    pub fn new(pools: PlanPools) -> Result<Self, PlanError> {
        if !(8..=30).contains(&pools.service_v4.prefix()) {
            return Err(PlanError::ServicePrefix(Family::V4));
        }
        if pools.service_v6.prefix() > LONGEST_SERVICE_V6 {
            return Err(PlanError::ServicePrefix(Family::V6));
        }
        if !pools.worker_v4.is_cut_by(WORKER_PREFIX_V4) {
            return Err(PlanError::Unaligned(Family::V4));
        }
        if !pools.worker_v6.is_cut_by(WORKER_PREFIX_V6) {
            return Err(PlanError::Unaligned(Family::V6));
        }
        if pools.worker_v4.overlaps(pools.service_v4.range()) {
            return Err(PlanError::Overlap(Family::V4));
        }
        if pools.worker_v6.overlaps(pools.service_v6.range()) {
            return Err(PlanError::Overlap(Family::V6));
        }
        let reserved = RESERVED_V6.range();
        if pools.worker_v6.overlaps(reserved) || pools.service_v6.range().overlaps(reserved) {
            return Err(PlanError::Reserved);
        }
        if pools.worker_v6.count(WORKER_PREFIX_V6) < pools.worker_v4.count(WORKER_PREFIX_V4) {
            return Err(PlanError::FewerV6Workers);
        }
        Ok(Self { pools })
    }

    /// The pools that the plan is made of.
    #[must_use]
    pub const fn pools(&self) -> PlanPools {
        self.pools
    }

    /// Whether `addr` lies in one of the two service nets, where service and instance IPs are. A packet to such an address is ours
    /// to translate.
    #[must_use]
    pub const fn is_service_net(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(v4) => self.pools.service_v4.contains(v4),
            IpAddr::V6(v6) => self.pools.service_v6.contains(v6),
        }
    }

    /// Whether `addr` is the first or the last address of the IPv4 service net: those of the network itself and of its broadcasts
    /// (RFC 919 section 7), which no service has.
    #[must_use]
    pub const fn is_edge_of_service_net(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(v4) => {
                let net = self.pools.service_v4;
                v4.to_bits() == net.base().to_bits() || v4.to_bits() == net.last().to_bits()
            }
            IpAddr::V6(_) => false,
        }
    }

    /// Whether `addr` lies in one of the two worker pools, where namespace IPs are.
    #[must_use]
    pub const fn is_worker_net(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(v4) => self.pools.worker_v4.contains(v4),
            IpAddr::V6(v6) => self.pools.worker_v6.contains(v6),
        }
    }

    /// How many worker subnets there are: 1,024 by default. Their indices are 0..`worker_count`.
    #[must_use]
    pub const fn worker_count(&self) -> u32 {
        self.pools.worker_v4.count(WORKER_PREFIX_V4)
    }

    /// The worker subnet number `index`, both families; `None` behind the last.
    #[must_use]
    pub const fn worker_subnet(&self, index: u32) -> Option<WorkerSubnet> {
        match (self.pools.worker_v4.cut(WORKER_PREFIX_V4, index), self.pools.worker_v6.cut(WORKER_PREFIX_V6, index)) {
            (Some(v4), Some(v6)) => match WorkerSubnet::new(v4, v6) {
                Ok(subnet) => Some(subnet),
                Err(_) => None,
            },
            _ => None,
        }
    }

    /// The index of a subnet that a node asks for by its IPv4 half.
    ///
    /// # Errors
    /// [`SubnetRequestError`] when it is not a `/26` or not in the pool.
    pub fn worker_index(&self, requested: Subnet4) -> Result<u32, SubnetRequestError> {
        if requested.prefix() != WORKER_PREFIX_V4 {
            return Err(SubnetRequestError::Prefix);
        }
        self.pools
            .worker_v4
            .index_of(WORKER_PREFIX_V4, requested.base())
            .ok_or(SubnetRequestError::OutsidePool(self.pools.worker_v4))
    }

    /// The worker subnet that `addr`, a namespace IP of either family, belongs to; `None` outside of the pools.
    #[must_use]
    pub fn worker_subnet_of(&self, addr: IpAddr) -> Option<WorkerSubnet> {
        let index = match addr {
            IpAddr::V4(v4) => {
                self.pools.worker_v4.index_of(WORKER_PREFIX_V4, Subnet4::containing(v4, WORKER_PREFIX_V4).base())
            }
            IpAddr::V6(v6) => {
                self.pools.worker_v6.index_of(WORKER_PREFIX_V6, Subnet6::containing(v6, WORKER_PREFIX_V6).base())
            }
        }?;
        self.worker_subnet(index)
    }

    /// The highest offset in the IPv4 service net that is given out: 65,534 by default. The lowest is 1.
    #[must_use]
    pub const fn last_service_v4(&self) -> u32 {
        self.pools.service_v4.last_offset().saturating_sub(1)
    }

    /// The IPv4 address of a service or an instance at `offset`; `None` when that is the network or the broadcast address, or outside.
    #[must_use]
    pub const fn service_v4(&self, offset: u32) -> Option<Ipv4Addr> {
        if offset == 0 || offset > self.last_service_v4() {
            return None;
        }
        self.pools.service_v4.address(offset)
    }

    /// The IPv6 net of the instances, `fdff::/20` by default: `fdff:0000::/21` and behind it `fdff:0800::/21`.
    #[must_use]
    pub const fn instance_net(&self) -> Subnet6 {
        Subnet6::containing(self.pools.service_v6.base(), self.pools.service_v6.prefix().saturating_add(BLOCK_BITS))
    }

    /// The IPv6 address of an instance at `offset`, which starts at 1; `None` for 0.
    #[must_use]
    pub const fn instance_v6(&self, offset: u32) -> Option<Ipv6Addr> {
        if offset == 0 {
            return None;
        }
        self.instance_net().address(offset as u128)
    }

    /// The offset of an instance's IPv6 address; `None` when it is none, or beyond what 32 bits can say.
    #[must_use]
    pub fn instance_v6_offset(&self, addr: Ipv6Addr) -> Option<u32> {
        let offset = self.instance_net().offset_of(addr)?;
        u32::try_from(offset).ok().filter(|&offset| offset != 0)
    }

    /// The IPv6 net of the policy with this block number: `fdff:n000::/21` by default.
    #[must_use]
    pub const fn policy_net(&self, block: PolicyBlock) -> Subnet6 {
        let net = self.pools.service_v6;
        let prefix = net.prefix().saturating_add(BLOCK_BITS);
        let shift = 128_u8.saturating_sub(prefix) as u32;
        let number = match (block.get() as u128).checked_shl(shift) {
            Some(number) => number,
            None => 0,
        };
        Subnet6::containing(Ipv6Addr::from_bits(net.base().to_bits() | number), prefix.saturating_add(1))
    }

    /// The IPv6 service IP at `offset`, which starts at 1, under the policy with this block number; `None` for 0.
    #[must_use]
    pub const fn policy_v6(&self, block: PolicyBlock, offset: u32) -> Option<Ipv6Addr> {
        if offset == 0 {
            return None;
        }
        self.policy_net(block).address(offset as u128)
    }

    /// The block of the policy that `addr` is a service IP of; `None` for anything else.
    #[must_use]
    pub fn policy_block_of(&self, addr: Ipv6Addr) -> Option<PolicyBlock> {
        (1..=15).filter_map(PolicyBlock::new).find(|&block| self.policy_net(block).contains(addr))
    }

    /// The offset, in the shared IPv4 pool, of a service IP that a user asks for.
    ///
    /// # Errors
    /// [`CustomAddressError`] when it is outside of the pool, or its network or broadcast address. Whether it is taken, the pool knows.
    pub fn check_custom_v4(&self, addr: Ipv4Addr) -> Result<u32, CustomAddressError> {
        let pool = self.pools.service_v4;
        match pool.offset_of(addr) {
            None => Err(CustomAddressError::OutsidePool { base: IpAddr::V4(pool.base()), prefix: pool.prefix() }),
            Some(0) => Err(CustomAddressError::Network),
            Some(offset) if offset > self.last_service_v4() => Err(CustomAddressError::Broadcast),
            Some(offset) => Ok(offset),
        }
    }

    /// The offset, in the net of the policy with this block number, of a service IP that a user asks for. Any address of the `/21` will do.
    ///
    /// An offset outside of the [`Pool`](super::Pool) that allocates in this block needs no reservation there, because the pool will
    /// never give it out; that no other service has it, the table of services knows.
    ///
    /// # Errors
    /// [`CustomAddressError::OutsidePool`].
    pub fn check_custom_v6(&self, block: PolicyBlock, addr: Ipv6Addr) -> Result<u128, CustomAddressError> {
        let net = self.policy_net(block);
        net.offset_of(addr)
            .ok_or(CustomAddressError::OutsidePool { base: IpAddr::V6(net.base()), prefix: net.prefix() })
    }
}

impl Default for AddressPlan {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<PlanPools> for AddressPlan {
    type Error = PlanError;

    fn try_from(pools: PlanPools) -> Result<Self, PlanError> {
        Self::new(pools)
    }
}

impl From<AddressPlan> for PlanPools {
    fn from(plan: AddressPlan) -> Self {
        plan.pools
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use super::*;

    const PLAN: AddressPlan = AddressPlan::DEFAULT;

    fn block(number: u8) -> PolicyBlock {
        PolicyBlock::new(number).unwrap()
    }

    #[test]
    fn the_default_plan_keeps_its_own_rules() {
        assert_eq!(AddressPlan::new(PlanPools::DEFAULT), Ok(AddressPlan::DEFAULT));
    }

    #[test]
    fn the_default_nets_are_those_of_the_design() {
        assert_eq!(PLAN.worker_count(), 1024);
        assert_eq!(PLAN.last_service_v4(), 65_534);
        assert_eq!(PLAN.policy_net(block(1)).to_string(), "fdff:1000::/21");
        assert_eq!(PLAN.policy_net(block(2)).to_string(), "fdff:2000::/21");
        assert_eq!(PLAN.policy_net(block(15)).to_string(), "fdff:f000::/21");
        // The two /21 of the instances, one behind the other.
        assert_eq!(PLAN.instance_net().to_string(), "fdff::/20");
        assert!(PLAN.instance_net().contains("fdff:0fff:ffff::1".parse().unwrap()));
        for (addr, expected) in [
            ("10.30.0.1", true),
            ("10.30.255.255", true),
            ("10.29.255.255", false),
            ("10.31.0.0", false),
            ("fdff:f800::1", true),
            ("fdfe::1", false),
        ] {
            assert_eq!(PLAN.is_service_net(addr.parse().unwrap()), expected, "{addr}");
        }
        for (addr, expected) in [
            ("10.18.0.0", true),
            ("10.19.0.0", false),
            ("fc00::1", true),
            ("fdfd:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("fdfe::", false),
            ("fbff::", false),
        ] {
            assert_eq!(PLAN.is_worker_net(addr.parse().unwrap()), expected, "{addr}");
        }
    }

    #[test]
    fn a_worker_subnet_has_the_same_index_in_both_families() {
        let requested: Subnet4 = "10.18.30.64/26".parse().unwrap();
        assert_eq!(PLAN.worker_index(requested), Ok(121));
        for index in 0..PLAN.worker_count() {
            let subnet = PLAN.worker_subnet(index).unwrap();
            assert_eq!(PLAN.worker_index(subnet.v4()), Ok(index));
            let last = subnet.namespace_ip(62).unwrap();
            assert_eq!(PLAN.worker_subnet_of(last.v4().into()), Some(subnet));
            assert_eq!(PLAN.worker_subnet_of(last.v6().into()), Some(subnet));
        }
        assert_eq!(PLAN.worker_subnet(1024), None);
        assert_eq!(PLAN.worker_subnet_of("10.19.0.1".parse().unwrap()), None);
        assert_eq!(PLAN.worker_subnet_of("fdff::1".parse().unwrap()), None);
        assert_eq!(PLAN.worker_index("10.18.30.0/25".parse().unwrap()), Err(SubnetRequestError::Prefix));
        assert_eq!(
            PLAN.worker_index("10.19.0.0/26".parse().unwrap()),
            Err(SubnetRequestError::OutsidePool(PLAN.pools().worker_v4))
        );
    }

    #[test]
    fn a_custom_ipv4_address_must_be_a_host_of_the_pool() {
        for (addr, expected) in [
            ("10.30.0.1", Ok(1)),
            ("10.30.0.255", Ok(255)),
            ("10.30.1.0", Ok(256)),
            ("10.30.255.254", Ok(65_534)),
            ("10.30.0.0", Err(CustomAddressError::Network)),
            ("10.30.255.255", Err(CustomAddressError::Broadcast)),
        ] {
            assert_eq!(PLAN.check_custom_v4(addr.parse().unwrap()), expected, "{addr}");
        }
        let outside = PLAN.check_custom_v4("10.31.0.1".parse().unwrap()).unwrap_err();
        assert_eq!(outside.to_string(), "the address must be in 10.30.0.0/16");
    }

    #[test]
    fn a_custom_ipv6_address_may_be_anywhere_in_the_block_of_its_policy() {
        let rr = block(2);
        let check = |addr: &str| PLAN.check_custom_v6(rr, addr.parse().unwrap());
        assert_eq!(check("fdff:2000::1337"), Ok(0x1337));
        assert_eq!(check("fdff:2000::"), Ok(0));
        assert_eq!(check("fdff:27ff:ffff:ffff:ffff:ffff:ffff:ffff"), Ok((1 << 107) - 1));
        for addr in ["fdff:1000::1", "fdff:2800::", "fdff::1", "fdfe:2000::1"] {
            assert_eq!(check(addr).unwrap_err().to_string(), "the address must be in fdff:2000::/21", "{addr}");
        }
    }

    #[test]
    fn offsets_and_ipv6_addresses_turn_into_each_other() {
        for number in 1..=15 {
            let addr = PLAN.policy_v6(block(number), 7).unwrap();
            assert_eq!(PLAN.policy_block_of(addr), Some(block(number)));
            assert_eq!(PLAN.check_custom_v6(block(number), addr), Ok(7));
            assert_eq!(PLAN.policy_v6(block(number), 0), None);
        }
        let instance = PLAN.instance_v6(u32::MAX).unwrap();
        assert_eq!(instance.to_string(), "fdff::ffff:ffff");
        assert_eq!(PLAN.instance_v6_offset(instance), Some(u32::MAX));
        assert_eq!(PLAN.instance_v6_offset("fdff::1:0:0".parse().unwrap()), None);
        assert_eq!(PLAN.instance_v6_offset("fdff::".parse().unwrap()), None);
        assert_eq!(PLAN.policy_block_of(instance), None);
        assert_eq!(PLAN.policy_block_of("fdff:2800::1".parse().unwrap()), None);
    }

    #[test]
    fn a_policy_block_is_in_1_to_15() {
        assert_eq!(PolicyBlock::new(0), None);
        assert_eq!(PolicyBlock::new(16), None);
        assert!(postcard::from_bytes::<PolicyBlock>(&[0]).is_err());
        assert_eq!(postcard::from_bytes::<PolicyBlock>(&[15]), Ok(block(15)));
    }

    #[test]
    fn pools_that_break_a_rule_are_no_plan() {
        let base = PlanPools::DEFAULT;
        let range4 = |text: &str| text.parse::<Range4>().unwrap();
        let range6 = |text: &str| text.parse::<Range6>().unwrap();
        for (pools, error) in [
            (PlanPools { worker_v4: range4("10.18.0.0-10.30.0.63"), ..base }, PlanError::Overlap(Family::V4)),
            (PlanPools { worker_v6: range6("fc00::-fdff::ff"), ..base }, PlanError::Overlap(Family::V6)),
            (PlanPools { worker_v6: range6("fc00::-fdfe::ff"), ..base }, PlanError::Reserved),
            (
                PlanPools { worker_v6: range6("fc00::/120"), service_v6: "fdfe::/16".parse().unwrap(), ..base },
                PlanError::Reserved,
            ),
            (PlanPools { worker_v4: range4("10.18.0.1-10.18.0.127"), ..base }, PlanError::Unaligned(Family::V4)),
            (PlanPools { worker_v6: range6("fc00::-fc00::fe"), ..base }, PlanError::Unaligned(Family::V6)),
            (PlanPools { worker_v6: range6("fc00::/111"), ..base }, PlanError::FewerV6Workers),
            (PlanPools { service_v4: "10.30.0.0/31".parse().unwrap(), ..base }, PlanError::ServicePrefix(Family::V4)),
            (PlanPools { service_v6: "fdff::/60".parse().unwrap(), ..base }, PlanError::ServicePrefix(Family::V6)),
        ] {
            assert_eq!(AddressPlan::new(pools), Err(error));
        }
        let wide = PlanPools { worker_v4: range4("10.18.0.0-10.29.255.255"), ..base };
        assert_eq!(AddressPlan::new(wide).unwrap().worker_count(), 12_288);
    }

    #[test]
    fn a_message_with_pools_that_break_a_rule_is_refused() {
        let mut buf = [0; 128];
        let bytes = postcard::to_slice(&PLAN, &mut buf).unwrap();
        assert_eq!(postcard::from_bytes::<AddressPlan>(bytes), Ok(PLAN));
        let broken = PlanPools { worker_v4: PLAN.pools().service_v4.range(), ..PLAN.pools() };
        let bytes = postcard::to_slice(&broken, &mut buf).unwrap();
        assert!(postcard::from_bytes::<AddressPlan>(bytes).is_err());
    }
}
