use std::mem::take;

use crate::addr::{AddressPlan, Dual, Family};
use crate::flow::Lifetimes;
use crate::ids::{Endpoint, InstanceId, NodeId, NodeKey, ServiceId};
use crate::index::HashKey;
use crate::node::{Action, Node, NodeConfig, Output, PEER_LINGER, PENDING_LEN, PeerNews};
use crate::packet::Offload;
use crate::packet::reply::MAX_REPLY_LEN;
use crate::packet::samples::{Kind, Sample};
use crate::policy::Registry;
use crate::router::Attachment;
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::sync::client::{Outcome, Profile, RequestId};
use crate::sync::message::{
    Attach, AttachKind, Attached, Capacities, Hello, ManagerRecord, Message, PageKind, Resolve, ResolveKey, Subject,
    TablePage, Welcome,
};
use crate::table::samples::{endpoint, header, instance_ip, node_record, record, service_ip};
use crate::time::Instant;

/// This node, two others, and two managers.
pub const A: u32 = 1;
pub const B: u32 = 2;
pub const C: u32 = 3;
pub const MANAGER: u32 = 7;
pub const STANDBY: u32 = 8;

/// The service whose instances are attached here.
pub const CLIENTS: u32 = 9;
/// A service that is dialled, and its first service IP.
pub const SERVERS: u32 = 1;
pub const DIALLED: u32 = 1;

/// Attachments and requests that fit.
pub const ATTACHMENTS: usize = 4;
/// Waiting packets and look-ups that fit.
pub const WAITING: usize = 8;
/// Instances that fit.
pub const INSTANCES: usize = 16;

pub const LEASE_MS: u32 = 9_000;

/// How long a node lingers that nothing needs, in milliseconds.
pub const LINGER: u64 = PEER_LINGER.as_millis() as u64;

type Small = Node<4, INSTANCES, 8, 32, ATTACHMENTS, WAITING>;

/// A node, and all that it has said since the test last looked.
pub struct World {
    pub node: Box<Small>,
    pub now: Instant,
    /// Messages to a manager.
    pub said: Vec<(u32, Message)>,
    /// Packets to other nodes.
    pub forwarded: Vec<(u32, Vec<u8>)>,
    /// Packets to local applications.
    pub delivered: Vec<Vec<u8>>,
    pub events: Vec<(Option<RequestId>, Outcome)>,
    pub peers: Vec<PeerNews>,
    /// The manager answers each `Hello`, in this epoch.
    pub welcoming: Option<u32>,
}

pub fn key(node: u32) -> NodeKey {
    NodeKey([node as u8; 32])
}

pub fn manager_record(n: u32) -> ManagerRecord {
    ManagerRecord { key: key(n), endpoint: endpoint(n) }
}

pub fn profile() -> Profile {
    Profile {
        key: key(A),
        name: "a".try_into().unwrap(),
        joining: false,
        epoch: 5,
        endpoint: Endpoint::UNKNOWN,
        subnet: None,
        lease_ms: 0,
        capacities: Capacities { services: 4, instances: INSTANCES as u32, nodes: 8 },
    }
}

pub fn instance_id(service: u32, number: u32) -> InstanceId {
    InstanceId { service: ServiceId(service), number }
}

/// Client `number`, as it is attached here.
pub fn attachment(number: u32) -> Attachment {
    let record = record(CLIENTS, number, A);
    Attachment { id: instance_id(CLIENTS, number), instance_ip: record.instance_ip, namespace_ip: record.namespace_ip }
}

pub fn subject_of(service: u32, number: u32) -> Subject {
    Subject::from(instance_id(service, number))
}

