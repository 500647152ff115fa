//! Which policies there are.

use core::fmt;

use super::{Closest, Failover, Policy, RoundRobin, Sticky, Underutilized, Weighted};
use crate::addr::PolicyBlock;
use crate::sync::message::{IP_TYPE_MAX, SERVICE_IPS_MAX};

/// All built-in policies. The place of a line is not visible outside; its block number is, and is pinned by a test.
static BUILT_IN: [&dyn Policy; 6] = [&RoundRobin, &Closest, &Underutilized, &Sticky, &Weighted, &Failover];

/// The policies that a node knows, by place. Tables name them by `IpType`.
#[derive(Clone, Copy)]
pub struct Registry {
    policies: &'static [&'static dyn Policy],
}

/// Why policies are no registry. The number is the place of the one that breaks the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryError {
    /// The first policy is not round robin, which stands in for the ones that are not known.
    RoundRobinFirst,
    /// There are more than [`SERVICE_IPS_MAX`]: a service could not have an address under each.
    TooMany,
    /// An `IpType` is empty or longer than [`IP_TYPE_MAX`] bytes.
    IpTypeLength(usize),
    /// A block number is not in 1 to 15.
    Block(usize),
    /// An `IpType` is that of an earlier policy.
    SameIpType(usize),
    /// An SLA field is empty, or is that of an earlier policy, in IPv4 or IPv6.
    SameSlaField(usize),
    /// A block number is that of an earlier policy.
    SameBlock(usize),
}

impl Registry {
    /// The place of round robin, which stands in for a policy that is not known.
    pub const ROUND_ROBIN: u8 = 0;

    /// The built-in policies.
    pub const fn built_in() -> Self {
        Self { policies: &BUILT_IN }
    }

    /// These policies, usually the built-in ones and those that a shell adds.
    ///
    /// # Errors
    /// [`RegistryError`] says which rule is broken, and by which policy.
    pub fn new(policies: &'static [&'static dyn Policy]) -> Result<Self, RegistryError> {
        if policies.len() > SERVICE_IPS_MAX {
            return Err(RegistryError::TooMany);
        }
        if policies.first().is_none_or(|first| first.ip_type() != RoundRobin.ip_type()) {
            return Err(RegistryError::RoundRobinFirst);
        }
        for (place, policy) in policies.iter().enumerate() {
            let earlier = || policies.iter().take(place);
            if !(1..=IP_TYPE_MAX).contains(&policy.ip_type().len()) {
                return Err(RegistryError::IpTypeLength(place));
            }
            if PolicyBlock::new(policy.block()).is_none() {
                return Err(RegistryError::Block(place));
            }
            if earlier().any(|other| other.ip_type() == policy.ip_type()) {
                return Err(RegistryError::SameIpType(place));
            }
            let field = field_of(*policy);
            if field.is_empty() || earlier().any(|other| field_of(*other) == field) {
                return Err(RegistryError::SameSlaField(place));
            }
            if earlier().any(|other| other.block() == policy.block()) {
                return Err(RegistryError::SameBlock(place));
            }
        }
        Ok(Self { policies })
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

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Policy::ip_type)).finish()
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobinFirst => f.write_str("the first policy has to be round robin (RR)"),
            Self::TooMany => write!(f, "there can be at most {SERVICE_IPS_MAX} policies"),
            Self::IpTypeLength(place) => {
                write!(f, "policy {place}: an IpType has 1 to {IP_TYPE_MAX} bytes; choose another one")
            }
            Self::Block(place) => write!(f, "policy {place}: a block number is in 1 to 15; choose a free one"),
            Self::SameIpType(place) => {
                write!(f, "policy {place}: an earlier one has the same IpType; choose another one")
            }
            Self::SameSlaField(place) => {
                write!(f, "policy {place}: its SLA field is empty or an earlier policy's; choose another one")
            }
            Self::SameBlock(place) => write!(f, "policy {place}: an earlier one has the same block; choose a free one"),
        }
    }
}

impl core::error::Error for RegistryError {}

