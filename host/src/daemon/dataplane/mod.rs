//! The thread that moves packets: TUN and UDP socket on one side, engine and tunnels on the other.
//!
//! It is a shell. What is decided, the engine and the tunnels decide; here descriptors are polled, buffers passed on, and
//! whatever the two want to send is sent. Everything else that a daemon does reaches it through [`Command`]s.

mod follow;
mod fragments;
mod orders;
mod path_mtu;
mod peers;
mod report;
mod udp;
mod upstream;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use acorn_core::addr::{Dual, WorkerSubnet};
use acorn_core::node::{Action, Node, Output};
use acorn_core::packet::Offload;
use acorn_core::router::Attachment;
use acorn_core::sync::client::{Membership, Outcome, RequestId};
use acorn_core::sync::cluster::ClusterMessage;
use acorn_core::sync::directory::Sender;
use acorn_core::sync::message::{Adjustment, AttachKind, Message, Refusal};
use acorn_core::{Endpoint, InstanceId, NodeKey, RowRef};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, trace, warn};

use self::peers::PeerBook;
pub use self::udp::Udp;
use self::upstream::Upstream;
use super::cluster::ClusterLink;
use super::engine_clock::EngineClock;
use super::manager::ManagerLink;
use super::wake::Waker;
use crate::api::types::{Drops, Status, Table};
use crate::identity::{HandshakeClock, Identity, JoinToken};
use crate::net::tun::Tun;
use crate::tunnel::{MAX_PAYLOAD, Opened, PeerHandle, Sealed, SendError, Tunnels, sealed_len};

/// What a Linux node can hold: services, instances, nodes, flows, attachments, waiting packets.
pub type HostNode = Node<4096, 65_536, 4096, 262_144, 64, 512>;

/// Packets taken from one descriptor before the others are looked at.
const BATCH: usize = 64;
/// How often the handshake clock's mark is looked at.
const CLOCK_CHECK: Duration = Duration::from_secs(10);
/// How long the tunnel to a node that has left the tables is kept: as long as a session lives (WireGuard's Reject-After-Time).
/// The other end may still need this one, or need it again, and would talk into the void for 15 s if its session were unknown here.
const LINGER: Duration = Duration::from_secs(180);
/// Room for the largest packet.
const BUFFER: usize = sealed_len(MAX_PAYLOAD);

/// Something that the data plane is asked to do.
pub enum Command {
    /// Ask the manager to attach an instance.
    Attach {
        /// Which one.
        kind: AttachKind,
        /// Where it is.
        namespace_ip: Dual,
        /// How it is to be picked.
        settings: Adjustment,
        /// What became of it. Dropped to give up.
        reply: oneshot::Sender<Outcome>,
    },
    /// Have an instance picked otherwise.
    Adjust {
        /// Which one.
        instance: InstanceId,
        /// What is to change.
        change: Adjustment,
        /// What became of it. Dropped to give up.
        reply: oneshot::Sender<Outcome>,
    },
    /// Take an instance out.
    Detach {
        /// Which one.
        instance: InstanceId,
        /// What became of it.
        reply: oneshot::Sender<Outcome>,
    },
    /// Put an instance in that has been running all the while.
    Resume(Attachment),
    /// The subnets that the manager gave last time.
    SetSubnet(WorkerSubnet),
    /// How things are.
    Status(oneshot::Sender<Box<Status>>),
    /// What the table holds.
    Table(oneshot::Sender<Table>),
    /// Why packets were dropped.
    Drops(oneshot::Sender<Drops>),
    /// End the thread.
    Stop,
}

/// Something that the control side has to know.
#[derive(Debug)]
pub enum Event {
    /// The manager has taken the node in, or its standing has changed.
    Member(Membership, Vec<(NodeKey, Option<SocketAddr>)>),
    /// The manager refuses the node.
    Refused(Refusal),
    /// An attached instance is not this node's any more.
    Lost(InstanceId, Refusal),
    /// The manager has attached the node's own host.
    HostAttached(Attachment),
}

