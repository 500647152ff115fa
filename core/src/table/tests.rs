#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;

use super::samples::{endpoint, header, node_record, record, service_ip};
use super::*;
use crate::addr::Family;
use crate::ids::NodeId;
use crate::policy::NewFlow;
use crate::sync::message::NodeRecord;
use crate::time::{Duration, Instant};

const SERVICES: usize = 3;
const INSTANCES: usize = 8;
const NODES: usize = 3;
type Small = Table<SERVICES, INSTANCES, NODES>;

const REGISTRY: Registry = Registry::built_in();
const FLOW: NewFlow = NewFlow { source: [1; 16], destination: [2; 16], protocol: 6, src_port: 1024, dst_port: 80 };

#[derive(Clone, Debug)]
enum Op {
    Header(u32, Vec<u32>),
    Put { service: u32, number: u32, node: u32 },
    RemoveInstance(u32, u32),
    RemoveService(u32),
    Pick { service: u32, which: usize },
    Dead { service: u32, number: u32 },
}

fn op() -> impl Strategy<Value = Op> {
    let (service, number, node) = (1..6u32, 0..6u32, 1..6u32);
    prop_oneof![
        1 => (service.clone(), prop::sample::subsequence(vec![0u32, 1, 2], 0..=3)).prop_map(|(s, ips)| {
            // Each service has addresses of its own.
            Op::Header(s, ips.into_iter().map(|ip| s * 8 + ip).collect())
        }),
        4 => (service.clone(), number.clone(), node).prop_map(|(service, number, node)| Op::Put { service, number, node }),
        2 => (service.clone(), number.clone()).prop_map(|(s, n)| Op::RemoveInstance(s, n)),
        1 => service.clone().prop_map(Op::RemoveService),
        4 => (service.clone(), 0..3usize).prop_map(|(service, which)| Op::Pick { service, which }),
        1 => (service, number).prop_map(|(service, number)| Op::Dead { service, number }),
    ]
}

#[derive(Clone, Debug, Default)]
struct ModelService {
    ips: Vec<u32>,
    /// Number to node, and whether it is alive.
    instances: BTreeMap<u32, (u32, bool)>,
}

/// What the table should hold, in the simplest way to say it.
#[derive(Default)]
struct Model {
    services: BTreeMap<u32, ModelService>,
    /// By service IP; outlives the services.
    cursors: BTreeMap<u32, u32>,
}

impl Model {
    fn instances(&self) -> usize {
        self.services.values().map(|s| s.instances.len()).sum()
    }

    fn nodes(&self) -> BTreeSet<u32> {
        let all = self.services.values().flat_map(|s| s.instances.values());
        all.map(|(node, _)| *node).collect()
    }
}

/// Takes out all nodes that nothing needs, and returns their keys.
fn drop_idle_nodes(table: &mut Small) -> Vec<NodeKey> {
    let mut gone = Vec::new();
    // More than are told at once may be idle.
    for _ in 0..2 {
        table.end_idle_nodes(Instant(1), Duration::ZERO);
        gone.extend(core::iter::from_fn(|| table.poll_node_gone()).map(|(_, key)| key));
    }
    gone
}

fn put(table: &mut Small, service: u32, number: u32, node: u32, alive: bool) -> Result<usize, TableFull> {
    let row = table.ensure_service(ServiceId(service))?;
    let node_row = table.put_node(&node_record(node))?;
    let record = InstanceRecord { alive, ..record(service, number, node) };
    table.put_instance(row, &record, node_row)
}

