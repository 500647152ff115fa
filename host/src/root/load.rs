//! Builds the state from the rows of a file, and refuses rows that contradict each other or the address plan.

use std::net::IpAddr;

use acorn_core::addr::{AddressPlan, Dual};
use acorn_core::ids::{InstanceId, NodeId, ServiceId};
use acorn_core::time::Instant;

use super::addresses::PoolId;
use super::clock::Clock;
use super::pool::Slot;
use super::row::{ClusterRow, Edit, InstanceRow, NodeRow, Resource, Row, ServiceRow};
use super::settings::{Limits, RootSettings};
use super::state::State;
use super::store::Fault;

/// The state that `rows`, in the order of the file, describe.
pub(super) fn load(
    rows: Vec<Row>,
    plan: AddressPlan,
    settings: &RootSettings,
    limits: &Limits,
    now: Instant,
    clock: &Clock,
) -> Result<State, Fault> {
    let mut state = State::new(plan, settings, limits);
    for row in rows {
        match &row {
            Row::Node(id, row) => check_node(&state, *id, row)?,
            Row::Cluster(id, row) => check_cluster(&state, *id, row)?,
            Row::Service(id, row) => check_service(&state, *id, row)?,
            Row::Instance(id, row) => check_instance(&state, *id, row)?,
            // What the plan does not have any more can't be given to anybody either.
            Row::Release(resource, _) if state.addresses.locate(*resource).is_none() => continue,
            Row::Release(resource, _) if state.addresses.slot(*resource).is_some() => {
                return Err(Fault::Damaged(format!("{resource:?} is both owned and free")));
            }
            Row::Counters(_)
            | Row::Release(..)
            | Row::JoinKey(..)
            | Row::RegisteredKey(_)
            | Row::Request(..)
            | Row::Watch(..) => {}
        }
        state.apply(now, clock, Edit::Put(row));
    }
    state.begin();
    Ok(state)
}

fn check_node(state: &State, id: NodeId, row: &NodeRow) -> Result<(), Fault> {
    let base = row.subnet.v4().base();
    if state.addresses.subnet(base) != Some(row.subnet) {
        return Err(Fault::OutsidePlan(format!("node {} ({}) has the worker subnet {}", id.0, row.name, row.subnet)));
    }
    if state.addresses.slot(Resource::Subnet(base)).is_some() {
        return Err(Fault::Damaged(format!("the worker subnet {} has two owners", row.subnet)));
    }
    if id.0 > state.counters.nodes || state.node_keys.contains_key(&row.key) {
        return Err(Fault::Damaged(format!("node {} is there twice", id.0)));
    }
    Ok(())
}

fn check_cluster(state: &State, id: NodeId, row: &ClusterRow) -> Result<(), Fault> {
    let is_known = state.node_keys.contains_key(&row.key) || state.cluster_keys.contains_key(&row.key);
    if id.0 > state.counters.nodes || state.nodes.contains_key(&id) || is_known {
        return Err(Fault::Damaged(format!("cluster {} ({}) is there twice", id.0, row.name)));
    }
    Ok(())
}

fn check_service(state: &State, id: ServiceId, row: &ServiceRow) -> Result<(), Fault> {
    let damaged = || Err(Fault::Damaged(format!("service {} ({}) contradicts another row", id.0, row.name)));
    let known = match row.host {
        Some(node) => !state.nodes.contains_key(&node) || state.hosts.contains_key(&node),
        None => state.names.contains_key(&row.name),
    };
    if known || id.0 > state.counters.services {
        return damaged();
    }
    for ip in &row.ips {
        check_addresses(state, ip.address, PoolId::PolicyV6(ip.block), &format!("service {}", row.name))?;
    }
    for fixed in &row.fixed {
        let who = format!("instance {} of service {}", fixed.number, row.name);
        check_address(state, fixed.address, instance_pool(fixed.address), &who)?;
    }
    Ok(())
}

fn check_instance(state: &State, id: InstanceId, row: &InstanceRow) -> Result<(), Fault> {
    let place = state.nodes.get(&row.node).and_then(|node| {
        let offset = node.row.subnet.offset_of(row.namespace_ip.v4.into())?;
        node.row.subnet.namespace_ip(offset).filter(|pair| pair.dual() == row.namespace_ip)
    });
    let is_free = !state.places.contains_key(&(row.node, row.namespace_ip.v4));
    if place.is_none() || !is_free || !state.services.contains_key(&id.service) {
        return Err(Fault::Damaged(format!(
            "instance {} of service {} contradicts another row",
            id.number, id.service.0
        )));
    }
    let service = state.services.get(&id.service);
    let (v4, v6) = service.map_or((None, None), |service| service.row.fixed_of(id.number));
    let who = format!("instance {} of service {}", id.number, id.service.0);
    let pair = [(row.instance_ip.v4.into(), v4.map(IpAddr::V4)), (row.instance_ip.v6.into(), v6.map(IpAddr::V6))];
    for (address, fixed) in pair {
        match fixed {
            // Its service has it already, for this instance.
            Some(fixed) if fixed == address => {}
            Some(_) => return Err(Fault::Damaged(format!("{who} does not have the address that is kept for it"))),
            None => check_address(state, address, instance_pool(address), &who)?,
        }
    }
    Ok(())
}

/// Where the addresses of instances come from.
fn instance_pool(address: IpAddr) -> PoolId {
    if address.is_ipv4() { PoolId::V4 } else { PoolId::InstanceV6 }
}

fn check_addresses(state: &State, pair: Dual, v6: PoolId, who: &str) -> Result<(), Fault> {
    check_address(state, pair.v4.into(), PoolId::V4, who)?;
    check_address(state, pair.v6.into(), v6, who)
}

fn check_address(state: &State, address: IpAddr, pool: PoolId, who: &str) -> Result<(), Fault> {
    let resource = Resource::Address(address);
    if state.addresses.locate(resource).map(|(pool, _)| pool) != Some(pool) {
        return Err(Fault::OutsidePlan(format!("{who} has the address {address}")));
    }
    if state.addresses.slot(resource) == Some(Slot::Taken) {
        return Err(Fault::Damaged(format!("the address {address} has two owners")));
    }
    Ok(())
}
