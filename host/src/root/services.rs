//! The operator's side of services: create, remove, show.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use acorn_core::addr::{CustomAddressError, Dual, Family, PolicyBlock, WorkerSubnet};
use acorn_core::ids::{Endpoint, NodeId, NodeKey, ServiceId, ServiceName};
use acorn_core::sync::message::{IpType, SERVICE_IPS_MAX};
use acorn_core::time::Instant;

use super::Root;
use super::addresses::PoolId;
use super::draft::Draft;
use super::pool::Slot;
use super::row::{FixedRow, Resource, Row, ServiceIpRow, ServiceRow};
use super::settings::{FIXED_MAX, INSTANCE_NUMBER_MAX};
use super::state::Service;
use super::store::StoreError;

/// The service IP of a service under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRequest {
    /// The policy's name, as in `RR`.
    pub ip_type: IpType,
    /// The policy's IPv6 block.
    pub block: PolicyBlock,
    /// The IPv4 address, if it must be a certain one.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address, if it must be a certain one.
    pub v6: Option<Ipv6Addr>,
}

/// A service to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRequest {
    /// Its name.
    pub name: ServiceName,
    /// One service IP per policy, 1 to [`SERVICE_IPS_MAX`].
    pub addresses: Vec<AddressRequest>,
    /// The addresses that certain instances have whenever they run, at most [`FIXED_MAX`] and one per instance and family.
    pub fixed: Vec<FixedAddress>,
}

/// An instance IP that belongs to one instance of a service, also while it does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedAddress {
    /// The instance's number.
    pub number: u32,
    /// The address.
    pub address: IpAddr,
}

/// A service as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Its number.
    pub id: ServiceId,
    /// Its name.
    pub name: ServiceName,
    /// Its service IPs by policy.
    pub service_ips: Vec<(IpType, Dual)>,
    /// Its instances in the order of their numbers.
    pub instances: Vec<InstanceInfo>,
}

/// An instance as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceInfo {
    /// Its number in the service.
    pub number: u32,
    /// Its instance IP.
    pub instance_ip: Dual,
    /// Its namespace IP.
    pub namespace_ip: Dual,
    /// The key of its node.
    pub node: NodeKey,
    /// The name of its node.
    pub node_name: String,
    /// Its node is heard from.
    pub alive: bool,
    /// Its node has said since its last start that it runs the instance.
    pub attached: bool,
    /// Its share under a weighted policy; 1 is normal.
    pub weight: u16,
    /// Its rank under a failover policy; the lowest comes first.
    pub priority: u16,
    /// Its load in thousandths, as it was last reported to this process.
    pub load: u16,
    /// It is going away: no new flows.
    pub draining: bool,
}

/// A node as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number.
    pub id: NodeId,
    /// Its name, for people; several nodes can have the same.
    pub name: String,
    /// Its key.
    pub key: NodeKey,
    /// Its subnets; a cluster has none.
    pub subnet: Option<WorkerSubnet>,
    /// The name of the cluster that it is behind.
    pub cluster: Option<String>,
    /// Where it is.
    pub endpoint: Endpoint,
    /// It is heard from.
    pub alive: bool,
    /// When it was last heard from, in seconds since 1970; up to an hour too early just after the root has started.
    pub last_seen: u64,
    /// How many instances run on it, its host's own not counted.
    pub instances: usize,
}