/// What a node brings into the data plane.
pub struct NodeParts {
    /// The engine, started.
    pub engine: &'static mut HostNode,
    /// The TUN.
    pub tun: Tun,
    /// The token that the node joins with, until it is known by its own key.
    pub token: Option<JoinToken>,
    /// What the control side has to know.
    pub events: mpsc::UnboundedSender<Event>,
}

/// The data plane of one process.
pub struct Dataplane {
    own: NodeKey,
    engine_clock: EngineClock,
    tunnels: Tunnels,
    clock: HandshakeClock,
    next_clock_check: Instant,
    udp: Udp,
    peers: PeerBook,
    /// Tunnels that nobody here wants any more, and until when they are kept, oldest first.
    lingering: VecDeque<(Instant, PeerHandle)>,
    node: Option<NodeParts>,
    requests: Vec<(RequestId, oneshot::Sender<Outcome>)>,
    membership: Option<Membership>,
    refusal: Option<Refusal>,
    manager: Option<ManagerLink>,
    cluster: Option<ClusterLink>,
    upstream: Upstream,
    commands: Receiver<Command>,
    waker: Arc<Waker>,
    buffers: Buffers,
}

/// Scratch space. Packets are rewritten, sealed and opened here; nothing is allocated per packet.
struct Buffers {
    packet: Box<[u8]>,
    datagram: Box<[u8]>,
    reply: Box<[u8]>,
    /// A fragment of what is in one of the others.
    fragment: Box<[u8]>,
}

impl Dataplane {
    /// Puts the parts together.
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, put together once")]
    pub fn new(
        identity: &Identity,
        engine_clock: EngineClock,
        tunnels: Tunnels,
        clock: HandshakeClock,
        udp: Udp,
        node: Option<NodeParts>,
        manager: Option<ManagerLink>,
        cluster: Option<ClusterLink>,
        commands: Receiver<Command>,
        waker: Arc<Waker>,
    ) -> Self {
        Self {
            own: identity.public(),
            engine_clock,
            tunnels,
            clock,
            next_clock_check: Instant::now(),
            udp,
            peers: PeerBook::default(),
            lingering: VecDeque::new(),
            node,
            requests: Vec::new(),
            membership: None,
            refusal: None,
            manager,
            cluster,
            upstream: Upstream::default(),
            commands,
            waker,
            buffers: Buffers {
                packet: vec![0; BUFFER].into(),
                datagram: vec![0; BUFFER].into(),
                reply: vec![0; BUFFER].into(),
                fragment: vec![0; BUFFER].into(),
            },
        }
    }

    /// Moves packets until it is told to stop.
    ///
    /// # Errors
    /// When a descriptor fails for good, for instance because somebody deleted the TUN.
    pub fn run(mut self) -> io::Result<()> {
        let mut now = Instant::now();
        self.settle(now);
        loop {
            let ready = self.wait(now)?;
            now = Instant::now();
            // Before anything is sent that would meet the same end.
            if ready.udp_errors {
                self.learn_path_mtus(now);
            }
            if ready.tun {
                self.read_tun(now)?;
            }
            if ready.udp {
                self.read_udp(now)?;
            }
            if ready.woken {
                self.waker.clear();
            }
            if !self.run_commands(now) {
                return Ok(());
            }
            self.run_manager_outputs(now);
            self.run_cluster_outputs(now);
            self.run_timers(now);
            self.settle(now);
        }
    }

    /// Time as the engine knows it.
    fn engine_time(&self, now: Instant) -> acorn_core::time::Instant {
        self.engine_clock.at(now)
    }

    /// Sleeps until a descriptor is ready or something is due.
    fn wait(&mut self, now: Instant) -> io::Result<Ready> {
        let engine_due = self.node.as_ref().and_then(|node| node.engine.poll_timeout());
        let engine_due = engine_due.map(|at| self.engine_clock.when(at));
        let due = [self.tunnels.poll_timeout(), engine_due, Some(self.next_clock_check)].into_iter().flatten().min();
        let left = due.map_or(Duration::from_secs(1), |due| due.saturating_duration_since(now));
        // Rounded up, or the last millisecond would be spent spinning.
        let millis = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);

