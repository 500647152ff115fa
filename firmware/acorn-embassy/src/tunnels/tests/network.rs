//! The network in memory. It loses nothing that the test does not take from it, and takes no time.

use std::collections::VecDeque;
use std::vec::Vec;

use acorn_core::sync::message::NodeRecord;
use acorn_core::table::Table;
use wireguard_sans_io::testing::DeterministicRng;

use super::super::*;

/// Where every test begins: no round number.
pub(super) const START: Instant = Instant::from_millis(1_234_567);
/// More calls in one instant than any state of the tunnels has work for.
const ENDLESS: usize = 1000;

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) bytes: Vec<u8>,
    pub(super) way: Way,
}

impl Datagram {
    /// Its WireGuard message type.
    pub(super) fn kind(&self) -> u8 {
        self.bytes.first().copied().unwrap_or(0)
    }
}

/// A payload that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) row: RowRef,
    pub(super) key: NodeKey,
    pub(super) payload: Vec<u8>,
}

/// A node: its tunnels, and what its table says of the others.
pub(super) struct Node<const PEERS: usize, const STAMPS: usize> {
    pub(super) tunnels: Box<Tunnels<PEERS, STAMPS>>,
    pub(super) key: NodeKey,
    pub(super) address: SocketAddrV4,
    pub(super) table: Vec<Peer>,
    /// Payloads opened so far.
    pub(super) inbox: Vec<Delivery>,
    pub(super) events: Vec<Event>,
    /// Steps that cost an X25519 each: tunnels that an initiation was offered to.
    pub(super) offers: usize,
    pub(super) rng: DeterministicRng,
    secret: [u8; 32],
    /// When it was started, on the test's clock.
    started: Instant,
}

impl<const PEERS: usize, const STAMPS: usize> Node<PEERS, STAMPS> {
    fn new(number: u8) -> Self {
        let secret = secret(number);
        let mut tunnels = Box::new(Tunnels::new());
        let key = tunnels.start(StaticSecret::from_bytes(secret), None, 1);
        Self {
            tunnels,
            key,
            address: address(number),
            table: Vec::new(),
            inbox: Vec::new(),
            events: Vec::new(),
            offers: 0,
            rng: DeterministicRng::new(u64::from(number)),
            secret,
            started: Instant::from_ticks(0),
        }
    }

    /// What the table says of the peer with this key.
    pub(super) fn peer(&self, key: &NodeKey) -> Peer {
        *self.table.iter().find(|peer| peer.key == *key).expect("the table knows it")
    }

    fn initiation(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        initiation: &[u8; 148],
        out: &mut [u8],
    ) -> Option<Transmit> {
        let mut step = self.tunnels.receive_initiation(now, from, initiation, out, &mut self.rng);
        loop {
            match step {
                Step::Done(transmit) => return transmit,
                Step::Offer(place) => {
                    self.offers += 1;
                    step = self.tunnels.offer(now, from, initiation, place, out, &mut self.rng);
                }
                Step::Unknown => break,
            }
        }
        let may = |peer: &&Peer| !peer.is_manager && !self.tunnels.has(&peer.key);
        let mut candidates: Vec<Peer> = self.table.iter().filter(may).copied().collect();
        candidates.sort_by_key(|peer| peer.endpoint.is_none_or(|endpoint| endpoint.ip() != from.ip()));
        for peer in candidates.into_iter().take(CANDIDATES) {
            if let Step::Done(transmit) = self.try_candidate(now, from, initiation, peer, out) {
                return transmit;
            }
        }
        self.tunnels.keep_initiation(now, from, initiation);
        None
    }

    fn try_candidate(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        initiation: &[u8; 148],
        peer: Peer,
        out: &mut [u8],
    ) -> Step {
        self.offers += 1;
        if !self.tunnels.begin_trial(&peer.key) {
            return Step::Unknown;
        }
        self.tunnels.try_candidate(now, from, initiation, peer, out, &mut self.rng)
    }
}

/// The private key of a node.
pub(super) fn secret(number: u8) -> [u8; 32] {
    [number; 32]
}

pub(super) fn address(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(core::net::Ipv4Addr::new(192, 0, 2, number), 50103)
}

/// Nodes and what is under way between them.
pub(super) struct Network<const PEERS: usize = 4, const STAMPS: usize = 4> {
    pub(super) now: Instant,
    pub(super) nodes: Vec<Node<PEERS, STAMPS>>,
    pub(super) wire: VecDeque<Datagram>,
    /// All datagrams that were sent, those that were lost included.
    pub(super) log: Vec<Datagram>,
    /// Calls of `poll_timeout` that time was moved to.
    pub(super) wakes: usize,
}