/// Why a service was not created or removed. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is one of that name.
    #[error("there is a service {0} already: remove it first, or choose another name")]
    AlreadyExists(Box<ServiceName>),
    /// There is none of that name.
    #[error("there is no service {0}: `acorn service ls` lists those that there are")]
    NotFound(Box<ServiceName>),
    /// It has instances.
    #[error("service {name} still has {count} instance(s), number {number} on node {node}: detach them first")]
    InUse {
        /// The service.
        name: Box<ServiceName>,
        /// How many instances it has.
        count: usize,
        /// The lowest number of them.
        number: u32,
        /// The name of the node that runs that one.
        node: String,
    },
    /// The request names no policy, too many, or one twice; or the service has no name.
    #[error(
        "a service needs a name, 1 to {SERVICE_IPS_MAX} addresses, each under another policy, and at most {FIXED_MAX} fixed instance addresses, one per instance and family"
    )]
    Malformed,
    /// The address belongs to somebody.
    #[error("the address {address} belongs to {by}: choose another, or write `auto` to get the next free one")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        by: String,
    },
    /// The address was freed a moment ago.
    #[error(
        "the address {address} was freed a moment ago and may still be known to somebody: try again later, or choose another"
    )]
    AddressResting {
        /// The address.
        address: IpAddr,
    },
    /// The address is not one that a service can have under the policy.
    #[error("the address {address} can't be a service's under {ip_type}: {reason}")]
    OutsidePlan {
        /// The policy's name.
        ip_type: IpType,
        /// The address.
        address: IpAddr,
        /// The rule that it breaks.
        reason: CustomAddressError,
    },
    /// The address is not one that an instance can have.
    #[error("the address {address} can't be that of instance {number}: it is not in the pool of instance addresses")]
    InstanceOutsidePlan {
        /// The instance's number.
        number: u32,
        /// The address.
        address: IpAddr,
    },
    /// All addresses are taken or resting.
    #[error(
        "all {limit} {family} addresses are taken or were freed a moment ago: remove something, or try again later"
    )]
    Exhausted {
        /// The family that has run out.
        family: Family,
        /// How many there are.
        limit: u32,
    },
    /// There are as many services as there can be.
    #[error("there are {limit} services, and no more can be held: remove one first")]
    Full {
        /// How many there can be.
        limit: usize,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

impl Root {
    /// Creates a service and gives it its addresses, all of them or none.
    ///
    /// # Errors
    /// [`ServiceError`]; nothing has changed then.
    pub fn create_service(&mut self, now: Instant, request: ServiceRequest) -> Result<ServiceInfo, ServiceError> {
        let name = request.name.clone();
        let created = self.create_services(now, vec![request])?;
        created.into_iter().next().ok_or(ServiceError::NotFound(name.into()))
    }

    /// Creates services and gives them their addresses: all services with all of their addresses, or nothing.
    ///
    /// # Errors
    /// [`ServiceError`]; nothing has changed then.
    pub fn create_services(
        &mut self,
        now: Instant,
        requests: Vec<ServiceRequest>,
    ) -> Result<Vec<ServiceInfo>, ServiceError> {
        self.check_requests(&requests)?;
        let names: Vec<_> = requests.iter().map(|request| request.name.clone()).collect();
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        // What must be certain comes first, so that the rest is not given it.
        for request in &requests {
            for address in &request.addresses {
                self.claim_custom(&mut draft, address)?;
            }
            for fixed in &request.fixed {
                self.claim_fixed(&mut draft, *fixed)?;
            }
        }
        for request in requests {
            let mut ips = Vec::new();
            for AddressRequest { ip_type, block, v4, v6 } in request.addresses {
                let limit = self.state.addresses.plan().last_service_v4();
                let v4 = v4.or_else(|| draft.claim_v4());
                let v4 = v4.ok_or(ServiceError::Exhausted { family: Family::V4, limit })?;
                let v6 = v6.or_else(|| draft.claim_policy_v6(block));
                let v6 = v6.ok_or(ServiceError::Exhausted { family: Family::V6, limit })?;
                ips.push(ServiceIpRow { ip_type, block, address: Dual::new(v4, v6) });
            }
            let id = draft.new_service_id().ok_or(ServiceError::Full { limit: self.limits.services })?;
            let fixed = request.fixed.iter().map(|fixed| FixedRow { number: fixed.number, address: fixed.address });
            let row = ServiceRow { name: request.name, host: None, ips, fixed: fixed.collect() };
            draft.put(Row::Service(id, row));
        }
        let edits = draft.into_edits();
        self.commit(now, edits)?;
        let created = names.into_iter().map(|name| self.service(&name).ok_or(ServiceError::NotFound(name.into())));
        created.collect()
    }

    /// Removes a service that has no instances. Its addresses are free again when all clients know, after the quarantine; its
    /// name is free at once.
    ///
    /// # Errors
    /// [`ServiceError`]; nothing has changed then.
    pub fn remove_service(&mut self, now: Instant, name: &ServiceName) -> Result<(), ServiceError> {
        let id = self.state.names.get(name).copied();
        let (id, service) = id
            .and_then(|id| Some((id, self.state.services.get(&id)?)))
            .ok_or_else(|| ServiceError::NotFound(name.clone().into()))?;
        if let Some((number, instance)) = service.instances.first_key_value() {
            return Err(ServiceError::InUse {
                name: name.clone().into(),
                count: service.instances.len(),
                number: *number,
                node: self.node_name(instance.row.node),
            });
        }
        let mut draft = Draft::new(&self.state, &self.settings, self.clock, now);
        draft.remove_service(id, &service.row);
        let edits = draft.into_edits();
        Ok(self.commit(now, edits)?)
    }

    /// All services in the order of their names.
    pub fn services(&self) -> Vec<ServiceInfo> {
        let ids = self.state.names.values();
        ids.filter_map(|id| Some(self.info(*id, self.state.services.get(id)?))).collect()
    }

    /// One service.
    pub fn service(&self, name: &ServiceName) -> Option<ServiceInfo> {
        let id = *self.state.names.get(name)?;
        Some(self.info(id, self.state.services.get(&id)?))
    }

    /// All nodes and clusters in the order of their numbers.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let nodes = self.state.nodes.iter().map(|(&id, node)| {
            let host = self.state.hosts.get(&id);
            let cluster = node.row.via.map(|via| self.state.clusters.get(&via));
            NodeInfo {
                id,
                name: node.row.name.clone(),
                key: node.row.key,
                subnet: Some(node.row.subnet),
                cluster: cluster.map(|cluster| cluster.map_or("(forgotten)".to_owned(), |c| c.row.name.clone())),
                endpoint: node.row.endpoint,
                alive: node.alive,
                last_seen: node.heard.map_or(node.row.last_seen_unix, |heard| self.clock.unix(heard)),
                instances: node.instances.iter().filter(|instance| Some(&instance.service) != host).count(),
            }
        });
        let clusters = self.state.clusters.iter().map(|(&id, cluster)| NodeInfo {
            id,
            name: cluster.row.name.clone(),
            key: cluster.row.key,
            subnet: None,
            cluster: None,
            endpoint: cluster.row.endpoint,
            alive: cluster.alive,
            last_seen: cluster.heard.map_or(cluster.row.last_seen_unix, |heard| self.clock.unix(heard)),
            instances: 0,
        });
        let mut all: Vec<NodeInfo> = nodes.chain(clusters).collect();
        all.sort_by_key(|node| node.id);
        all
    }

    fn info(&self, id: ServiceId, service: &Service) -> ServiceInfo {
        let instances = service.instances.iter().filter_map(|(&number, instance)| {
            let node = self.state.nodes.get(&instance.row.node)?;
            Some(InstanceInfo {
                number,
                instance_ip: instance.row.instance_ip,
                namespace_ip: instance.row.namespace_ip,
                node: node.row.key,
                node_name: node.row.name.clone(),
                alive: node.alive,
                attached: instance.row.epoch == node.row.epoch,
                weight: instance.row.settings.weight,
                priority: instance.row.settings.priority,
                load: instance.load,
                draining: instance.row.settings.draining,
            })
        });
        ServiceInfo {
            id,
            name: service.row.name.clone(),
            service_ips: service.row.ips.iter().map(|ip| (ip.ip_type.clone(), ip.address)).collect(),
            instances: instances.collect(),
        }
    }

    fn check_requests(&self, requests: &[ServiceRequest]) -> Result<(), ServiceError> {
        let mut names = BTreeSet::new();
        for request in requests {
            let name = &request.name;
            if *name == ServiceName::EMPTY || !is_well_formed(&request.addresses) || !is_fixed_once(&request.fixed) {
                return Err(ServiceError::Malformed);
            }
            if self.state.names.contains_key(name) || !names.insert(name) {
                return Err(ServiceError::AlreadyExists(name.clone().into()));
            }
        }
        if self.state.names.len().saturating_add(requests.len()) > self.limits.services {
            return Err(ServiceError::Full { limit: self.limits.services });
        }
        Ok(())
    }

    fn claim_fixed(
        &self,
        draft: &mut Draft<'_>,
        FixedAddress { number, address }: FixedAddress,
    ) -> Result<(), ServiceError> {
        let pool = self.state.addresses.locate(Resource::Address(address)).map(|(pool, _)| pool);
        if !matches!(pool, Some(PoolId::V4 | PoolId::InstanceV6)) {
            return Err(ServiceError::InstanceOutsidePlan { number, address });
        }
        self.claim_address(draft, address)
    }

    /// Reserves the addresses that are asked for by themselves.
    fn claim_custom(&self, draft: &mut Draft<'_>, request: &AddressRequest) -> Result<(), ServiceError> {
        let plan = self.state.addresses.plan();
        let outside = |address, reason| ServiceError::OutsidePlan { ip_type: request.ip_type.clone(), address, reason };
        if let Some(v4) = request.v4 {
            plan.check_custom_v4(v4).map_err(|reason| outside(v4.into(), reason))?;
            self.claim_address(draft, v4.into())?;
        }
        if let Some(v6) = request.v6 {
            plan.check_custom_v6(request.block, v6).map_err(|reason| outside(v6.into(), reason))?;
            self.claim_address(draft, v6.into())?;
        }
        Ok(())
    }

    fn claim_address(&self, draft: &mut Draft<'_>, address: IpAddr) -> Result<(), ServiceError> {
        let resource = Resource::Address(address);
        if draft.is_free(resource) {
            draft.claim(resource);
            return Ok(());
        }
        match self.state.addresses.slot(resource) {
            Some(Slot::Withdrawn | Slot::Quarantine(_)) => Err(ServiceError::AddressResting { address }),
            Some(Slot::Taken) | None => Err(ServiceError::AddressTaken { address, by: self.owner(address) }),
        }
    }

    /// Whose an address is, for people.
    fn owner(&self, address: IpAddr) -> String {
        let Some(subject) = self.state.addresses.owner(address) else {
            return "something else in the same request".to_owned();
        };
        let Some(service) = self.state.services.get(&subject.service) else {
            return "nobody".to_owned();
        };
        match (service.row.host, subject.instance) {
            (Some(node), _) => format!("the host of node {}", self.node_name(node)),
            (None, None) => format!("service {}", service.row.name),
            (None, Some(number)) => format!("instance {number} of service {}", service.row.name),
        }
    }

    fn node_name(&self, id: NodeId) -> String {
        self.state.nodes.get(&id).map_or_else(String::new, |node| node.row.name.clone())
    }
}

fn is_well_formed(addresses: &[AddressRequest]) -> bool {
    let is_distinct = addresses.iter().enumerate().all(|(place, one)| {
        addresses[..place].iter().all(|other| one.ip_type != other.ip_type && one.block != other.block)
    });
    is_distinct && !addresses.is_empty() && addresses.len() <= SERVICE_IPS_MAX
}

fn is_fixed_once(fixed: &[FixedAddress]) -> bool {
    let distinct: BTreeSet<_> = fixed.iter().map(|fixed| (fixed.number, fixed.address.is_ipv4())).collect();
    distinct.len() == fixed.len()
        && fixed.len() <= FIXED_MAX
        && fixed.iter().all(|fixed| fixed.number <= INSTANCE_NUMBER_MAX)
}
