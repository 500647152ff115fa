//! Picking: what a policy gets to see of a service's instances, and what its service IP remembers of the picks.

use super::{Instance, Node, ServiceIp, Table, entry};
use crate::coordinate::Coordinate;
use crate::link::Link;
use crate::policy::{Candidate, Candidates, NewFlow, Registry};
use crate::time::Duration;

impl<const S: usize, const I: usize, const N: usize> Table<S, I, N> {
    /// Lets the policy of a service IP pick among its instances for which `usable` holds. [`Self::advance`] ends the turn.
    pub(crate) fn pick(
        &self,
        service: usize,
        which: usize,
        registry: &Registry,
        flow: &NewFlow,
        usable: impl Fn(&Instance, &Node) -> bool,
    ) -> Option<usize> {
        let row = self.service(service)?;
        let (ip, first) = (row.ips.get(which)?, row.first);
        let look = |at: Link| {
            let slot = (at as usize).checked_sub(1)?;
            let instance = self.instances.get(slot)?;
            let node = self.nodes.get(instance.node)?;
            let may = instance.alive && !instance.draining && !node.avoided && usable(instance, node);
            let candidate = may.then(|| Candidate::new(slot, instance, self.distance(instance, node)));
            Some((candidate, if instance.next == 0 { first } else { instance.next }))
        };
        let candidates = Candidates::new(first, self.next_in_turn(service, ip), &look);
        let picked = registry.policy(ip.policy).pick(flow, &ip.memory, &candidates);
        picked.map(|candidate| candidate.row())
    }

    /// A flow to the instance that was picked has begun: the next turn of the service IP begins behind it.
    pub(crate) fn advance(&mut self, service: usize, which: usize, picked: usize) {
        let Some(instance) = self.instances.get(picked) else {
            return;
        };
        let (number, next_row) = (instance.number, instance.next);
        if let Some(ip) = self.services.get_mut(service).and_then(|service| service.ips.get_mut(which)) {
            ip.memory.note(number);
            ip.next_row = next_row;
        }
    }

