//! A running daemon: engine, tunnels and manager, joined as the daemon's data plane joins them. It decides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use acorn::root::KeyEvent;
use acorn_core::mtu::OverlayMtu;
use acorn_core::node::{Action, Node, Output, PENDING_LEN, PeerNews};
use acorn_core::packet::reply::MAX_REPLY_LEN;
use acorn_core::packet::{Fragments, Offload, View};
use acorn_core::sync::directory::Sender;
use acorn_core::sync::message::Message;
use acorn_core::time::Instant;
use acorn_core::{Endpoint, NodeKey, RowRef};

use crate::manager::{Manager, Wish};
use crate::tunnel::{Event, Frame, Tunnels};

/// What a simulated node can hold: services, instances, nodes, flows, attachments, waiting packets.
pub type SimNode = Node<64, 256, 64, 512, 16, 64>;

/// Who wants a tunnel: the engine, by the row of a node, and the manager in this process.
#[derive(Clone, Copy, Default)]
struct Users {
    row: Option<RowRef>,
    held: bool,
}

pub struct Process {
    own: NodeKey,
    pub tunnels: Tunnels,
    users: BTreeMap<NodeKey, Users>,
    keys: BTreeMap<usize, (RowRef, NodeKey)>,
    pub node: Option<Box<SimNode>>,
    pub manager: Option<Manager>,
    /// Frames for the underlay.
    pub sent: Vec<(SocketAddr, Frame)>,
    /// Packets for local applications.
    pub delivered: VecDeque<Vec<u8>>,
}

impl Process {
    pub fn new(own: NodeKey, tunnels: Tunnels, node: Option<Box<SimNode>>, manager: Option<Manager>) -> Self {
        Self {
            own,
            tunnels,
            users: BTreeMap::new(),
            keys: BTreeMap::new(),
            node,
            manager,
            sent: Vec::new(),
            delivered: VecDeque::new(),
        }
    }

    /// Does what a manager does before anything else.
    pub fn begin(&mut self, now: Instant) {
        let wishes = self.manager.as_mut().map(Manager::announce).unwrap_or_default();
        self.perform(now, wishes);
        self.turn(now);
    }

    /// A packet from a local application.
    pub fn handle_tun(&mut self, now: Instant, mut packet: Vec<u8>) {
        let Some(node) = &mut self.node else { return };
        let mut reply = [0; MAX_REPLY_LEN];
        let action = node.handle_tun(now, &mut packet, Offload::NONE, &mut reply);
        self.act(now, action, &mut packet, &reply);
    }

    /// A datagram from the underlay.
    pub fn handle_frame(&mut self, now: Instant, from: SocketAddr, frame: Frame) {
        let opened = self.tunnels.open(now, from, frame);
        self.transmit();
        let Some((key, mut payload)) = opened else { return };
        if Message::is_for_manager(&payload) {
            let sender = Sender { key, observed: Endpoint::from(from) };
            let wishes = self.manager.as_mut().map(|manager| manager.handle(now, sender, &payload));
            self.perform(now, wishes.unwrap_or_default());
            return;
        }
        let row = self.users.get(&key).and_then(|users| users.row);
        let (Some(node), Some(row)) = (&mut self.node, row) else { return };
        let action = node.handle_payload(now, row, &mut payload);
        self.act(now, action, &mut payload, &[]);
    }

    /// Does what is due, and everything that engine, manager and tunnels have to say.
    pub fn turn(&mut self, now: Instant) {
        let wishes = self.manager.as_mut().map(|manager| manager.run(now));
        self.perform(now, wishes.unwrap_or_default());
        self.tunnels.handle_timeout(now);
        if let Some(node) = &mut self.node
            && node.poll_timeout().is_some_and(|due| due <= now)
        {
            node.handle_timeout(now);
        }
        self.settle(now);
    }

