//! The router again, slow and plain: lists that are searched from end to end, and every rule of `docs/router.md` in its order.

mod answers;
mod errors;
mod flows;
mod fragments;
mod inbound;
mod outbound;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use acorn_core::addr::Dual;
use acorn_core::stats::DropReason;

use super::wire::Packet;
use fragments::Datagram;

pub use flows::{Flow, Key};

/// The node whose router this is.
pub const SELF: u32 = 1;
/// How many flows, attachments and datagrams there is room for.
pub const FLOWS: usize = 8;
pub const ATTACHMENTS: usize = 4;

const LEAST_MTU: u16 = 1280;
const MTU: u16 = 1440;
/// How long what was learned of a path counts, in milliseconds.
const PATH_MTU_LIFETIME: u64 = 10 * 60 * 1000;

/// The reason of a drop, by its name.
pub type Reason = &'static str;

/// What becomes of a packet. Packets are the whole buffer; `len` says how much of it they are.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    Forward {
        node: u32,
        len: usize,
        buffer: Vec<u8>,
    },
    Fragment {
        node: u32,
        len: usize,
        mtu: u16,
        buffer: Vec<u8>,
    },
    Deliver {
        len: usize,
        buffer: Vec<u8>,
    },
    Reply {
        reason: Reason,
        reply: Vec<u8>,
    },
    /// For an address; who asks is told by its namespace IP.
    Wait {
        address: IpAddr,
        asker: Option<Dual>,
    },
    Drop(Reason),
}

impl Outcome {
    /// The packet that goes on.
    pub fn packet(&self) -> Option<&[u8]> {
        match self {
            Self::Forward { len, buffer, .. } | Self::Fragment { len, buffer, .. } | Self::Deliver { len, buffer } => {
                buffer.get(..*len)
            }
            _ => None,
        }
    }
}

/// Something that may go while a flow still names it. A change makes another one of it.
pub type Token = u64;

#[derive(Clone, Debug)]
pub struct Instance {
    pub token: Token,
    pub node: u32,
    pub instance_ip: Dual,
    pub namespace_ip: Dual,
    pub alive: bool,
    pub draining: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Service {
    /// The service IPs, and the number from which the next turn goes.
    pub ips: Vec<(Dual, u32)>,
    pub complete: bool,
    pub instances: BTreeMap<u32, Instance>,
}

#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    pub token: Token,
    /// The service and the number.
    pub id: (u32, u32),
    pub instance_ip: Dual,
    pub namespace_ip: Dual,
}

/// What has happened. Drops are counted by the places of their reasons in [`DropReason::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub drops: [u64; DropReason::ALL.len()],
    pub forwarded: u64,
    pub fragmented: u64,
    pub delivered: u64,
    pub replied: u64,
    pub flows_begun: u64,
    pub flows_evicted: u64,
    pub established_evicted: u64,
    pub datagrams_evicted: u64,
    pub errors_limited: u64,
}

/// A node's router.
#[derive(Debug, Default)]
pub struct Model {
    pub services: BTreeMap<u32, Service>,
    pub avoided: Vec<u32>,
    pub attachments: Vec<Attachment>,
    pub flows: Vec<Flow>,
    pub counters: Counters,
    datagrams: [Option<Datagram>; ATTACHMENTS],
    /// Where the turns of service IPs stood that are gone.
    turns: HashMap<Dual, u32>,
    own_mtu: Option<u16>,
    /// The MTU that was learned of the path to a node, and until when it counts.
    paths: HashMap<u32, (u16, u64)>,
    /// When each attachment was told ICMP errors, in the last second.
    told: HashMap<Token, Vec<u64>>,
    tokens: Token,
}

/// What the table says an address is.
pub enum Owner {
    /// A service, and which of its service IPs.
    Service(u32, usize),
    Instance(u32, u32),
    Namespace,
}

impl Model {
    pub fn set_service(&mut self, id: u32, ips: &[Dual]) {
        let service = self.services.entry(id).or_default();
        let old = std::mem::take(&mut service.ips);
        for (ip, turn) in &old {
            if !ips.contains(ip) {
                self.turns.insert(*ip, *turn);
            }
        }
        for ip in ips {
            let kept = old.iter().find(|(address, _)| address == ip).map(|(_, turn)| *turn);
            let turn = kept.or_else(|| self.turns.get(ip).copied()).unwrap_or(0);
            service.ips.push((*ip, turn));
        }
    }

    pub fn remove_service(&mut self, id: u32) {
        if let Some(service) = self.services.remove(&id) {
            self.turns.extend(service.ips);
        }
    }

