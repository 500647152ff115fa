//! What a node knows of addresses, tables and policies.

use acorn_core::addr::{AddressPlan, Subnet4, WorkerSubnet};
use acorn_core::policy::Registry;
use acorn_core::sync::message::{InstanceRecord, NodeRecord};
use acorn_core::table::{Owner, Table};
use acorn_core::{NodeId, NodeKey, ServiceId};

use super::node::pair;

fn first_subnet() -> WorkerSubnet {
    let plan = AddressPlan::DEFAULT;
    let index = plan.worker_index(Subnet4::new([10, 18, 0, 0].into(), 26).unwrap()).unwrap();
    plan.worker_subnet(index).unwrap()
}

/// `TestIncIP_simple`, and the allocator as measured: it gives 61 addresses, `.2` to `.62`, because `.1` is its bridge. Acorn needs no bridge
/// and gives all 62.
#[test]
fn namespace_addresses() {
    let subnet = first_subnet();
    assert_eq!(subnet.last_host(), 62);
    let at = |offset| subnet.namespace_ip(offset).unwrap().dual();
    assert_eq!(at(1), pair("10.18.0.1", "fc00::1"));
    assert_eq!(at(2), pair("10.18.0.2", "fc00::2"));
    assert_eq!(at(62), pair("10.18.0.62", "fc00::3e"));
    assert!(subnet.namespace_ip(0).is_none() && subnet.namespace_ip(63).is_none());
}

/// The `IpType` as measured: its spelling counts, and what is not known is no policy. The original takes that for an instance IP; Acorn serves
/// it round robin and counts it.
#[test]
fn ip_types() {
    let registry = Registry::built_in();
    let block = |ip_type: &str| registry.find(ip_type).map(|place| registry.policy(place).block());
    assert_eq!((block("RR"), block("Closest")), (Some(2), Some(1)));
    for unknown in ["closest", "InstanceNumber", "instance_ip", "foo", ""] {
        assert_eq!(block(unknown), None, "{unknown}");
    }
}

struct Held {
    table: Box<Table<4, 8, 4>>,
    node: usize,
}

impl Held {
    fn new() -> Self {
        let mut table: Box<Table<4, 8, 4>> = Box::default();
        let record = NodeRecord { id: NodeId(1), key: NodeKey([1; 32]), epoch: 1, ..NodeRecord::default() };
        let node = table.put_node(&record).unwrap();
        Self { table, node }
    }

    fn put(&mut self, service: u32, number: u32, v4: &str, v6: &str) {
        let service = self.table.ensure_service(ServiceId(service)).unwrap();
        let record = InstanceRecord {
            number,
            instance_ip: pair(
                &format!("10.30.1.{}", 10 * service + number as usize),
                &format!("fdff::{service}:{number}"),
            ),
            namespace_ip: pair(v4, v6),
            node: NodeId(1),
            alive: true,
            ..InstanceRecord::default()
        };
        self.table.put_instance(service, &record, self.node).unwrap();
    }

    fn remove_at(&mut self, address: &str) {
        let Some(Owner::Namespace(row)) = self.table.owner(address.parse().unwrap()) else {
            panic!("nobody has {address}")
        };
        self.table.remove_instance(row);
    }

    fn instances(&self) -> usize {
        self.table.len().1
    }
}

/// `TestTableInsertSuccessfull`, `TestTableDeleteOne` and `_v6`: an entry is found and removed by either of its addresses.
#[test]
fn one_table_entry() {
    for address in ["10.18.0.1", "fc00::1"] {
        let mut held = Held::new();
        held.put(1, 0, "10.18.0.1", "fc00::1");
        assert_eq!(held.instances(), 1);
        held.remove_at(address);
        assert_eq!(held.instances(), 0);
        assert_eq!(held.table.owner("10.18.0.1".parse().unwrap()), None);
    }
}

/// `TestTableDeleteMany` and `_v6`: the other entry stays.
#[test]
fn one_of_two_table_entries() {
    for address in ["10.18.21.1", "fc00::211"] {
        let mut held = Held::new();
        held.put(1, 0, "10.18.0.1", "fc00::1");
        held.put(1, 1, "10.18.21.1", "fc00::211");
        held.remove_at(address);
        assert_eq!(held.instances(), 1);
        assert!(matches!(held.table.owner("10.18.0.1".parse().unwrap()), Some(Owner::Namespace(_))));
    }
}

/// `TestTableDeleteManyInstances_1` and `_2`: a service goes with all its instances and with nothing else. An entry with half of an address
/// pair, which `_2` and `TestTableInsertError` try, can't be written down here: addresses are pairs by their type, and an instance whose node
/// has no endpoint yet is kept until it has one.
#[test]
fn all_entries_of_a_service() {
    let mut held = Held::new();
    held.put(1, 0, "10.18.0.1", "fc00::1");
    held.put(1, 1, "10.18.0.2", "fc00::2");
    held.put(2, 0, "10.18.0.3", "fc00::3");
    let service = held.table.find_service(ServiceId(1)).unwrap();
    held.table.remove_service(service);
    assert_eq!(held.instances(), 1);
    assert!(held.table.owner("10.18.0.3".parse().unwrap()).is_some());
}
