//! Who owns which address and which worker subnet, and what would be given next. The pools are those of the address plan.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use acorn_core::addr::{AddressPlan, PolicyBlock, Subnet4, WORKER_PREFIX_V4, WorkerSubnet};
use acorn_core::sync::message::Subject;
use acorn_core::time::Instant;

use super::pool::{Pool, Slot};
use super::row::Resource;

/// How many [`PolicyBlock`]s there are.
const BLOCKS: usize = 15;

/// Which pool something comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PoolId {
    /// The IPv4 addresses of services and instances.
    V4,
    /// The IPv6 addresses of instances.
    InstanceV6,
    /// The IPv6 addresses of services under one policy.
    PolicyV6(PolicyBlock),
    /// The worker subnets; the offset is the subnet's index plus one.
    Subnets,
}

#[derive(Clone, Debug)]
pub(super) struct Addresses {
    plan: AddressPlan,
    v4: Pool,
    instance_v6: Pool,
    /// By block number, from block 1.
    policy_v6: Vec<Pool>,
    subnets: Pool,
    owners: HashMap<IpAddr, Subject>,
}

impl Addresses {
    /// Nothing is taken. The IPv6 pools give as many offsets as there are IPv4 addresses: no more can ever be in use.
    pub(super) fn new(plan: AddressPlan) -> Self {
        let last = plan.last_service_v4();
        Self {
            plan,
            v4: Pool::new(last),
            instance_v6: Pool::new(last),
            policy_v6: vec![Pool::new(last); BLOCKS],
            subnets: Pool::new(plan.worker_count()),
            owners: HashMap::new(),
        }
    }

    pub(super) fn plan(&self) -> &AddressPlan {
        &self.plan
    }

    /// The service or instance that owns an address.
    pub(super) fn owner(&self, address: IpAddr) -> Option<Subject> {
        self.owners.get(&address).copied()
    }

    pub(super) fn pool(&self, id: PoolId) -> &Pool {
        match id {
            PoolId::V4 => &self.v4,
            PoolId::InstanceV6 => &self.instance_v6,
            PoolId::PolicyV6(block) => &self.policy_v6[usize::from(block.get()) - 1],
            PoolId::Subnets => &self.subnets,
        }
    }

    /// Where a resource is accounted for; none when the plan does not have it.
    pub(super) fn locate(&self, resource: Resource) -> Option<(PoolId, u128)> {
        match resource {
            Resource::Address(IpAddr::V4(v4)) => Some((PoolId::V4, self.plan.check_custom_v4(v4).ok()?.into())),
            Resource::Address(IpAddr::V6(v6)) => match self.plan.policy_block_of(v6) {
                Some(block) => Some((PoolId::PolicyV6(block), self.plan.check_custom_v6(block, v6).ok()?)),
                None => Some((PoolId::InstanceV6, self.plan.instance_v6_offset(v6)?.into())),
            },
            Resource::Subnet(base) => {
                let subnet = Subnet4::new(base, WORKER_PREFIX_V4).ok()?;
                Some((PoolId::Subnets, u128::from(self.plan.worker_index(subnet).ok()?) + 1))
            }
        }
    }

    /// What is known of a resource; none when it is fresh, or not in the plan.
    pub(super) fn slot(&self, resource: Resource) -> Option<Slot> {
        let (pool, offset) = self.locate(resource)?;
        self.pool(pool).slot(offset)
    }

    /// The next IPv4 address, from the bottom or from the top, that is not in `claimed`.
    pub(super) fn next_v4(&self, now: Instant, claimed: &BTreeSet<Resource>, from_top: bool) -> Option<Ipv4Addr> {
        self.plan.service_v4(self.next(PoolId::V4, now, claimed, from_top)?)
    }

    /// The next instance IP of IPv6.
    pub(super) fn next_instance_v6(
        &self,
        now: Instant,
        claimed: &BTreeSet<Resource>,
        from_top: bool,
    ) -> Option<Ipv6Addr> {
        self.plan.instance_v6(self.next(PoolId::InstanceV6, now, claimed, from_top)?)
    }

    /// The next service IP of IPv6 under a policy.
    pub(super) fn next_policy_v6(
        &self,
        block: PolicyBlock,
        now: Instant,
        claimed: &BTreeSet<Resource>,
    ) -> Option<Ipv6Addr> {
        self.plan.policy_v6(block, self.next(PoolId::PolicyV6(block), now, claimed, false)?)
    }

    /// The next worker subnet.
    pub(super) fn next_subnet(&self, now: Instant, claimed: &BTreeSet<Resource>) -> Option<WorkerSubnet> {
        let index = self.next(PoolId::Subnets, now, claimed, false)?.checked_sub(1)?;
        self.plan.worker_subnet(index)
    }

    /// The worker subnet with this IPv4 base; none when the plan has none.
    pub(super) fn subnet(&self, base: Ipv4Addr) -> Option<WorkerSubnet> {
        let subnet = Subnet4::new(base, WORKER_PREFIX_V4).ok()?;
        self.plan.worker_subnet(self.plan.worker_index(subnet).ok()?)
    }

    pub(super) fn take_address(&mut self, address: IpAddr, owner: Subject) {
        self.owners.insert(address, owner);
        self.set(Resource::Address(address), Slot::Taken);
    }

    pub(super) fn take_subnet(&mut self, subnet: WorkerSubnet) {
        self.set(Resource::Subnet(subnet.v4().base()), Slot::Taken);
    }

    /// The resource has no owner any more, but is not free yet.
    pub(super) fn release(&mut self, resource: Resource, slot: Slot) {
        if let Resource::Address(address) = resource {
            self.owners.remove(&address);
        }
        self.set(resource, slot);
    }

    /// Whether a released resource needs no row any more once its quarantine is over: the pool never gives it by itself.
    pub(super) fn is_forgettable(&self, resource: Resource) -> bool {
        self.locate(resource).is_none_or(|(pool, offset)| !self.pool(pool).gives(offset))
    }

    pub(super) fn forget(&mut self, resource: Resource) {
        if let Some((pool, offset)) = self.locate(resource) {
            self.pool_mut(pool).forget(offset);
        }
    }

    fn next(&self, id: PoolId, now: Instant, claimed: &BTreeSet<Resource>, from_top: bool) -> Option<u32> {
        let located = claimed.iter().filter_map(|&resource| self.locate(resource));
        let claimed = located.filter(|(pool, _)| *pool == id).map(|(_, offset)| offset).collect();
        let pool = self.pool(id);
        if from_top { pool.next_from_top(now, &claimed) } else { pool.next(now, &claimed) }
    }

    fn set(&mut self, resource: Resource, slot: Slot) {
        if let Some((pool, offset)) = self.locate(resource) {
            self.pool_mut(pool).set(offset, slot);
        }
    }

    fn pool_mut(&mut self, id: PoolId) -> &mut Pool {
        match id {
            PoolId::V4 => &mut self.v4,
            PoolId::InstanceV6 => &mut self.instance_v6,
            PoolId::PolicyV6(block) => &mut self.policy_v6[usize::from(block.get()) - 1],
            PoolId::Subnets => &mut self.subnets,
        }
    }
}