    /// Sets or forgets the measured round trip to a node. More than 71 minutes count as that.
    pub(crate) fn set_round_trip(&mut self, node: usize, round_trip: Option<Duration>) {
        if self.node_slots.is_used(node)
            && let Some(node) = self.nodes.get_mut(node)
        {
            let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1);
            node.round_trip_micros = round_trip.map_or(0, micros);
        }
    }

    /// Sets where this node is.
    pub(crate) fn set_coordinate(&mut self, coordinate: Coordinate) {
        self.coordinate = coordinate;
    }

    /// The round trip to an instance's node in microseconds: measured, else predicted; 0 for this node and no other.
    pub(crate) fn distance(&self, instance: &Instance, node: &Node) -> Option<u32> {
        if node.is_self {
            return Some(0);
        }
        if node.round_trip_micros != 0 {
            return Some(node.round_trip_micros);
        }
        let there = Coordinate(instance.coordinate);
        let both = self.coordinate.is_known() && there.is_known();
        both.then(|| self.coordinate.distance(there).max(1))
    }

    /// Where a turn through the instances begins, as a list entry: at the first one behind the last pick. The remembered row saves
    /// the walk while the table stays as it is.
    fn next_in_turn(&self, service: usize, ip: &ServiceIp) -> Link {
        let lowest = ip.memory.last;
        if let Some(slot) = (ip.next_row as usize).checked_sub(1)
            && self.instance_slots.is_used(slot)
            && let Some(row) = self.instances.get(slot)
            && row.service == service
            && row.number >= lowest
            && (row.previous as usize)
                .checked_sub(1)
                .is_none_or(|p| self.instances.get(p).is_some_and(|p| p.number < lowest))
        {
            return ip.next_row;
        }
        let first = self.service(service).map_or(0, |s| s.first);
        self.instances_of(service)
            .find(|slot| self.instance(*slot).is_some_and(|i| i.number >= lowest))
            .map_or(first, entry)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::ids::ServiceId;
    use crate::policy::{Memory, Policy, RoundRobin};
    use crate::sync::message::InstanceRecord;
    use crate::table::samples::{header, node_record, record};

    type Small = Table<2, 8, 8>;
    const FLOW: NewFlow = NewFlow { source: [1; 16], destination: [2; 16], protocol: 6, src_port: 1024, dst_port: 80 };

    thread_local! {
        static SEEN: RefCell<Vec<(NewFlow, Memory, Vec<Candidate>)>> = const { RefCell::new(Vec::new()) };
    }

    /// Picks the last candidate, and writes down what it was given.
    struct Spy;

    impl Policy for Spy {
        fn ip_type(&self) -> &'static str {
            "Spy"
        }
        fn sla_field(&self) -> &'static str {
            "spy_ip"
        }
        fn block(&self) -> u8 {
            15
        }
        fn summary(&self) -> &'static str {
            "The last candidate."
        }
        fn pick(&self, flow: &NewFlow, memory: &Memory, candidates: &Candidates<'_>) -> Option<Candidate> {
            SEEN.with_borrow_mut(|seen| seen.push((*flow, *memory, candidates.iter().collect())));
            candidates.iter().last()
        }
    }

    fn registry() -> Registry {
        Registry::new(&[&RoundRobin, &Spy]).unwrap()
    }

    fn spied_header() -> crate::sync::message::ServiceHeader {
        let mut header = header(&[1]);
        header.service_ips[0].ip_type = "Spy".try_into().unwrap();
        header
    }

    /// A service with one instance on each of the nodes 1, 2, ..., numbered from 0, under one address.
    fn filled(records: impl IntoIterator<Item = InstanceRecord>) -> (Box<Small>, usize) {
        let mut table = Box::new(Small::new());
        let service = table.ensure_service(ServiceId(1)).unwrap();
        table.set_header(service, &spied_header(), &registry());
        for record in records {
            let node = table.put_node(&node_record(record.node.0)).unwrap();
            table.put_instance(service, &record, node).unwrap();
        }
        (table, service)
    }

    /// Picks, begins the flow, and returns the number of the instance and what the policy saw.
    fn turn(table: &mut Small, service: usize) -> (Option<u32>, (NewFlow, Memory, Vec<Candidate>)) {
        let picked = table.pick(service, 0, &registry(), &FLOW, |_, _| true);
        if let Some(slot) = picked {
            table.advance(service, 0, slot);
        }
        let number = picked.and_then(|slot| table.instance(slot)).map(|instance| instance.number);
        (number, SEEN.take().pop().unwrap())
    }

    fn distances(table: &mut Small, service: usize) -> Vec<Option<u32>> {
        let mut seen = turn(table, service).1.2;
        seen.sort_by_key(|candidate| candidate.number);
        seen.iter().map(|candidate| candidate.distance).collect()
    }

    #[test]
    fn a_policy_sees_the_flow_its_memory_and_each_usable_instance_as_the_table_has_it() {
        let record = |number| record(1, number, number + 1);
        let (mut table, service) = filled([
            InstanceRecord { weight: 7, priority: 8, load: 9, ..record(0) },
            InstanceRecord { alive: false, ..record(1) },
            InstanceRecord { draining: true, ..record(2) },
            record(3),
            record(4),
        ]);
        let avoided = table.find_node(&node_record(5).key).unwrap();
        table.node_mut(avoided).unwrap().avoided = true;
        let busy = table.find_instance(service, 3).unwrap();
        table.count_flow(table.instance_ref(busy).unwrap(), true);

        let (picked, (flow, memory, seen)) = turn(&mut table, service);
        assert_eq!((picked, flow, memory), (Some(3), FLOW, Memory::default()));
        let told = |c: &Candidate| (c.number, c.weight, c.priority, c.load, c.flows);
        assert_eq!(seen.iter().map(told).collect::<Vec<_>>(), [(0, 7, 8, 9, 0), (3, 1, 0, 0, 1)]);
        assert_ne!(seen[0].node, seen[1].node);
        let (_, (_, memory, seen)) = turn(&mut table, service);
        assert_eq!(memory, Memory { turns: 1, last: 4 });
        assert_eq!(seen.iter().map(|c| c.number).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(table.service(service).unwrap().ips[0].memory, Memory { turns: 2, last: 4 });
    }

    #[test]
    fn a_flow_that_does_not_begin_leaves_no_memory() {
        let (mut table, service) = filled([record(1, 0, 1)]);
        for excluded in [true, false] {
            let picked = table.pick(service, 0, &registry(), &FLOW, |_, _| !excluded);
            assert_eq!(picked.is_none(), excluded);
        }
        assert_eq!(table.service(service).unwrap().ips[0].memory, Memory::default());
        turn(&mut table, service);
        assert_eq!(table.service(service).unwrap().ips[0].memory, Memory { turns: 1, last: 1 });
    }

    #[test]
    fn a_memory_outlives_the_table_entry() {
        let (mut table, service) = filled([record(1, 0, 1), record(1, 1, 2)]);
        for _ in 0..3 {
            turn(&mut table, service);
        }
        table.remove_service(service);
        let service = table.ensure_service(ServiceId(1)).unwrap();
        table.set_header(service, &spied_header(), &registry());
        assert_eq!(table.service(service).unwrap().ips[0].memory, Memory { turns: 3, last: 2 });
    }

    #[test]
    fn as_many_memories_outlive_their_entries_as_there_is_room_for_services() {
        let mut table = Box::new(Small::new());
        let begin = |table: &mut Small, id| {
            let service = table.ensure_service(ServiceId(id)).unwrap();
            let mut named = header(&[id]);
            named.service_ips[0].ip_type = "Spy".try_into().unwrap();
            table.set_header(service, &named, &registry());
            let memory = table.service(service).unwrap().ips[0].memory;
            let node = table.put_node(&node_record(id)).unwrap();
            table.put_instance(service, &record(id, 0, id), node).unwrap();
            (service, memory)
        };
        for id in [1, 2, 3] {
            let (service, memory) = begin(&mut table, id);
            assert_eq!(memory, Memory::default());
            turn(&mut table, service);
            table.remove_service(service);
        }
        let (unused, _) = begin(&mut table, 4);
        table.remove_service(unused);
        let mut turns = |id| {
            let (service, memory) = begin(&mut table, id);
            table.remove_service(service);
            memory.turns
        };
        assert_eq!([3, 2, 1].map(&mut turns), [1, 1, 0], "the oldest has made room; what was never used takes none");
    }

    #[test]
    fn a_distance_is_0_here_then_measured_then_predicted_then_unknown() {
        let (mut table, service) = filled((0..4).map(|number| {
            let coordinate = if number == 3 { [0; 3] } else { [160, 0, 16] };
            InstanceRecord { coordinate, ..record(1, number, number + 1) }
        }));
        let node = |table: &Small, n| table.find_node(&node_record(n).key).unwrap();
        let (own, measured) = (node(&table, 1), node(&table, 2));
        table.node_mut(own).unwrap().is_self = true;
        table.set_round_trip(own, Some(Duration::from_millis(5)));
        table.set_round_trip(measured, Some(Duration::from_nanos(1_234_999)));
        assert_eq!(distances(&mut table, service), [Some(0), Some(1_234), None, None], "its own place is not known");
        table.set_coordinate(Coordinate([0, 0, 16]));
        assert_eq!(distances(&mut table, service), [Some(0), Some(1_234), Some(12_000), None]);
        assert_eq!(table.node(measured).unwrap().round_trip(), Some(Duration::from_micros(1_234)));

        table.set_round_trip(measured, None);
        assert_eq!(distances(&mut table, service)[1], Some(12_000), "the measurement is forgotten");
        assert_eq!(table.node(measured).unwrap().round_trip(), None);
        for (time, distance) in [(Duration::ZERO, 1), (Duration::MAX, u32::MAX)] {
            table.set_round_trip(measured, Some(time));
            assert_eq!(distances(&mut table, service)[1], Some(distance));
        }
        table.set_coordinate(Coordinate([160, 0, -1]));
        let there = InstanceRecord { coordinate: [160, 0, 0], ..record(1, 2, 3) };
        let third = node(&table, 3);
        table.put_instance(service, &there, third).unwrap();
        assert_eq!(distances(&mut table, service)[2], Some(1), "another node at the same place is not this one");
    }

    #[test]
    fn a_node_that_comes_back_in_the_row_of_another_has_no_measurement() {
        let (mut table, service) = filled([record(1, 0, 1)]);
        let first = table.find_node(&node_record(1).key).unwrap();
        table.set_round_trip(first, Some(Duration::from_millis(5)));
        let slot = table.find_instance(service, 0).unwrap();
        table.remove_instance(slot);
        table.end_idle_nodes(crate::time::Instant(1), Duration::ZERO);
        table.set_round_trip(first, Some(Duration::from_millis(5)));
        let second = table.put_node(&node_record(2)).unwrap();
        assert_eq!(second, first);
        assert_eq!(table.node(second).unwrap().round_trip(), None);
    }
}