/// The whole table of a service in one page: which instance is on which node.
pub fn table(stream: u32, service: u32, ips: &[u32], instances: &[(u32, u32)]) -> TablePage {
    let mut nodes: Vec<u32> = instances.iter().map(|(_, node)| *node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    TablePage {
        subject: Subject::whole(ServiceId(service)),
        stream,
        sequence: 1,
        more: false,
        kind: PageKind::Replace { from: 0, to: None },
        header: Some(header(ips)),
        nodes: nodes.into_iter().map(node_record).collect(),
        records: instances.iter().map(|(number, node)| record(service, *number, *node)).collect(),
        removed: heapless::Vec::new(),
    }
}

/// The first page of a stream about one instance.
pub fn single(stream: u32, service: u32, number: u32, node: u32) -> TablePage {
    TablePage {
        subject: subject_of(service, number),
        kind: PageKind::Replace { from: number, to: Some(number + 1) },
        ..table(stream, service, &[], &[(number, node)])
    }
}

/// A UDP packet of client 0 to a service IP.
pub fn dial(family: Family, port: u16, dialled: u32) -> Sample {
    from_client(family, Kind::Udp, port, service_ip(dialled))
}

pub fn from_client(family: Family, kind: Kind, port: u16, dst: Dual) -> Sample {
    Sample {
        src: attachment(0).namespace_ip.of(family),
        dst: dst.of(family),
        src_port: port,
        ..Sample::plain(family, kind, 20)
    }
}

/// A UDP packet as it comes from an instance of [`SERVERS`] on another node to client 0.
pub fn from_server(family: Family, number: u32, port: u16) -> Sample {
    Sample {
        src: instance_ip(SERVERS, number).of(family),
        dst: attachment(0).namespace_ip.of(family),
        src_port: 80,
        dst_port: port,
        ..Sample::plain(family, Kind::Udp, 20)
    }
}

impl World {
    /// A node that has just been started with these managers.
    pub fn start(profile: Profile, managers: &[u32]) -> Self {
        let mut node = Box::new(Small::new());
        let managers: Vec<_> = managers.iter().map(|n| manager_record(*n)).collect();
        let now = Instant::from_secs(1_000);
        let config = NodeConfig {
            plan: AddressPlan::DEFAULT,
            registry: Registry::built_in(),
            lifetimes: Lifetimes::default(),
            hash_key: HashKey(5, 6),
            profile,
            managers: &managers,
        };
        node.start(now, config).unwrap();
        let mut world = Self {
            node,
            now,
            said: Vec::new(),
            forwarded: Vec::new(),
            delivered: Vec::new(),
            events: Vec::new(),
            peers: Vec::new(),
            welcoming: None,
        };
        world.settle();
        world
    }

    /// A node that is welcome, with client 0 attached and nothing left to say.
    pub fn ready() -> Self {
        let mut world = Self::start(profile(), &[MANAGER]);
        world.node.resume(world.now, attachment(0)).unwrap();
        world.welcome(1);
        world.settle();
        let resume = world.attach_request();
        world.attached(&resume, attachment(0).id);
        let pinned = world.resolve_of(subject_of(CLIENTS, 0));
        world.manager(Message::Table(single(pinned.stream, CLIENTS, 0, A)));
        world.said.clear();
        world.peers.clear();
        world
    }

    /// A ready node that knows the whole table of [`SERVERS`]; returns its stream.
    pub fn with_servers(instances: &[(u32, u32)]) -> (Self, u32) {
        let mut world = Self::ready();
        world.dial(&dial(Family::V4, 1, DIALLED));
        let stream = world.resolve().stream;
        world.manager(Message::Table(table(stream, SERVERS, &[DIALLED], instances)));
        world.said.clear();
        world.peers.clear();
        world.forwarded.clear();
        world.delivered.clear();
        (world, stream)
    }

    /// Lets the time pass, and does what is due when it is due. A node that has something to do but does nothing would spin.
    #[track_caller]
    pub fn run(&mut self, millis: u64) {
        let end = Instant(self.now.0 + millis);
        let mut rounds = 0;
        while let Some(due) = self.node.poll_timeout().filter(|due| *due <= end) {
            assert!(due > self.now || rounds < 100, "it spins");
            rounds = if due > self.now { 0 } else { rounds + 1 };
            self.now = self.now.max(due);
            self.node.handle_timeout(self.now);
            let before = self.said.len();
            self.settle();
            if let Some(epoch) = self.welcoming
                && self.said.iter().skip(before).any(|(_, m)| matches!(m, Message::Hello(_)))
            {
                self.welcome(epoch);
            }
        }
        self.now = end;
    }

    /// Takes all that the node wants to say now.
    pub fn settle(&mut self) {
        let mut out = [0; PENDING_LEN];
        loop {
            while let Some(news) = self.node.poll_peer() {
                self.peers.push(news);
            }
            let Some(output) = self.node.poll_output(self.now, &mut out) else {
                break;
            };
            match output {
                Output::Local { len, .. } => self.delivered.push(out[..len].to_vec()),
                Output::Peer { peer, len, .. } => self.note_sent(peer, &out[..len]),
                Output::Fragments { .. } => panic!("no test sends what has to be cut"),
            }
        }
        while let Some(event) = self.node.poll_event() {
            self.events.push(event);
        }
    }

    fn note_sent(&mut self, peer: RowRef, payload: &[u8]) {
        let node = u32::from(self.node.peer(peer).unwrap().key.0[0]);
        if payload[0] >> 4 == 0 {
            assert!(payload.len() <= crate::sync::message::MESSAGE_MAX);
            self.said.push((node, Message::decode(payload).unwrap()));
        } else {
            self.forwarded.push((node, payload.to_vec()));
        }
    }

    /// A local application sends; the node says at once what it can.
    pub fn dial(&mut self, packet: &Sample) {
        self.dial_only(&packet.build());
        self.settle();
    }

    pub fn dial_only(&mut self, packet: &[u8]) {
        let (mut packet, mut reply) = (packet.to_vec(), [0; MAX_REPLY_LEN]);
        let action = self.node.handle_tun(self.now, &mut packet, Offload::NONE, &mut reply);
        match action {
            Action::Forward { peer, len } => self.note_sent(peer, &packet[..len]),
            Action::Fragment { .. } => panic!("no test sends what has to be cut"),
            Action::Deliver { len } => self.delivered.push(packet[..len].to_vec()),
            Action::Reply { len } => self.delivered.push(reply[..len].to_vec()),
            Action::Nothing => {}
        }
    }

    /// A payload comes from the tunnel of a node that is in the table.
    pub fn receive(&mut self, from: u32, payload: &[u8]) {
        self.receive_only(from, payload);
        self.settle();
    }

    pub fn receive_only(&mut self, from: u32, payload: &[u8]) {
        let peer = self.node.find_peer(&key(from)).unwrap();
        let mut payload = payload.to_vec();
        match self.node.handle_payload(self.now, peer, &mut payload) {
            Action::Deliver { len } => self.delivered.push(payload[..len].to_vec()),
            Action::Nothing => {}
            other => panic!("{other:?}"),
        }
    }

    /// The manager says something.
    pub fn manager(&mut self, message: Message) {
        self.manager_only(MANAGER, message);
        self.settle();
    }

    pub fn manager_only(&mut self, from: u32, message: Message) {
        let mut payload = [0; 1200];
        let len = message.encode(&mut payload).unwrap();
        self.receive_only(from, &payload[..len]);
    }

    /// The manager answers the `Hello` that was said last, in its epoch.
    pub fn welcome(&mut self, epoch: u32) {
        let hello = self.hello();
        let welcome = welcome(hello.request, epoch);
        self.manager(Message::Welcome(welcome));
    }

    pub fn attached(&mut self, attach: &Attach, instance: InstanceId) {
        self.manager(Message::Attached(Attached {
            request: attach.request,
            instance,
            instance_ip: instance_ip(instance.service.0, instance.number),
        }));
    }

    /// Takes what was said out, in order, without the acknowledgements.
    pub fn messages(&mut self) -> Vec<Message> {
        let said = take(&mut self.said).into_iter().map(|(_, message)| message);
        said.filter(|m| !matches!(m, Message::Ack { .. })).collect()
    }

    #[track_caller]
    fn last<T>(&self, what: &str, is_it: impl Fn(&Message) -> Option<T>) -> T {
        let found = self.said.iter().rev().find_map(|(_, m)| is_it(m));
        found.unwrap_or_else(|| panic!("no {what} in {:?}", self.said))
    }

    /// The last `Hello`.
    #[track_caller]
    pub fn hello(&self) -> Hello {
        self.last("Hello", |m| match m {
            Message::Hello(hello) => Some(hello.clone()),
            _ => None,
        })
    }

    /// The last question for an address.
    #[track_caller]
    pub fn resolve(&self) -> Resolve {
        self.last("Resolve", |m| match m {
            Message::Resolve(r) if matches!(r.key, ResolveKey::Address(_)) => Some(r.clone()),
            _ => None,
        })
    }

    /// The last question for a subject.
    #[track_caller]
    pub fn resolve_of(&self, subject: Subject) -> Resolve {
        self.last("Resolve of a subject", |m| match m {
            Message::Resolve(r) if r.key == ResolveKey::Subject(subject) => Some(r.clone()),
            _ => None,
        })
    }

    #[track_caller]
    pub fn attach_request(&self) -> Attach {
        self.last("Attach", |m| match m {
            Message::Attach(attach) => Some(attach.clone()),
            _ => None,
        })
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.node.router().counters.drops(reason)
    }

    pub fn resolves(&self) -> usize {
        let is_it = |m: &Message| matches!(m, Message::Resolve(_));
        self.said.iter().filter(|(_, m)| is_it(m)).count()
    }

    /// The acknowledged pages: stream and sequence.
    pub fn acks(&self) -> Vec<(u32, u32)> {
        let acks = self.said.iter().filter_map(|(_, m)| match m {
            Message::Ack { stream, sequence, .. } => Some((*stream, *sequence)),
            _ => None,
        });
        acks.collect()
    }

    pub fn attach(&mut self, name: &str, number: u32) -> Option<RequestId> {
        let kind = AttachKind::New(name.parse().unwrap());
        let request = self.node.attach(self.now, kind, attachment(number).namespace_ip);
        self.settle();
        request
    }

    pub fn is_attached(&self, number: u32) -> bool {
        let id = instance_id(CLIENTS, number);
        self.node.router().attachments.iter().any(|a| a.id == id)
    }
}

pub fn welcome(request: u32, epoch: u32) -> Welcome {
    Welcome {
        request,
        epoch,
        node: NodeId(A),
        subnet: AddressPlan::DEFAULT.worker_subnet(0).unwrap(),
        lease_ms: LEASE_MS,
        observed: endpoint(A),
        reopen: false,
        reattach: false,
        managers: [manager_record(MANAGER)].into_iter().collect(),
    }
}
