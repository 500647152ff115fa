//! What runs a node: overlay stacks on one side, the underlay on the other, engine and tunnels between them.
//!
//! It is a shell. What is decided, the engine and the tunnels decide; here buffers are passed on and whatever the two want to send is
//! sent. Nothing takes longer than one handshake message's arithmetic without letting other tasks run.

mod follow;
mod handshakes;
mod ports;
mod report;
mod underlay;

use core::future::poll_fn;
use core::net::SocketAddrV4;
use core::task::Poll;

use acorn_core::node::{Action, Node, Output};
use acorn_core::packet::{Fragments, Offload, View};
use acorn_core::{NodeKey, RowRef};
use embassy_futures::select::select;
use embassy_futures::yield_now;
use embassy_net_driver::LinkState;
use embassy_net_driver_channel as channel;
use embassy_time::{Duration, Instant, Timer};
use wireguard_sans_io::{EntropySource, ip_packet_len};

use crate::OVERLAY_MTU;
use crate::port::PortCell;
use crate::resources::{Buffers, PORT_SENT, RECEIVED, WAITING};
use crate::status::NodeCell;
use crate::tunnels::{Local, Opened, PAYLOAD_MAX, Peer, Transmit, Tunnels};
use report::Reported;
pub use report::SNAPSHOT_AGE;
pub(crate) use underlay::Underlay;

/// How often a delivery is tried while the overlay stack has no room: after each, the stack runs.
const DELIVERY_TRIES: usize = 3;

/// The latest time that is slept until: the timer queue's sum must not overflow.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Time as the engine knows it.
pub(crate) fn engine_time(now: Instant) -> acorn_core::time::Instant {
    acorn_core::time::Instant::from_millis(now.as_millis())
}

/// A node at work. [`Self::run`] is to be a task.
pub struct Runner<
    'a,
    const SERVICES: usize,
    const INSTANCES: usize,
    const NODES: usize,
    const FLOWS: usize,
    const PEERS: usize,
    const PORTS: usize,
> {
    own: NodeKey,
    engine: &'a mut Node<SERVICES, INSTANCES, NODES, FLOWS, PORTS, WAITING>,
    tunnels: &'a mut Tunnels<PEERS, NODES>,
    channels: heapless::Vec<channel::Runner<'a, OVERLAY_MTU>, PORTS>,
    ports: &'a [PortCell; PORTS],
    node: &'a NodeCell,
    underlay: Underlay<'a, PEERS>,
    entropy: &'a mut dyn EntropySource,
    buffers: &'a mut Buffers,
    /// Nodes that the manager has just introduced.
    introduced: heapless::Deque<RowRef, 4>,
    /// The manager has answered to the node's own key.
    has_joined: bool,
    /// Since when the manager has not answered under the key that is tried.
    tried_since: Option<Instant>,
    /// A handshake with the manager has gone unanswered.
    is_manager_silent: bool,
    reported: Reported,
}

/// Which buffer a payload is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Packet,
    Work,
}

impl<
    'a,
    const SERVICES: usize,
    const INSTANCES: usize,
    const NODES: usize,
    const FLOWS: usize,
    const PEERS: usize,
    const PORTS: usize,
