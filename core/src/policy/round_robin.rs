//! `RR`: each new flow goes to the instance behind the one that the last flow went to.

use super::{Candidate, Policy};

/// Exact round robin per service IP: over any run of flows, two instances that stay in the table differ by at most one.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin;

impl Policy for RoundRobin {
    fn ip_type(&self) -> &'static str {
        "RR"
    }

    fn sla_field(&self) -> &'static str {
        "rr_ip"
    }

    fn block(&self) -> u8 {
        2
    }

    fn pick(&self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Candidate> {
        candidates.next()
    }
}