fn apply(table: &mut Small, model: &mut Model, op: &Op) -> Result<(), TestCaseError> {
    let services_full =
        |model: &Model, service: &u32| !model.services.contains_key(service) && model.services.len() == SERVICES;
    match op {
        Op::Header(service, ips) => match table.ensure_service(ServiceId(*service)) {
            Ok(row) => {
                prop_assert!(!services_full(model, service));
                table.set_header(row, &header(ips), &REGISTRY);
                let entry = model.services.entry(*service).or_default();
                entry.ips.clone_from(ips);
            }
            Err(full) => {
                prop_assert!(services_full(model, service));
                prop_assert_eq!(full, TableFull { kind: Kind::Services, limit: SERVICES });
            }
        },
        Op::Put { service, number, node } => {
            let is_new = !model.services.get(service).is_some_and(|s| s.instances.contains_key(number));
            let mut nodes = model.nodes();
            nodes.insert(*node);
            let expected = if services_full(model, service) {
                Err((Kind::Services, SERVICES))
            } else if nodes.len() > NODES {
                Err((Kind::Nodes, NODES))
            } else if is_new && model.instances() == INSTANCES {
                Err((Kind::Instances, INSTANCES))
            } else {
                Ok(())
            };
            let result = put(table, *service, *number, *node, true);
            prop_assert_eq!(result.map(drop), expected.map_err(|(kind, limit)| TableFull { kind, limit }));
            if expected != Err((Kind::Services, SERVICES)) {
                // The service's row was made before the node or the instance found no room.
                let entry = model.services.entry(*service).or_default();
                if expected.is_ok() {
                    entry.instances.insert(*number, (*node, true));
                }
            }
        }
        Op::RemoveInstance(service, number) => {
            if let Some(row) = table.find_service(ServiceId(*service))
                && let Some(slot) = table.find_instance(row, *number)
            {
                table.remove_instance(slot);
            }
            if let Some(entry) = model.services.get_mut(service) {
                entry.instances.remove(number);
            }
        }
        Op::RemoveService(service) => {
            if let Some(row) = table.find_service(ServiceId(*service)) {
                table.remove_service(row);
            }
            model.services.remove(service);
        }
        Op::Pick { service, which } => {
            let picked = table
                .find_service(ServiceId(*service))
                .and_then(|row| {
                    let slot = table.pick(row, *which, &REGISTRY, &FLOW, |_, _| true)?;
                    table.advance(row, *which, slot);
                    table.instance(slot)
                })
                .map(|instance| instance.number);
            let expected = model.services.get(service).and_then(|entry| {
                let cursor = model.cursors.entry(*entry.ips.get(*which)?).or_insert(0);
                let alive = || entry.instances.iter().filter(|(_, (_, alive))| *alive);
                let next = alive().find(|(number, _)| **number >= *cursor).or(alive().next());
                let number = *next?.0;
                *cursor = number + 1;
                Some(number)
            });
            prop_assert_eq!(picked, expected);
        }
        Op::Dead { service, number } => {
            if let Some(entry) = model.services.get_mut(service)
                && let Some((node, alive)) = entry.instances.get_mut(number)
            {
                *alive = false;
                put(table, *service, *number, *node, false).unwrap();
            }
        }
    }
    Ok(())
}