    pub fn put_instance(&mut self, service: u32, number: u32, instance: Instance) {
        self.tokens += 1;
        let token = self.tokens;
        let instances = &mut self.services.entry(service).or_default().instances;
        let unchanged = instances.get(&number).filter(|old| {
            old.node == instance.node
                && old.instance_ip == instance.instance_ip
                && old.namespace_ip == instance.namespace_ip
        });
        let token = unchanged.map_or(token, |old| old.token);
        instances.insert(number, Instance { token, ..instance });
    }

    pub fn remove_instance(&mut self, service: u32, number: u32) {
        if let Some(service) = self.services.get_mut(&service) {
            service.instances.remove(&number);
        }
    }

    pub fn attach(&mut self, id: (u32, u32), instance_ip: Dual, namespace_ip: Dual) {
        let is_same =
            |old: &Attachment| old.id == id && old.instance_ip == instance_ip && old.namespace_ip == namespace_ip;
        if self.attachments.iter().any(is_same) {
            return;
        }
        self.attachments.retain(|old| old.id != id && old.namespace_ip != namespace_ip);
        self.tokens += 1;
        self.attachments.push(Attachment { token: self.tokens, id, instance_ip, namespace_ip });
    }

    pub fn detach(&mut self, id: (u32, u32)) {
        self.attachments.retain(|attachment| attachment.id != id);
    }

    pub fn set_mtu(&mut self, mtu: u16) {
        self.own_mtu = Some(mtu);
    }

    /// The path to a node takes no more than this.
    pub fn learn_mtu(&mut self, now: u64, node: u32, mtu: u16) {
        let known = self.paths.get(&node).filter(|(_, until)| now < *until);
        if known.is_none_or(|(known, _)| mtu <= *known) {
            self.paths.insert(node, (mtu, now + PATH_MTU_LIFETIME));
        }
    }

    /// The longest packet that may go to a node.
    fn mtu(&self, now: u64, node: u32) -> u16 {
        let own = self.own_mtu.unwrap_or(MTU);
        let learned = self.paths.get(&node).filter(|(_, until)| now < *until).map_or(own, |(mtu, _)| *mtu);
        own.min(learned).max(LEAST_MTU)
    }

    pub fn owner(&self, address: IpAddr) -> Option<Owner> {
        for (id, service) in &self.services {
            if let Some(which) = service.ips.iter().position(|(ip, _)| ip.contains(address)) {
                return Some(Owner::Service(*id, which));
            }
        }
        for (id, service) in &self.services {
            for (number, instance) in &service.instances {
                if instance.instance_ip.contains(address) {
                    return Some(Owner::Instance(*id, *number));
                }
                if instance.namespace_ip.contains(address) {
                    return Some(Owner::Namespace);
                }
            }
        }
        None
    }

    pub fn at_namespace_ip(&self, address: IpAddr) -> Option<Attachment> {
        self.attachments.iter().find(|attachment| attachment.namespace_ip.contains(address)).copied()
    }

    pub fn at_instance_ip(&self, address: IpAddr) -> Option<Attachment> {
        self.attachments.iter().find(|attachment| attachment.instance_ip.contains(address)).copied()
    }

    /// Whether something is still what it was when its token was noted.
    fn is_there(&self, token: Token) -> bool {
        let instances = || self.services.values().flat_map(|service| service.instances.values());
        instances().any(|instance| instance.token == token) || self.attachments.iter().any(|a| a.token == token)
    }

    fn drop(&mut self, reason: Reason) -> Outcome {
        let place = DropReason::ALL.iter().position(|known| known.name() == reason);
        self.counters.drops[place.unwrap_or_else(|| panic!("{reason} is no reason"))] += 1;
        Outcome::Drop(reason)
    }
}

/// The address of a pair in a packet's family.
fn of(pair: Dual, packet: &Packet) -> IpAddr {
    if packet.v6 { IpAddr::V6(pair.v6) } else { IpAddr::V4(pair.v4) }
}

/// Whether an address is that of one host.
pub fn is_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(v6) => {
            let is_mapped = v6.octets()[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
            v6 != Ipv6Addr::UNSPECIFIED && v6 != Ipv6Addr::LOCALHOST && v6.octets()[0] != 0xff && !is_mapped
        }
    }
}

/// Whether an address is in the service nets: `10.30.0.0/16` and `fdff::/16`.
pub fn is_in_service_nets(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..2] == [10, 30],
        IpAddr::V6(v6) => v6.octets()[..2] == [0xfd, 0xff],
    }
}

/// Whether an address is the first or the last one of the IPv4 service net.
fn is_edge(address: IpAddr) -> bool {
    address == Ipv4Addr::new(10, 30, 0, 0) || address == Ipv4Addr::new(10, 30, 255, 255)
}
