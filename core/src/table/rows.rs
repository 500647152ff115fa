//! The rows of the table.

use heapless::Vec;

use crate::addr::Dual;
use crate::ids::{Endpoint, NodeId, NodeKey, ServiceId, ServiceName};
use crate::link::Link;
use crate::measure::probes::Way;
use crate::policy::Memory;
use crate::sync::message::{InstanceRecord, SERVICE_IPS_MAX};
use crate::time::{Duration, Instant};

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its number.
    pub id: ServiceId,
    /// Its name; empty for a host's own instance.
    pub name: ServiceName,
    /// Its service IPs.
    pub ips: Vec<ServiceIp, SERVICE_IPS_MAX>,
    /// All its instances are here; otherwise only those that talk to this node.
    pub complete: bool,
    /// How many instances are here.
    pub instances: u32,
    /// The instance with the lowest number, as a list entry.
    pub(super) first: Link,
    /// The instance with the highest number, as a list entry.
    pub(super) last: Link,
}

impl Service {
    pub(super) const EMPTY: Self = Self {
        id: ServiceId(0),
        name: ServiceName::EMPTY,
        ips: Vec::new(),
        complete: false,
        instances: 0,
        first: 0,
        last: 0,
    };
}

/// One address of a service, with its policy's memory.
#[derive(Clone, Debug)]
pub struct ServiceIp {
    /// The policy's place in the registry.
    pub policy: u8,
    /// The address.
    pub address: Dual,
    /// What its policy remembers.
    pub memory: Memory,
    /// The row of the instance that is next in turn, as a list entry; a hint.
    pub(super) next_row: Link,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The row of its service.
    pub service: usize,
    /// Its number in the service.
    pub number: u32,
    /// Its instance IP.
    pub instance_ip: Dual,
    /// Its namespace IP.
    pub namespace_ip: Dual,
    /// The row of its node.
    pub node: usize,
    /// Its share under a weighted policy.
    pub weight: u16,
    /// Its rank under a failover policy.
    pub priority: u16,
    /// Its reported load, in thousandths.
    pub load: u16,
    /// Its node's network coordinates, in units of 1/16 ms.
    pub coordinate: [i16; 3],
    /// Its node is heard from.
    pub alive: bool,
    /// It is going away.
    pub draining: bool,
    /// The flows of this node to it.
    pub flows: u32,
    /// The instance with the next higher number, as a list entry.
    pub(super) next: Link,
    /// The instance with the next lower number, as a list entry.
    pub(super) previous: Link,
}

impl Instance {
    pub(crate) const EMPTY: Self = Self {
        service: 0,
        number: 0,
        instance_ip: Dual::UNSPECIFIED,
        namespace_ip: Dual::UNSPECIFIED,
        node: 0,
        weight: 0,
        priority: 0,
        load: 0,
        coordinate: [0; 3],
        alive: false,
        draining: false,
        flows: 0,
        next: 0,
        previous: 0,
    };

    /// Takes over what a record says.
    pub(super) fn set(&mut self, record: &InstanceRecord, node: usize) {
        if self.node != node || self.namespace_ip != record.namespace_ip || self.instance_ip != record.instance_ip {
            self.flows = 0;
        }
        self.number = record.number;
        self.instance_ip = record.instance_ip;
        self.namespace_ip = record.namespace_ip;
        self.node = node;
        self.weight = record.weight;
        self.priority = record.priority;
        self.load = record.load;
        self.coordinate = record.coordinate;
        self.alive = record.alive;
        self.draining = record.draining;
    }
}

/// A node: a peer to have a tunnel to.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its number; 0 while it is not known.
    pub id: NodeId,
    /// Its key.
    pub key: NodeKey,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its boot epoch; 0 while it is not known.
    pub epoch: u32,
    /// It may send manager messages.
    pub manager: bool,
    /// It is this node.
    pub is_self: bool,
    /// It does not answer: not picked for new flows.
    pub avoided: bool,
    /// What fits the path to it, in bytes, until [`Self::path_mtu_until`].
    pub(crate) path_mtu: u16,
    /// Until when that counts.
    pub(crate) path_mtu_until: Instant,
    /// The measured round trip to it in microseconds; 0 while it is not known.
    pub(super) round_trip_micros: u32,
    /// How it is measured.
    pub(crate) way: Way,
    /// How many instances of the table are on it.
    pub(super) holds: u32,
    /// Since when nothing needs it; [`Instant::ZERO`] while something does, or that has not been noted.
    pub(super) idle_since: Instant,
    /// What the shell has not been told yet.
    pub(super) news: News,
}

impl Node {
    /// The measured round trip to it, in whole microseconds; none while it is not known.
    pub fn round_trip(&self) -> Option<Duration> {
        (self.round_trip_micros != 0).then(|| Duration::from_micros(self.round_trip_micros.into()))
    }

    /// Whether nothing needs it: no instance names it, and it is neither a manager nor this node.
    pub(super) fn is_idle(&self) -> bool {
        self.holds == 0 && !self.manager && !self.is_self
    }
}

/// What has changed of a node since the shell was last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum News {
    #[default]
    None,
    /// It is new, or its endpoint or epoch is another one.
    Changed,
    /// It has been started again, too.
    Restarted,
}

impl Node {
    pub(super) const EMPTY: Self = Self {
        id: NodeId(0),
        key: NodeKey([0; 32]),
        endpoint: Endpoint::UNKNOWN,
        epoch: 0,
        manager: false,
        is_self: false,
        avoided: false,
        path_mtu: 0,
        path_mtu_until: Instant::ZERO,
        round_trip_micros: 0,
        way: Way::NEW,
        holds: 0,
        idle_since: Instant::ZERO,
        news: News::None,
    };
}
