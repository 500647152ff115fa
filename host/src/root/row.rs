//! What is stored: one row per thing, and the edits of rows that an operation consists of.
//!
//! A change of these types is a change of the file format: raise [`FORMAT`](super::store::FORMAT) with it, and teach
//! [`Row::decode`] the format before.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use acorn_core::addr::{Dual, PolicyBlock, WorkerSubnet};
use acorn_core::ids::{Endpoint, InstanceId, NodeId, NodeKey, ServiceId, ServiceName};
use acorn_core::sync::message::{Adjustment, IpType, Turn};
use serde::{Deserialize, Serialize};

/// The numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    /// The highest service number that was ever given.
    pub(super) services: u32,
    /// The highest node number that was ever given.
    pub(super) nodes: u32,
    /// No table was ever of a higher version than this.
    pub(super) version_ceiling: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct NodeRow {
    pub(super) key: NodeKey,
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
    pub(super) subnet: WorkerSubnet,
    pub(super) epoch: u32,
    pub(super) lease_ms: u32,
    /// Seconds since 1970; at most [`LAST_SEEN_STEP`](super::settings::LAST_SEEN_STEP) behind while the root runs.
    pub(super) last_seen_unix: u64,
    /// It has spoken with its own key.
    pub(super) confirmed: bool,
    /// The cluster that it is behind; none for one that speaks to the root itself. Since format 3.
    pub(super) via: Option<NodeId>,
}

impl NodeRow {
    /// Where the root itself speaks to the node: nowhere, when that is for a cluster to do.
    pub(super) fn spoken_at(&self) -> Endpoint {
        if self.via.is_some() { Endpoint::UNKNOWN } else { self.endpoint }
    }
}

/// A cluster. It is numbered like a node, but has no subnet and runs nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ClusterRow {
    pub(super) key: NodeKey,
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
    pub(super) epoch: u32,
    pub(super) lease_ms: u32,
    /// As of a [`NodeRow`].
    pub(super) last_seen_unix: u64,
    pub(super) confirmed: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ServiceIpRow {
    pub(super) ip_type: IpType,
    pub(super) block: PolicyBlock,
    pub(super) address: Dual,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ServiceRow {
    /// Empty for the hidden service of a node's host.
    pub(super) name: ServiceName,
    /// The node whose host's own instance this service holds.
    pub(super) host: Option<NodeId>,
    pub(super) ips: Vec<ServiceIpRow>,
    /// The addresses that certain instances have, whenever they run. Since format 3.
    pub(super) fixed: Vec<FixedRow>,
}

/// An instance IP that was asked for, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FixedRow {
    /// The instance's number.
    pub(super) number: u32,
    pub(super) address: IpAddr,
}

impl ServiceRow {
    /// What was asked for of an instance's addresses.
    pub(super) fn fixed_of(&self, number: u32) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let of_number = || self.fixed.iter().filter(move |fixed| fixed.number == number);
        let v4 = of_number().find_map(|fixed| match fixed.address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        let v6 = of_number().find_map(|fixed| match fixed.address {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        });
        (v4, v6)
    }

    /// Whether the service keeps an address when an instance goes.
    pub(super) fn keeps(&self, address: IpAddr) -> bool {
        self.fixed.iter().any(|fixed| fixed.address == address)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstanceRow {
    pub(super) instance_ip: Dual,
    pub(super) namespace_ip: Dual,
    pub(super) node: NodeId,
    /// The node's epoch when it last said that it runs the instance.
    pub(super) epoch: u32,
    /// Since format 2.
    pub(super) settings: SettingsRow,
}

/// How an instance is picked, as far as it is stored: a load is as old as its report, so it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SettingsRow {
    pub(super) weight: u16,
    pub(super) priority: u16,
    pub(super) draining: bool,
    /// The request that said so.
    pub(super) turn: Turn,
}

impl Default for SettingsRow {
    fn default() -> Self {
        Self { weight: 1, priority: 0, draining: false, turn: Turn::default() }
    }
}

impl SettingsRow {
    /// As an adjustment in this turn leaves them.
    pub(super) fn adjusted(self, change: Adjustment, turn: Turn) -> Self {
        Self {
            weight: change.weight.unwrap_or(self.weight),
            priority: change.priority.unwrap_or(self.priority),
            draining: change.draining.unwrap_or(self.draining),
            turn,
        }
    }
}

/// What is given to one owner at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Resource {
    Address(IpAddr),
    /// A worker subnet, by the base of its IPv4 half.
    Subnet(Ipv4Addr),
}