    /// When [`Self::turn`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let node = self.node.as_ref().and_then(|node| node.poll_timeout());
        [self.tunnels.deadline(), node, self.manager.as_ref().map(Manager::deadline)].into_iter().flatten().min()
    }

    /// Seals bytes of its own making for a peer, as a node that was broken into might.
    pub fn inject(&mut self, now: Instant, to: NodeKey, payload: &[u8]) {
        self.tunnels.send(now, to, payload);
        self.transmit();
    }

    fn act(&mut self, now: Instant, action: Action, packet: &mut [u8], reply: &[u8]) {
        match action {
            Action::Forward { peer, len } => self.send(now, peer, &packet[..len]),
            Action::Fragment { peer, len, mtu } => self.send_cut(now, peer, &mut packet[..len], Offload::NONE, mtu),
            Action::Deliver { len } => self.delivered.push_back(packet[..len].to_vec()),
            Action::Reply { len } => self.delivered.push_back(reply[..len].to_vec()),
            Action::Nothing => self.settle(now),
        }
    }

    fn settle(&mut self, now: Instant) {
        let mut out = [0; PENDING_LEN];
        loop {
            self.follow_peers(now);
            let Some(node) = &mut self.node else { break };
            match node.poll_output(now, &mut out) {
                Some(Output::Peer { peer, len, .. }) => self.send(now, peer, &out[..len]),
                Some(Output::Fragments { peer, len, offload, mtu }) => {
                    self.send_cut(now, peer, &mut out[..len], offload, mtu);
                }
                Some(Output::Local { len, .. }) => self.delivered.push_back(out[..len].to_vec()),
                None => break,
            }
        }
        self.follow_tunnels(now);
        self.transmit();
    }

    fn send(&mut self, now: Instant, row: RowRef, payload: &[u8]) {
        let Some(key) = self.node.as_ref().and_then(|node| Some(node.peer(row)?.key)) else { return };
        if key == self.own {
            let sender = Sender { key, observed: Endpoint::UNKNOWN };
            let wishes = self.manager.as_mut().map(|manager| manager.handle(now, sender, payload));
            self.perform(now, wishes.unwrap_or_default());
            return;
        }
        let bound = self.keys.get(&row.row()).filter(|(bound, _)| *bound == row);
        let Some((_, key)) = bound.copied() else { return };
        self.tunnels.send(now, key, payload);
        self.transmit();
    }

    fn send_cut(&mut self, now: Instant, row: RowRef, packet: &mut [u8], offload: Offload, mtu: OverlayMtu) {
        let view = View::parse(packet, offload).expect("the engine has seen it");
        let mut fragments = Fragments::new(packet, &view, mtu).expect("the engine asks only where it can be done");
        let mut fragment = [0; PENDING_LEN];
        while let Some(len) = fragments.next(packet, &mut fragment) {
            self.send(now, row, &fragment[..len]);
        }
    }

    fn transmit(&mut self) {
        self.sent.extend(std::iter::from_fn(|| self.tunnels.poll_transmit()));
    }

    fn follow_peers(&mut self, now: Instant) {
        while let Some(news) = self.node.as_mut().and_then(|node| node.poll_peer()) {
            match news {
                PeerNews::Known { peer, key, endpoint, restarted } => {
                    self.tunnels.add_peer(now, key, endpoint.get());
                    self.users.entry(key).or_default().row = Some(peer);
                    self.keys.insert(peer.row(), (peer, key));
                    if restarted {
                        self.tunnels.restart_handshake(now, key);
                    }
                }
                PeerNews::Gone { peer, .. } => {
                    let Some((bound, key)) = self.keys.get(&peer.row()).copied() else { continue };
                    if bound != peer {
                        continue;
                    }
                    self.keys.remove(&peer.row());
                    let users = self.users.entry(key).or_default();
                    users.row = None;
                    if !users.held {
                        self.tunnels.remove_peer(&key);
                    }
                }
            }
        }
    }

    fn follow_tunnels(&mut self, now: Instant) {
        while let Some(event) = self.tunnels.poll_event() {
            let Some(node) = &mut self.node else { continue };
            let row = |key| self.users.get(&key).and_then(|users| users.row);
            match event {
                Event::Established(key) => {
                    if let Some(row) = row(key) {
                        node.peer_established(now, row);
                    }
                }
                Event::Unreachable(key) => {
                    if let Some(row) = row(key) {
                        node.peer_unreachable(row);
                    }
                }
                Event::Unknown(key) => node.unknown_key(now, key),
            }
        }
    }

    /// Does what the manager in this process wants.
    fn perform(&mut self, now: Instant, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Send(to, mut payload) if to == self.own => {
                    if let Some(node) = &mut self.node
                        && let Some(row) = node.find_peer(&to)
                    {
                        node.handle_payload(now, row, &mut payload);
                    }
                }
                Wish::Send(to, payload) => {
                    if self.tunnels.has_peer(&to) {
                        self.tunnels.send(now, to, &payload);
                        self.transmit();
                    }
                }
                Wish::Key(KeyEvent::Add { key, endpoint, .. }) if key != self.own => {
                    self.tunnels.add_peer(now, key, endpoint.get());
                    self.users.entry(key).or_default().held = true;
                }
                Wish::Key(KeyEvent::Remove { key }) => {
                    let users = self.users.entry(key).or_default();
                    users.held = false;
                    if users.row.is_none() {
                        self.tunnels.remove_peer(&key);
                    }
                }
                Wish::Key(KeyEvent::Add { .. }) => {}
            }
        }
    }
}