/// A policy's SLA field without the mark of IPv6, which each field may have.
fn field_of(policy: &dyn Policy) -> &'static str {
    policy.sla_field().trim_end_matches("_v6")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Candidate, Candidates, Memory, NewFlow};

    #[test]
    fn block_numbers_are_pinned() {
        let blocks: Vec<_> = Registry::built_in().iter().map(|p| (p.ip_type(), p.sla_field(), p.block())).collect();
        let pinned = [
            ("RR", "rr_ip", 2),
            ("Closest", "closest_ip", 1),
            ("Underutilized", "underutilized_ip", 3),
            ("Sticky", "sticky_ip", 4),
            ("Weighted", "weighted_ip", 5),
            ("Failover", "failover_ip", 6),
        ];
        assert_eq!(blocks, pinned);
        assert_eq!(Registry::built_in().policy(Registry::ROUND_ROBIN).ip_type(), "RR");
    }

    #[test]
    fn the_built_in_policies_keep_the_rules_and_say_what_they_do() {
        assert!(Registry::new(&BUILT_IN).is_ok());
        for policy in Registry::built_in().iter() {
            let summary = policy.summary();
            assert!(summary.ends_with('.') && summary.len() > 20, "{}: {summary}", policy.ip_type());
        }
    }

    #[test]
    fn an_unknown_ip_type_is_not_found_and_a_wrong_place_is_round_robin() {
        assert_eq!(Registry::built_in().find("Nearest"), None);
        assert_eq!(Registry::built_in().find("rr"), None, "the IpType is case-sensitive, as in tables");
        assert_eq!(Registry::built_in().policy(200).ip_type(), "RR");
    }

    /// A policy with these names and block.
    struct Named(&'static str, &'static str, u8);

    impl Policy for Named {
        fn ip_type(&self) -> &'static str {
            self.0
        }
        fn sla_field(&self) -> &'static str {
            self.1
        }
        fn block(&self) -> u8 {
            self.2
        }
        fn summary(&self) -> &'static str {
            "Nothing."
        }
        fn pick(&self, _: &NewFlow, _: &Memory, _: &Candidates<'_>) -> Option<Candidate> {
            None
        }
    }

    /// Round robin, sticky and this one.
    fn with(ip_type: &'static str, sla_field: &'static str, block: u8) -> Result<u8, RegistryError> {
        let added: &'static dyn Policy = Box::leak(Box::new(Named(ip_type, sla_field, block)));
        let all: Vec<&'static dyn Policy> = vec![&RoundRobin, &Sticky, added];
        Registry::new(all.leak()).map(|registry| registry.find(ip_type).unwrap())
    }

    #[test]
    fn a_shell_adds_a_policy_that_keeps_the_rules() {
        assert_eq!(with("LeastFlows", "leastflows_ip", 15), Ok(2));
        assert_eq!(with("SixteenBytesLong", "long_ip", 7), Ok(2));
    }

    #[test]
    fn policies_that_break_a_rule_are_no_registry() {
        assert_eq!(with("Sticky", "other_ip", 15), Err(RegistryError::SameIpType(2)));
        assert_eq!(with("Other", "sticky_ip", 15), Err(RegistryError::SameSlaField(2)));
        assert_eq!(with("Other", "sticky_ip_v6", 15), Err(RegistryError::SameSlaField(2)));
        assert_eq!(with("Other", "", 15), Err(RegistryError::SameSlaField(2)));
        assert_eq!(with("Other", "other_ip", 4), Err(RegistryError::SameBlock(2)));
        for block in [0, 16, 255] {
            assert_eq!(with("Other", "other_ip", block), Err(RegistryError::Block(2)));
        }
        for ip_type in ["", "SeventeenBytesOff"] {
            assert_eq!(with(ip_type, "other_ip", 15), Err(RegistryError::IpTypeLength(2)));
        }
        assert_eq!(Registry::new(&[]).err(), Some(RegistryError::RoundRobinFirst));
        assert_eq!(Registry::new(&[&Closest, &RoundRobin]).err(), Some(RegistryError::RoundRobinFirst));
        let many: Vec<_> = (0..=SERVICE_IPS_MAX).map(|_| &RoundRobin as &'static dyn Policy).collect();
        assert_eq!(Registry::new(many.leak()).err(), Some(RegistryError::TooMany));
    }
}