        let waker = self.waker.clone();
        let tun: Option<BorrowedFd<'_>> = self.node.as_ref().map(|node| node.tun.as_fd());
        let mut fds = Vec::with_capacity(3);
        fds.push(PollFd::new(self.udp.as_fd(), PollFlags::POLLIN));
        fds.push(PollFd::new(waker.as_fd(), PollFlags::POLLIN));
        fds.extend(tun.map(|tun| PollFd::new(tun, PollFlags::POLLIN)));
        match nix::poll::poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let any = |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::any).unwrap_or(false);
        // Asked for or not, it is told when the error queue is not empty.
        let complains = |fd: &PollFd<'_>| fd.revents().is_some_and(|revents| revents.contains(PollFlags::POLLERR));
        Ok(Ready {
            udp: any(fds.first()),
            udp_errors: fds.first().is_some_and(complains),
            woken: any(fds.get(1)),
            tun: any(fds.get(2)),
        })
    }

    fn read_tun(&mut self, now: Instant) -> io::Result<()> {
        let at = self.engine_time(now);
        for _ in 0..BATCH {
            let Some(node) = &mut self.node else { return Ok(()) };
            let (len, offload) = match node.tun.recv(&mut self.buffers.packet) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let action = node.engine.handle_tun(at, &mut self.buffers.packet[..len], offload, &mut self.buffers.reply);
            trace!(len, ?action, "from the TUN");
            self.act(now, action, offload);
            // Packets that waited go before the next one of the same flow.
            if action == Action::Nothing {
                self.settle(now);
            }
        }
        Ok(())
    }

    fn read_udp(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..BATCH {
            let (len, from) = match self.udp.recv(&mut self.buffers.datagram) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // ICMP errors of earlier datagrams surface here; they are no reason to stop.
                Err(error) => {
                    debug!(%error, "receive");
                    continue;
                }
            };
            let opened = self.tunnels.open(from, &self.buffers.datagram[..len], &mut self.buffers.packet, now);
            trace!(len, %from, ?opened, "from the network");
            match opened {
                Opened::Data { peer, len, .. } => {
                    self.peers.count_received(peer, len);
                    self.handle_payload(now, peer, from, len);
                }
                Opened::Keepalive { .. } | Opened::Handshake { .. } | Opened::Kept | Opened::Dropped(_) => {}
            }
            self.transmit(now);
        }
        Ok(())
    }

    /// Passes on the payload of `len` bytes in the packet buffer.
    fn handle_payload(&mut self, now: Instant, peer: PeerHandle, from: SocketAddr, len: usize) {
        let at = self.engine_time(now);
        let payload = &mut self.buffers.packet[..len];
        if let Some(manager) = &self.manager
            && (Message::is_for_manager(payload) || ClusterMessage::is_one(payload))
        {
            if let Some(key) = self.tunnels.key(peer) {
                manager.deliver(Sender { key, observed: Endpoint::from(from) }, payload);
            }
            return;
        }
        if let Some(cluster) = &self.cluster {
            // All of it, from nodes and from the root: a cluster has no packets of its own.
            if let Some(key) = self.tunnels.key(peer) {
                cluster.deliver(Sender { key, observed: Endpoint::from(from) }, payload);
            }
            return;
        }
        let Some(node) = &mut self.node else { return };
        let Some(row) = self.peers.row_of(peer) else {
            // A session outlived what the tables say of its node: whoever it is, the manager knows.
            if let Some(key) = self.tunnels.key(peer) {
                node.engine.unknown_key(at, key);
            }
            return;
        };
        let action = node.engine.handle_payload(at, row, payload);
        self.act(now, action, Offload::NONE);
        if action == Action::Nothing {
            self.settle(now);
        }
    }

    /// Does what the engine says of the packet in the packet buffer.
    fn act(&mut self, now: Instant, action: Action, offload: Offload) {
        match action {
            Action::Forward { peer, len } => self.send(now, peer, len, Source::Packet),
            Action::Fragment { peer, len, mtu } => self.send_cut(now, peer, len, Source::Packet, offload, mtu),
            Action::Deliver { len } => self.deliver(len, Source::Packet),
            Action::Reply { len } => self.deliver(len, Source::Reply),
            Action::Nothing => {}
        }
    }

    fn deliver(&mut self, len: usize, source: Source) {
        let Some(node) = &mut self.node else { return };
        if let Err(error) = node.tun.send(&self.buffers.of(source)[..len]) {
            trace!(%error, "the TUN took no packet");
        }
    }

    /// Seals a payload for a peer of the engine's and sends it.
    fn send(&mut self, now: Instant, row: RowRef, len: usize, source: Source) {
        let Some(key) = self.node.as_ref().and_then(|node| Some(node.engine.peer(row)?.key)) else { return };
        if key == self.own {
            // The process is its own manager.
            if let Some(manager) = &self.manager {
                let payload = &self.buffers.of(source)[..len];
                manager.deliver(Sender { key, observed: Endpoint::UNKNOWN }, payload);
            }
            return;
        }
        let Some(peer) = self.peers.handle_of(row) else { return };
        self.seal_and_send(now, peer, len, source);
    }

    fn seal_and_send(&mut self, now: Instant, peer: PeerHandle, len: usize, source: Source) {
        let Buffers { packet, datagram, reply, fragment } = &mut self.buffers;
        let payload = match source {
            Source::Packet => &packet[..len],
            Source::Reply => &reply[..len],
            Source::Fragment => &fragment[..len],
        };
        match self.tunnels.seal(peer, payload, datagram, now) {
            Ok(Sealed::Datagram { to, len }) => {
                self.peers.count_sent(peer, len);
                self.udp.send(to, &datagram[..len]);
            }
            Ok(Sealed::Queued { .. }) => self.transmit(now),
            Err(SendError::UnknownPeer | SendError::NoEndpoint | SendError::QueuesFull) => {}
            Err(error) => debug!(%error, "a payload was not sealed"),
        }
    }

    /// Sends what the tunnels want to send: handshakes, keepalives, payloads that waited for a handshake.
    fn transmit(&mut self, now: Instant) {
        while let Some(transmit) = self.tunnels.poll_transmit(&mut self.buffers.datagram, now) {
            self.udp.send(transmit.to, &self.buffers.datagram[..transmit.len]);
        }
    }

    fn run_timers(&mut self, now: Instant) {
        self.tunnels.handle_timeout(now);
        while let Some((_, handle)) = self.lingering.pop_front_if(|(until, _)| *until <= now) {
            if self.peers.is_unwanted(handle) {
                self.tunnels.remove_peer(handle);
            }
        }
        let at = self.engine_time(now);
        if let Some(node) = &mut self.node
            && node.engine.poll_timeout().is_some_and(|due| due <= at)
        {
            node.engine.handle_timeout(at);
        }
        if now >= self.next_clock_check {
            self.next_clock_check = now + CLOCK_CHECK;
            if let Err(error) = self.clock.reserve(self.tunnels.handshake_time(now)) {
                warn!(%error, "a later start of this node may have to wait for its peers");
            }
        }
    }

    /// Does everything that engine and tunnels have to say, until they are quiet.
    fn settle(&mut self, now: Instant) {
        let at = self.engine_time(now);
        loop {
            self.end_joining(now);
            self.follow_peers(now);
            let Some(node) = &mut self.node else { break };
            match node.engine.poll_output(at, &mut self.buffers.reply) {
                Some(Output::Peer { peer, len, .. }) => self.send(now, peer, len, Source::Reply),
                Some(Output::Fragments { peer, len, offload, mtu }) => {
                    self.send_cut(now, peer, len, Source::Reply, offload, mtu);
                }
                Some(Output::Local { len, .. }) => self.deliver(len, Source::Reply),
                None => break,
            }
        }
        self.tell_outcomes();
        self.tell_membership();
        self.follow_tunnels(now);
        self.transmit(now);
    }
}

/// Which descriptors have something.
struct Ready {
    udp: bool,
    udp_errors: bool,
    woken: bool,
    tun: bool,
}

/// Which buffer a payload is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Packet,
    Reply,
    Fragment,
}

impl Buffers {
    fn of(&self, source: Source) -> &[u8] {
        match source {
            Source::Packet => &self.packet,
            Source::Reply => &self.reply,
            Source::Fragment => &self.fragment,
        }
    }
}
