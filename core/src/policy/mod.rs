//! How a service IP picks an instance. One file per policy, and one line here.

mod round_robin;

pub use round_robin::RoundRobin;

use crate::table::Instance;

/// An instance that may be picked: alive, not draining, on a node that answers, and with a free reverse path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    row: usize,
    /// Its number in the service.
    pub number: u32,
    /// Its share under a weighted policy; 1 is normal.
    pub weight: u16,
    /// Its rank under a failover policy; the lowest comes first.
    pub priority: u16,
    /// Its reported load, in thousandths of what it can take.
    pub load: u16,
    /// The flows of this node to it.
    pub flows: u32,
}

impl Candidate {
    pub(crate) fn new(row: usize, instance: &Instance) -> Self {
        Self {
            row,
            number: instance.number,
            weight: instance.weight,
            priority: instance.priority,
            load: instance.load,
            flows: instance.flows,
        }
    }

    pub(crate) fn row(&self) -> usize {
        self.row
    }
}

/// A balancing policy.
pub trait Policy: Sync {
    /// Its short name in JSON and in tables: the `IpType`.
    fn ip_type(&self) -> &'static str;

    /// The SLA's field for a fixed IPv4 address; with `_v6` behind it the one for IPv6.
    fn sla_field(&self) -> &'static str;

    /// The number of its IPv6 block: its service IPs are in `fdff:<block>000::/21`. Never reused, 1 to 15.
    fn block(&self) -> u8;

    /// Picks an instance for a new flow. The candidates come in the order of their numbers, beginning behind the one that
    /// was picked last under this service IP; each comes once.
    fn pick(&self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Candidate>;
}

/// The policies that a node knows, by place. Tables name them by `IpType`.
#[derive(Clone, Copy)]
pub struct Registry {
    policies: &'static [&'static dyn Policy],
}

/// All built-in policies. The place of a line is not visible outside; its block number is, and is pinned by a test.
static BUILT_IN: [&dyn Policy; 1] = [&RoundRobin];

impl Registry {
    /// The place of round robin, which stands in for a policy that is not known.
    pub const ROUND_ROBIN: u8 = 0;

    /// The built-in policies.
    pub const fn built_in() -> Self {
        Self { policies: &BUILT_IN }
    }

    /// The place of the policy with this `IpType`.
    pub fn find(&self, ip_type: &str) -> Option<u8> {
        let place = self.policies.iter().position(|p| p.ip_type() == ip_type)?;
        u8::try_from(place).ok()
    }

    /// The policy at a place; round robin for a place that does not exist.
    pub fn policy(&self, place: u8) -> &'static dyn Policy {
        self.policies.get(usize::from(place)).copied().unwrap_or(&RoundRobin)
    }

    /// All policies.
    pub fn iter(&self) -> impl Iterator<Item = &'static dyn Policy> {
        self.policies.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_numbers_are_pinned() {
        let blocks: Vec<_> = Registry::built_in().iter().map(|p| (p.ip_type(), p.sla_field(), p.block())).collect();
        assert_eq!(blocks, [("RR", "rr_ip", 2)]);
        assert_eq!(Registry::built_in().policy(Registry::ROUND_ROBIN).ip_type(), "RR");
    }

    #[test]
    fn an_unknown_ip_type_is_not_found_and_a_wrong_place_is_round_robin() {
        assert_eq!(Registry::built_in().find("Nearest"), None);
        assert_eq!(Registry::built_in().find("rr"), None, "the IpType is case-sensitive, as in tables");
        assert_eq!(Registry::built_in().policy(200).ip_type(), "RR");
    }
}