impl<const PEERS: usize, const STAMPS: usize> Network<PEERS, STAMPS> {
    /// `count` nodes that know each other.
    pub(super) fn new(count: u8) -> Self {
        let mut nodes: Vec<_> = (1..=count).map(Node::new).collect();
        // The rows of a real table, another one at each node.
        let known: Vec<_> = nodes.iter().map(|node| (node.key, node.address)).collect();
        for (place, node) in nodes.iter_mut().enumerate() {
            let mut table = Table::<1, 1, 64>::new();
            let fill = [&known[..], &vec![(NodeKey([0xee; 32]), address(0)); place]].concat();
            for (key, endpoint) in fill.iter().rev() {
                let record = NodeRecord { key: *key, ..NodeRecord::default() };
                let row = table.put_node(&record).ok().and_then(|slot| table.node_ref(slot)).expect("room");
                if *key != node.key && known.iter().any(|(one, _)| one == key) {
                    node.table.push(Peer { key: *key, row, endpoint: Some(*endpoint), is_manager: false });
                }
            }
        }
        Self { now: START, nodes, wire: VecDeque::new(), log: Vec::new(), wakes: 0 }
    }

    /// The time as a node has it.
    pub(super) fn time_of(&self, node: usize) -> Instant {
        Instant::from_ticks(self.now.as_ticks() - self.nodes[node].started.as_ticks())
    }

    /// Has a node send a payload to another.
    pub(super) fn seal(&mut self, from: usize, to: usize, payload: &[u8]) {
        self.seal_as(from, to, Local::Own, payload);
    }

    pub(super) fn seal_as(&mut self, from: usize, to: usize, local: Local, payload: &[u8]) {
        let (now, key) = (self.time_of(from), self.nodes[to].key);
        let node = &mut self.nodes[from];
        let (peer, mut out) = (node.peer(&key), [0; DATAGRAM_MAX]);
        let sent = node.tunnels.seal(now, peer, local, payload, &mut out, &mut node.rng);
        self.put(from, sent, &out);
    }

    /// Has a node take what its table says of another, and whether that has been started again.
    pub(super) fn configure(&mut self, node: usize, of: usize, restarted: bool) {
        let (now, key) = (self.time_of(node), self.nodes[of].key);
        let peer = self.nodes[node].peer(&key);
        self.nodes[node].tunnels.configure(now, peer, restarted);
    }

    /// Starts a node again, for the `boot`-th time: all it has left is its key and its table.
    pub(super) fn restart(&mut self, node: usize, boot: u32) {
        let old = &mut self.nodes[node];
        old.started = self.now;
        *old.tunnels = Tunnels::new();
        old.tunnels.start(StaticSecret::from_bytes(old.secret), None, boot);
    }

    fn put(&mut self, from: usize, transmit: Option<Transmit>, out: &[u8]) {
        if let Some(Transmit { to, len, way }) = transmit {
            let datagram = Datagram { from: self.nodes[from].address, to, bytes: out[..len].to_vec(), way };
            self.log.push(datagram.clone());
            self.wire.push_back(datagram);
        }
    }

    /// Has a node do what is due, and send what it has to send.
    pub(super) fn poll(&mut self, node: usize) {
        let now = self.time_of(node);
        self.nodes[node].tunnels.handle_timeout(now);
        for _ in 0..ENDLESS {
            let (one, mut out) = (&mut self.nodes[node], [0; DATAGRAM_MAX]);
            let sent = one.tunnels.poll_transmit(now, &mut out, &mut one.rng);
            while let Some(event) = one.tunnels.poll_event() {
                one.events.push(event);
            }
            if sent.is_none() {
                return;
            }
            self.put(node, sent, &out);
        }
        panic!("the tunnels send without end");
    }

    /// Gives a node a datagram.
    pub(super) fn deliver(&mut self, node: usize, from: SocketAddrV4, bytes: &[u8]) {
        let now = self.time_of(node);
        let (one, mut out) = (&mut self.nodes[node], [0; DATAGRAM_MAX]);
        let mut reply = None;
        match one.tunnels.receive(now, from, bytes, &mut out, &mut one.rng) {
            Opened::Payload { row, key, len } => {
                one.inbox.push(Delivery { row, key, payload: out[..len].to_vec() });
            }
            Opened::Initiation => {
                let initiation = bytes.try_into().expect("the length is checked");
                reply = one.initiation(now, from, initiation, &mut out);
            }
            Opened::Nothing => {}
        }
        self.put(node, reply, &out);
    }

