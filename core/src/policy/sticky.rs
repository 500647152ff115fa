//! `Sticky`: all flows of one source go to the same instance.

use core::cmp::Reverse;
use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{Candidate, Candidates, Memory, NewFlow, Policy};

/// Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): each instance has a weight
/// for each source, and the heaviest instance gets all flows of the source. An instance that goes moves its own sources only, to
/// all others alike; one that comes takes its share from all others alike. Nothing is remembered, so all nodes agree, and a node
/// agrees with itself after a restart. A source is an instance, wherever it runs and whichever family it uses.
///
/// The weight is SipHash-1-3 under the key (0, 0) of the source's 16 bytes and the instance's number as four bytes, lowest first;
/// of equal weights the lower number wins. A secret key, as the tables have one, would be wrong here: two nodes would pick
/// different instances, and a restart would move every source. It would protect nothing either: a source can't choose its
/// instance IP, the root does.
#[derive(Clone, Copy, Debug)]
pub struct Sticky;

impl Policy for Sticky {
    fn ip_type(&self) -> &'static str {
        "Sticky"
    }

    fn sla_field(&self) -> &'static str {
        "sticky_ip"
    }

    fn block(&self) -> u8 {
        4
    }

    fn summary(&self) -> &'static str {
        "The same instance for all flows of one source while it lives, the same one on every node."
    }

    fn pick(&self, flow: &NewFlow, _memory: &Memory, candidates: &Candidates<'_>) -> Option<Candidate> {
        candidates.iter().max_by_key(|candidate| (weight(&flow.source, candidate.number), Reverse(candidate.number)))
    }
}

fn weight(source: &[u8; 16], number: u32) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write(source);
    hasher.write(&number.to_le_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::samples::{Fleet, candidate, flow_from};

    const SOURCES: u32 = 10_000;

    /// Where each source's flows go.
    fn places(fleet: &mut Fleet) -> Vec<u32> {
        (0..SOURCES).map(|source| fleet.next(&Sticky, &flow_from(source)).unwrap()).collect()
    }

    fn shares(places: &[u32]) -> BTreeMap<u32, u32> {
        places.iter().fold(BTreeMap::new(), |mut shares, place| {
            *shares.entry(*place).or_default() += 1;
            shares
        })
    }

    #[test]
    fn a_source_stays_whatever_came_before_and_whatever_else_differs() {
        let mut fleet = Fleet::of((0..7).map(candidate));
        let places = places(&mut fleet);
        // Another node, and this one after a restart: nothing is remembered there.
        let mut other = Fleet::of((0..7).map(candidate));
        for source in (0..SOURCES).rev() {
            let flow = NewFlow { src_port: source as u16, dst_port: 7, protocol: 6, ..flow_from(source) };
            assert_eq!(other.next(&Sticky, &flow), Some(places[source as usize]));
        }
    }

    #[test]
    fn each_instance_has_its_share_within_15_percent() {
        // Of 10,000 draws of 1 in 10 the standard deviation is 30: this is five of them.
        for share in shares(&places(&mut Fleet::of((0..10).map(candidate)))).values() {
            assert!((850..=1150).contains(share), "{share}");
        }
    }

    #[test]
    fn an_instance_that_goes_moves_its_own_sources_only_and_to_all_others_alike() {
        let mut fleet = Fleet::of((0..10).map(candidate));
        let before = places(&mut fleet);
        fleet.exclude(3);
        let after = places(&mut fleet);
        for (before, after) in before.iter().zip(&after) {
            assert!(*after != 3 && (before == after || *before == 3));
        }
        let moved: Vec<_> = before.iter().zip(&after).filter(|(before, _)| **before == 3).map(|(_, to)| *to).collect();
        let to = shares(&moved);
        assert!(to.len() == 9 && to.values().all(|share| (60..=170).contains(share)), "{to:?}");
    }

    #[test]
    fn an_instance_that_comes_takes_its_share_and_nothing_else_moves() {
        let mut fleet = Fleet::of((0..9).map(candidate));
        let before = places(&mut fleet);
        fleet.put(candidate(1_000_000));
        let after = places(&mut fleet);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        let moved: Vec<_> = moved.map(|(_, to)| *to).collect();
        assert!(moved.iter().all(|to| *to == 1_000_000));
        assert!((850..=1150).contains(&moved.len()), "{} of {SOURCES}, it should be a tenth", moved.len());
    }

    #[test]
    fn the_hash_is_pinned_because_all_nodes_must_agree() {
        let source = core::net::Ipv4Addr::new(10, 30, 0, 4).to_ipv6_mapped().octets();
        let weights = [0, 1, u32::MAX].map(|number| weight(&source, number));
        // By another implementation of SipHash-1-3.
        assert_eq!(weights, [3_172_393_719_582_620_474, 2_920_192_473_584_898_486, 6_386_127_367_944_229_478]);
    }
}
