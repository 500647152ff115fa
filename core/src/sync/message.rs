//! The messages of the table protocol: one postcard datagram each, behind a version byte.
//!
//! Requests (`Hello`, `Resolve`, `Attach`, `Detach`, `Adjust`, `Forget`) are repeated by the client until they are answered. A table
//! is a *stream* per subject: the server sends one page at a time, numbered, and repeats it until it is acknowledged, so a
//! client sees every page once and in order however the datagrams fare. New variants are only ever appended.

mod page;

use core::net::{IpAddr, Ipv4Addr};

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::addr::{Dual, WorkerSubnet};
use crate::ids::{Endpoint, InstanceId, NODE_NAME_MAX, NodeId, NodeKey, ServiceId, ServiceName};

/// The version of this protocol and the first byte of every control payload. Its first nibble is 0, an IP packet's is 4 or 6.
pub const PROTOCOL_VERSION: u8 = 1;
/// How postcard begins a [`Message::Table`].
const TABLE: u8 = 7;
/// How it begins a [`Message::Probe`] and a [`Message::ProbeAnswer`].
const PROBE: u8 = 17;
const PROBE_ANSWER: u8 = 18;
/// The longest control payload in bytes.
pub const MESSAGE_MAX: usize = 1200;
/// The most instance records in one page.
pub const PAGE_RECORDS: usize = 8;
/// The most withdrawn instance numbers in one page.
pub const PAGE_REMOVED: usize = 16;
/// The most service IPs of one service: one per policy.
pub const SERVICE_IPS_MAX: usize = 8;
/// The longest `IpType` in bytes.
pub const IP_TYPE_MAX: usize = 16;
/// The most managers that a node is told of.
pub const MANAGERS_MAX: usize = 4;

/// What a table stream is about: a whole service, or one instance of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The service.
    pub service: ServiceId,
    /// One instance's number, or the whole service.
    pub instance: Option<u32>,
}

impl Subject {
    /// The subject that covers all instances of a service.
    pub const fn whole(service: ServiceId) -> Self {
        Self { service, instance: None }
    }
}

impl From<InstanceId> for Subject {
    fn from(id: InstanceId) -> Self {
        Self { service: id.service, instance: Some(id.number) }
    }
}

/// The name of a balancing policy as it is written in JSON and in tables: `RR`, `Closest`, ...
pub type IpType = heapless::String<IP_TYPE_MAX>;

/// How much a node can hold; it is not sent more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacities {
    /// Services.
    pub services: u32,
    /// Instances, over all services.
    pub instances: u32,
    /// Nodes, its managers included.
    pub nodes: u32,
}

/// A count and an order-free hash of a set, to notice that two sides hold different ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Members of the set.
    pub count: u32,
    /// The wrapping sum of the members' hashes.
    pub sum: u32,
}

impl Digest {
    /// Adds a member. Adding is commutative: two sides that hold the same set have the same digest.
    pub fn add(&mut self, words: [u32; 3]) {
        let mut hash: u32 = 0x811c_9dc5;
        for word in words {
            hash = (hash ^ word).wrapping_mul(0x0100_0193).rotate_left(13);
        }
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash ^ (hash >> 15));
    }

    /// The digest member of an open stream.
    pub fn add_stream(&mut self, subject: Subject, stream: u32) {
        self.add([subject.service.0, subject.instance.map_or(0, |n| n.wrapping_add(1)), stream]);
    }

    /// The digest member of a running instance.
    pub fn add_instance(&mut self, id: InstanceId) {
        self.add([id.service.0, id.number, 0x1a57]);
    }
}

/// A node says who it is. Sent at start, then as the renewal of its lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The request's number, given back in `Welcome`.
    pub request: u32,
    /// The node's boot epoch: changes with every start.
    pub epoch: u32,
    /// The node's own key, while it speaks through a join key.
    pub joining: Option<NodeKey>,
    /// The node's name, for people.
    pub name: heapless::String<NODE_NAME_MAX>,
    /// The endpoint that it wants others to use; unknown means the one that the manager sees.
    pub endpoint: Endpoint,
    /// The IPv4 worker subnet that it asks for.
    pub subnet: Option<Ipv4Addr>,
    /// How long it may be silent before it counts as gone, in milliseconds; 0 leaves it to the manager.
    pub lease_ms: u32,
    /// What it can hold.
    pub capacities: Capacities,
    /// The streams that it has open or is opening, the server's introductions included.
    pub streams: Digest,
    /// The instances that run on it.
    pub instances: Digest,
}