    /// Introduces a node to another, as the manager does: initiations that nobody took are offered to it.
    pub(super) fn introduce(&mut self, node: usize, peer: Peer) {
        let now = self.time_of(node);
        self.nodes[node].table.push(peer);
        for _ in 0..self.nodes[node].tunnels.kept() {
            let one = &mut self.nodes[node];
            let Some(kept) = one.tunnels.take_kept(now) else {
                return;
            };
            let mut out = [0; DATAGRAM_MAX];
            match one.try_candidate(now, kept.from, &kept.initiation, peer, &mut out) {
                Step::Done(transmit) => self.put(node, transmit, &out),
                _ => one.tunnels.return_kept(kept),
            }
        }
    }

    /// Delivers the oldest datagram on the wire. False when there is none. To an address that nobody has it is lost.
    pub(super) fn step(&mut self) -> bool {
        let Some(datagram) = self.wire.pop_front() else {
            return false;
        };
        if let Some(node) = self.nodes.iter().position(|node| node.address == datagram.to) {
            self.deliver(node, datagram.from, &datagram.bytes);
        }
        true
    }

    /// Lets all nodes talk until they are quiet.
    pub(super) fn settle(&mut self) {
        self.settle_but(|_| false);
    }

    /// The same, where datagrams that `is_lost` are.
    pub(super) fn settle_but(&mut self, is_lost: impl Fn(&Datagram) -> bool) {
        for _ in 0..ENDLESS {
            (0..self.nodes.len()).for_each(|node| self.poll(node));
            if self.wire.is_empty() {
                return;
            }
            while let Some(datagram) = self.wire.front() {
                if is_lost(datagram) {
                    self.wire.pop_front();
                } else {
                    self.step();
                }
            }
        }
        panic!("the nodes talk without end");
    }

    /// When a node is due next, on the test's clock.
    pub(super) fn due(&self, node: usize) -> Option<Instant> {
        let due = self.nodes[node].tunnels.poll_timeout(self.time_of(node))?;
        Some(Instant::from_ticks(due.as_ticks() + self.nodes[node].started.as_ticks()))
    }

    /// Moves time on, from one timeout of the nodes to the next, as a board that sleeps does.
    pub(super) fn advance(&mut self, by: Duration) {
        self.advance_but(by, |_| false);
    }

    pub(super) fn advance_but(&mut self, by: Duration, is_lost: impl Fn(&Datagram) -> bool) {
        let until = self.now + by;
        self.settle_but(&is_lost);
        loop {
            let due = (0..self.nodes.len()).filter_map(|node| self.due(node)).min();
            let Some(due) = due.filter(|due| *due <= until) else {
                break;
            };
            assert!(due > self.now, "something is due at {due:?} that was not done at {:?}", self.now);
            self.now = due;
            self.wakes += 1;
            self.settle_but(&is_lost);
        }
        self.now = until;
        self.settle_but(&is_lost);
    }

    /// The payloads that a node has got from another, in order, and forgets them.
    pub(super) fn take_payloads(&mut self, at: usize, from: usize) -> Vec<Vec<u8>> {
        let peer = self.nodes[at].peer(&self.nodes[from].key);
        let inbox = core::mem::take(&mut self.nodes[at].inbox);
        let (taken, left) = inbox.into_iter().partition(|delivery| delivery.key == peer.key);
        self.nodes[at].inbox = left;
        let taken: Vec<Delivery> = taken;
        assert!(taken.iter().all(|delivery| delivery.row == peer.row), "a payload came under another row");
        taken.into_iter().map(|delivery| delivery.payload).collect()
    }

    /// The events of a node, which forgets them.
    pub(super) fn take_events(&mut self, node: usize) -> Vec<Event> {
        core::mem::take(&mut self.nodes[node].events)
    }

    /// What names another node in the events of a node.
    pub(super) fn row(&self, at: usize, of: usize) -> RowRef {
        self.nodes[at].peer(&self.nodes[of].key).row
    }

    /// Whether payloads get through both ways at once.
    pub(super) fn assert_talking(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.take_payloads(to, from);
            self.seal(from, to, &[0x45; 16]);
            self.settle();
            assert_eq!(self.take_payloads(to, from), [[0x45; 16]], "from {from} to {to}");
        }
    }
}

/// A payload of 16 bytes, which is not padded.
pub(super) fn payload(n: u8) -> Vec<u8> {
    vec![n; 16]
}
