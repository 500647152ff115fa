//! One operation in the making: the edits of rows that it will consist of. Nothing has happened until they are stored.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use acorn_core::addr::{Dual, PolicyBlock, WorkerSubnet};
use acorn_core::ids::{InstanceId, NodeId, ServiceId};
use acorn_core::sync::message::Refusal;
use acorn_core::time::Instant;

use super::clock::{Clock, millis};
use super::pool::Slot;
use super::row::{Counters, Edit, ReleaseRow, Resource, Row, RowKey, ServiceRow};
use super::settings::RootSettings;
use super::state::State;

pub(super) struct Draft<'a> {
    state: &'a State,
    settings: &'a RootSettings,
    clock: Clock,
    now: Instant,
    edits: Vec<Edit>,
    counters: Counters,
    /// What this operation already gives to somebody.
    claimed: BTreeSet<Resource>,
    withdrawn: usize,
}

impl<'a> Draft<'a> {
    pub(super) fn new(state: &'a State, settings: &'a RootSettings, clock: Clock, now: Instant) -> Self {
        Self {
            state,
            settings,
            clock,
            now,
            edits: Vec::new(),
            counters: state.counters,
            claimed: BTreeSet::new(),
            withdrawn: 0,
        }
    }

    pub(super) fn state(&self) -> &'a State {
        self.state
    }

    pub(super) fn put(&mut self, row: Row) {
        self.edits.push(Edit::Put(row));
    }

    pub(super) fn delete(&mut self, key: RowKey) {
        self.edits.push(Edit::Delete(key));
    }

    /// The edits, in the order in which they have to be applied.
    pub(super) fn into_edits(mut self) -> Vec<Edit> {
        if self.counters != self.state.counters {
            self.edits.push(Edit::Put(Row::Counters(self.counters)));
        }
        self.edits
    }

    /// How many instances there will be.
    pub(super) fn instance_count(&self) -> usize {
        self.state.instance_count.saturating_sub(self.withdrawn)
    }

    /// A number that no service ever had; none when they have run out.
    pub(super) fn new_service_id(&mut self) -> Option<ServiceId> {
        self.counters.services = self.counters.services.checked_add(1)?;
        Some(ServiceId(self.counters.services))
    }

    /// A number that no node ever had; none when they have run out.
    pub(super) fn new_node_id(&mut self) -> Option<NodeId> {
        self.counters.nodes = self.counters.nodes.checked_add(1)?;
        Some(NodeId(self.counters.nodes))
    }

    /// The next IPv4 address.
    pub(super) fn claim_v4(&mut self) -> Option<Ipv4Addr> {
        let address = self.state.addresses.next_v4(self.now, &self.claimed, false)?;
        self.claim(Resource::Address(address.into()));
        Some(address)
    }

    /// The next service IP of IPv6 under a policy.
    pub(super) fn claim_policy_v6(&mut self, block: PolicyBlock) -> Option<Ipv6Addr> {
        let address = self.state.addresses.next_policy_v6(block, self.now, &self.claimed)?;
        self.claim(Resource::Address(address.into()));
        Some(address)
    }

    /// The next instance IP, or what the service keeps for this instance; for a host from the top of both pools.
    pub(super) fn claim_instance_ip(&mut self, id: InstanceId, from_top: bool) -> Option<Dual> {
        let service = self.state.services.get(&id.service);
        let (fixed_v4, fixed_v6) = service.map_or((None, None), |service| service.row.fixed_of(id.number));
        let v4 = fixed_v4.or_else(|| self.state.addresses.next_v4(self.now, &self.claimed, from_top))?;
        let v6 = fixed_v6.or_else(|| self.state.addresses.next_instance_v6(self.now, &self.claimed, from_top))?;
        self.claim(Resource::Address(v4.into()));
        self.claim(Resource::Address(v6.into()));
        Some(Dual::new(v4, v6))
    }

    /// This very resource, which the caller found to be free.
    pub(super) fn claim(&mut self, resource: Resource) {
        self.claimed.insert(resource);
        if self.state.releases.contains_key(&resource) {
            self.delete(RowKey::Release(resource));
        }
    }

    /// Whether this operation or somebody else has a resource, or it is not free yet.
    pub(super) fn is_free(&self, resource: Resource) -> bool {
        !self.claimed.contains(&resource)
            && match self.state.addresses.slot(resource) {
                None => true,
                Some(Slot::Quarantine(rest)) => rest.until <= self.now,
                Some(Slot::Taken | Slot::Withdrawn) => false,
            }
    }

    /// The worker subnet of a node: the one that it asks for, or else the one that it has, or else the next.
    ///
    /// # Errors
    /// [`Refusal::Subnet`], [`Refusal::SubnetsExhausted`].
    pub(super) fn claim_subnet(
        &mut self,
        has: Option<WorkerSubnet>,
        requested: Option<Ipv4Addr>,
    ) -> Result<WorkerSubnet, Refusal> {
        let subnet = match (requested, has) {
            (Some(base), Some(has)) if has.v4().base() == base => return Ok(has),
            (None, Some(has)) => return Ok(has),
            (Some(base), _) => {
                let subnet = self.state.addresses.subnet(base).ok_or(Refusal::Subnet)?;
                if !self.is_free(Resource::Subnet(base)) {
                    return Err(Refusal::Subnet);
                }
                subnet
            }
            (None, None) => {
                self.state.addresses.next_subnet(self.now, &self.claimed).ok_or(Refusal::SubnetsExhausted)?
            }
        };
        self.claim(Resource::Subnet(subnet.v4().base()));
        Ok(subnet)
    }

    /// Takes an instance out of its service. Its addresses wait for the clients to know.
    pub(super) fn withdraw(&mut self, id: InstanceId) {
        let Some(instance) = self.state.instance(id) else {
            return;
        };
        self.withdrawn += 1;
        self.delete(RowKey::Instance(id));
        let pair = instance.row.instance_ip;
        let service = self.state.services.get(&id.service);
        for address in [IpAddr::V4(pair.v4), IpAddr::V6(pair.v6)] {
            if !service.is_some_and(|service| service.row.keeps(address)) {
                self.release_address(id.service, address);
            }
        }
    }

    /// Takes a service out, which has no instances. Its addresses wait for the clients to know.
    pub(super) fn remove_service(&mut self, id: ServiceId, row: &ServiceRow) {
        self.delete(RowKey::Service(id));
        for ip in &row.ips {
            self.release_address(id, ip.address.v4.into());
            self.release_address(id, ip.address.v6.into());
        }
        for fixed in &row.fixed {
            self.release_address(id, fixed.address);
        }
    }

    /// A node forgotten, or moved to another subnet. A late packet to the old one goes through the old node's tunnel, so no client
    /// has to know first.
    pub(super) fn release_subnet(&mut self, subnet: WorkerSubnet) {
        self.quarantine(Resource::Subnet(subnet.v4().base()));
    }

    /// Everybody knows that a resource was withdrawn.
    pub(super) fn quarantine(&mut self, resource: Resource) {
        let until_unix_ms = self.clock.unix_ms(self.now).saturating_add(millis(self.settings.quarantine));
        self.put(Row::Release(resource, ReleaseRow::Quarantine { until_unix_ms }));
    }

    fn release_address(&mut self, service: ServiceId, address: IpAddr) {
        let since_unix_ms = self.clock.unix_ms(self.now);
        let row = ReleaseRow::Withdrawn { service, since_unix_ms, acknowledged: BTreeSet::new() };
        self.put(Row::Release(Resource::Address(address), row));
    }
}