/// A manager that a node may believe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerRecord {
    /// Its key.
    pub key: NodeKey,
    /// Where it is.
    pub endpoint: Endpoint,
}

/// The answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The request that this answers.
    pub request: u32,
    /// The manager's boot epoch: when it changes, the node says everything again.
    pub epoch: u32,
    /// The node's number.
    pub node: NodeId,
    /// The node's subnets.
    pub subnet: WorkerSubnet,
    /// The node's lease in milliseconds.
    pub lease_ms: u32,
    /// Where the manager sees the node.
    pub observed: Endpoint,
    /// The manager's view of the node's streams differs: open them again.
    pub reopen: bool,
    /// The manager's view of the node's instances differs: attach them again.
    pub reattach: bool,
    /// The managers that may be believed, the sender included.
    pub managers: Vec<ManagerRecord, MANAGERS_MAX>,
}

/// What a node wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ResolveKey {
    /// The service that owns a service IP, or the instance that owns an instance IP.
    Address(IpAddr),
    /// A service by its name.
    Name(ServiceName),
    /// A subject that is already known by number.
    Subject(Subject),
    /// Who has this key: answered with the table of one instance on that node.
    Node(NodeKey),
}

/// A node asks for a table and for its changes from then on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolve {
    /// The number of the stream, chosen by the node, below [`SERVER_STREAMS`]. Each is later than the one before, modulo
    /// [`SERVER_STREAMS`]; of two for one subject the later counts, whichever comes first.
    pub stream: u32,
    /// What it asks for.
    pub key: ResolveKey,
    /// The local instance that wants to talk; the nodes in the table are introduced to it.
    pub asker: Option<InstanceId>,
}

/// Streams from this number on were opened by the server, to introduce a node to another.
pub const SERVER_STREAMS: u32 = 0x8000_0000;

/// What an attachment is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AttachKind {
    /// A new instance of a service. Repeats are recognised by the namespace IP.
    New(ServiceName),
    /// An instance by number, taken over from wherever it runs now. A number that is not in use is created.
    Take(ServiceName, u32),
    /// An instance that has been running on this node, said again after a restart of either side. Refused when it has moved.
    Resume(InstanceId),
    /// The node's own host, as an instance without a service.
    Host,
}

/// A node says that an instance runs on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attach {
    /// The request's number.
    pub request: u32,
    /// What runs.
    pub kind: AttachKind,
    /// Its namespace IP, from the node's own subnets.
    pub namespace_ip: Dual,
}

/// The answer to [`Attach`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// The request that this answers.
    pub request: u32,
    /// Which instance it is.
    pub instance: InstanceId,
    /// Its instance IP.
    pub instance_ip: Dual,
}

/// A node says that an instance does not run on it any more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detach {
    /// The request's number.
    pub request: u32,
    /// Which instance.
    pub instance: InstanceId,
}

/// What is to change of how an instance is picked; none leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjustment {
    /// [`InstanceRecord::weight`].
    pub weight: Option<u16>,
    /// [`InstanceRecord::priority`].
    pub priority: Option<u16>,
    /// [`InstanceRecord::load`].
    pub load: Option<u16>,
    /// [`InstanceRecord::draining`].
    pub draining: Option<bool>,
}

/// Names a node's request within one start of the node. Requests of one node for one instance are told apart in age by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The node's boot epoch.
    pub epoch: u32,
    /// The request's number.
    pub request: u32,
}

impl Turn {
    /// Whether this turn comes after `last`, the last one that had an effect: a repeat of it or an older one must have none. Of
    /// another start it does, because servers take requests of the present start only.
    pub fn is_after(self, last: Self) -> bool {
        self.epoch != last.epoch || (self.request != last.request && is_later(self.request, last.request))
    }
}

/// A node says how an instance that runs on it is to be picked from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjust {
    /// The request's number, and the start of the node that it was made in. Numbers grow modulo [`SERVER_STREAMS`]; of two for
    /// one instance the later counts, whichever comes first. A client sends the second when the first is answered or given up.
    pub turn: Turn,
    /// Which instance.
    pub instance: InstanceId,
    /// What is to change.
    pub change: Adjustment,
}

/// Whether a client gave the number `a` after `b`, or they are the same: numbers grow, and wrap below [`SERVER_STREAMS`].
pub(crate) fn is_later(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) % SERVER_STREAMS < SERVER_STREAMS / 2
}