/// Why a resource without an owner is not free. One whose quarantine is over keeps its row, because the row is its place in the
/// order of reuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ReleaseRow {
    /// Somebody may not know yet that it was withdrawn from this service. The clients of these roots do, where there are several;
    /// since format 3.
    Withdrawn { service: ServiceId, since_unix_ms: u64, acknowledged: BTreeSet<NodeKey> },
    /// Free from then on.
    Quarantine { until_unix_ms: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JoinKeyRow {
    pub(super) expires_unix: u64,
    /// The key of the node that it admitted.
    pub(super) used_by: Option<NodeKey>,
    /// It admits a cluster, and no node. Since format 3.
    pub(super) cluster: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Row {
    Counters(Counters),
    Node(NodeId, NodeRow),
    Service(ServiceId, ServiceRow),
    Instance(InstanceId, InstanceRow),
    Release(Resource, ReleaseRow),
    JoinKey(NodeKey, JoinKeyRow),
    RegisteredKey(NodeKey),
    /// Since format 3.
    Request(#[serde(with = "fingerprint")] u128, RequestRow),
    /// Since format 3.
    Watch(NodeId, WatchRow),
    /// Since format 3.
    Cluster(NodeId, ClusterRow),
}

/// Which root hears a node, where there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WatchRow {
    pub(super) root: NodeKey,
    /// Another one with every start of the root.
    pub(super) start: u64,
    /// Its lease has ended.
    pub(super) silent: bool,
}

/// What an operator's request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RequestRow {
    pub(super) key: String,
    /// A fingerprint of what was asked for.
    #[serde(with = "fingerprint")]
    pub(super) what: u128,
    pub(super) at_unix_ms: u64,
    pub(super) answer: String,
}

/// Names a row. Rows are stored in the order of this type, which is an order in which they can be taken in: what a row refers to
/// comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum RowKey {
    Counters,
    Node(NodeId),
    Service(ServiceId),
    Instance(InstanceId),
    Release(Resource),
    JoinKey(NodeKey),
    RegisteredKey(NodeKey),
    /// By a fingerprint of its key.
    Request(u128),
    Watch(NodeId),
    Cluster(NodeId),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Edit {
    Put(Row),
    Delete(RowKey),
}

impl Row {
    pub(super) fn key(&self) -> RowKey {
        match self {
            Self::Counters(_) => RowKey::Counters,
            Self::Node(id, _) => RowKey::Node(*id),
            Self::Service(id, _) => RowKey::Service(*id),
            Self::Instance(id, _) => RowKey::Instance(*id),
            Self::Release(resource, _) => RowKey::Release(*resource),
            Self::JoinKey(key, _) => RowKey::JoinKey(*key),
            Self::RegisteredKey(key) => RowKey::RegisteredKey(*key),
            Self::Cluster(id, _) => RowKey::Cluster(*id),
            Self::Request(id, _) => RowKey::Request(*id),
            Self::Watch(id, _) => RowKey::Watch(*id),
        }
    }

    /// Reads a row of a file of this format, the present one or an older one.
    pub(super) fn decode(format: u32, key: &[u8], bytes: &[u8]) -> postcard::Result<Self> {
        if format == 1 && key.first() == Some(&INSTANCE) {
            // An instance had no settings, which are the last that is said of it now.
            return postcard::from_bytes(&[bytes, &postcard::to_stdvec(&SettingsRow::default())?].concat());
        }
        if format <= 2 && key.first() == Some(&SERVICE) {
            // A service had no fixed instance addresses, which are the last that is said of it now.
            return postcard::from_bytes(&[bytes, &[0]].concat());
        }
        if format <= 2 && key.first() == Some(&RELEASE) {
            // Nor was there more than one root to acknowledge a withdrawal. What is behind the end of another row is not read.
            return postcard::from_bytes(&[bytes, &[0]].concat());
        }
        if format <= 2 && matches!(key.first(), Some(&NODE | &JOIN_KEY)) {
            // There were no clusters: no node was behind one, and no key admitted one.
            return postcard::from_bytes(&[bytes, &[0]].concat());
        }
        postcard::from_bytes(bytes)
    }
}

/// What the keys of nodes begin with.
const NODE: u8 = 1;
/// What the keys of services begin with.
const SERVICE: u8 = 2;
/// What the keys of resources begin with.
const RELEASE: u8 = 4;
/// What the keys of instances begin with.
const INSTANCE: u8 = 3;
/// What the keys of join keys begin with.
const JOIN_KEY: u8 = 5;

impl RowKey {
    /// The key as bytes that sort as the key does.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Counters => vec![0],
            Self::Node(id) => [&[NODE][..], &id.0.to_be_bytes()].concat(),
            Self::Service(id) => [&[SERVICE][..], &id.0.to_be_bytes()].concat(),
            Self::Instance(id) => [&[INSTANCE][..], &id.service.0.to_be_bytes(), &id.number.to_be_bytes()].concat(),
            Self::Release(Resource::Address(IpAddr::V4(v4))) => [&[RELEASE, 4][..], &v4.octets()].concat(),
            Self::Release(Resource::Address(IpAddr::V6(v6))) => [&[RELEASE, 6][..], &v6.octets()].concat(),
            Self::Release(Resource::Subnet(base)) => [&[RELEASE, 7][..], &base.octets()].concat(),
            Self::JoinKey(key) => [&[JOIN_KEY][..], &key.0].concat(),
            Self::RegisteredKey(key) => [&[6][..], &key.0].concat(),
            Self::Request(id) => [&[7][..], &id.to_be_bytes()].concat(),
            Self::Watch(id) => [&[8][..], &id.0.to_be_bytes()].concat(),
            Self::Cluster(id) => [&[9][..], &id.0.to_be_bytes()].concat(),
        }
    }
}

/// 128 bits as hexadecimal text where people read it: JSON has no such numbers.
mod fingerprint {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("{value:032x}"))
        } else {
            value.serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return u128::from_str_radix(&text, 16).map_err(de::Error::custom);
        }
        u128::deserialize(deserializer)
    }
}
