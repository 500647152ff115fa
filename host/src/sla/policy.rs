//! The balancing policies that an SLA and the command line offer: those of the registry, by their fields.

use std::net::Ipv6Addr;
use std::str::FromStr;

use acorn_core::addr::{AddressPlan, Family, PolicyBlock};
use acorn_core::policy::{Policy, Registry};
use acorn_core::sync::message::IpType;

/// What a field says instead of an address to get one from the pool.
pub(super) const AUTO: &str = "auto";
/// What stands behind the name of a field that is for IPv6.
const V6: &str = "_v6";

/// A balancing policy that a service can have an address under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedPolicy {
    /// Its name in tables, like `RR`.
    pub ip_type: IpType,
    /// The SLA's field for an address under it, like `rr_ip`; the one for IPv6 is [`field_v6`](Self::field_v6).
    pub field: &'static str,
    /// The IPv6 block that its service IPs are in.
    pub block: PolicyBlock,
    /// What it does, in a sentence.
    pub summary: String,
}

impl OfferedPolicy {
    /// The policies of the registry, in its order.
    pub fn built_in() -> Vec<Self> {
        Registry::built_in().iter().map(Self::of).collect()
    }

    /// Round robin, which a service has an address under when it asks for none.
    pub fn round_robin() -> Self {
        Self::of(Registry::built_in().policy(Registry::ROUND_ROBIN))
    }

    /// The SLA's field for an IPv6 address.
    pub fn field_v6(&self) -> String {
        format!("{}{V6}", self.field)
    }

    /// The first IPv6 address of its block, in a plan that is not configured otherwise.
    pub fn example_v6(&self) -> Ipv6Addr {
        let plan = AddressPlan::DEFAULT;
        plan.policy_v6(self.block, 1).unwrap_or_else(|| plan.policy_net(self.block).base())
    }

    /// Which of its addresses a field of the SLA is for; none when the field is not one of this policy.
    pub(super) fn family_of(&self, field: &str) -> Option<Family> {
        match field.strip_prefix(self.field)? {
            "" => Some(Family::V4),
            V6 => Some(Family::V6),
            _ => None,
        }
    }

    fn of(policy: &dyn Policy) -> Self {
        let ip_type = policy.ip_type();
        Self {
            ip_type: ip_type.try_into().expect("a registered IpType is at most 16 bytes long"),
            field: policy.sla_field(),
            block: PolicyBlock::new(policy.block()).expect("a registered block is in 1..=15"),
            summary: policy.summary().to_owned(),
        }
    }
}

/// What an operator writes where an address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<A> {
    /// `auto`: any, from the pool.
    Auto,
    /// This one.
    Fixed(A),
}

impl<A> Choice<A> {
    /// The address, if it has to be a certain one.
    pub fn fixed(self) -> Option<A> {
        match self {
            Self::Auto => None,
            Self::Fixed(address) => Some(address),
        }
    }
}

impl<A: FromStr> FromStr for Choice<A> {
    type Err = A::Err;
    fn from_str(text: &str) -> Result<Self, A::Err> {
        if text == AUTO { Ok(Self::Auto) } else { text.parse().map(Self::Fixed) }
    }
}

/// Round robin and two policies that no registry has, for tests.
#[cfg(test)]
pub(crate) fn samples() -> Vec<OfferedPolicy> {
    let sample = |ip_type: &str, field, block| OfferedPolicy {
        ip_type: ip_type.try_into().unwrap(),
        field,
        block: PolicyBlock::new(block).unwrap(),
        summary: format!("As {ip_type} has it."),
    };
    vec![OfferedPolicy::round_robin(), sample("Nearest", "nearest_ip", 9), sample("Lucky", "lucky_ip", 15)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use acorn_core::sync::message::SERVICE_IPS_MAX;

    use super::*;

    #[test]
    fn all_registered_policies_are_offered_and_fit_into_one_service() {
        let offered = OfferedPolicy::built_in();
        let registered: Vec<_> = Registry::built_in().iter().map(|policy| policy.ip_type()).collect();
        assert_eq!(offered.iter().map(|policy| policy.ip_type.as_str()).collect::<Vec<_>>(), registered);
        assert!(offered.len() <= SERVICE_IPS_MAX);
        assert!(offered.contains(&OfferedPolicy::round_robin()));
        let distinct: BTreeSet<_> = offered.iter().flat_map(|p| [p.field.to_owned(), p.field_v6()]).collect();
        assert_eq!(distinct.len(), 2 * offered.len(), "{distinct:?}");
    }

    #[test]
    fn every_registered_policy_is_documented() {
        let operating = include_str!("../../../docs/operating.md");
        for policy in OfferedPolicy::built_in() {
            let (ip_type, field, net) = (&policy.ip_type, policy.field, AddressPlan::DEFAULT.policy_net(policy.block));
            let line = format!("| `{ip_type}` | `{field}` | `{net}` | ");
            assert!(operating.contains(&line), "docs/operating.md has no line that begins with {line}");
        }
    }

    #[test]
    fn a_field_is_of_one_policy_and_one_family() {
        let rr = OfferedPolicy::round_robin();
        assert_eq!(rr.family_of("rr_ip"), Some(Family::V4));
        assert_eq!(rr.family_of("rr_ip_v6"), Some(Family::V6));
        for other in ["rr_i", "rr_ip_", "rr_ip_v6_v6", "RR_ip", "closest_ip", ""] {
            assert_eq!(rr.family_of(other), None, "{other}");
        }
        assert_eq!(rr.field_v6(), "rr_ip_v6");
        assert_eq!(rr.example_v6().to_string(), "fdff:2000::1");
    }

    #[test]
    fn a_choice_is_auto_or_an_address() {
        let read = |text: &str| text.parse::<Choice<Ipv6Addr>>();
        assert_eq!(read("auto").unwrap().fixed(), None);
        assert_eq!(read("FDFF:2000::0001").unwrap().fixed(), Some("fdff:2000::1".parse().unwrap()));
        for bad in ["Auto", "auto ", "", "10.30.0.1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