/// Why a request is refused. A refusal is final: repeating the request as it is brings the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The join key is not known, was used or has expired.
    JoinKey,
    /// The sender is not a node of this network.
    NotANode,
    /// The requested worker subnet is not in the plan or is taken.
    Subnet,
    /// All worker subnets are in use.
    SubnetsExhausted,
    /// There is no service of that name.
    NoSuchService,
    /// There is no such instance.
    NoSuchInstance,
    /// The instance runs on another node now.
    Moved,
    /// The namespace IP is not in the node's subnets.
    NamespaceIp,
    /// All service and instance addresses are in use.
    AddressesExhausted,
    /// The manager holds as many of these as it can.
    Full,
    /// The manager could not store the change; it may work later.
    Storage,
}

/// A service's addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceIpRecord {
    /// The policy.
    pub ip_type: IpType,
    /// The service IP under it.
    pub address: Dual,
}

/// What a table says of a service as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceHeader {
    /// Its name; empty for a host's own instance.
    pub name: ServiceName,
    /// Its service IPs.
    pub service_ips: Vec<ServiceIpRecord, SERVICE_IPS_MAX>,
}

/// What a table says of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its number.
    pub id: NodeId,
    /// Its key.
    pub key: NodeKey,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its boot epoch: when it changes, tunnels to it are set up again at once.
    pub epoch: u32,
}

/// What a table says of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its number in the service.
    pub number: u32,
    /// Its instance IP.
    pub instance_ip: Dual,
    /// Its namespace IP, on its node.
    pub namespace_ip: Dual,
    /// Its node.
    pub node: NodeId,
    /// Its share under a weighted policy; 1 is normal.
    pub weight: u16,
    /// Its rank under a failover policy; the lowest comes first.
    pub priority: u16,
    /// Its reported load, in thousandths of what it can take.
    pub load: u16,
    /// Its node's network coordinates (Vivaldi), in units of 1/16 ms: two axes and the height.
    pub coordinate: [i16; 3],
    /// Its node is heard from; otherwise it is not picked for new flows.
    pub alive: bool,
    /// It is going away: no new flows.
    pub draining: bool,
}

/// How a page changes what the client holds of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PageKind {
    /// All instances with a number from `from` up to, not including, `to` are replaced by the records.
    Replace {
        /// The first number.
        from: u32,
        /// The number behind the last; none means all that follow.
        to: Option<u32>,
    },
    /// The records are put in, the numbers of `removed` are taken out, the rest stays.
    Patch,
    /// The subject exists no longer. Ends the stream.
    Gone,
}

/// One page of a table stream. Read by [`Message::decode`] only.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TablePage {
    /// What the stream is about.
    pub subject: Subject,
    /// The stream: the number of the `Resolve`, or one of the server's from [`SERVER_STREAMS`] on.
    pub stream: u32,
    /// The page's number in the stream, from 1.
    pub sequence: u32,
    /// More pages belong to this state of the table: it is not whole before the one without `more`.
    pub more: bool,
    /// How to apply it.
    pub kind: PageKind,
    /// The service's addresses, in the first page of a stream and whenever they have changed.
    pub header: Option<ServiceHeader>,
    /// The nodes that the records name.
    pub nodes: Vec<NodeRecord, PAGE_RECORDS>,
    /// Instances.
    pub records: Vec<InstanceRecord, PAGE_RECORDS>,
    /// Numbers of withdrawn instances.
    pub removed: Vec<u32, PAGE_REMOVED>,
}

/// A probe between peers, or the answer to one: the way there and back is measured by who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Chosen by who asks, and given back.
    pub token: u32,
    /// Where the sender believes to be, as in [`InstanceRecord::coordinate`]; all zero while it does not know.
    pub coordinate: [i16; 3],
    /// How sure it is: its estimated relative error, [`ERROR_ONE`](crate::measure::ERROR_ONE) being 1.
    pub error: u16,
    /// The round trip that the sender has measured before, in microseconds; 0 is none.
    pub round_trip: u32,
}

impl Probe {
    /// Writes it as a [`Message::Probe`], or as a [`Message::ProbeAnswer`], without the room that a message takes. Returns the
    /// length; none when it has no room in `buffer`.
    pub(crate) fn encode(&self, answers: bool, buffer: &mut [u8]) -> Option<usize> {
        let (head, body) = buffer.split_first_chunk_mut::<2>()?;
        *head = [PROTOCOL_VERSION, if answers { PROBE_ANSWER } else { PROBE }];
        Some(postcard::to_slice(self, body).ok()?.len().saturating_add(2))
    }