> Runner<'a, SERVICES, INSTANCES, NODES, FLOWS, PEERS, PORTS>
{
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, put together once")]
    pub(crate) fn new(
        own: NodeKey,
        engine: &'a mut Node<SERVICES, INSTANCES, NODES, FLOWS, PORTS, WAITING>,
        tunnels: &'a mut Tunnels<PEERS, NODES>,
        channels: heapless::Vec<channel::Runner<'a, OVERLAY_MTU>, PORTS>,
        ports: &'a [PortCell; PORTS],
        node: &'a NodeCell,
        underlay: Underlay<'a, PEERS>,
        entropy: &'a mut dyn EntropySource,
        buffers: &'a mut Buffers,
        has_joined: bool,
    ) -> Self {
        Self {
            own,
            engine,
            tunnels,
            channels,
            ports,
            node,
            underlay,
            entropy,
            buffers,
            introduced: heapless::Deque::new(),
            has_joined,
            tried_since: None,
            is_manager_silent: false,
            reported: Reported::default(),
        }
    }

    /// Runs the node for ever.
    pub async fn run(mut self) -> ! {
        // A handshake that begins before there is a network is lost, and repeated only after 5 s.
        self.underlay.wait_up().await;
        loop {
            self.settle().await;
            let ready = self.wait().await;
            // As many as have room, or what the stacks bring meanwhile would have none. One that is no payload may have cost a
            // handshake's arithmetic: it ends the turn.
            for _ in 0..RECEIVED {
                if !ready.datagram || !self.read_underlay().await {
                    break;
                }
            }
            for port in 0..PORTS {
                for _ in 0..PORT_SENT {
                    if ready.packets & 1 << port == 0 || !self.read_port(port).await {
                        break;
                    }
                }
            }
            let now = Instant::now();
            self.tunnels.handle_timeout(now);
            let at = engine_time(now);
            if self.engine.poll_timeout().is_some_and(|due| due <= at) {
                self.engine.handle_timeout(at);
            }
            // However much there is to do, the other tasks have their turn.
            yield_now().await;
        }
    }

    /// Sleeps until there is a datagram, a packet or a request, or something is due.
    async fn wait(&mut self) -> Ready {
        let now = Instant::now();
        let engine = self.engine.poll_timeout().map(|at| Instant::from_millis(at.as_millis()));
        self.underlay.tidy(now);
        let due = [engine, self.tunnels.poll_timeout(now), self.next_trial(), self.underlay.poll_timeout()];
        let due = due.into_iter().flatten().min();
        let until = due.unwrap_or(Instant::MAX).min(now + LONGEST_SLEEP);
        let (node, underlay, channels) = (self.node, &self.underlay, &mut self.channels);
        let ready = poll_fn(|cx| {
            let mut ready = Ready { datagram: underlay.poll_received(cx).is_ready(), packets: 0 };
            for (place, channel) in channels.iter_mut().enumerate() {
                if channel.poll_tx_buf(cx).is_ready() {
                    ready.packets |= 1 << place;
                }
            }
            let is_asked = node.poll_asked(cx).is_ready();
            if ready.datagram || ready.packets != 0 || is_asked { Poll::Ready(ready) } else { Poll::Pending }
        });
        match select(ready, Timer::at(until)).await {
            embassy_futures::select::Either::First(ready) => ready,
            embassy_futures::select::Either::Second(()) => Ready { datagram: false, packets: 0 },
        }
    }

    /// Handles one datagram. False when there is none, or no payload was in it.
    async fn read_underlay(&mut self) -> bool {
        let Some((len, from)) = self.underlay.receive(&mut self.buffers.datagram) else {
            return false;
        };
        let now = Instant::now();
        let Buffers { packet, datagram, .. } = &mut *self.buffers;
        let Some(received) = datagram.get(..len) else {
            return false;
        };
        match self.tunnels.receive(now, from, received, packet, self.entropy) {
            Opened::Payload { row, key, len } => {
                self.handle_payload(now, row, key, len).await;
                return true;
            }
            Opened::Initiation => {
                if let Some(initiation) = received.first_chunk().copied() {
                    self.handle_initiation(from, initiation).await;
                }
            }
            Opened::Nothing => {}
        }
        false
    }

    /// Handles an opened payload of `len` bytes in the packet buffer.
    async fn handle_payload(&mut self, now: Instant, row: RowRef, key: NodeKey, len: usize) {
        let at = engine_time(now);
        if self.engine.peer(row).is_none() {
            // A session outlived what the tables say of its node: whoever it is, the manager knows.
            self.engine.unknown_key(at, key);
            return;
        }
        let Some(payload) = self.buffers.packet.get_mut(..len) else {
            return;
        };
        // What was sealed may be padded.
        let len = ip_packet_len(payload).unwrap_or(len).min(len);
        let action = self.engine.handle_payload(at, row, &mut payload[..len]);
        if matches!(action, Action::Deliver { .. }) {
            self.reported.packets_in = self.reported.packets_in.wrapping_add(1);
        }
        self.act(action).await;
    }

    /// Handles one packet of an overlay stack. False when there is none.
    async fn read_port(&mut self, port: usize) -> bool {
        let Some(channel) = self.channels.get_mut(port) else {
            return false;
        };
        let Some(sent) = channel.try_tx_buf() else {
            return false;
        };
        let len = sent.len().min(self.buffers.packet.len());
        if let (Some(place), Some(sent)) = (self.buffers.packet.get_mut(..len), sent.get(..len)) {
            place.copy_from_slice(sent);
        }
        channel.tx_done();
        self.reported.packets_out = self.reported.packets_out.wrapping_add(1);
        let at = engine_time(Instant::now());
        let Buffers { packet, work, .. } = &mut *self.buffers;
        if let Some(packet) = packet.get_mut(..len) {
            let action = self.engine.handle_tun(at, packet, Offload::NONE, work);
            self.act(action).await;
        }
        true
    }

    /// Does what the engine says of the packet in the packet buffer.
    async fn act(&mut self, action: Action) {
        match action {
            Action::Forward { peer, len } => self.send(peer, Source::Packet, len).await,
            Action::Fragment { peer, len, mtu } => self.send_cut(peer, Source::Packet, len, mtu).await,
            Action::Deliver { len } => self.deliver(Source::Packet, len).await,
            Action::Reply { len } => self.deliver(Source::Work, len).await,
            Action::Nothing => {}
        }
    }

    /// Does everything that the applications, the engine and the tunnels have to say, until they are quiet.
    async fn settle(&mut self) {
        self.follow_outcomes();
        self.follow_ports();
        loop {
            self.follow_joining();
            self.follow_peers();
            self.try_kept_initiations().await;
            let at = engine_time(Instant::now());
            match self.engine.poll_output(at, &mut self.buffers.work) {
                Some(Output::Peer { peer, len, .. }) => self.send(peer, Source::Work, len).await,
                Some(Output::Fragments { peer, len, mtu, .. }) => self.send_cut(peer, Source::Work, len, mtu).await,
                Some(Output::Local { len, .. }) => self.deliver(Source::Work, len).await,
                None => {
                    if !self.transmit_one().await && !self.follow_tunnels() {
                        break;
                    }
                }
            }
        }
        self.follow_outcomes();
        self.report();
    }

    /// Sends the next datagram of the tunnels' own. False when there is none.
    async fn transmit_one(&mut self) -> bool {
        let now = Instant::now();
        let Some(transmit) = self.tunnels.poll_transmit(now, &mut self.buffers.datagram, self.entropy) else {
            return false;
        };
        self.emit(transmit).await;
        yield_now().await;
        true
    }

    /// Sends what stands in the datagram buffer.
    async fn emit(&mut self, transmit: Transmit) {
        self.underlay.send(transmit, &self.buffers.datagram).await;
    }

    /// Seals a payload for a peer of the engine's and sends it.
    async fn send(&mut self, row: RowRef, source: Source, len: usize) {
        let Some(peer) = self.peer_of(row) else {
            return;
        };
        let local = self.local_for(&peer);
        let Buffers { packet, work, datagram } = &mut *self.buffers;
        let buffer = match source {
            Source::Packet => packet,
            Source::Work => work,
        };
        let Some(payload) = buffer.get(..len.min(PAYLOAD_MAX)) else {
            return;
        };
        if let Some(transmit) = self.tunnels.seal(Instant::now(), peer, local, payload, datagram, self.entropy) {
            self.emit(transmit).await;
        }
    }

    /// Cuts a packet to what the path to the peer takes, and sends the pieces.
    async fn send_cut(&mut self, row: RowRef, source: Source, len: usize, mtu: acorn_core::mtu::OverlayMtu) {
        // The pieces are written into the buffer that the packet is not in.
        let Buffers { packet, work, .. } = &mut *self.buffers;
        let whole = match source {
            Source::Packet => &mut packet[..],
            Source::Work => &mut work[..],
        };
        let Some(whole) = whole.get_mut(..len) else {
            return;
        };
        let Ok(view) = View::parse(whole, Offload::NONE) else {
            return;
        };
        let Ok(mut fragments) = Fragments::new(whole, &view, mtu) else {
            return;
        };
        loop {
            let Buffers { packet, work, .. } = &mut *self.buffers;
            let (whole, piece, other) = match source {
                Source::Packet => (&packet[..], &mut work[..], Source::Work),
                Source::Work => (&work[..], &mut packet[..], Source::Packet),
            };
            let Some(cut) = fragments.next(whole.get(..len).unwrap_or(&[]), piece) else {
                return;
            };
            self.send(row, other, cut).await;
        }
    }

    /// Gives a packet to the overlay stack that its destination is.
    async fn deliver(&mut self, source: Source, len: usize) {
        let Buffers { packet, work, .. } = &*self.buffers;
        let buffer = match source {
            Source::Packet => &packet[..],
            Source::Work => &work[..],
        };
        let Some(packet) = buffer.get(..len.min(OVERLAY_MTU)) else {
            return;
        };
        let Some(channel) = ports::port_of(self.ports, packet).and_then(|port| self.channels.get_mut(port)) else {
            return;
        };
        for _ in 0..DELIVERY_TRIES {
            if let Some(place) = channel.try_rx_buf().and_then(|room| room.get_mut(..packet.len())) {
                place.copy_from_slice(packet);
                channel.rx_done(packet.len());
                return;
            }
            yield_now().await;
        }
        self.reported.overlay_full = self.reported.overlay_full.wrapping_add(1);
    }

    /// A peer of the engine's, as the tunnels want it. None for the node itself.
    fn peer_of(&self, row: RowRef) -> Option<Peer> {
        let node = self.engine.peer(row).filter(|node| node.key != self.own)?;
        let endpoint = match node.endpoint.get() {
            Some(core::net::SocketAddr::V4(endpoint)) => Some(endpoint),
            _ => None,
        };
        Some(Peer { key: node.key, row, endpoint, is_manager: node.manager })
    }

    fn local_for(&self, peer: &Peer) -> Local {
        if peer.is_manager && self.engine.client().is_joining() { Local::Join } else { Local::Own }
    }

    /// Where the manager that is spoken to is.
    fn manager_endpoint(&self) -> Option<SocketAddrV4> {
        match self.engine.client().manager()?.endpoint.get()? {
            core::net::SocketAddr::V4(endpoint) => Some(endpoint),
            core::net::SocketAddr::V6(_) => None,
        }
    }

    fn set_link(&mut self, port: usize, is_up: bool) {
        if let Some(channel) = self.channels.get_mut(port) {
            channel.set_link_state(if is_up { LinkState::Up } else { LinkState::Down });
        }
    }
}

/// What there is to do.
struct Ready {
    datagram: bool,
    /// A bit for each overlay stack that has sent something.
    packets: u32,
}