/// Every address of the model finds its owner, every other one finds nothing, lists are in order, counts are right.
fn check(table: &Small, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(table.len(), (model.services.len(), model.instances(), model.nodes().len()));
    for service in 1..6 {
        let entry = model.services.get(&service);
        let row = table.find_service(ServiceId(service));
        prop_assert_eq!(row.is_some(), entry.is_some());
        for family in [Family::V4, Family::V6] {
            for ip in 0..3 {
                let owner = table.owner(service_ip(service * 8 + ip).of(family));
                let which = entry.and_then(|e| e.ips.iter().position(|x| *x == service * 8 + ip));
                let expected = which.and_then(|which| row.map(|row| Owner::Service(row, which)));
                prop_assert_eq!(owner, expected);
            }
            for number in 0..6 {
                let place = entry.and_then(|e| e.instances.get(&number));
                for node in 1..6 {
                    let addresses = record(service, number, node);
                    let found = table.owner(addresses.namespace_ip.of(family));
                    let here = place.is_some_and(|(n, _)| *n == node);
                    prop_assert_eq!(matches!(found, Some(Owner::Namespace(_))), here);
                    prop_assert_eq!(found.is_some(), here);
                }
                let ip = record(service, number, 1).instance_ip.of(family);
                match (table.owner(ip), place) {
                    (Some(Owner::Instance(slot)), Some((node, alive))) => {
                        let instance = table.instance(slot).unwrap();
                        prop_assert_eq!(instance.number, number);
                        prop_assert_eq!(Some(instance.service), row);
                        prop_assert_eq!(instance.alive, *alive);
                        let on = table.node(instance.node).unwrap();
                        prop_assert_eq!(on.id, NodeId(*node));
                    }
                    (None, None) => {}
                    (found, expected) => {
                        prop_assert!(false, "{ip}: {found:?}, not {expected:?}");
                    }
                }
            }
        }
        if let (Some(entry), Some(row)) = (entry, row) {
            let numbers: Vec<_> = table.instances_of(row).map(|slot| table.instance(slot).unwrap().number).collect();
            let expected: Vec<_> = entry.instances.keys().copied().collect();
            prop_assert_eq!(numbers, expected);
            prop_assert_eq!(table.service(row).unwrap().instances as usize, entry.instances.len());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_holds_what_a_map_holds_and_takes_turns_by_number(
        ops in prop::collection::vec(op(), 1..60),
        key in any::<(u64, u64)>(),
    ) {
        let mut table = Box::new(Small::new());
        table.set_hash_key(HashKey(key.0, key.1));
        let mut model = Model::default();
        for op in &ops {
            apply(&mut table, &mut model, op)?;
            drop_idle_nodes(&mut table);
            check(&table, &model)?;
        }
    }
}

fn filled(numbers: impl IntoIterator<Item = u32>) -> (Box<Small>, usize) {
    let mut table = Box::new(Small::new());
    let service = table.ensure_service(ServiceId(1)).unwrap();
    table.set_header(service, &header(&[1]), &REGISTRY);
    for number in numbers {
        put(&mut table, 1, number, 1, true).unwrap();
    }
    (table, service)
}

#[test]
fn tables_that_are_full_say_which_and_change_nothing() {
    let (mut table, service) = filled(0..INSTANCES as u32);
    let before = table.len();
    let node = table.put_node(&node_record(1)).unwrap();
    assert_eq!(
        table.put_instance(service, &record(1, 99, 1), node),
        Err(TableFull { kind: Kind::Instances, limit: INSTANCES })
    );
    assert_eq!(table.owner(IpAddr::V4(record(1, 99, 1).instance_ip.v4)), None);
    for manager in [2, 3] {
        let row = table.put_node(&node_record(manager)).unwrap();
        table.node_mut(row).unwrap().manager = true;
    }
    assert_eq!(table.put_node(&node_record(4)), Err(TableFull { kind: Kind::Nodes, limit: NODES }));
    table.ensure_service(ServiceId(2)).unwrap();
    table.ensure_service(ServiceId(3)).unwrap();
    assert_eq!(table.ensure_service(ServiceId(4)), Err(TableFull { kind: Kind::Services, limit: SERVICES }));
    assert_eq!(table.len(), (SERVICES, before.1, NODES));
    assert!(
        table.put_instance(service, &record(1, 3, 1), node).is_ok(),
        "what is there can be changed in a full table"
    );
}

#[test]
fn a_reference_goes_stale_when_the_instance_moves_and_not_when_it_only_changes() {
    let (mut table, service) = filled(0..2);
    let slot = table.find_instance(service, 0).unwrap();
    let reference = table.instance_ref(slot).unwrap();
    table.count_flow(reference, true);
    put(&mut table, 1, 0, 1, false).unwrap();
    assert!(table.is_current(reference), "it is silent, and where it was");
    assert_eq!(table.instance(slot).unwrap().flows, 1);
    put(&mut table, 1, 0, 2, true).unwrap();
    assert!(!table.is_current(reference), "it is on another node");
    assert_eq!(table.instance(slot).unwrap().flows, 0);
    table.count_flow(reference, false);
    assert_eq!(table.instance(slot).unwrap().flows, 0);
    let reference = table.instance_ref(slot).unwrap();
    table.remove_instance(slot);
    assert!(!table.is_current(reference), "it is gone");
}

#[test]
fn the_cursor_outlives_the_table_entry() {
    let (mut table, service) = filled(0..3);
    let slot = table.pick(service, 0, &REGISTRY, &FLOW, |_, _| true).unwrap();
    table.advance(service, 0, slot);
    table.remove_service(service);
    assert_eq!(table.owner(IpAddr::V4(service_ip(1).v4)), None);
    let service = table.ensure_service(ServiceId(1)).unwrap();
    table.set_header(service, &header(&[1]), &REGISTRY);
    for number in 0..3 {
        put(&mut table, 1, number, 1, true).unwrap();
    }
    let slot = table.pick(service, 0, &REGISTRY, &FLOW, |_, _| true).unwrap();
    assert_eq!(table.instance(slot).unwrap().number, 1);
}

#[test]
fn the_turn_of_an_address_that_a_service_gives_up_goes_on_when_it_has_it_again() {
    let (mut table, service) = filled(0..3);
    let slot = table.pick(service, 0, &REGISTRY, &FLOW, |_, _| true).unwrap();
    table.advance(service, 0, slot);
    table.set_header(service, &header(&[2]), &REGISTRY);
    assert_eq!(table.owner(IpAddr::V4(service_ip(1).v4)), None);
    table.set_header(service, &header(&[2, 1]), &REGISTRY);
    let slot = table.pick(service, 1, &REGISTRY, &FLOW, |_, _| true).unwrap();
    assert_eq!(table.instance(slot).unwrap().number, 1);
}

#[test]
fn a_policy_that_is_not_known_is_served_round_robin_and_counted() {
    let mut table = Box::new(Small::new());
    let service = table.ensure_service(ServiceId(1)).unwrap();
    let mut of_tomorrow = header(&[1, 2]);
    of_tomorrow.service_ips[1].ip_type = "Nearest".try_into().unwrap();
    table.set_header(service, &of_tomorrow, &REGISTRY);
    assert_eq!(table.unknown_policies(), 1);
    let policies: Vec<_> = table.service(service).unwrap().ips.iter().map(|ip| ip.policy).collect();
    assert_eq!(policies, [Registry::ROUND_ROBIN; 2]);
}

#[test]
fn news_of_a_node_are_told_once_and_a_new_epoch_is_a_restart() {
    let mut table = Box::new(Small::new());
    let slot = table.put_node(&node_record(1)).unwrap();
    let reference = table.node_ref(slot).unwrap();
    assert_eq!(table.poll_node_news(), Some((reference, false)));
    assert_eq!(table.poll_node_news(), None);
    table.put_node(&node_record(1)).unwrap();
    assert_eq!(table.poll_node_news(), None, "nothing new was said");
    let moved = NodeRecord { endpoint: endpoint(9), ..node_record(1) };
    table.put_node(&moved).unwrap();
    assert_eq!(table.poll_node_news(), Some((reference, false)));
    table.put_node(&NodeRecord { epoch: 2, ..moved }).unwrap();
    assert_eq!(table.poll_node_news(), Some((reference, true)));
}

#[test]
fn a_node_without_instances_is_idle_unless_it_is_a_manager_or_this_one() {
    let (mut table, service) = filled([0]);
    assert_eq!(drop_idle_nodes(&mut table), []);
    let manager = table.put_node(&node_record(2)).unwrap();
    table.node_mut(manager).unwrap().manager = true;
    let own = table.put_node(&node_record(3)).unwrap();
    table.node_mut(own).unwrap().is_self = true;
    assert_eq!(drop_idle_nodes(&mut table), []);
    let slot = table.find_instance(service, 0).unwrap();
    let node = table.instance(slot).unwrap().node;
    let key = table.node(node).unwrap().key;
    table.remove_instance(slot);
    assert_eq!(drop_idle_nodes(&mut table), [key]);
    table.node_mut(manager).unwrap().manager = false;
    let key = node_record(2).key;
    assert_eq!(drop_idle_nodes(&mut table), [key], "it is a manager no more");
}

#[test]
fn an_idle_node_lingers_unless_it_is_needed_again_or_its_place_is() {
    let linger = Duration::from_millis(100);
    let (mut table, service) = filled([0]);
    let slot = table.find_instance(service, 0).unwrap();
    let first = table.node(table.instance(slot).unwrap().node).unwrap().key;
    table.remove_instance(slot);
    assert_eq!(table.end_idle_nodes(Instant(10), linger), Some(Instant(110)));
    put(&mut table, 1, 0, 1, true).unwrap();
    assert_eq!(table.end_idle_nodes(Instant(200), linger), None, "it is needed again");
    let slot = table.find_instance(service, 0).unwrap();
    table.remove_instance(slot);
    assert_eq!(table.end_idle_nodes(Instant(300), linger), Some(Instant(400)));
    table.end_idle_nodes(Instant(399), linger);
    assert!(table.find_node(&first).is_some());
    // As many others as fit: the one that has been idle longest makes room, the next one the next.
    for node in 0..NODES as u32 {
        table.put_node(&node_record(100 + node)).unwrap();
        table.end_idle_nodes(Instant(310 + u64::from(node)), linger);
    }
    assert!(table.find_node(&first).is_none());
    assert_eq!(table.poll_node_gone().map(|(_, key)| key), Some(first));
    table.put_node(&node_record(200)).unwrap();
    assert_eq!(table.poll_node_gone().map(|(_, key)| key), Some(node_record(100).key));
    assert_eq!(table.poll_node_gone(), None);
}

#[test]
fn a_row_that_is_used_again_does_not_mislead_the_turn() {
    let (mut table, service) = filled([0, 1, 2, 4]);
    let next = |table: &mut Small| {
        let slot = table.pick(service, 0, &REGISTRY, &FLOW, |_, _| true).unwrap();
        table.advance(service, 0, slot);
        table.instance(slot).unwrap().number
    };
    assert_eq!([(); 3].map(|()| next(&mut table)), [0, 1, 2]);
    // 4 is next, in its row; 2 comes back in that row.
    for number in [2, 4] {
        let slot = table.find_instance(service, number).unwrap();
        table.remove_instance(slot);
    }
    put(&mut table, 1, 2, 1, true).unwrap();
    assert_eq!(next(&mut table), 0);
}