    /// Reads one; whether it is an answer. None when the payload is something else.
    pub(crate) fn decode(payload: &[u8]) -> Option<(bool, Result<Self, DecodeError>)> {
        let [PROTOCOL_VERSION, kind @ (PROBE | PROBE_ANSWER), body @ ..] = payload else {
            return None;
        };
        let probe = postcard::take_from_bytes(body).map(|(probe, _)| probe);
        Some((*kind == PROBE_ANSWER, probe.map_err(|_| DecodeError::Malformed)))
    }
}

/// A node says where it believes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The request's number.
    pub request: u32,
    /// [`InstanceRecord::coordinate`] of the instances that run on it.
    pub coordinate: [i16; 3],
    /// Its estimated relative error, [`ERROR_ONE`](crate::measure::ERROR_ONE) being 1.
    pub error: u16,
}

/// A message of the table protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "decoded in place, one at a time; there is no heap to put it on")]
pub enum Message {
    /// Node to manager: who I am; the renewal of the lease.
    Hello(Hello),
    /// Node to manager: a table, please.
    Resolve(Resolve),
    /// Node to manager: an instance runs here.
    Attach(Attach),
    /// Node to manager: an instance does not run here any more.
    Detach(Detach),
    /// Node to manager: the end of an interest, or of a stream that the node does not know.
    Forget {
        /// What the stream is about.
        subject: Subject,
        /// The stream.
        stream: u32,
    },
    /// Node to manager: a page has been applied.
    Ack {
        /// What the stream is about.
        subject: Subject,
        /// The stream.
        stream: u32,
        /// The page.
        sequence: u32,
    },
    /// Manager to node: the answer to `Hello`.
    Welcome(Welcome),
    /// Manager to node: a page of a table.
    Table(TablePage),
    /// Manager to node: nothing has that address, name or number.
    NotFound {
        /// The stream of the `Resolve`.
        stream: u32,
    },
    /// Manager to node: the answer to `Attach`.
    Attached(Attached),
    /// Manager to node: the answer to `Detach`.
    Detached {
        /// The request.
        request: u32,
    },
    /// Manager to node: the answer to `Forget`.
    Forgotten {
        /// What the stream was about.
        subject: Subject,
        /// The stream.
        stream: u32,
    },
    /// Manager to node: a request is refused.
    Refused {
        /// The request.
        request: u32,
        /// Why.
        refusal: Refusal,
    },
    /// Manager to node: I have started again and know your key; say `Hello`.
    Restarted {
        /// The manager's boot epoch.
        epoch: u32,
    },
    /// Node to manager: how an instance is to be picked.
    Adjust(Adjust),
    /// Manager to node: the answer to `Adjust`.
    Adjusted {
        /// The request.
        request: u32,
    },
    /// Node to manager: `Attach`, for an instance that is to be picked so from its first moment on. It changes nothing of one
    /// that runs on the node already.
    AttachAs(Attach, Adjustment),
    /// Peer to peer: how long does it take to you and back?
    Probe(Probe),
    /// Peer to peer: the answer to `Probe`.
    ProbeAnswer(Probe),
    /// Node to manager: where I am.
    Report(Report),
    /// Manager to node: the answer to `Report`.
    Reported {
        /// The request.
        request: u32,
    },
}

/// Why a payload is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is empty.
    Empty,
    /// It is of another protocol version, given here.
    Version(u8),
    /// It is not well formed.
    Malformed,
}

