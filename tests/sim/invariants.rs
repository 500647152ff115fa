//! What must hold whatever happens. What must hold of a delivered packet, the application that gets it checks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use acorn_core::InstanceId;
use acorn_core::addr::Dual;

use crate::manager::Manager;
use crate::world::{ROOT, World};

/// Who owns an address, as the root sees it: a service, or an instance of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Service(u32),
    Instance(InstanceId),
}

/// No address of a service, of an instance, or in a node's subnet belongs to two.
pub fn no_address_has_two_owners(manager: &Manager) {
    let mut places: BTreeMap<IpAddr, InstanceId> = BTreeMap::new();
    let mut owners: BTreeMap<IpAddr, Owner> = BTreeMap::new();
    let mut claim = |address: Dual, owner: Owner| {
        for address in [IpAddr::V4(address.v4), IpAddr::V6(address.v6)] {
            if let Some(other) = owners.insert(address, owner) {
                panic!("{address} belongs to {other:?} and to {owner:?}");
            }
        }
    };
    for service in manager.root.services() {
        service.service_ips.iter().for_each(|(_, address)| claim(*address, Owner::Service(service.id.0)));
        for instance in &service.instances {
            let id = InstanceId { service: service.id, number: instance.number };
            claim(instance.instance_ip, Owner::Instance(id));
            if let Some(other) = places.insert(IpAddr::V4(instance.namespace_ip.v4), id) {
                panic!("{} is the place of {other:?} and of {id:?}", instance.namespace_ip);
            }
        }
    }
    let mut subnets = BTreeMap::new();
    for node in manager.root.nodes() {
        let Some(subnet) = node.subnet else { continue };
        if let Some(other) = subnets.insert(subnet.v4().base(), node.id) {
            panic!("the subnet {subnet} is that of {other:?} and of {:?}", node.id);
        }
    }
}

/// An address that a node's table gives to somebody belongs to nobody else at the root: it may be free there, but it was not
/// given away while a node still used it.
pub fn no_address_is_known_as_anothers(world: &World) {
    let Some(manager) = world.hosts[ROOT].process.as_ref().and_then(|process| process.manager.as_ref()) else { return };
    let mut owners = BTreeMap::new();
    for service in manager.root.services() {
        owners.extend(service.service_ips.iter().map(|(_, address)| (address.v4, Owner::Service(service.id.0))));
        let instances = service.instances.iter();
        owners.extend(
            instances
                .map(|i| (i.instance_ip.v4, Owner::Instance(InstanceId { service: service.id, number: i.number }))),
        );
    }
    for (place, host) in world.hosts.iter().enumerate() {
        let Some(node) = host.node() else { continue };
        let table = &node.router().table;
        for slot in table.services() {
            let Some(service) = table.service(slot) else { continue };
            let known = service.ips.iter().map(|ip| (ip.address, Owner::Service(service.id.0)));
            let instances = table.instances_of(slot).filter_map(|slot| table.instance(slot));
            let instances = instances.map(|instance| {
                (instance.instance_ip, Owner::Instance(InstanceId { service: service.id, number: instance.number }))
            });
            for (address, known) in known.chain(instances) {
                if let Some(owner) = owners.get(&address.v4).filter(|owner| **owner != known) {
                    panic!("host {place} takes {address} for that of {known:?}, the root has given it to {owner:?}");
                }
            }
        }
    }
}
