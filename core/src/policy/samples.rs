//! Candidates to try policies on, as the table hands them over.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use super::{Candidate, Candidates, Memory, NewFlow, Policy};
use crate::link::Link;
use crate::table::Instance;

/// The instances of a service and the memory of one of its service IPs.
pub struct Fleet {
    instances: BTreeMap<u32, Candidate>,
    excluded: BTreeSet<u32>,
    pub memory: Memory,
}

/// An instance of weight 1 on a node of its own, at no known distance.
pub fn candidate(number: u32) -> Candidate {
    Candidate { number, node: number, weight: 1, ..Candidate::new(number as usize, &Instance::EMPTY, None) }
}

/// A flow of the `n`-th source.
pub fn flow_from(n: u32) -> NewFlow {
    let source = std::net::Ipv4Addr::from_bits(0x0a1e_4000 + n).to_ipv6_mapped().octets();
    NewFlow { source, destination: [1; 16], protocol: 17, src_port: 1024, dst_port: 80 }
}

impl Fleet {
    pub fn of(instances: impl IntoIterator<Item = Candidate>) -> Self {
        let instances = instances.into_iter().map(|candidate| (candidate.number, candidate)).collect();
        Self { instances, excluded: BTreeSet::new(), memory: Memory::NEW }
    }

    /// Puts an instance in, or changes it.
    pub fn put(&mut self, candidate: Candidate) {
        self.instances.insert(candidate.number, candidate);
    }

    /// The instance is there but may not be picked, as when its reverse path is taken.
    pub fn exclude(&mut self, number: u32) {
        self.excluded.insert(number);
    }

    pub fn admit(&mut self, number: u32) {
        self.excluded.remove(&number);
    }

    pub fn with_candidates<T>(&self, see: impl FnOnce(&Candidates<'_>) -> T) -> T {
        let place = |found: Option<(&u32, &Candidate)>| found.map_or(0, |(number, _)| (number + 1) as Link);
        let first = place(self.instances.first_key_value());
        let behind = |number: u32| match self.instances.range(number..).next() {
            None => first,
            found => place(found),
        };
        let look = |at: Link| {
            let number = at as usize as u32 - 1;
            let instance = self.instances.get(&number)?;
            let may = !self.excluded.contains(&instance.number);
            Some((may.then_some(*instance), behind(number + 1)))
        };
        see(&Candidates::new(first, behind(self.memory.last), &look))
    }

    /// The number of the instance that a flow is begun to.
    pub fn next(&mut self, policy: &dyn Policy, flow: &NewFlow) -> Option<u32> {
        let picked = self.with_candidates(|candidates| policy.pick(flow, &self.memory, candidates))?.number;
        self.memory.note(picked);
        Some(picked)
    }

    /// Begins flows of one source and returns where they went; ends early when one goes nowhere.
    pub fn run(&mut self, policy: &dyn Policy, flows: usize) -> Vec<u32> {
        (0..flows).map_while(|_| self.next(policy, &flow_from(0))).collect()
    }
}