/// A message does not fit its buffer, or is longer than [`MESSAGE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Message {
    /// Writes the message into `buffer` and returns its length in bytes.
    ///
    /// # Errors
    /// [`TooLong`] when it has no room in `buffer` or in [`MESSAGE_MAX`] bytes.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        let room = buffer.len().min(MESSAGE_MAX);
        let (version, body) = buffer.get_mut(..room).and_then(|b| b.split_first_mut()).ok_or(TooLong)?;
        *version = PROTOCOL_VERSION;
        let written = postcard::to_slice(self, body).map_err(|_| TooLong)?.len();
        Ok(written.saturating_add(1))
    }

    /// Whether a payload is, by its first two bytes, a message for a manager (and not from one): what a process that is node and
    /// manager tells its two halves' messages apart by.
    pub fn is_for_manager(payload: &[u8]) -> bool {
        // Postcard writes a variant's number as one byte up to 127. Up to `Ack`, then `Adjust`, `AttachAs` and `Report`.
        matches!(payload, [PROTOCOL_VERSION, 0..=5 | 14 | 16 | 19, ..])
    }

    /// Reads a message. Trailing bytes are ignored: the tunnel pads with zeros.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong; nothing of a wrong payload is believed.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        match payload.split_first() {
            None => Err(DecodeError::Empty),
            Some((&PROTOCOL_VERSION, [TABLE, body @ ..])) => {
                let mut page = TablePage::EMPTY;
                match page.read(body) {
                    Ok(()) => Ok(Self::Table(page)),
                    Err(_) => Err(DecodeError::Malformed),
                }
            }
            Some((&PROTOCOL_VERSION, body)) => {
                let mut input = postcard::Deserializer::from_bytes(body);
                Self::deserialize(&mut input).map_err(|_| DecodeError::Malformed)
            }
            Some((&other, _)) => Err(DecodeError::Version(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_for_managers_are_told_by_their_second_byte() {
        let subject = Subject::default();
        let for_manager = [
            Message::Detach(Detach { request: 1, instance: InstanceId::NONE }),
            Message::Forget { subject, stream: 1 },
            Message::Ack { subject, stream: 1, sequence: 1 },
            Message::Adjust(Adjust {
                turn: Turn { epoch: 1, request: 1 },
                instance: InstanceId::NONE,
                change: Adjustment { weight: Some(3), draining: Some(true), ..Adjustment::default() },
            }),
            Message::AttachAs(
                Attach { request: 1, kind: AttachKind::Host, namespace_ip: Dual::UNSPECIFIED },
                Adjustment { priority: Some(7), load: Some(1_000), ..Adjustment::default() },
            ),
            Message::Report(Report { request: 1, coordinate: [-300, 5, 17], error: 400 }),
        ];
        let from_manager = [
            Message::NotFound { stream: 1 },
            Message::Detached { request: 1 },
            Message::Forgotten { subject, stream: 1 },
            Message::Restarted { epoch: 1 },
            Message::Adjusted { request: 1 },
            Message::Reported { request: 1 },
            Message::Probe(Probe { token: 1, ..Probe::default() }),
            Message::ProbeAnswer(Probe::default()),
        ];
        let mut buffer = [0; 64];
        for (message, expected) in
            for_manager.into_iter().map(|m| (m, true)).chain(from_manager.into_iter().map(|m| (m, false)))
        {
            let len = message.encode(&mut buffer).unwrap();
            assert_eq!(Message::is_for_manager(&buffer[..len]), expected, "{message:?}");
            assert_eq!(Message::decode(&buffer[..len]), Ok(message));
        }
        assert!(!Message::is_for_manager(&[]));
        assert!(!Message::is_for_manager(&[0x45, 0]), "an IP packet");
    }

    #[test]
    fn a_probe_is_read_and_written_as_the_message_that_it_is() {
        let probe = Probe { token: u32::MAX, coordinate: [-32_768, 1, 300], error: 4_096, round_trip: 70_000 };
        let (mut by_itself, mut as_message) = ([0; 64], [0; 64]);
        for (answers, message) in [(false, Message::Probe(probe)), (true, Message::ProbeAnswer(probe))] {
            let len = probe.encode(answers, &mut by_itself).unwrap();
            assert!(len <= 32, "two blocks of the tunnel's padding: {len}");
            assert_eq!(message.encode(&mut as_message), Ok(len));
            assert_eq!(by_itself[..len], as_message[..len]);
            assert_eq!(Probe::decode(&by_itself[..len]), Some((answers, Ok(probe))));
            assert_eq!(Probe::decode(&by_itself[..5]), Some((answers, Err(DecodeError::Malformed))));
            assert_eq!(probe.encode(answers, &mut by_itself[..5]), None);
        }
        let len = Message::Reported { request: 1 }.encode(&mut as_message).unwrap();
        assert_eq!(Probe::decode(&as_message[..len]), None);
        assert_eq!(Probe::decode(&[]), None);
    }

    #[test]
    fn turns_are_told_apart_in_age_over_the_wrap_of_their_numbers() {
        let turn = |epoch, request| Turn { epoch, request };
        for (last, next) in [(1, 2), (SERVER_STREAMS - 1, 0), (SERVER_STREAMS - 5, 20)] {
            assert!(turn(1, next).is_after(turn(1, last)));
            assert!(!turn(1, last).is_after(turn(1, next)));
            assert!(!turn(1, last).is_after(turn(1, last)), "a repeat");
            assert!(turn(2, last).is_after(turn(1, next)), "of another start");
        }
    }
}
